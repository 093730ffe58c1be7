"""Decoded images on disk: written once, published by one rename, then memory-mapped by every process.

An entry is the folder ``<cache>/images/<key>/`` with four ``.npy`` files and ``meta.json``. Its key names the source,
so an entry is never changed; a damaged one is made anew.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

from lopbench.core.errors import DataError
from lopbench.data.images import Labels, Pixels, Plan, Progress, Shape, begin_hash, reported


@dataclass(frozen=True, eq=False)
class Entry:
    """An open cache entry; arrays as in `lopbench.data.ImageSet`, memory-mapped read-only."""

    content_hash: str
    subset: bool
    classes: tuple[str, ...]
    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels


def cache_directory() -> Path:
    """Return where decoded and downloaded data live: ``$LOPBENCH_CACHE``, else the user's cache directory."""
    if given := os.environ.get("LOPBENCH_CACHE"):
        return Path(given).expanduser()
    import platformdirs  # lazily: a run that names its directories needs it not

    return Path(platformdirs.user_cache_dir("lopbench"))


def entry_directory(cache: Path, key: str) -> Path:
    """Return the folder of entry ``key``."""
    return cache / "images" / key


def open_entry(cache: Path, key: str, shape: Shape) -> Entry | None:
    """Return entry ``key`` of images of ``shape``.

    None if it does not exist or is damaged (a file missing, cut short or misshapen).

    Raises:
        DataError: If the entry exists and may not be read.
    """
    directory = entry_directory(cache, key)
    try:
        meta = json.loads((directory / "meta.json").read_bytes())
        entry = Entry(
            content_hash=str(meta["content_hash"]),
            subset=bool(meta["subset"]),
            classes=tuple(map(str, meta["classes"])),
            train_images=_open(directory / "train_images.npy"),
            train_labels=_open(directory / "train_labels.npy"),
            test_images=_open(directory / "test_images.npy"),
            test_labels=_open(directory / "test_labels.npy"),
        )
    except PermissionError as error:
        raise DataError(
            f"The cache {directory} may not be read ({error.strerror}); "
            "make it readable, or name another cache directory in LOPBENCH_CACHE"
        ) from error
    except (OSError, ValueError, KeyError, TypeError):  # numpy: ValueError for a file shorter than its header says
        return None
    for images, labels in ((entry.train_images, entry.train_labels), (entry.test_images, entry.test_labels)):
        if images.shape != (len(labels), *shape) or images.dtype != np.uint8 or labels.dtype != np.int64:
            return None
    return entry


def _open(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def store(cache: Path, key: str, plan: Plan, description: str, progress: Progress | None) -> Entry:
    """Return entry ``key``, made from ``plan`` unless another process makes it first.

    Raises:
        DataError: If the cache cannot be written, or ``plan`` cannot be decoded.
    """
    directory = entry_directory(cache, key)
    # A fixed name: what a killed process left is replaced, not piled up. The lock keeps a second writer away.
    partial = directory.with_name(f"{key}.partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_name(f"{key}.lock")):
            if entry := open_entry(cache, key, plan.shape):
                return entry
            _check_space(directory.parent, plan)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                _write(partial, plan, description, progress)
                shutil.rmtree(directory, ignore_errors=True)  # a damaged entry
                partial.rename(directory)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"Decoded images cannot be written to the cache {cache} ({error.strerror or error}); "
            "make room or make it writable, or name another cache directory in LOPBENCH_CACHE"
        ) from error
    entry = open_entry(cache, key, plan.shape)
    assert entry is not None, f"{directory} is damaged right after it was written"
    return entry


def _check_space(directory: Path, plan: Plan) -> None:
    needed = plan.images * int(np.prod(plan.shape))
    free = shutil.disk_usage(directory).free
    if free < 1.05 * needed:
        raise DataError(
            f"The cache {directory} has {free / 1e6:,.0f} MB free and the decoded images need {needed / 1e6:,.0f} MB; "
            "make room, or name another cache directory in LOPBENCH_CACHE"
        )


def _write(directory: Path, plan: Plan, description: str, progress: Progress | None) -> None:
    digest = begin_hash(plan.classes, plan.shape, plan.train_labels, plan.test_labels)
    chunks = reported(plan.chunks(), description, plan.images, progress)
    for split, labels in (("train", plan.train_labels), ("test", plan.test_labels)):
        np.save(directory / f"{split}_labels.npy", labels)
        # Plain writes, not a writable memory map: on a full disk a map kills the process, a write raises OSError.
        with (directory / f"{split}_images.npy").open("wb") as file:
            _write_header(file, (len(labels), *plan.shape))
            written = 0
            while written < len(labels):
                chunk = next(chunks)
                digest.update(chunk.data)
                file.write(chunk.data)
                written += len(chunk)
            assert written == len(labels), f"{split}: {written} images made, {len(labels)} announced"
    assert next(chunks, None) is None, "more images made than announced"  # and the last progress report is out
    meta = {"content_hash": digest.hexdigest(), "subset": plan.subset, "classes": plan.classes}
    (directory / "meta.json").write_text(json.dumps(meta))


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
