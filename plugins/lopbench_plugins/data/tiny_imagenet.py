"""Tiny ImageNet (Le and Yang 2015) from its original zip, read in place, or from the unpacked folder.

Layout, below ``tiny-imagenet-200/``: ``wnids.txt``, ``train/<wnid>/images/<wnid>_<k>.JPEG``, ``val/images/*.JPEG``
and ``val/val_annotations.txt``. The ``*_boxes.txt`` files are not read: in a subset they list images that are absent.
Held-out images are the official val split; ``test/`` has no labels.
"""

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lopbench import DataError, DataSet, ImagePlan, RemoteFile, ZipMembers, open_zip, read_regular
from lopbench_plugins.data._parallel import in_parallel

NAME = "tiny-imagenet-200"
ARCHIVE = f"{NAME}.zip"
#: The original has this many classes, and this many images a class in train and in val.
ORIGINAL = (200, 500, 50)
SHAPE = (3, 64, 64)

_AGAIN = "get the archive again, 'lopbench data get tiny-imagenet-200' downloads it"
_TRAIN = re.compile(r"train/(?P<wnid>[^/]+)/images/(?P<file>[^/.][^/]*\.JPEG)")
_VAL = re.compile(r"val/images/(?P<file>[^/.][^/]*\.JPEG)")
_INDEX = re.compile(r"_(\d+)\.JPEG$")

_TAIL = 24 << 20  # bytes; the central directory of the whole original (120,000 members) takes some 15 MiB
_LARGEST_FILE = 8 << 20  # bytes; a 64x64 JPEG has some 2,000 and words.txt 2.7 million
_CHUNK = 100  # images decoded at a time


class Source(Protocol):
    """The files of Tiny ImageNet, named by their path below its top folder, such as ``val/val_annotations.txt``."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of all images, of what is in ``val``, and of the two text files, in any order."""

    def read(self, name: str) -> bytes:
        """Return the content of a file; called from several threads.

        Raises:
            DataError: If the file is absent, damaged or absurdly large.
        """


class Folder:
    """The unpacked archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the names of the images, of the two text files, and of what is in ``val``, be it a folder or not."""
        names = [name for name in ("wnids.txt", "val/val_annotations.txt") if (self.path / name).is_file()]
        for folder in self._image_folders():
            names += [f"{folder}/{entry}" for entry in os.listdir(self.path / folder)]  # noqa: PTH208
        if (self.path / "val").is_dir():
            names += [f"val/{entry}/" for entry in os.listdir(self.path / "val")]  # noqa: PTH208
        return names

    def read(self, name: str) -> bytes:
        """Return the content of the file ``name``."""
        try:
            return read_regular(self.path / name, most=_LARGEST_FILE)
        except FileNotFoundError:
            raise DataError(f"{self.path / name} is missing; {_AGAIN}") from None
        except OSError as error:
            raise DataError(f"{self.path / name} cannot be read ({error.strerror}); {_AGAIN}") from error

    def _image_folders(self) -> list[str]:
        train = self.path / "train"
        classes = sorted(os.listdir(train)) if train.is_dir() else []  # noqa: PTH208
        folders = [f"train/{wnid}/images" for wnid in classes] + ["val/images"]
        return [folder for folder in folders if (self.path / folder).is_dir()]

    def fingerprint(self) -> str:
        """Return a hash of the names, sizes and modification times, without opening an image."""
        digest = hashlib.sha256(b"folder")
        for folder in [".", "val", *self._image_folders()]:
            if not (self.path / folder).is_dir():
                continue  # incomplete: reading it will say so
            with os.scandir(self.path / folder) as entries:
                files = [(entry.name, stat.st_size, stat.st_mtime_ns) for entry in entries if (stat := entry.stat())]
            digest.update(repr((folder, sorted(files))).encode())
        return digest.hexdigest()


class Archive:
    """The zip."""

    def __init__(self, members: ZipMembers) -> None:
        self.path = members.path
        names = members.names()
        tops = [top for top in (f"{NAME}/", "") if f"{top}wnids.txt" in names]
        if not tops:
            raise DataError(f"{self.path} is not Tiny ImageNet: it has no {NAME}/wnids.txt; {_AGAIN}")
        self._members = members
        self._top = tops[0]
        self._names = [name.removeprefix(self._top) for name in names if name.startswith(self._top)]

    def names(self) -> list[str]:
        """Return the names of all members."""
        return self._names

    def read(self, name: str) -> bytes:
        """Return the content of the member ``name``."""
        return self._members.read(f"{self._top}{name}", _LARGEST_FILE)


