"""Data sets: samples that scenarios stream, told apart by their content."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar
from urllib.parse import urlsplit

from lopbench.core.component import Component
from lopbench.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that ``lopbench data get`` downloads.

    Args:
        url: Where from; the file keeps the name that the path of the URL ends with.
        size_bytes: Its size, None if none is published.
        md5: Its MD5, hex, where its publisher gives this one; None if none is published.
        sha256: Its SHA-256, hex; likewise.
    """

    url: str
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return PurePosixPath(urlsplit(self.url).path).name

    def check(self, path: Path) -> None:
        """Refuse ``path`` if size or hash are published and are not these.

        Raises:
            DataError: Without saying what to do.
        """
        try:
            size = path.stat().st_size
            if self.size_bytes is not None and size != self.size_bytes:
                raise DataError(f"{path} has {size:,} bytes, and the original has {self.size_bytes:,}")
            for label, kind, wanted in (("MD5", "md5", self.md5), ("SHA-256", "sha256", self.sha256)):
                if wanted is None:
                    continue
                with path.open("rb") as stream:
                    found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()  # noqa: B023
                if found != wanted:
                    raise DataError(f"{path} has the {label} {found}, and the original has {wanted}")
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}); make it readable") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """A data set that is here: what a scenario's ``stream`` is given, and what the protocol says of it.

    A data set that is neither arrays nor images is a subclass of this with fields of its own. Its ``read`` gives the
    content hash; lopbench fills in the rest.

    Args:
        content_hash: Hash of everything that changes the numbers of a run, hex, at least 32 digits. The same samples
            give the same hash on every machine, wherever they lie.
        name: Name of the data set.
        real: False for samples made by a program.
        notice: One line for the user: what this is, where it is from, how much of it there is.
        terms: Who holds the rights, and what is allowed.
    """

    content_hash: str
    name: str = ""
    real: bool = True
    notice: str = ""
    terms: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSet(Component, ABC):
    """Samples that a scenario streams: which files hold them, how they are found and how they are read.

    A scenario names its data set in ``data``. ``version`` is raised whenever the same files give other samples.
    """

    #: As its authors call it; a stand-in has the title of what it stands in for.
    title: ClassVar[str]
    #: Who holds the rights, and what is allowed.
    terms: ClassVar[str]
    #: What is downloaded to have it; nothing if it is made here, or if everybody gets it by hand.
    files: ClassVar[tuple[RemoteFile, ...]] = ()
    #: Folder below a data directory in which the files lie; one of the set's name if empty.
    folder: ClassVar[str] = ""
    #: What a data directory holds if it holds this set, in words; from ``files`` and ``folder`` if empty.
    layout: ClassVar[str] = ""
    #: Name of the data set that a program makes and that replaces this one, with a notice, where it is absent; None if
    #: there is none: then absence is an error.
    stand_in: ClassVar[str | None] = None
    #: False if a program makes the samples, so that nothing needs to be found: results never stand beside real ones.
    real: ClassVar[bool] = True

    def find(self, place: Path) -> Path | None:
        """Return what of ``place``, which need not exist, holds the set; opens nothing.

        Where it is not overridden: the folder that has all of ``files``, below ``place`` or ``place`` itself.
        """
        folders = (place / (self.folder or self.name), place)
        whole = (path for path in folders if all((path / file.name).is_file() for file in self.files))
        return next(whole, None) if self.files else None

    def sources(self, path: Path) -> Iterable[Path]:
        """Return the files that hold the set at ``path``, which `find` gave: if one changes, it is read anew.

        Where it is not overridden: those of ``files`` that lie in ``path``; without any, ``path`` itself or all that
        is in it.
        """
        named = [path / file.name for file in self.files if (path / file.name).is_file()]
        if named or not path.is_dir():
            return named or [path]
        return sorted(file for file in path.rglob("*") if file.is_file())

    def fingerprint(self, path: Path) -> str:
        """Return a key, hex, for the content at ``path``, found without reading it.

        Where it is not overridden: a hash of names, sizes and modification times of `sources`.

        Raises:
            DataError: If ``path`` cannot be read.
        """
        found = []
        for source in self.sources(path):
            try:
                stat = source.stat()
            except OSError as error:
                raise DataError(f"{source} cannot be read ({error.strerror}); make it readable") from error
            found.append((source.name, stat.st_size, stat.st_mtime_ns))
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def check(self, path: Path) -> None:
        """Refuse what is not the original, before it is read.

        Where it is not overridden: those of ``files`` that lie in ``path`` must have their published size and hash.

        Raises:
            DataError: Naming the file, and saying what to do.
        """
        for file in self.files:
            if (path / file.name).is_file():
                try:
                    file.check(path / file.name)
                except DataError as error:
                    raise DataError(f"{error}; {self.again}") from error

    def is_verified(self, path: Path) -> bool:
        """Return whether all that is read at ``path`` is compared with a known hash; where it is not, the user is told.

        Where it is not overridden: whether `sources` are those of ``files`` alone, each with a hash, as `check` wants.
        """
        hashed = {path / file.name for file in self.files if file.md5 or file.sha256}
        return bool(hashed) and hashed.issuperset(self.sources(path))

    @abstractmethod
    def read(self, path: Path) -> object:
        """Return the samples: arrays by name, an `ImagePlan`, or `Samples` of a kind of its own.

        Arrays (numbers, of any shape) and images are hashed by their content, kept in the cache, and given to the
        scenario as `ArraySet` or `ImageSet`, mapped into memory. `Samples` carry a content hash of their own, are kept
        nowhere, and are read anew for every study.

        Args:
            path: What `find` gave; without meaning for samples that a program makes.

        Raises:
            DataError: If it is another set, damaged or incomplete.
        """

    def example(self) -> object:
        """Return samples as `read` does, few and made by a program in a second, on which a scenario can be checked.

        None if there are none: a scenario is then checked on the set itself, where it is here.
        """
        return None

    @property
    def again(self) -> str:
        """What to do with a damaged copy."""
        return "get it again" + (f", 'lopbench data get {self.name}' downloads it" if self.files else "")
