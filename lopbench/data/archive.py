"""Files of an archive, read where it lies: nothing is unpacked, and no member leads outside."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lopbench.core.errors import DataError


class ZipMembers:
    """The members of a zip; to be read from several threads.

    Args:
        path: The zip.
        file: It, opened.
        again: What to do with a damaged copy, as in `DataSet.again`.

    Raises:
        DataError: If a member has an unsafe path: members are never written anywhere, but it is no original then.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile, again: str) -> None:
        self.path = path
        self._file = file
        self._again = again
        self._members = {info.filename: info for info in file.infolist() if not info.is_dir()}
        for name in self._members:
            _check_name(name, path, again)

    def names(self) -> list[str]:
        """Return the names of all members that are files."""
        return list(self._members)

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of the member ``name``, checked against its CRC.

        Raises:
            DataError: If there is none, it has more than ``largest`` bytes, or it is damaged.
        """
        info = self._members.get(name)
        if info is None:
            raise DataError(f"{self.path} has no {name}; {self._again}")
        if info.file_size > largest:
            raise DataError(f"{name} in {self.path} has {info.file_size:,} bytes; {self._again}")
        try:
            return self._file.read(info)
        # zipfile: RuntimeError for an encrypted member, NotImplementedError for an unknown compression.
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise DataError(f"{name} in {self.path} is damaged ({error}); {self._again}") from error


@contextmanager
def open_zip(path: Path, *, again: str) -> Iterator[ZipMembers]:
    """Open a zip.

    Args:
        path: The zip.
        again: What to do with a damaged copy, as in `DataSet.again`.

    Raises:
        DataError: If it is none, cannot be read, or has a member with an unsafe path.
    """
    try:
        file = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(_not_a_zip(path, again)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); make it readable") from error
    with file:
        yield ZipMembers(path, file, again)


def _not_a_zip(path: Path, again: str) -> str:
    """Return the sentence that says what ``path`` is instead of a zip."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith(b"<"):
        return f"{path} is an HTML page, not a zip: the download gave an error or log-in page; delete it and {again}"
    if start.startswith(b"pk\x03\x04"):
        return f"{path} is a truncated zip ({path.stat().st_size:,} bytes, no directory at its end); {again}"
    return f"{path} is not a zip; {again}"


def read_tar(path: Path, wanted: Callable[[str], bool], *, largest: int, again: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a tar, packed or not, in its order: one at a time is in memory.

    Args:
        path: The tar.
        wanted: Whether the file of this name is read. A link is no file: it could lead anywhere.
        largest: Bytes after which a file is cut.
        again: What to do with a damaged copy, as in `DataSet.again`.

    Raises:
        DataError: If it is no tar, damaged, cannot be read, or has a member with an unsafe path.
    """
    try:
        with tarfile.open(path, "r|*") as archive:  # a stream: packed, it can only be read from its start
            for member in archive:
                _check_name(member.name, path, again)
                if member.isreg() and wanted(member.name):
                    content = archive.extractfile(member)
                    assert content is not None  # as it is a file
                    yield member.name, content.read(largest)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path} is not a whole tar file ({error}); {again}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); make it readable") from error


def _check_name(name: str, path: Path, again: str) -> None:
    if name.startswith("/") or "\\" in name or (".." in name and ".." in name.split("/")):
        raise DataError(f"{path} has a member with the unsafe path {name!r}; {again}")
