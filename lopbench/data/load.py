"""Find a data set, decode it once, and open it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lopbench.core.errors import DataError, UsageError
from lopbench.core.registry import suggest
from lopbench.data import procedural
from lopbench.data.cache import Entry, cache_directory, open_entry, store
from lopbench.data.cifar import CIFAR10, CIFAR100
from lopbench.data.data_set import FileSet
from lopbench.data.images import ImageSet, Plan, Progress
from lopbench.data.mnist import MNIST
from lopbench.data.procedural import Procedural
from lopbench.data.tiny_imagenet import TINY_IMAGENET

#: Part of every cache key; raise it when decoding gives other arrays.
_CACHE_FORMAT = 1

#: All data sets; a new one is a module that makes one of these objects, and its name here.
SETS: tuple[FileSet | Procedural, ...] = (TINY_IMAGENET, CIFAR10, CIFAR100, MNIST, *procedural.SETS)


def load_images(
    name: str,
    *,
    wanted: str | None = None,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Return an image data set, decoded into the cache if it is not there yet.

    Args:
        name: The data set, whose absence is an error; "procedural", the procedural images in the shape of ``wanted``;
            or "auto", which is ``wanted`` where it is found and else, with a notice, those procedural images.
        wanted: The data set that the scenario streams, and for which "auto" stands; with it, others are refused. None
            if there is no scenario: then "auto" has no meaning, and "procedural" the shape of Tiny ImageNet.
        data_dir: Looked in first, before ``$LOPBENCH_DATA`` and the cache directory: a directory that holds the
            archive or the unpacked folder, or either itself.
        cache_dir: Where decoded images are kept; ``$LOPBENCH_CACHE`` or the user's cache directory if None.
        progress: Told of decoding.

    Raises:
        UsageError: If ``name`` or ``wanted`` is no data set, or ``name`` is not for the scenario.
        DataError: If the data set is named and not found; if what is found is damaged or incomplete; or if the cache
            cannot be written.
    """
    chosen = _chosen(name, wanted)
    cache = cache_dir or cache_directory()
    if isinstance(chosen, Procedural):
        return _load(chosen, None, cache, progress, f"NOT {chosen.title} but ")
    path = locate(chosen.name, data_dir)
    if path is not None:
        return _load(chosen, path, cache, progress)
    if name != "auto":
        raise DataError(absent(chosen, data_dir))
    stand_in = data_set(chosen.stand_in)
    return _load(stand_in, None, cache, progress, f"NOT {chosen.title} ({absent(chosen, data_dir)}). Instead ")


def data_set(name: str, *others: str) -> FileSet | Procedural:
    """Return the data set ``name``.

    Raises:
        UsageError: If there is none, naming the nearest of them and of ``others``.
    """
    for entry in SETS:
        if entry.name == name:
            return entry
    known = [*others, *(entry.name for entry in SETS)]
    raise UsageError(f"Unknown data set {name!r}.{suggest(name, known)} There are {', '.join(known)}.")


def _chosen(name: str, wanted: str | None) -> FileSet | Procedural:
    """Return the data set that ``name`` means to a scenario that streams ``wanted``."""
    if wanted is None:
        return data_set(name)
    streamed = data_set(wanted)
    if name in ("auto", wanted):
        return streamed
    asked = data_set(name, "auto")
    stand_in = data_set(streamed.stand_in) if isinstance(streamed, FileSet) else streamed
    if asked.name in (procedural.NAME, stand_in.name):
        return stand_in
    raise UsageError(
        f"The scenario streams {wanted}, and not {name}: take {wanted}, {procedural.NAME} or auto, "
        "or a scenario whose data set can be chosen"
    )


def locate(name: str, data_dir: Path | None = None) -> Path | None:
    """Return where the data set ``name`` lies (its archive or its folder), None if it is nowhere or needs no files.

    Looks in ``data_dir``, ``$LOPBENCH_DATA`` and the cache directory, in this order, and opens nothing.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If ``data_dir`` does not exist.
    """
    entry = data_set(name)
    if isinstance(entry, Procedural):
        return None
    if data_dir is not None and not data_dir.exists():
        raise DataError(f"The data directory {data_dir} does not exist; name one that holds {entry.layout}")
    found = (entry.find(place) for place in _places(data_dir))
    return next((path for path in found if path is not None), None)


def absent(entry: FileSet, data_dir: Path | None) -> str:
    """Return the sentence that says where ``entry`` was looked for and how to get it, without a full stop."""
    return (
        f"{entry.name} is not in {', '.join(map(str, _places(data_dir)))}; 'lopbench data get {entry.name}' downloads "
        f"it; or name the directory that holds {entry.layout} with --data-dir or LOPBENCH_DATA"
    )


def _places(data_dir: Path | None) -> list[Path]:
    given = os.environ.get("LOPBENCH_DATA")
    places = [data_dir, Path(given).expanduser() if given else None, cache_directory()]
    return [place for place in places if place is not None]


def cache_key(entry: FileSet | Procedural, path: Path | None) -> str:
    """Return the cache key of ``entry`` as it lies at ``path``, or as this version makes it.

    Raises:
        DataError: If ``path`` cannot be read.
    """
    if isinstance(entry, Procedural):
        return f"{entry.name}-{_CACHE_FORMAT}-{procedural.VERSION}"
    assert path is not None
    return f"{entry.name}-{_CACHE_FORMAT}-{entry.fingerprint(path)[:24]}"


@contextmanager
def planned(entry: FileSet | Procedural, path: Path | None) -> Iterator[Plan]:
    """Open ``entry`` at ``path``, or make it; the pixels can be made as long as it is open.

    Raises:
        DataError: If it is damaged or incomplete.
    """
    if isinstance(entry, Procedural):
        yield entry.plan()
        return
    assert path is not None
    with entry.opened(path) as plan:
        yield plan


def describe(plan: Plan | Entry) -> str:
    """Return how many images there are, in words."""
    return (
        f"{len(plan.train_labels):,} train and {len(plan.test_labels):,} held-out images of {len(plan.classes)} classes"
    )


def _load(
    entry: FileSet | Procedural, path: Path | None, cache: Path, progress: Progress | None, prefix: str = ""
) -> ImageSet:
    key, made = cache_key(entry, path), isinstance(entry, Procedural)
    cached = open_entry(cache, key, entry.shape)
    if cached is None:
        doing = f"making {entry.name} images" if made else f"decoding {entry.name}"
        with planned(entry, path) as plan:
            cached = store(cache, key, plan, doing, progress)
    part = ", a subset of the original" if cached.subset else ""
    what = "PROCEDURAL images, drawn by lopbench" if made else f"{entry.title}{part}, from {path}"
    end = " Results never stand beside real ones." if made else ""
    return ImageSet(
        name=entry.name,
        content_hash=cached.content_hash,
        subset=cached.subset,
        classes=cached.classes,
        train_images=cached.train_images,
        train_labels=cached.train_labels,
        test_images=cached.test_images,
        test_labels=cached.test_labels,
        real=not made,
        notice=f"{prefix}{what}: {describe(cached)}.{end}",
        terms=entry.terms,
    )