def fingerprint(path: Path) -> str:
    """Return a key for the content at ``path``, a folder or zip, found without reading the images.

    For a zip it hashes the end of the file, where the directory of all members lies with their names, sizes and CRCs;
    for a folder names, sizes and modification times.

    Raises:
        DataError: If ``path`` cannot be read.
    """
    try:
        if path.is_dir():
            return Folder(path).fingerprint()
        if not path.is_file():  # a pipe or device might never end
            raise DataError(f"{path} is no file; {_AGAIN}")
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            return hashlib.sha256(b"zip" + size.to_bytes(8, "little") + file.read()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); make it readable") from error


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open Tiny ImageNet at ``path``, its unpacked top folder or its zip.

    Raises:
        DataError: If it is neither.
    """
    if path.is_dir():
        if not (path / "wnids.txt").is_file():
            raise DataError(f"{path} is not Tiny ImageNet: it has no wnids.txt; {_AGAIN}")
        yield Folder(path)
        return
    with open_zip(path, again=_AGAIN) as members:
        yield Archive(members)


def plan(source: Source) -> ImagePlan:
    """Return what decoding ``source`` gives: labels now, pixels on demand, for which it is opened again.

    Raises:
        DataError: If the set is not Tiny ImageNet, or a class or file of it is missing or inconsistent.
    """
    where = source.path
    classes = tuple(sorted(_text(source, "wnids.txt").split()))
    if not classes:
        raise DataError(f"wnids.txt in {where} names no class; {_AGAIN}")
    if len(set(classes)) < len(classes):
        twice = Counter(classes).most_common(1)[0][0]
        raise DataError(f"wnids.txt in {where} names class {twice} twice; {_AGAIN}")
    label = {wnid: index for index, wnid in enumerate(classes)}
    names = source.names()
    train = _order([(label[wnid], name) for wnid, name in _train_files(names, label, where)])
    test = _order([(label[wnid], name) for wnid, name in _val_files(names, label, source)])
    per_class = [np.bincount([k for k, _ in files], minlength=len(classes)) for files in (train, test)]
    for split, counts in zip(("train", "val"), per_class, strict=True):
        if not counts.all():
            empty = classes[int(counts.argmin())]
            raise DataError(f"Class {empty} of wnids.txt has no {split} images in {where}; {_AGAIN}")
    original_classes, original_train, original_val = ORIGINAL
    return ImagePlan(
        classes=classes,
        subset=len(classes) < original_classes
        or bool((per_class[0] < original_train).any() or (per_class[1] < original_val).any()),
        shape=SHAPE,
        train_labels=_labels(train),
        test_labels=_labels(test),
        chunks=lambda: _pixels(where, [[name for _, name in split] for split in (train, test)]),
    )


def _text(source: Source, name: str) -> str:
    try:
        return source.read(name).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} in {source.path} is not a text file; {_AGAIN}") from error


def _train_files(names: Sequence[str], label: dict[str, int], where: Path) -> Iterator[tuple[str, str]]:
    for name in names:
        if match := _TRAIN.fullmatch(name):
            wnid = match["wnid"]
            if wnid not in label:
                raise DataError(f"{name} in {where} is of class {wnid}, which wnids.txt does not name; {_AGAIN}")
            if not match["file"].startswith(f"{wnid}_") or not _INDEX.search(name):
                raise DataError(f"{name} in {where} should be called {wnid}_<number>.JPEG; {_AGAIN}")
            yield wnid, name


def _val_files(names: Sequence[str], label: dict[str, int], source: Source) -> Iterator[tuple[str, str]]:
    annotations = "val/val_annotations.txt"
    unlabelled = {match["file"] for name in names if (match := _VAL.fullmatch(name))}
    if not unlabelled and any(name.split("/")[1] in label for name in names if name.startswith("val/")):
        raise DataError(
            f"val in {source.path} is sorted into folders of classes, as some scripts do; the original has all its "
            f"images in val/images, and says in {annotations} of which class each is; {_AGAIN}"
        )
    for number, line in enumerate(_text(source, annotations).splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < 2 or not _INDEX.search(fields[0]):
            raise DataError(
                f"Line {number} of {annotations} in {source.path} is {line!r}, not file, wnid, box; {_AGAIN}"
            )
        file, wnid = fields[:2]
        if wnid not in label:
            raise DataError(
                f"Line {number} of {annotations} in {source.path} gives {file} the class {wnid}, "
                f"which wnids.txt does not name; {_AGAIN}"
            )
        if file not in unlabelled:
            raise DataError(
                f"Line {number} of {annotations} in {source.path} names {file}, "
                f"which is missing from val/images or was named before; {_AGAIN}"
            )
        unlabelled.remove(file)
        yield wnid, f"val/images/{file}"
    if unlabelled:
        raise DataError(f"{annotations} in {source.path} gives no class for {min(unlabelled)}; {_AGAIN}")


def _order(files: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Sort by label, then by the number in the file's name."""

    def key(file: tuple[int, str]) -> tuple[int, int, str]:
        match = _INDEX.search(file[1])
        assert match is not None
        return file[0], int(match[1]), file[1]

    return sorted(files, key=key)


