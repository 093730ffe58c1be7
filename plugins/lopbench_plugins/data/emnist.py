"""EMNIST (Cohen et al. 2017, arXiv:1702.05373), the balanced split, from the original zip or its files.

They are idx files as MNIST has them (`mnist`), of 47 classes: digits, capitals, and those small letters that look
unlike their capitals. Pictures lie on their side, as in the original and in torchvision.

Of the zip the MD5 is published, of the files in it none. So the zip is read if it is there. Of unpacked files it is
checked that header, counts and labels are those of the split, and the user is told that they are unverified.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench import DataError, DataSet, ImagePlan, RemoteFile, open_zip, read_regular

#: The classes in the order of their labels.
CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"

#: Images of each class in the two splits.
PER_CLASS = {"train": 2_400, "test": 400}

_ARCHIVE = "gzip.zip"
_LARGEST_FILE = 128 << 20  # bytes; the largest has 88 million

#: Gives the content of the file of a name, or None if there is none.
Reader = Callable[[str], bytes | None]


@dataclass(frozen=True, kw_only=True)
class EmnistBalanced(DataSet):
    """EMNIST, the balanced split: digits and letters by hand, grey at 28x28."""

    name: ClassVar[str] = "emnist-balanced"
    title: ClassVar[str] = "EMNIST Balanced"
    terms: ClassVar[str] = "Made by NIST from its Special Database 19; cite Cohen et al. 2017."
    files: ClassVar[tuple[RemoteFile, ...]] = (
        # torchvision's; all six splits, half a gigabyte.
        RemoteFile(
            url=f"https://biometrics.nist.gov/cs_links/EMNIST/{_ARCHIVE}", md5="58c8d27c78d21e728a6bc7b3cc06412e"
        ),
    )
    folder: ClassVar[str] = "EMNIST/raw"
    layout: ClassVar[str] = f"EMNIST/raw with {_ARCHIVE}, or with the four idx files of the split, packed or not"
    stand_in: ClassVar[str | None] = "procedural-emnist-balanced"
    #: Shape of one image.
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    def find(self, place: Path) -> Path | None:
        """Return ``place`` or the folder ``EMNIST/raw`` below it, whichever holds the zip or any of the files."""
        folders = (place, place / "raw", place / "EMNIST" / "raw")
        return next((folder for folder in folders if _unpacked(folder) or (folder / _ARCHIVE).is_file()), None)

    def sources(self, path: Path) -> Iterable[Path]:
        """Return the zip in the folder ``path``, or else the files."""
        archive = path / _ARCHIVE
        return [archive] if archive.is_file() else _unpacked(path).values()

    def read(self, path: Path) -> ImagePlan:
        """Read the four files of the split in the zip in the folder ``path``, or else in the folder itself."""
        archive = path / _ARCHIVE
        if not archive.is_file():
            unpacked = _unpacked(path)
            return self._plan(lambda name: self._file(unpacked[name]) if name in unpacked else None, path)
        with open_zip(archive, again=self.again) as members:
            inside = {PurePosixPath(name).name: name for name in members.names()}
            return self._plan(
                lambda name: members.read(inside[name], _LARGEST_FILE) if name in inside else None, archive
            )

    def _file(self, path: Path) -> bytes:
        try:
            return read_regular(path, most=_LARGEST_FILE)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}); make it readable") from error

    def _plan(self, read: Reader, where: Path) -> ImagePlan:
        train, test = (self._split(read, split, where) for split in PER_CLASS)
        return ImagePlan.of(CLASSES, train, test)

    def _split(self, read: Reader, split: str, where: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images ``(N, 1, 28, 28)`` and labels ``(N,)`` of one split."""
        count = len(CLASSES) * PER_CLASS[split]
        images = self._idx(read, f"{_prefix(split)}-images-idx3-ubyte", (count, *self.shape[1:]), where)
        name = f"{_prefix(split)}-labels-idx1-ubyte"
        labels = self._idx(read, name, (count,), where).astype(np.int64)
        if np.bincount(labels, minlength=len(CLASSES)).tolist() != [PER_CLASS[split]] * len(CLASSES):
            raise DataError(
                f"{name} in {where} has not {PER_CLASS[split]} labels of each of {len(CLASSES)} classes, as the "
                f"original has; {self.again}"
            )
        return images.reshape(-1, *self.shape), labels

    def _idx(self, read: Reader, name: str, shape: tuple[int, ...], where: Path) -> NDArray[np.uint8]:
        """Return the array of bytes in an idx file.

        Raises:
            DataError: If it is absent, damaged, or of another shape.
        """
        content, packed = read(name), read(f"{name}.gz")
        if content is None and packed is None:
            raise DataError(f"{where} has neither {name} nor {name}.gz; {self.again}")
        if content is None:
            assert packed is not None
            try:
                with gzip.open(io.BytesIO(packed)) as stream:
                    content = stream.read(_LARGEST_FILE)
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise DataError(f"{name}.gz in {where} is not a whole gzip file ({error}); {self.again}") from error
        # Two zeros, the type (8: bytes), the number of axes, and then the length of each, big-endian.
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        if not content.startswith(header) or len(content) != len(header) + int(np.prod(shape)):
            sizes = "x".join(map(str, shape))
            raise DataError(f"{name} in {where} is not the original: it does not hold {sizes} bytes; {self.again}")
        return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def _prefix(split: str) -> str:
    return f"emnist-balanced-{split}"


def _unpacked(folder: Path) -> dict[str, Path]:
    """Return the files of the split in ``folder`` by their names."""
    kinds = [f"{_prefix(split)}-{kind}" for split in PER_CLASS for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    names = [f"{kind}{suffix}" for kind in kinds for suffix in ("", ".gz")]
    return {name: folder / name for name in names if (folder / name).is_file()}
