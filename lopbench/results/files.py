"""Files that results are written to."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lopbench.core.errors import ResultsError


def write_whole(path: str | os.PathLike[str], content: str | bytes, what: str) -> None:
    """Write ``content`` to ``path``, over what is there, so that the old file stays until the new one is whole.

    What is no file, such as a pipe or a device, is written to as it is.

    Args:
        path: The file.
        content: What it shall hold; a text is written as UTF-8.
        what: What it is, for the message if that fails, as in "The leaderboard".

    Raises:
        ResultsError: If the file cannot be written.
    """
    path = Path(path)
    if path.is_symlink() and path.is_file():
        path = path.resolve()  # the link stays
    through = path.exists() and not path.is_file()
    partial = path if through else path.with_name(f".{path.name}.{os.getpid()}.partial")
    # A name that is no UTF-8 may stand in a message.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        partial.write_bytes(data)
        if not through:
            partial.replace(path)
    except OSError as error:
        raise ResultsError(f"{what} cannot be written to {path}: {error.strerror or error}.") from error
    finally:  # whatever happened, an interrupt too
        if not through:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


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
