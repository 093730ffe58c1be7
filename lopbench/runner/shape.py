"""What replicas of one program agree in, and which programs were compiled before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lopbench.core.fields import swept
from lopbench.core.places import cache_directory
from lopbench.core.spec import RunSpec, digest
from lopbench.learner.compiling import folder_of_compiled
from lopbench.runner.setting import methods_of

#: What of a shape decides what is compiled: not the kind of run, so that a run and its reference share it.
_COMPILED = ("scenario", "architecture", "optimizer", "methods", "numerics")

#: Name of the folder of marks, beside what is compiled, so that they go with it.
_MARKS = "programs"


def shape(spec: RunSpec) -> dict[str, Any]:
    """Return what replicas of a program must have in common, as JSON values."""
    value = spec.to_json()
    del value["seed"], value["optimizer"]["fields"]["lr"]
    for part, method in zip(value["methods"], methods_of(spec), strict=True):
        part["fields"] = {k: v for k, v in part["fields"].items() if k not in swept(type(method))}
        part["active"] = method.active
    return value


def compiled_folder() -> str:
    """Return where compiled programs are kept from one process to the next."""
    return folder_of_compiled(str(cache_directory() / "compiled"))


def mark_of(specs: Sequence[RunSpec]) -> Path:
    """Return the file that is there if a program of such runs was compiled on as many threads."""
    value = shape(specs[0])
    parts = [value[key] for key in _COMPILED]
    return (
        Path(compiled_folder()) / _MARKS / digest([*parts, len(specs), torch.get_num_threads(), torch.__version__], 16)
    )


def mark(specs: Sequence[RunSpec]) -> None:
    """Remember that the program of runs was compiled; it only helps to foretell."""
    path = mark_of(specs)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
