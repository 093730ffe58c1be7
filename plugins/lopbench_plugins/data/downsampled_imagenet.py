"""Downsampled ImageNet at 32x32 (Chrabaszcz et al. 2017, arXiv:1707.08819), from npz files or pickles, zipped or not.

Ten training batches, of all 1,281,167 images in a random order, and the 50,000 validation images, which are held out.
Each file has ``data``, ``(N, 3072)`` bytes, channel by channel, and ``labels``, from 1 to 1,000.

Of npz files only those with the known MD5 are read; sizes and hashes are those of TensorFlow Datasets and of loaders
that agree with each other. The same images are published as pickles, as the authors' scripts write them. Loaders that
give hashes of these contradict each other, so that none is taken as the original's: pickles are read in a way that runs
nothing (`_pickles`), types and numbers of images and labels are checked, and the user is told that they are unverified.
"""

import io
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench import DataError, DataSet, ImagePlan, RemoteFile, ZipMembers, open_zip, read_regular
from lopbench_plugins.data._original import check_md5
from lopbench_plugins.data._pickles import byte_array, unpickled

_URL = "https://image-net.org/data/downsample"

#: The training batches in order, and the held-out images, with their MD5.
TRAIN = {
    "train_data_batch_1.npz": "464fde20de6eb44c28cc1a8c11544bb1",
    "train_data_batch_2.npz": "bdb56e71882c3fd91619d789d5dd7c79",
    "train_data_batch_3.npz": "83ff36d76ea26867491a281ea6e1d03b",
    "train_data_batch_4.npz": "98ff184fe109d5c2a0f6da63843880c7",
    "train_data_batch_5.npz": "62b8803e13c3e6de9498da7aaaae57c8",
    "train_data_batch_6.npz": "e0b06665f890b029f1d8d0a0db26e119",
    "train_data_batch_7.npz": "9731f469aac1622477813c132c5a847a",
    "train_data_batch_8.npz": "60aed934b9d26b7ee83a1a83bdcfbe0f",
    "train_data_batch_9.npz": "b96328e6affd718660c2561a6fe8c14c",
    "train_data_batch_10.npz": "1dc618d544c554220dd118f72975470c",
}
TEST = {"val_data.npz": "a8c04a389f2649841fb7a01720da9dd9"}

#: Number of images in the training batches together, and in the held-out file.
COUNTS = {"train": 1_281_167, "test": 50_000}

#: Number of classes.
CLASSES = 1000

_ZIPS = ("Imagenet32_train_npz.zip", "Imagenet32_val_npz.zip")
_LARGEST_FILE = 1 << 30  # bytes; the largest has some 400 million
_CHUNK = 5000  # images that are put in order at a time


