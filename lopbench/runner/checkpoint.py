"""The state of an unfinished run in one file: tensors and a JSON header in the safetensors format, never a pickle.

Each session, which is one process at work on a run, writes under a name of its own, so that two that are at one run by
mistake never write to one file. A run is a function of its spec: of several whole checkpoints the one that is furthest
is as good as the others and further. A hash of tensors and header tells whether a checkpoint is whole.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lopbench.core.errors import ResultsError
from lopbench.core.reading import check_regular
from lopbench.runner.unfinished import checkpoint_name

#: Ending of a checkpoint that is being written.
NEW = ".new"


class DamagedError(Exception):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read.

    Args:
        path: Its file.
        steps: Steps that the run had taken.
        tensors: All tensors by name.
        header: What is no tensor, as JSON values.
    """

    path: Path
    steps: int
    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any]


def save_checkpoint(
    folder: Path, session: str, steps: int, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Replace the checkpoint of a session in one step; a kill at any moment leaves the old one or the new one.

    Args:
        folder: Where it lies.
        session: Name of the session.
        steps: Steps that the run has taken.
        tensors: Tensors by name.
        header: What is no tensor, as JSON values.

    Returns:
        Its file.

    Raises:
        FileNotFoundError: If the folder is gone.
        ResultsError: If it cannot be written to.
    """
    # A copy of each tensor: the format refuses tensors that share memory, as views of one stack do.
    flat = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"session": session, "steps": steps, **header})
    path = folder / checkpoint_name(session)
    partial = path.with_suffix(NEW)
    try:
        with partial.open("wb") as file:
            file.write(save(flat, metadata={"header": text, "hash": _hash(flat, text)}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        with suppress(OSError):
            partial.unlink()  # gives its room back
        raise ResultsError(
            f"The checkpoint {path} cannot be written: {error.strerror or error}. The run stops here and keeps its "
            "last checkpoint; make room or choose another results folder, then run the same command again."
        ) from error
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint at ``path``.

    Raises:
        DamagedError: If the file is not what was written.
        FileNotFoundError: If there is none.
    """
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            # Copies: what is read lies at any address in the file, and sums may depend on how memory is aligned.
            tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
        text = metadata["header"]
        if metadata["hash"] != _hash(tensors, text):
            raise DamagedError("its content has another hash than was written")
        header = json.loads(text)
        return Checkpoint(path, header["steps"], tensors, header)
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ESTALE:  # replaced from another machine
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        raise DamagedError(f"{type(error).__name__}: {error}") from error


def steps_of(path: Path) -> int:
    """Return the steps that the run had taken, without reading the tensors; 0 if that cannot be told."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()["header"])["steps"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError):
        return 0


def part(tensors: Mapping[str, Tensor], section: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``section/``, by the rest of their names."""
    prefix = section + "/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _hash(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return a hash of names, types, shapes and bytes of contiguous tensors, and of the header."""
    found = blake2b(header.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel() == 1:  # expanded, its stride is 0, which no view as bytes takes
            tensor = tensor.reshape(()).clone()
        if tensor.numel():  # numpy's empty arrays have no strides
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
