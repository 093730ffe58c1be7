"""Find a data set, decode it once, and open it."""

from dataclasses import replace
from pathlib import Path

from lopbench.core.errors import DataError, PluginError, UsageError
from lopbench.core.interfaces import DataSet, Samples
from lopbench.core.manager import plugins
from lopbench.core.places import cache_directory
from lopbench.data.cache import open_entry, store
from lopbench.data.catalog import absent, cache_key, contents, data_set, locate, plugin_code, told, unverified, usable
from lopbench.data.contents import Progress

#: The word for the stand-in of whatever the scenario streams.
STAND_IN = "procedural"


def load_data(
    name: str,
    *,
    wanted: str | None = None,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Return a data set, decoded into the cache if it is not there yet.

    Args:
        name: The data set, whose absence is an error; "procedural", the stand-in of ``wanted``; or "auto", which is
            ``wanted`` where it is found and else, with a notice, that stand-in.
        wanted: The data set that the scenario streams, and for which "auto" stands; with it, others are refused. None
            if there is no scenario: then "auto" has no meaning, and "procedural" is the data set of this name.
        data_dir: Looked in first, before ``$LOPBENCH_DATA`` and the cache directory: a directory that holds the
            archive or the unpacked folder, or either itself.
        cache_dir: Where decoded data are kept; ``$LOPBENCH_CACHE`` or the user's cache directory if None.
        progress: Told of decoding.

    Raises:
        UsageError: If ``name`` or ``wanted`` is no data set, or ``name`` is not for the scenario.
        DataError: If the data set is named and not found, or absent and has no stand-in; if what is found is damaged or
            incomplete; or if the cache cannot be written.
        PluginError: If the data set is written wrongly: if it has no content hash, say.
    """
    chosen = _chosen(name, wanted)
    cache = cache_dir or cache_directory()
    if not chosen.real:
        return _load(chosen, None, cache, progress, f"NOT {chosen.title} but " if _stands_in(chosen) else "")
    path = locate(chosen.name, data_dir)
    if path is not None:
        return _load(chosen, path, cache, progress)
    stand_in = _stand_in(chosen) if name == "auto" else None
    if stand_in is None:
        raise DataError(absent(chosen, data_dir))
    prefix = f"NOT {chosen.title} ({absent(chosen, data_dir)}). Instead "
    return _load(stand_in, None, cache, progress, prefix)


def example(name: str) -> Samples:
    """Return a few samples of the form of the data set ``name``, made by a program; the set itself if it has none.

    Raises:
        UsageError: If ``name`` is no data set.
        DataError: If it has none and is not found.
        PluginError: If the data set is written wrongly.
    """
    streamed = data_set(name)
    for entry in (streamed, _stand_in(streamed)):
        if entry is None:
            continue
        with plugin_code(entry):
            made = entry.example()
            if made is None:
                continue
            read = usable(made, entry)
            if isinstance(read, Samples):
                return replace(read, name=entry.name, real=False, notice="an example", terms=entry.terms)
            return read.held().samples(name=entry.name, real=False, notice="an example", terms=entry.terms)
    return load_data(name)


def _chosen(name: str, wanted: str | None) -> DataSet:
    """Return the data set that ``name`` means to a scenario that streams ``wanted``."""
    if wanted is None:
        return data_set(name)
    streamed = data_set(wanted)
    if name in ("auto", wanted):
        return streamed
    stand_in = _stand_in(streamed)
    if stand_in is not None and name in (STAND_IN, stand_in.name):
        return stand_in
    if name != STAND_IN:
        data_set(name, "auto")
    ways = [wanted, *([STAND_IN] if stand_in else [])]
    raise UsageError(
        f"The scenario streams {wanted}, and not {name}: take {', '.join(ways)} or auto, "
        "or a scenario whose data set can be chosen"
    )


def _stand_in(streamed: DataSet) -> DataSet | None:
    """Return what a program makes in place of a data set, itself if a program makes it; None if nothing is."""
    if not streamed.real or streamed.stand_in is None:
        return None if streamed.real else streamed
    found = data_set(streamed.stand_in) if streamed.stand_in in plugins().registry.names("data") else None
    if found is None or found.real:
        who = told(type(streamed))
        problem = "is not registered" if found is None else "says that it is real"
        raise PluginError(f"{who} names the stand-in {streamed.stand_in!r}, which {problem}")
    return found


def _stands_in(made: DataSet) -> bool:
    """Whether another data set names ``made`` as its stand-in."""
    for entry in plugins().registry.entries("data"):
        try:
            if data_set(entry.name).stand_in == made.name:
                return True
        except PluginError:  # told to who asks for that set
            continue
    return False


def _load(entry: DataSet, path: Path | None, cache: Path, progress: Progress | None, prefix: str = "") -> Samples:
    key = cache_key(entry, path)
    kept = open_entry(cache, key)
    if kept is None:
        read = contents(entry, path)
        if isinstance(read, Samples):
            notice = _notice(entry, path, read.notice or "read anew", prefix)
            return replace(read, name=entry.name, real=entry.real, notice=notice, terms=entry.terms)
        with plugin_code(entry):
            kept = store(cache, key, read, _doing(entry, read.form), progress)
    notice = _notice(entry, path, kept.describe(), prefix, subset=kept.subset)
    return kept.samples(name=entry.name, real=entry.real, notice=notice, terms=entry.terms)


def _doing(entry: DataSet, form: str) -> str:
    return f"decoding {entry.name}" if entry.real else f"making {entry.name} {form}"


def _notice(entry: DataSet, path: Path | None, amount: str, prefix: str, *, subset: bool = False) -> str:
    if entry.real:
        said = f"{', a subset of the original' if subset else ''}{unverified(entry, path)}"
        return f"{entry.title}{said}, from {path}: {amount}."
    maker = plugins().registry.get("data", entry.name).distribution
    made = f"{prefix}PROCEDURAL data, made by {maker.name} {maker.version}: {amount}."
    return f"{made} Results never stand beside real ones."
