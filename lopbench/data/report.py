"""Whether a data set that is here is whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lopbench.core.errors import DataError
from lopbench.core.interfaces import DataSet, Samples
from lopbench.core.places import cache_directory
from lopbench.data.cache import entry_directory, open_entry
from lopbench.data.catalog import absent, cache_key, contents, data_set, locate, plugin_code, unverified
from lopbench.data.contents import Contents, Progress
from lopbench.data.images import ImagePlan


@dataclass(frozen=True, kw_only=True)
class Report:
    """What ``verify`` found.

    Args:
        name: Name of the data set.
        path: The archive or folder that was read; None if the samples are made here.
        content_hash: As in `Samples`, computed anew from the source.
        subset: Whether the original has more samples.
        cache: Whether the decoded cache holds exactly these samples, others, or is absent.
        message: All this in words, with what to do if something is wrong.
    """

    name: str
    path: Path | None
    content_hash: str
    subset: bool
    cache: Literal["matches", "differs", "absent"]
    message: str

    @property
    def ok(self) -> bool:
        """Whether the cache, if there is one, can be trusted."""
        return self.cache != "differs"


@dataclass(frozen=True, kw_only=True)
class ImageReport(Report):
    """What ``verify`` found of images.

    Args:
        classes: Number of classes, K.
        train_per_class: Fewest and most train images of a class.
        test_per_class: Fewest and most held-out images of a class.
    """

    classes: int
    train_per_class: tuple[int, int]
    test_per_class: tuple[int, int]


def verify(
    name: str, data_dir: Path | None = None, progress: Progress | None = None, *, cache_dir: Path | None = None
) -> Report:
    """Read all samples of the data set ``name`` from its source, count, hash, and compare with the decoded cache.

    Args:
        name: Name of a data set.
        data_dir: As for `load_data`.
        progress: Told of decoding.
        cache_dir: As for `load_data`.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If the data set is not found, or its source is damaged or incomplete.
        PluginError: If the data set is written wrongly.
    """
    entry, path = data_set(name), locate(name, data_dir)
    if path is None and entry.real:
        raise DataError(absent(entry, data_dir))
    read = contents(entry, path)
    if isinstance(read, Samples):
        return Report(
            name=name,
            path=path,
            content_hash=read.content_hash,
            subset=False,
            cache="absent",
            message=f"{name} is readable{unverified(entry, path)}; it is never put into the decoded cache.",
        )
    return _compared(entry, path, read, cache_dir or cache_directory(), progress)


def _compared(entry: DataSet, path: Path | None, read: Contents, cache: Path, progress: Progress | None) -> Report:
    with plugin_code(entry):
        digest = read.hash(f"verifying {entry.name}", progress)
    key = cache_key(entry, path)
    kept = open_entry(cache, key, check=False)
    state: Literal["matches", "differs", "absent"] = "absent"
    if kept is not None:
        state = "matches" if digest == kept.hash() == kept.content_hash else "differs"
    folder = entry_directory(cache, type(read), key)
    words = {
        "matches": "the decoded cache holds exactly these",
        "differs": f"the decoded cache holds others: delete {folder}, it will be made anew",
        "absent": "they are not in the decoded cache yet",
    }
    whole = f"{'a subset of the original' if read.subset else 'complete'}{unverified(entry, path)}"
    kind: Callable[..., Report] = Report
    counts = {}
    if isinstance(read, ImagePlan):
        kind = ImageReport
        train, test = np.bincount(read.train_labels), np.bincount(read.test_labels)
        counts = {
            "classes": len(read.classes),
            "train_per_class": (int(train.min()), int(train.max())),
            "test_per_class": (int(test.min()), int(test.max())),
        }
    return kind(
        name=entry.name,
        path=path,
        content_hash=digest,
        subset=read.subset,
        cache=state,
        message=f"{entry.name} is {whole}: {read.describe()}, all readable; {words[state]}.",
        **counts,
    )
