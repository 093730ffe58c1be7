"""Arrays by name: text, tokens, tables, whatever a scenario streams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import InvalidInputError
from lopbench.core.interfaces import Samples
from lopbench.core.reading import MOST_JSON_BYTES, read_regular
from lopbench.data.contents import Contents, Kept, Progress, open_array

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySet(Samples):
    """Arrays by name, as in ``data["text"]``.

    Args:
        arrays: The arrays that the data set's ``read`` gave, read-only.
    """

    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        """Return the array ``name``."""
        return self.arrays[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptArrays(Kept):
    """Arrays that are whole; the content hash is as in `Samples`."""

    content_hash: str
    arrays: Mapping[str, Array]
    subset: bool = False

    def hash(self) -> str:
        """Return the content hash, computed anew."""
        return array_hash(self.arrays)

    def describe(self) -> str:
        """Return names and shapes."""
        return _describe(self.arrays)

    def samples(self, *, name: str, real: bool, notice: str, terms: str) -> ArraySet:
        """Return what a scenario is given."""
        return ArraySet(
            name=name, content_hash=self.content_hash, real=real, notice=notice, terms=terms, arrays=self.arrays
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays(Contents):
    """Arrays that a data set's ``read`` gave.

    Args:
        arrays: Arrays of numbers, of any shape, by names that are Python's.
        subset: Whether the original has more; nobody can say.
    """

    form: ClassVar[str] = "arrays"

    arrays: Mapping[str, Array]
    subset: bool = False

    def __post_init__(self) -> None:
        if not self.arrays:
            raise InvalidInputError("no array; give at least one by name, as in {'text': array}")
        for name, array in self.arrays.items():
            if not (isinstance(name, str) and name.isidentifier()):
                raise InvalidInputError(f"an array called {name!r}; a name is made of letters, digits and '_'")
            if not isinstance(array, np.ndarray):
                raise InvalidInputError(f"{name!r} as a {type(array).__name__}; give a numpy array")
            if array.dtype.kind not in "biufc":
                raise InvalidInputError(f"{name!r} as an array of {array.dtype}; give numbers, as text by its bytes")

    @property
    def size_bytes(self) -> int:
        """Size on disk."""
        return sum(array.nbytes for array in self.arrays.values())

    def describe(self) -> str:
        """Return names and shapes."""
        return _describe(self.arrays)

    def hash(self, description: str, progress: Progress | None) -> str:
        """Return the content hash."""
        return array_hash(self.arrays)

    def write(self, directory: Path, description: str, progress: Progress | None) -> None:
        """Write a file for each array, and ``meta.json``."""
        for done, (name, array) in enumerate(self.arrays.items()):
            if progress is not None:
                progress(description, done, len(self.arrays))
            np.save(directory / f"{name}.npy", array, allow_pickle=False)
        meta = {"content_hash": array_hash(self.arrays), "arrays": _shapes(self.arrays)}
        (directory / "meta.json").write_text(json.dumps(meta))
        if progress is not None:
            progress(description, len(self.arrays), len(self.arrays))

    def held(self) -> KeptArrays:
        """Return the arrays as they are."""
        return KeptArrays(content_hash=array_hash(self.arrays), arrays=self.arrays)

    @classmethod
    def opened(cls, directory: Path) -> KeptArrays:
        """Open what `write` has written."""
        meta = json.loads(read_regular(directory / "meta.json", most=MOST_JSON_BYTES))
        arrays = {str(name): open_array(directory / f"{name}.npy") for name in meta["arrays"]}
        if _shapes(arrays) != meta["arrays"]:
            raise ValueError("arrays of other shapes than were written")
        return KeptArrays(content_hash=str(meta["content_hash"]), arrays=arrays)


def array_hash(arrays: Mapping[str, Array]) -> str:
    """Return the content hash of arrays, whatever their order, strides and byte order.

    SHA-256 of JSON of names, types and shapes, and then of the bytes of each array, little-endian, the last axis
    fastest; arrays in the order of their names.
    """
    digest = hashlib.sha256(json.dumps(["lopbench arrays 1", _shapes(arrays)], sort_keys=True).encode())
    for _, array in sorted(arrays.items()):
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _shapes(arrays: Mapping[str, Array]) -> dict[str, list[Any]]:
    return {name: [array.dtype.newbyteorder("<").str, list(array.shape)] for name, array in arrays.items()}


def _describe(arrays: Mapping[str, Array]) -> str:
    shapes = ("x".join(f"{size:,}" for size in array.shape) or "one number" for array in arrays.values())
    return "arrays " + ", ".join(f"{name} ({shape})" for name, shape in zip(arrays, shapes, strict=True))