@dataclass(frozen=True, kw_only=True)
class DownsampledImageNet(DataSet):
    """ImageNet at 32x32: 1,000 classes of photographs."""

    name: ClassVar[str] = "downsampled-imagenet-32"
    title: ClassVar[str] = "Downsampled ImageNet 32x32"
    terms: ClassVar[str] = (
        "The images are ImageNet's and their owners hold the rights; its terms of access allow non-commercial research "
        "and educational use only."
    )
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            url=f"{_URL}/{_ZIPS[0]}",
            size_bytes=3_580_435_279,
            sha256="94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc",
        ),
        RemoteFile(
            url=f"{_URL}/{_ZIPS[1]}",
            size_bytes=139_697_668,
            sha256="013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a",
        ),
    )
    layout: ClassVar[str] = (
        f"{_ZIPS[0]} and {_ZIPS[1]}, or their npz files unpacked, in one folder or in two; or the same as pickles"
    )
    stand_in: ClassVar[str | None] = "procedural-downsampled-imagenet-32"
    #: Shape of one image.
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    def find(self, place: Path) -> Path | None:
        """Return ``place`` or a folder of the set's name below it, whichever has a zip or a file of the set."""
        return next((folder for folder in (place, place / self.name) if _ending(folder) is not None), None)

    def sources(self, path: Path) -> Iterable[Path]:
        """Return the files that are read in the folder ``path``: npz before pickles, unpacked ones before zips."""
        ending = _ending(path) or ""
        return list(_unpacked(path, ending).values()) or _zips(path, ending)

    def check(self, path: Path) -> None:
        """Refuse zips that are not the original, where these are read."""
        if not _unpacked(path, ".npz"):
            super().check(path)

    def is_verified(self, path: Path) -> bool:
        """Return whether npz files are read, each of which is compared with its MD5."""
        return _ending(path) == ".npz"

    def read(self, path: Path) -> ImagePlan:
        """Read all files in the folder ``path`` or its zips; the pixels are in memory until they are cached, 4 GB."""
        train, train_labels = self._split(path, "train", TRAIN)
        test, test_labels = self._split(path, "test", TEST)
        orders = [labels.argsort(kind="stable") for labels in (train_labels, test_labels)]
        return ImagePlan(
            classes=tuple(f"{label:04d}" for label in range(1, CLASSES + 1)),
            subset=False,
            shape=self.shape,
            train_labels=train_labels[orders[0]],
            test_labels=test_labels[orders[1]],
            chunks=lambda: (
                chunk.reshape(-1, *self.shape)
                for parts, order in zip((train, test), orders, strict=True)
                for chunk in _gathered(parts, order)
            ),
        )

    def _split(
        self, path: Path, split: str, parts: Mapping[str, str]
    ) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
        """Return the images ``(n, 3072)`` of each file of a split, and the labels ``(N,)`` of all, from 0."""
        images, labels = [], []
        for name, content in self._contents(path, parts):
            if name in parts:
                check_md5(content, parts[name], name, path, self.again)
            pixels, numbers = self._arrays(content, name, path)
            images.append(pixels)
            labels.append(numbers - 1)
        if (found := sum(map(len, images))) != COUNTS[split]:
            raise DataError(
                f"{path} has {found:,} {split} images, and the original has {COUNTS[split]:,}; {self.again}"
            )
        return images, np.concatenate(labels)

    def _arrays(self, content: bytes, name: str, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return ``data`` and ``labels`` of a file."""
        try:
            pixels, labels = _from_npz(content) if name.endswith(".npz") else _from_pickle(content)
        except (ValueError, KeyError, OverflowError, OSError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            raise DataError(f"{name} in {path} holds no data and labels ({error}); {self.again}") from error
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), int(np.prod(self.shape))):
            raise DataError(
                f"{name} in {path} holds {pixels.dtype} {pixels.shape} for {len(labels)} labels, and not bytes "
                f"({len(labels)}, 3072); {self.again}"
            )
        if not ((labels >= 1) & (labels <= CLASSES)).all():
            raise DataError(f"{name} in {path} has labels other than 1 to {CLASSES:,}; {self.again}")
        return pixels, labels

    def _contents(self, path: Path, parts: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each file of ``parts``, in order; pickles are named as ``parts``, without ".npz".

        Raises:
            DataError: If one is absent, or cannot be read.
        """
        ending = _ending(path) or ""
        unpacked = _unpacked(path, ending)
        with ExitStack() as opened:
            inside: dict[str, tuple[ZipMembers, str]] = {}
            for archive in [] if unpacked else _zips(path, ending):
                members = opened.enter_context(open_zip(archive, again=self.again))
                inside |= {PurePosixPath(member).name: (members, member) for member in members.names()}
            for name in _names(parts, ending):
                if name in unpacked:
                    yield name, self._file(unpacked[name])
                elif name in inside:
                    members, member = inside[name]
                    yield name, members.read(member, _LARGEST_FILE)
                else:
                    raise DataError(f"{path} has no {name}; {self.again}")

    def _file(self, path: Path) -> bytes:
        try:
            return read_regular(path, most=_LARGEST_FILE)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}); make it readable") from error


def _gathered(parts: Sequence[NDArray[np.uint8]], order: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of all ``parts`` together in the order of their places, in chunks, without a copy of all."""
    edges = np.cumsum([0, *map(len, parts)])
    for start in range(0, len(order), _CHUNK):
        places = order[start : start + _CHUNK]
        chunk = np.empty((len(places), parts[0].shape[1]), np.uint8)
        for part, first, stop in zip(parts, edges, edges[1:], strict=False):
            inside = (first <= places) & (places < stop)
            chunk[inside] = part[places[inside] - first]
        yield chunk


def _from_npz(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays["data"], arrays["labels"].astype(np.int64)


def _from_pickle(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    loaded = unpickled(content)
    labels = loaded["labels"]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError("its labels are no list of whole numbers")
    return byte_array(loaded["data"]), np.array(labels, np.int64)


def _ending(folder: Path) -> str | None:
    """Return with what the names of the files in ``folder``, or in its zips, end: as npz, as pickles, or as neither."""
    return next((ending for ending in (".npz", "") if _unpacked(folder, ending) or _zips(folder, ending)), None)


def _names(parts: Iterable[str], ending: str) -> list[str]:
    """Return the names of the files with the arrays of ``parts``, which are those of npz files."""
    return [part.removesuffix(".npz") + ending for part in parts]


def _zips(folder: Path, ending: str) -> list[Path]:
    names = _ZIPS if ending else [name.replace("_npz", "") for name in _ZIPS]
    return [folder / name for name in names if (folder / name).is_file()]


def _unpacked(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files of the set by name, in ``folder`` and in those that the zips unpack to in it."""
    places = (folder, *(folder / name.removesuffix(end) for name in _ZIPS for end in (".zip", "_npz.zip")))
    found = ((name, place / name) for place in places for name in _names((*TRAIN, *TEST), ending))
    return {name: path for name, path in found if path.is_file()}
