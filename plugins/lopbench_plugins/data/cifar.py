"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their Python version, from the tar, read in place, or its folder.

The files are pickles, which can run anything when they are read the usual way. Only files with the official MD5 are
read at all, and in a way that runs nothing (`_pickles`). torchvision's reader has no such guard, and refuses a set of
which a training batch is left out.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench import DataError, DataSet, ImagePlan, RemoteFile, read_regular, read_tar
from lopbench_plugins.data._original import check_md5
from lopbench_plugins.data._pickles import byte_array, unpickled

_URL = "https://www.cs.toronto.edu/~kriz"
_TERMS = (
    "The authors state no licence and ask to cite Krizhevsky 2009; the images are from 80 Million Tiny Images, "
    "which its authors withdrew in 2020: for research use."
)

_LARGEST_FILE = 256 << 20  # bytes; the largest has 155 million


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file of the set: its name and its official MD5."""

    name: str
    md5: str


@dataclass(frozen=True, kw_only=True)
class Cifar(DataSet):
    """What CIFAR-10 and CIFAR-100 have in common."""

    terms: ClassVar[str] = _TERMS
    folder: ClassVar[str] = "."
    #: Shape of one image.
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    #: Name of the unpacked folder.
    unpacked: ClassVar[str]
    #: The training batches, in order; some may be absent, which makes a subset.
    train: ClassVar[tuple[Part, ...]]
    #: The held-out images.
    test: ClassVar[Part]
    #: The file with the names of the classes.
    meta: ClassVar[Part]
    #: The key under which a batch has its labels.
    labels: ClassVar[str]
    #: The key under which ``meta`` has the names of the classes.
    names: ClassVar[str]

    @property
    def _archive(self) -> str:
        return self.files[0].name

    def find(self, place: Path) -> Path | None:
        """Return ``place`` if it is the tar or the unpacked folder, else one of these inside it.

        The tar may be packed anew in another way and have more in its name, ``cifar-10-python.subset.tar.xz``.
        """
        pattern = re.compile(re.escape(self._archive.removesuffix(".tar.gz")) + r"(\..+)?\.tar(\.(gz|xz|bz2))?")
        if place.is_file():
            return place if pattern.fullmatch(place.name) else None
        if all((place / part.name).is_file() for part in (self.meta, self.test)):
            return place
        others = sorted(path for path in place.glob("*.tar*") if pattern.fullmatch(path.name))
        return next((path for path in (place / self.unpacked, place / self._archive, *others) if path.exists()), None)

    def sources(self, path: Path) -> Iterable[Path]:
        """Return the files of the set in the folder ``path``, or the tar."""
        return self._in_folder(path) if path.is_dir() else [path]

    def is_verified(self, path: Path) -> bool:
        """Return True: each file is compared with its MD5 as it is read."""
        return True

    def read(self, path: Path) -> ImagePlan:
        """Read all files at ``path``, a tar or folder, and check them."""
        contents = {name: self._checked(name, content, path) for name, content in self._read(path)}
        batches = [contents[part.name] for part in self.train if part.name in contents]
        for part in (self.meta, self.test, *(() if batches else self.train[:1])):
            if part.name not in contents:
                raise DataError(f"{path} has no {part.name}; {self.again}")
        return ImagePlan.of(
            [name.decode("ascii") for name in contents[self.meta.name][self.names]],
            self._images(batches),
            self._images([contents[self.test.name]]),
            subset=len(batches) < len(self.train),
        )

    def _parts(self) -> dict[str, Part]:
        return {part.name: part for part in (self.meta, *self.train, self.test)}

    def _in_folder(self, path: Path) -> list[Path]:
        return [path / name for name in self._parts() if (path / name).is_file()]

    def _read(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each file of the set at ``path``, one after another as together they are large.

        Raises:
            DataError: If one cannot be read.
        """
        if not path.is_dir():
            wanted = self._parts()
            tar = read_tar(
                path, lambda name: PurePosixPath(name).name in wanted, largest=_LARGEST_FILE, again=self.again
            )
            for name, content in tar:
                yield PurePosixPath(name).name, content
            return
        for file in self._in_folder(path):
            try:
                content = read_regular(file, most=_LARGEST_FILE)
            except OSError as error:
                raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
            yield file.name, content

    def _checked(self, name: str, content: bytes, path: Path) -> dict[str, Any]:
        check_md5(content, self._parts()[name].md5, name, path, self.again)
        return unpickled(content)

    def _images(self, batches: list[dict[str, Any]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images ``(N, 3, 32, 32)`` and labels ``(N,)`` of ``batches`` together."""
        images = np.concatenate([byte_array(batch["data"]) for batch in batches])
        labels = np.concatenate([np.array(batch[self.labels], np.int64) for batch in batches])
        return images.reshape(-1, *self.shape), labels


@dataclass(frozen=True, kw_only=True)
class Cifar10(Cifar):
    """CIFAR-10."""

    name: ClassVar[str] = "cifar10"
    title: ClassVar[str] = "CIFAR-10"
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            url=f"{_URL}/cifar-10-python.tar.gz", size_bytes=170_498_071, md5="c58f30108f718f92721af3b95e74349a"
        ),
    )
    layout: ClassVar[str] = "cifar-10-python.tar.gz or the folder cifar-10-batches-py"
    stand_in: ClassVar[str | None] = "procedural-cifar10"
    unpacked: ClassVar[str] = "cifar-10-batches-py"
    train: ClassVar[tuple[Part, ...]] = (
        Part(name="data_batch_1", md5="c99cafc152244af753f735de768cd75f"),
        Part(name="data_batch_2", md5="d4bba439e000b95fd0a9bffe97cbabec"),
        Part(name="data_batch_3", md5="54ebc095f3ab1f0389bbae665268c751"),
        Part(name="data_batch_4", md5="634d18415352ddfa80567beed471001a"),
        Part(name="data_batch_5", md5="482c414d41f54cd18b22e5b47cb7c3cb"),
    )
    test: ClassVar[Part] = Part(name="test_batch", md5="40351d587109b95175f43aff81a1287e")
    meta: ClassVar[Part] = Part(name="batches.meta", md5="5ff9c542aee3614f3951f8cda6e48888")
    labels: ClassVar[str] = "labels"
    names: ClassVar[str] = "label_names"


@dataclass(frozen=True, kw_only=True)
class Cifar100(Cifar):
    """CIFAR-100, with its 100 fine labels."""

    name: ClassVar[str] = "cifar100"
    title: ClassVar[str] = "CIFAR-100"
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            url=f"{_URL}/cifar-100-python.tar.gz", size_bytes=169_001_437, md5="eb9058c3a382ffc7106e4002c42a8d85"
        ),
    )
    layout: ClassVar[str] = "cifar-100-python.tar.gz or the folder cifar-100-python"
    stand_in: ClassVar[str | None] = "procedural-cifar100"
    unpacked: ClassVar[str] = "cifar-100-python"
    train: ClassVar[tuple[Part, ...]] = (Part(name="train", md5="16019d7e3df5f24257cddd939b257f8d"),)
    test: ClassVar[Part] = Part(name="test", md5="f0ef6b0ae62326f3e7ffdfab6717acfc")
    meta: ClassVar[Part] = Part(name="meta", md5="7973b15100ade9c7d40fb424638fde48")
    labels: ClassVar[str] = "fine_labels"
    names: ClassVar[str] = "fine_label_names"
