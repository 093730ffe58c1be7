"""MNIST (LeCun et al. 1998) from its four idx files, as they are or compressed with gzip.

They lie in ``MNIST/raw``, where torchvision keeps them. Its own reader imports torch and wants the unpacked files, of
which it checks none; an idx file is a header of 32-bit numbers, and then the bytes.
"""

import gzip
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench import DataError, DataSet, ImagePlan, RemoteFile, read_regular
from lopbench_plugins.data._original import check_md5

_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"  # torchvision's; the authors' page no longer serves the files

#: MD5 of the unpacked files.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

_LARGEST_FILE = 64 << 20  # bytes; the largest has 47 million


@dataclass(frozen=True, kw_only=True)
class Mnist(DataSet):
    """MNIST: handwritten digits, grey at 28x28."""

    name: ClassVar[str] = "mnist"
    title: ClassVar[str] = "MNIST"
    terms: ClassVar[str] = (
        "The original page states no licence, later distributors give CC BY-SA 3.0; cite LeCun et al. 1998."
    )
    files: ClassVar[tuple[RemoteFile, ...]] = tuple(
        RemoteFile(url=f"{_MIRROR}/{name}.gz", size_bytes=size, md5=md5)
        for name, size, md5 in (
            ("train-images-idx3-ubyte", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        )
    )
    folder: ClassVar[str] = "MNIST/raw"
    layout: ClassVar[str] = "MNIST/raw with the four idx files, packed or not"
    stand_in: ClassVar[str | None] = "procedural-mnist"
    #: Shape of one image.
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    def find(self, place: Path) -> Path | None:
        """Return ``place`` or the folder ``MNIST/raw`` below it, whichever holds the files."""
        folders = (place, place / "raw", place / "MNIST" / "raw")
        return next((folder for folder in folders if _present(folder)), None)

    def sources(self, path: Path) -> Iterable[Path]:
        """Return the four files in the folder ``path``."""
        return _present(path).values()

    def check(self, path: Path) -> None:
        """Do nothing: what counts is the unpacked content, which is checked as it is read."""

    def is_verified(self, path: Path) -> bool:
        """Return True: each file is compared with its MD5 as it is read."""
        return True

    def read(self, path: Path) -> ImagePlan:
        """Read all four files of the folder ``path`` and check them."""
        return ImagePlan.of("0123456789", self._split(path, "train"), self._split(path, "t10k"))

    def _split(self, path: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images ``(N, 1, 28, 28)`` and labels ``(N,)`` of one split."""
        # Behind four (images) and two (labels) numbers of four bytes.
        images = np.frombuffer(self._read(path, f"{split}-images-idx3-ubyte"), np.uint8, offset=16)
        labels = np.frombuffer(self._read(path, f"{split}-labels-idx1-ubyte"), np.uint8, offset=8)
        return images.reshape(-1, *self.shape), labels.astype(np.int64)

    def _read(self, path: Path, name: str) -> bytes:
        """Return the content of an idx file.

        Raises:
            DataError: If it is absent, cannot be read, or is not the official one.
        """
        file = _present(path).get(name)
        if file is None:
            raise DataError(f"{path} has neither {name} nor {name}.gz; {self.again}")
        try:
            content = read_regular(file, most=_LARGEST_FILE)
            if file.suffix == ".gz":
                with gzip.open(io.BytesIO(content)) as stream:
                    content = stream.read(_LARGEST_FILE)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(f"{file} is not a whole gzip file ({error}); {self.again}") from error
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
        check_md5(content, MD5[name], file.name, path, self.again)
        return content


def _present(folder: Path) -> dict[str, Path]:
    """Return the files of MNIST in ``folder``, unpacked or not, by their unpacked names.

    Some programs that unpack them write a dot in place of the second hyphen, as in ``train-images.idx3-ubyte``.
    """
    names = [(name, found) for name in MD5 for found in (name.replace("-idx", ".idx"), name)]
    candidates = ((name, folder / f"{found}{suffix}") for name, found in names for suffix in (".gz", ""))
    return {name: path for name, path in candidates if path.is_file()}  # unpacked ones last, so preferred
