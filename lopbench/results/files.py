"""Files that results are written to."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lopbench.core.errors import ResultsError


def write_whole(path: str | os.PathLike[str], text: str, what: str) -> None:
    """Write ``text`` to ``path``, over what is there, so that the old file stays until the new one is whole.

    What is no file, such as a pipe or a device, is written to as it is.

    Args:
        path: The file.
        text: Its content, written as UTF-8.
        what: What it is, for the message if that fails, as in "The leaderboard".

    Raises:
        ResultsError: If the file cannot be written.
    """
    path = Path(path)
    if path.is_symlink() and path.is_file():
        path = path.resolve()  # the link stays
    through = path.exists() and not path.is_file()
    partial = path if through else path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # A name that is no UTF-8 may stand in a message.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        if not through:
            partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            if not through:
                partial.unlink()
        raise ResultsError(f"{what} cannot be written to {path}: {error.strerror or error}.") from error


def flush(file: BinaryIO) -> None:
    """Make what was written to ``file`` durable."""
    file.flush()
    os.fsync(file.fileno())


def flush_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