def _labels(files: list[tuple[int, str]]) -> NDArray[np.int64]:
    return np.array([label for label, _ in files], dtype=np.int64)


def _pixels(path: Path, splits: list[list[str]]) -> Iterator[NDArray[np.uint8]]:
    with opened(path) as source:
        yield from in_parallel(partial(_decode, source), _chunks(splits))


def _chunks(splits: list[list[str]]) -> Iterator[list[str]]:
    for names in splits:
        for start in range(0, len(names), _CHUNK):
            yield names[start : start + _CHUNK]


def _decode(source: Source, names: list[str]) -> NDArray[np.uint8]:
    """Return the images ``names``, ``(n, 3, 64, 64)``."""
    from PIL import Image, UnidentifiedImageError  # lazily: a cached data set needs no decoder

    _, height, width = SHAPE
    pixels: NDArray[np.uint8] = np.empty((len(names), height, width, 3), dtype=np.uint8)
    for row, name in zip(pixels, names, strict=True):
        content = source.read(name)
        try:
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                size = image.size
                if size == (width, height):  # else not even decoded
                    row[:] = np.asarray(image.convert("RGB"))  # some 2% are grey
        except UnidentifiedImageError as error:  # its text has the address of an object
            what = f"{len(content):,} bytes that are none"
            raise DataError(f"{name} in {source.path} is not a whole JPEG ({what}); {_AGAIN}") from error
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a broken or truncated file
            raise DataError(f"{name} in {source.path} is not a whole JPEG ({error}); {_AGAIN}") from error
        if size != (width, height):
            raise DataError(f"{name} in {source.path} has {size[0]}x{size[1]} pixels, not {width}x{height}; {_AGAIN}")
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(DataSet):
    """Tiny ImageNet: 200 classes of ImageNet at 64x64."""

    name: ClassVar[str] = NAME
    title: ClassVar[str] = "Tiny ImageNet"
    terms: ClassVar[str] = (
        "The images are ImageNet's and their owners hold the rights; "
        "ImageNet's terms of access allow non-commercial research and educational use only."
    )
    # Neither size nor hash is published.
    files: ClassVar[tuple[RemoteFile, ...]] = (RemoteFile(url=f"http://cs231n.stanford.edu/{ARCHIVE}"),)
    folder: ClassVar[str] = "."
    layout: ClassVar[str] = f"{ARCHIVE} or the folder {NAME}"
    stand_in: ClassVar[str | None] = "procedural"
    #: Shape of one image.
    shape: ClassVar[tuple[int, int, int]] = SHAPE

    def find(self, place: Path) -> Path | None:
        """Return ``place`` if it is the zip or the unpacked folder, else one of these inside it."""
        if place.suffix == ".zip" or (place / "wnids.txt").is_file():
            return place if place.exists() else None
        return next((path for path in (place / NAME, place / ARCHIVE) if path.exists()), None)

    def fingerprint(self, path: Path) -> str:
        """Return `fingerprint` of ``path``."""
        return fingerprint(path)

    def read(self, path: Path) -> ImagePlan:
        """Read the labels from the zip or folder ``path``."""
        with opened(path) as source:
            return plan(source)
