"""Reads files that anybody may have put there: regular ones only, since a pipe or device might never end."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

#: Most bytes of a file of JSON, and of a table as CSV: larger ones are none of ours.
MOST_JSON_BYTES, MOST_CSV_BYTES = 16 * 2**20, 256 * 2**20

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class NoFileError(OSError):
    """What should be a file is something else."""


class TooLargeError(OSError):
    """A file is larger than any of ours."""


def open_regular(path: str | os.PathLike[str], *, most: int | None = None, flags: int = 0) -> BinaryIO:
    """Open a regular file to read it.

    Args:
        path: The file.
        most: Bytes that it may have; None for any number.
        flags: Further flags, as ``os.O_NOFOLLOW``.

    Raises:
        NoFileError: If it is something else than a file.
        TooLargeError: If it is larger.
        OSError: If it cannot be opened.
    """
    descriptor = os.open(path, _FLAGS | flags)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and (most is None or status.st_size <= most):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NoFileError(errno.EINVAL, "it is no file, but a folder, pipe or device", os.fspath(path))
    raise TooLargeError(errno.EFBIG, f"it has {status.st_size} bytes, at most {most} are read", os.fspath(path))


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no regular file, before somebody opens it who would wait for a pipe.

    Raises:
        OSError: As `open_regular`.
    """
    open_regular(path).close()


def read_regular(path: str | os.PathLike[str], *, most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: As `open_regular`.
    """
    with open_regular(path, most=most) as file:
        # No more than it says: some files of a system say nothing, and are read without an end.
        return file.read(os.fstat(file.fileno()).st_size)


def parsed_json(data: bytes) -> Any:
    """Return the value of a text of JSON, whose numbers are finite.

    Raises:
        ValueError: If it is none, is not UTF-8, or has a number that is none or beyond all floats.
        RecursionError: If it is nested beyond all measure.
    """
    return json.loads(data, parse_constant=_no_number, parse_float=_finite)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(f"{text[:40]}, which is too large,")


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that links lead to, from the root; of links in a circle the path of one of them.

    `Path.resolve` raises what no caller expects where links lead round in a circle.
    """
    return Path(os.path.realpath(path))


def is_free(path: Path) -> bool:
    """Return whether a file can be written at ``path``: nothing stands there, or a file does."""
    try:  # one look, for another process may put the file there at any moment
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return not path.is_symlink()
