"""The container of packed sets: a zip of files as they are, uncompressed, in one strict layout.

Any zip program opens it. This reader takes nothing but what `write_container` writes: it follows no path, decompresses
nothing, and gives no more bytes than the file has.
"""

import io
import os
import stat
import struct
import weakref
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lopbench.core.errors import ResultsError

#: Bytes from which on a zip has another layout.
MOST_BYTES = 2**32 - 1

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")

#: The directory of few members with short names is smaller.
_MOST_DIRECTORY_BYTES = 4096

#: How a packed set is opened: a pipe or device might never end.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def write_container(path: Path, members: Mapping[str, Path]) -> None:
    """Write files into a container, in their order; the same files give the same bytes.

    Args:
        path: The container; what is there is overwritten.
        members: The files by the names that they get.

    Raises:
        OSError: If it cannot be written.
        ResultsError: If it would have more than 4 GiB.
    """
    size = sum(file.stat().st_size for file in members.values()) + _MOST_DIRECTORY_BYTES
    if size > MOST_BYTES:
        raise ResultsError(f"{size:,} bytes do not fit into a packed set, which has at most 4 GiB; pack fewer runs.")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, file in members.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # whatever the system that packs
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(entry, "w") as target:
                while part := source.read(2**20):
                    target.write(part)


class Container:
    """A container, opened; it is closed when nothing refers to it and its members any more.

    Args:
        path: The file.
        names: The members that it must have, in their order.

    Raises:
        ResultsError: If it is no such container, was cut off, or cannot be read.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.path = path
        try:
            self._file = os.open(path, _FLAGS)
            weakref.finalize(self, os.close, self._file)
            status = os.fstat(self._file)
            if not stat.S_ISREG(status.st_mode):
                raise ResultsError(f"{path} is no packed set: expected a file, found a pipe, device or folder.")
            self._size = status.st_size
            self._members = self._directory(names)
        except OSError as error:
            raise ResultsError(f"{path} cannot be read: {error.strerror or error}.") from error

    def member(self, name: str) -> "Member":
        """Return a member, to be read at any place."""
        return Member(self, *self._members[name])

    def read(self, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``start``."""
        return os.pread(self._file, size, start)

    def _directory(self, names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """Return where each member begins, and its number of bytes."""
        expected = f"expected a zip of {', '.join(names)}"
        head, tail = self.read(0, 4), self.read(max(0, self._size - _END.size), _END.size)
        if head != b"PK\x03\x04":
            what = f"a file that begins with {head!r}" if head else "an empty file"
            raise ResultsError(f"{self.path} is no packed set: {expected}, found {what}.")
        if len(tail) < _END.size or not tail.startswith(b"PK\x05\x06"):
            raise ResultsError(
                f"{self.path} is cut off: {expected} with its directory in the last {_END.size} bytes, found none "
                f"there ({self._size:,} bytes in all); get the file again."
            )
        _, _, _, _, count, size, start, _ = _END.unpack(tail)
        if size > _MOST_DIRECTORY_BYTES or start + size + _END.size != self._size or count != len(names):
            raise ResultsError(f"{self.path} is no packed set: {expected}, found one of {count} files in other order.")
        directory, members = self.read(start, size), {}
        for name in names:
            found = self._entry(directory, start)
            if found is None or found[0] != name.encode():
                what = repr(found[0].decode(errors="replace")) if found else "something compressed, or damaged"
                raise ResultsError(f"{self.path} is no packed set: {expected}, found {what} in place of {name}.")
            members[name], directory = found[1:3], directory[found[3] :]
        return members

    def _entry(self, directory: bytes, most: int) -> tuple[bytes, int, int, int] | None:
        """Return name, start and size of the first member of a directory, and the size of its entry; None if bad."""
        if len(directory) < _ENTRY.size:
            return None
        sign, _, _, flags, method, _, _, _, packed, size, names, extra, comment, _, _, _, place = _ENTRY.unpack(
            directory[: _ENTRY.size]
        )
        local = self.read(place, _LOCAL.size)
        if sign != b"PK\x01\x02" or flags or method != zipfile.ZIP_STORED or packed != size or len(local) < _LOCAL.size:
            return None
        start = place + _LOCAL.size + sum(_LOCAL.unpack(local)[-2:])
        if not local.startswith(b"PK\x03\x04") or start + size > most:
            return None
        end = _ENTRY.size + names
        return directory[_ENTRY.size : end], start, size, end + extra + comment


class Member(io.RawIOBase):
    """A member of a container, read as a file.

    Args:
        container: The container.
        start: Where it begins in there.
        size: Its number of bytes.
    """

    def __init__(self, container: Container, start: int, size: int) -> None:
        self._container = container
        self._start = start
        self.size = size
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, from 0, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all that are left if it is negative."""
        left = max(0, self.size - self._place)
        data = self._container.read(self._start + self._place, left if size < 0 else min(size, left))
        self._place += len(data)
        return data
