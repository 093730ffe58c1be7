"""What lopbench knows of a data set without having it; one object for each stands in the module that reads it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from lopbench.core.errors import DataError
from lopbench.data.images import Plan, Shape


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that ``lopbench data get`` downloads.

    Args:
        url: Where from; the file keeps the name that the URL ends with.
        size_bytes: Its size, None if none is published.
        md5: Its MD5, hex, as its publisher gives it; None if none is published.
        folder: Where it lies below the data directory.
    """

    url: str
    size_bytes: int | None = None
    md5: str | None = None
    folder: str = "."

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is known of every data set.

    Args:
        name: As ``load_images`` takes it.
        title: As its authors call it.
        summary: What it is, in one line.
        terms: Who holds the rights, and what is allowed.
        shape: Shape of one image, ``(C, H, W)``.
        used_by: Names of the scenarios that stream it.
        files: What is downloaded to have it; nothing if it is made here.
    """

    name: str
    title: str
    summary: str
    terms: str
    shape: Shape
    used_by: tuple[str, ...]
    files: tuple[RemoteFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileSet(DataSet, ABC):
    """A data set that is read from files.

    Args:
        layout: What a data directory holds if it holds this set, in words.
        stand_in: Name of the procedural images of its shape.
    """

    layout: str
    stand_in: str

    @property
    def again(self) -> str:
        """What to do with a damaged copy."""
        return f"get it again, 'lopbench data get {self.name}' downloads it"

    @abstractmethod
    def find(self, place: Path) -> Path | None:
        """Return what of ``place``, which need not exist, holds the set; opens nothing."""

    @abstractmethod
    def fingerprint(self, path: Path) -> str:
        """Return a key, hex, for the content at ``path``, which `find` gave, found without reading the images.

        Raises:
            DataError: If ``path`` cannot be read.
        """

    @abstractmethod
    def opened(self, path: Path) -> AbstractContextManager[Plan]:
        """Open what `find` gave; the pixels can be made as long as it is open.

        Raises:
            DataError: If it is another set, damaged or incomplete.
        """


def stat_fingerprint(paths: Iterable[Path]) -> str:
    """Return a hash, hex, of the names, sizes and modification times of files.

    Raises:
        DataError: If one of them cannot be looked at.
    """
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); make it readable") from error
        found.append((path.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(found).encode()).hexdigest()


def check_md5(content: bytes, md5: str, name: str, path: Path, again: str) -> None:
    """Refuse the file ``name`` of the set at ``path`` if its content is not the original.

    Raises:
        DataError: Saying ``again``, what to do.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{name} in {path} is damaged or not the original: its MD5 is {found} and not {md5}; {again}")
