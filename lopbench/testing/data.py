"""The checks of data sets: none of them downloads anything."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lopbench.core.interfaces import Component, DataSet, Samples
from lopbench.data.catalog import usable
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.shared import SHARED


def _data_set(component: Component) -> DataSet:
    assert isinstance(component, DataSet)
    return component


@check("It says what it is, who holds the rights, and what its files are called.")
def is_accounted_for(component: Component) -> None:
    """Look at title, terms and files."""
    entry = _data_set(component)
    for field in ("title", "terms"):
        if not str(getattr(entry, field, "") or "").strip():
            raise Mismatch(f"{field}: ClassVar[str]", "none")
    for file in entry.files:
        if not file.name:
            raise Mismatch("URLs that end with the name of a file", file.url)
    if not entry.real and entry.files:
        raise Mismatch("no files for samples that a program makes", f"{len(entry.files)}")


@check("A folder that does not hold the data set is not taken for it, and a missing folder is no error.")
def is_found_where_it_is(component: Component) -> None:
    """Search an empty folder."""
    entry = _data_set(component)
    if not entry.real:
        raise NotApplicable("a program makes its samples")
    with tempfile.TemporaryDirectory() as folder:
        for place in (Path(folder), Path(folder) / "nowhere"):
            if (found := entry.find(place)) is not None and found.is_relative_to(place):
                raise Mismatch("None for a folder that holds nothing", str(found))


@check("The same samples have the same content hash, read twice.")
def content_is_fixed(component: Component) -> None:
    """Make the example, or what a program makes, twice."""
    entry = _data_set(component)
    if entry.example() is None:
        raise NotApplicable("it has no example")
    hashes = []
    for _ in range(2):
        read = usable(entry.example(), entry)
        hashes.append(read.content_hash if isinstance(read, Samples) else read.hash("", None))
    if hashes[0] != hashes[1]:
        raise Mismatch("one content hash", " and ".join(each[:12] for each in hashes))


CHECKS: tuple[Check, ...] = (*SHARED, is_accounted_for, is_found_where_it_is, content_is_fixed)
