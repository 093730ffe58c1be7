"""Which data sets there are, where they lie, and what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lopbench.core import text
from lopbench.core.errors import DataError, InvalidInputError, LopbenchError, PluginError, UsageError
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import DataSet, Samples
from lopbench.core.manager import plugins
from lopbench.core.places import cache_directory
from lopbench.core.registry import OWN, suggest
from lopbench.data.arrays import Arrays
from lopbench.data.contents import Contents

_HASH = re.compile(r"[0-9a-f]{32,}")


def data_set(name: str, *others: str) -> DataSet:
    """Return the data set ``name``.

    Raises:
        UsageError: If there is none, naming the nearest of them and of ``others``.
        PluginError: If it cannot be imported, or does not say what every data set must.
    """
    registry = plugins().registry
    if not isinstance(name, str):
        raise UsageError(
            f"A scenario names its data set, and this one gives {name!r}; register it in lopbench_data, and give its "
            "name"
        )
    if name not in registry.names("data"):
        known = [*others, *registry.names("data")]
        raise UsageError(f"Unknown data set {name!r}.{suggest(name, known)} There are {', '.join(known)}.")
    loaded = registry.get("data", name).load()
    assert issubclass(loaded, DataSet)  # the registry checked
    try:
        made = loaded()
    except TypeError as error:
        raise PluginError(
            f"{told(loaded)} has fields without a default, and a data set is named without any"
        ) from error
    for field in ("title", "terms"):
        if not isinstance(getattr(made, field, None), str):
            raise PluginError(
                f"{told(loaded)} does not say its {field}; its class needs {field}: ClassVar[str] = '...'"
            )
    return made


def told(cls: type[DataSet]) -> str:
    """Return how a data set is called in a sentence about its code."""
    registry = plugins().registry
    if cls.name not in registry.names("data"):
        return f"data set {cls.name!r} of {cls.__module__}"
    origin = registry.get("data", cls.name).distribution
    return f"data set {cls.name!r} of {origin.name} {origin.version}"


def locate(name: str, data_dir: Path | None = None) -> Path | None:
    """Return where the data set ``name`` lies (its archive or its folder), None if it is nowhere or needs no files.

    Looks in ``data_dir``, ``$LOPBENCH_DATA`` and the cache directory, in this order, and opens nothing.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If ``data_dir`` does not exist.
    """
    entry = data_set(name)
    if not entry.real:
        return None
    if data_dir is not None and not data_dir.exists():
        raise DataError(f"The data directory {data_dir} does not exist; name one that holds {_layout(entry)}")
    with plugin_code(entry):
        found = (entry.find(place) for place in _places(data_dir))
        return next((path for path in found if path is not None), None)


def absent(entry: DataSet, data_dir: Path | None) -> str:
    """Return the sentence that says where ``entry`` was looked for and how to get it, without a full stop."""
    download = f"'lopbench data get {entry.name}' downloads it; or name" if entry.files else "name"
    return (
        f"{entry.name} is not in {', '.join(map(str, _places(data_dir)))}; {download} the directory that holds "
        f"{_layout(entry)} with --data-dir or LOPBENCH_DATA"
    )


def _layout(entry: DataSet) -> str:
    folder = entry.folder or entry.name
    return entry.layout or " and ".join(f"{folder}/{file.name}" for file in entry.files) or entry.title


def _places(data_dir: Path | None) -> list[Path]:
    given = os.environ.get("LOPBENCH_DATA")
    places = [data_dir, Path(given).expanduser() if given else None, cache_directory()]
    return [place for place in places if place is not None]


def unverified(entry: DataSet, path: Path | None) -> str:
    """Return the end of a sentence that says that ``entry`` at ``path`` may not be the original; "" if it is."""
    with plugin_code(entry):
        return "" if path is None or entry.is_verified(path) else ", unverified as no hash of it is known"


def cache_key(entry: DataSet, path: Path | None) -> str:
    """Return the cache key of ``entry`` as it lies at ``path``, or as this version makes it.

    Raises:
        DataError: If ``path`` cannot be read.
    """
    with plugin_code(entry):
        source = "1" if path is None else entry.fingerprint(path)[:24]
    key = f"{entry.name}-{entry.version}-{source}"
    registered = plugins().registry.get("data", entry.name)
    # Who writes a data set edits `read` again and again. Ours are held to their content by tests.
    if registered.distribution.mutable and registered.distribution.name != "lopbench":
        key += f"-{registered.origin.rpartition('+')[2]}"
    return key


def contents(entry: DataSet, path: Path | None) -> Contents | Samples:
    """Read ``entry`` at ``path``, or have it made.

    Raises:
        DataError: If it is damaged or incomplete.
        PluginError: If the data set is written wrongly; naming it, and saying what was expected.
    """
    with plugin_code(entry):
        if path is not None:
            entry.check(path)
        return usable(entry.read(Path() if path is None else path), entry)


def usable(read: object, entry: DataSet) -> Contents | Samples:
    """Return what a data set has read, if it can be hashed or has a hash.

    Raises:
        PluginError: If it cannot.
    """
    who = told(type(entry))
    if isinstance(read, Contents):
        return read
    if isinstance(read, Mapping):
        return Arrays(arrays=read)
    if not isinstance(read, Samples):
        raise PluginError(
            f"{who} is read as a {type(read).__name__}, which has no content hash to go into the protocol; read must "
            "return arrays by name, an ImagePlan, or Samples with a content_hash"
        )
    if not (isinstance(read.content_hash, str) and _HASH.fullmatch(read.content_hash)):
        raise PluginError(
            f"{who} has the content hash {read.content_hash!r}; it goes into the protocol, and must be at least 32 hex "
            "digits, such as hashlib.sha256(content).hexdigest()"
        )
    return read


@contextmanager
def plugin_code(entry: DataSet) -> Iterator[None]:
    """Turn whatever the code of a data set raises into one sentence that names it, and put back what it changes.

    Raises:
        PluginError: In place of anything but a `LopbenchError` that is a sentence already.
    """
    is_own = plugins().registry.get("data", entry.name).distribution.name == OWN
    try:
        with left_alone(f"{told(type(entry))}: ", code=not is_own):
            yield
    except InvalidInputError as error:
        who = told(type(entry))
        raise PluginError(f"{who} gives {error}") from error
    except (LopbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:
        who = told(type(entry))
        raise PluginError(f"{who} fails: {text.told(error)}") from error
