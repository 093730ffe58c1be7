"""Find a data set, decode it once, and open it."""

import os
from pathlib import Path

from lopbench.core.errors import DataError, UsageError
from lopbench.core.registry import suggest
from lopbench.data import procedural, tiny_imagenet
from lopbench.data.cache import Entry, cache_directory, open_entry, store
from lopbench.data.images import ImageSet, Plan, Progress

#: Part of every cache key; raise it when decoding gives other arrays.
_CACHE_FORMAT = 1

_HOW = (
    f"'lopbench data get {tiny_imagenet.NAME}' downloads it; or name the directory that holds {tiny_imagenet.ARCHIVE} "
    f"or the folder {tiny_imagenet.NAME} with --data-dir or LOPBENCH_DATA"
)


def load_images(
    name: str = "auto",
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Return an image data set, decoded into the cache if it is not there yet.

    Args:
        name: "tiny-imagenet-200"; "procedural"; or "auto", which is Tiny ImageNet where it is found and else, with a
            notice, the procedural images.
        data_dir: Looked in first, before ``$LOPBENCH_DATA`` and the cache directory: a directory that holds the zip or
            the unpacked folder, or either itself.
        cache_dir: Where decoded images are kept; ``$LOPBENCH_CACHE`` or the user's cache directory if None.
        progress: Told of decoding.

    Raises:
        UsageError: If ``name`` is none of these.
        DataError: If "tiny-imagenet-200" is not found; if what is found is damaged or incomplete; or if the cache
            cannot be written.
    """
    check_name(name, ("auto", tiny_imagenet.NAME, procedural.NAME))
    cache = cache_dir or cache_directory()
    if name == procedural.NAME:
        return _procedural(cache, progress, "NOT Tiny ImageNet but ")
    path = locate(tiny_imagenet.NAME, data_dir)
    if path is not None:
        return _tiny_imagenet(path, cache, progress)
    if name == tiny_imagenet.NAME:
        raise DataError(absent(data_dir))
    return _procedural(cache, progress, f"NOT Tiny ImageNet ({absent(data_dir)}). Instead ")


def check_name(name: str, known: tuple[str, ...]) -> None:
    """Refuse a name that is not ``known``.

    Raises:
        UsageError: Naming the nearest known name.
    """
    if name not in known:
        raise UsageError(f"Unknown data set {name!r}.{suggest(name, list(known))} There are {', '.join(known)}.")


def locate(name: str, data_dir: Path | None = None) -> Path | None:
    """Return where the data set ``name`` lies (its zip or its top folder), None if it is nowhere or needs no files.

    Looks in ``data_dir``, ``$LOPBENCH_DATA`` and the cache directory, in this order, and opens nothing.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If ``data_dir`` does not exist.
    """
    check_name(name, (tiny_imagenet.NAME, procedural.NAME))
    if data_dir is not None and not data_dir.exists():
        raise DataError(f"The data directory {data_dir} does not exist; name one that holds {tiny_imagenet.ARCHIVE}")
    if name == procedural.NAME:
        return None
    for place in _places(data_dir):
        if place.is_file() or (place / "wnids.txt").is_file():
            return place
        for candidate in (place / tiny_imagenet.NAME, place / tiny_imagenet.ARCHIVE):
            if candidate.exists():
                return candidate
    return None


def absent(data_dir: Path | None) -> str:
    """Return the sentence that says where Tiny ImageNet was looked for and how to get it, without a full stop."""
    return f"{tiny_imagenet.NAME} is not in {', '.join(map(str, _places(data_dir)))}; {_HOW}"


def _places(data_dir: Path | None) -> list[Path]:
    given = os.environ.get("LOPBENCH_DATA")
    places = [data_dir, Path(given).expanduser() if given else None, cache_directory()]
    return [place for place in places if place is not None]


def tiny_imagenet_key(path: Path) -> str:
    """Return the cache key of Tiny ImageNet at ``path``."""
    return f"{tiny_imagenet.NAME}-{_CACHE_FORMAT}-{tiny_imagenet.fingerprint(path)[:24]}"


def procedural_key() -> str:
    """Return the cache key of the procedural images of this version."""
    return f"{procedural.NAME}-{_CACHE_FORMAT}-{procedural.VERSION}"


def describe(plan: Plan | Entry) -> str:
    """Return how many images there are, in words."""
    return (
        f"{len(plan.train_labels):,} train and {len(plan.test_labels):,} held-out images of {len(plan.classes)} classes"
    )


def _tiny_imagenet(path: Path, cache: Path, progress: Progress | None) -> ImageSet:
    key = tiny_imagenet_key(path)
    entry = open_entry(cache, key)
    if entry is None:
        with tiny_imagenet.opened(path) as source:
            entry = store(cache, key, tiny_imagenet.plan(source), f"decoding {tiny_imagenet.NAME}", progress)
    part = ", a subset of the original" if entry.subset else ""
    notice = f"Tiny ImageNet{part}, from {path}: {describe(entry)}."
    return _image_set(entry, tiny_imagenet.NAME, real=True, notice=notice, terms=tiny_imagenet.TERMS)


def _procedural(cache: Path, progress: Progress | None, prefix: str) -> ImageSet:
    entry = open_entry(cache, procedural_key())
    if entry is None:
        entry = store(cache, procedural_key(), procedural.plan(), "making procedural images", progress)
    notice = f"{prefix}PROCEDURAL images, drawn by lopbench: {describe(entry)}. Results never stand beside real ones."
    return _image_set(entry, procedural.NAME, real=False, notice=notice, terms=procedural.TERMS)


def _image_set(entry: Entry, name: str, *, real: bool, notice: str, terms: str) -> ImageSet:
    return ImageSet(
        name=name,
        content_hash=entry.content_hash,
        subset=entry.subset,
        classes=entry.classes,
        train_images=entry.train_images,
        train_labels=entry.train_labels,
        test_images=entry.test_images,
        test_labels=entry.test_labels,
        real=real,
        notice=notice,
        terms=terms,
    )
