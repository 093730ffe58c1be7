"""The state of an unfinished run in one file: tensors and a JSON header in the safetensors format, never a pickle."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lopbench.core.errors import ResultsError


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Replace the checkpoint at ``path`` in one step; a kill at any moment leaves the old one or the new one.

    Raises:
        ResultsError: If the folder cannot be written to.
    """
    # A copy of each tensor: the format refuses tensors that share memory, as views of one stack do.
    flat = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    partial = path.with_suffix(".new")
    try:
        with partial.open("wb") as file:
            file.write(save(flat, metadata={"header": json.dumps(header)}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()  # gives its room back
        raise ResultsError(
            f"The checkpoint {path} cannot be written: {error.strerror or error}. The run stops here and keeps its "
            "last checkpoint; make room or choose another results folder, then run the same command again."
        ) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and header of the checkpoint at ``path``, None if there is none.

    Raises:
        ResultsError: If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["header"])
            names = list(file.keys())
            # Copies: what is read lies at any address in the file, and sums may depend on how memory is aligned.
            return {name: file.get_tensor(name).clone() for name in names}, header
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ResultsError(
            f"The checkpoint {path} is damaged ({error}); delete it to start that run from its beginning."
        ) from error


def part(tensors: Mapping[str, Tensor], section: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``section/``, by the rest of their names."""
    prefix = section + "/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
