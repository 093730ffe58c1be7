"""Arrays in files that Python pickled, read without running anything.

A pickle can run any function that it names when it is read the usual way. Here the three names of numpy that a plain
array needs stand for a class that does nothing, and every other name is refused.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Inert:
    """Stands for whatever a pickle names: keeps what it is made of and set to, and runs nothing."""

    def __init__(self, *given: object) -> None:
        self.given = given  # of a type: its code, such as b"u1"
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state  # of an array: version, shape, type, whether columns come first, and its bytes


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Inert]:
        if (module, name) not in (("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")):
            raise pickle.UnpicklingError(f"{f'{module}.{name}'[:80]!r} has no place in a file of images")
        return Inert


def unpickled(content: bytes) -> dict[str, Any]:
    """Return the dictionary in a pickle: arrays are `Inert`, strings of Python 2 are bytes, and nothing is run.

    Raises:
        UnpicklingError: If the pickle names anything but a numpy array, is damaged, or is no dictionary.
    """
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        raise pickle.UnpicklingError(" ".join(str(error).split())[:200]) from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str | bytes) for key in loaded):
        raise pickle.UnpicklingError("it holds no dictionary with names")
    return {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in loaded.items()}


def byte_array(pickled: object) -> NDArray[np.uint8]:
    """Return the array of bytes ``(N, D)`` that an `Inert` stands for, without a copy.

    Raises:
        UnpicklingError: If it stands for anything else.
    """
    match pickled:
        case Inert(
            state=(_, (int(rows), int(columns)), Inert(given=(b"u1" | "u1", *_)), bool(by_column), bytes(content))
        ) if rows >= 0 and columns >= 0 and rows * columns == len(content):
            array: NDArray[np.uint8] = np.frombuffer(content, np.uint8)
            return array.reshape((rows, columns), order="F" if by_column else "C")
    raise pickle.UnpicklingError("it has something else where an array of bytes with two axes should be")
