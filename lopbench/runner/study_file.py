"""Study files: what is to be run, as TOML, in the words of the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lopbench.core.errors import UsageError
from lopbench.core.executor import MOST_THREADS
from lopbench.core.reading import MOST_JSON_BYTES, read_regular
from lopbench.core.registry import suggest
from lopbench.core.seeds import check_seeds, parse_seeds
from lopbench.core.tuning import Tuning
from lopbench.results.claims import Claim, read_claims
from lopbench.results.figures import FigureData, read_figure
from lopbench.results.toml_table import is_number

#: The tables of what is asked for, and of what starts workers, beside the keys that hold for all of it.
RUNS, EXECUTOR = "runs", "executor"

#: What may stand beside them: what the study is called, what is claimed of it, and what is drawn of it.
TITLE, CLAIM, FIGURE = "title", "claim", "figure"

#: Most levels of tables and lists in each other. A study has half as many.
_DEEPEST = 12


@dataclass(frozen=True)
class StudyFile:
    """What a study file asks for.

    Args:
        path: The file.
        requests: The keywords of `plan` of each request, in order.
        plugins: Files with plugins.
        options: What holds for the whole study and is given: of ``results``, ``device``, ``data_dir``, ``threads``,
            ``jobs`` and ``sinks``.
        executor: Name of what starts workers, None if none is given.
        fields: Its fields.
        title: What the study is called; empty if it has no name.
        claims: What is claimed of it.
        figure: What is drawn of it, None for nothing.
    """

    path: Path
    requests: tuple[Mapping[str, Any], ...]
    plugins: tuple[Path, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    executor: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    claims: tuple[Claim, ...] = ()
    figure: FigureData | None = None


@dataclass(frozen=True)
class _Key:
    """What a key may hold.

    Args:
        wanted: What is said of it where something else stands there.
        read: Returns what a value means, in a study file of the given folder; raises TypeError if it is of another
            kind.
        keyword: What `plan` calls it, where that is another word.
    """

    wanted: str
    read: Callable[[Any, Path], Any]
    keyword: str | None = None


def _text(value: Any, folder: Path) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: Any, folder: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(each, folder) for each in value)


def _fraction(value: Any, folder: Path) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise TypeError
    return float(value)


def _whole(value: Any, folder: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TypeError
    return value


def _threads(value: Any, folder: Path) -> int:
    if _whole(value, folder) > MOST_THREADS:
        raise TypeError
    return int(value)


def _seeds(value: Any, folder: Path) -> tuple[int, ...]:
    if isinstance(value, str):
        return parse_seeds(value)
    given = value if isinstance(value, list) else [value]
    if not given or any(isinstance(each, bool) or not isinstance(each, int) for each in given):
        raise TypeError
    check_seeds(given)
    return tuple(given)


def _tuning(value: Any, folder: Path) -> Tuning:
    if not isinstance(value, str | dict):
        raise TypeError
    return Tuning.of(value)


def _path(value: Any, folder: Path) -> Path:
    text = _text(value, folder)
    if "\0" in text:  # no system has such a path
        raise TypeError
    return folder / text


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    return tuple(_path(each, folder) for each in _texts(value, folder))


_A_TEXT, _A_LIST = _Key("a text", _text), _Key('a list of texts, as in ["none", "l2"]', _texts)

#: What a request may say; what stands above the requests holds for each of them.
_REQUEST: Mapping[str, _Key] = {
    "scenario": _A_TEXT,
    "methods": _A_LIST,
    "architecture": _A_TEXT,
    "cloner": _A_TEXT,
    "seeds": _Key('seeds, as in "0-4", 3 or [0, 2]', _seeds),
    "optimizers": _A_LIST,
    "sweeps": _A_LIST,
    "from": _Key("a number from 0 to 1", _fraction, "start"),
    "profile": _A_TEXT,
    "metrics": _A_LIST,
    "data": _A_TEXT,
    "tune": _Key("a table, as in [tune] with k, budget and seeds", _tuning),
}

#: What holds for the whole study.
_STUDY: Mapping[str, _Key] = {
    "results": _Key("a path", _path),
    "device": _A_TEXT,
    "data_dir": _Key("a path", _path),
    "threads": _Key(f"a whole number from 1 to {MOST_THREADS}", _threads),
    "jobs": _Key("a whole number, at least 1", _whole),
    "plugins": _Key("a list of paths", _paths),
    "sinks": _A_LIST,
}


def read_study(path: Path) -> StudyFile:
    """Return what a study file asks for; relative paths in it start from its folder.

    Raises:
        UsageError: If it cannot be read, is no TOML, has an unknown key, or a value of another kind.
    """
    table = _parsed(path)
    parts = table.pop(RUNS, [{}])
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise UsageError(f"{path}: '{RUNS}' must be one or more tables, each begun by a line [[{RUNS}]]")
    title = table.pop(TITLE, "")
    if not isinstance(title, str):
        raise UsageError(f"{path}: '{TITLE}' must be a text, got {str(title)[:60]!r}")
    claims = read_claims(table.pop(CLAIM, []), path)
    figure = read_figure(table.pop(FIGURE), path) if FIGURE in table else None
    executor, fields, jobs = _executor(path, table.pop(EXECUTOR, {}))
    if jobs is not None:
        if "jobs" in table:
            raise UsageError(f"{path}: 'jobs' stands above and in [{EXECUTOR}]; write it once")
        table["jobs"] = jobs
    shared = {key: table.pop(key) for key in [*table] if key in _REQUEST}
    options = _read(table, _STUDY, f"{path}", path.parent, more=[*_REQUEST, RUNS, EXECUTOR, TITLE, CLAIM, FIGURE])
    requests = []
    for number, part in enumerate(parts, start=1):
        where = f"{path}, {RUNS} {number}"
        misplaced = [key for key in part if key in _STUDY]
        if misplaced:
            raise UsageError(f"{where}: '{misplaced[0]}' holds for the whole study; write it above [[{RUNS}]]")
        requests.append(_read({**shared, **part}, _REQUEST, where, path.parent))
    plugins = options.pop("plugins", ())
    return StudyFile(path, tuple(requests), plugins, options, executor, fields, title, claims, figure)


def _parsed(path: Path) -> dict[str, Any]:
    """Return the tables of a study file.

    Raises:
        UsageError: If it cannot be read, is no TOML, is nested too deeply, or holds a number of more than 64 bits.
    """
    try:
        table = tomllib.loads(read_regular(path, most=MOST_JSON_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"The study {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The study {path} is no text in UTF-8: byte {error.start} is none.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The study {path} is no TOML: {error}.") from error
    except RecursionError as error:
        raise _too_deep(path) from error
    except ValueError as error:  # Python itself reads no number of 5,000 digits
        raise _too_large(path) from error
    _check_values(table, path)
    return table


def _check_values(value: Any, path: Path, depth: int = 0) -> None:
    """Refuse what TOML allows and no study means, so that no message has to print it."""
    if depth > _DEEPEST:
        raise _too_deep(path)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise _too_large(path)
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_values(each, path, depth + 1)


def _too_deep(path: Path) -> UsageError:
    return UsageError(f"The study {path} is no study: its tables are nested deeper than {_DEEPEST} levels.")


def _too_large(path: Path) -> UsageError:
    return UsageError(f"The study {path} holds a whole number of more than 64 bits; write a smaller one.")


def _executor(path: Path, table: Any) -> tuple[str | None, dict[str, Any], Any]:
    """Return name, fields and number of jobs of what starts workers.

    Raises:
        UsageError: If the table is none, has no name, or a field holds more than one value.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{path}: '{EXECUTOR}' must be a table, begun by a line [{EXECUTOR}]")
    fields = dict(table)
    name, jobs = fields.pop("name", None), fields.pop("jobs", None)
    if table and not isinstance(name, str):
        raise UsageError(f'{path}: [{EXECUTOR}] needs a name, as in name = "slurm"')
    for key, value in fields.items():
        if not isinstance(value, str | bool | int | float):
            raise UsageError(f"{path}: '{EXECUTOR}.{key}' must be a text, a number, true or false")
    return name, fields, jobs


def _read(
    table: Mapping[str, Any], keys: Mapping[str, _Key], where: str, folder: Path, more: list[str] | None = None
) -> dict[str, Any]:
    """Return the keywords that a table gives.

    Raises:
        UsageError: If a key is unknown, or a value of another kind.
    """
    found = {}
    for name, value in table.items():
        if name not in keys:
            known = [*keys, *(more or [])]
            raise UsageError(f"{where}: unknown key {name!r}.{suggest(name, known)} Known are: {', '.join(known)}.")
        key = keys[name]
        try:
            found[key.keyword or name] = key.read(value, folder)
        except TypeError:
            raise UsageError(f"{where}: {name!r} must be {key.wanted}, got {str(value)[:60]!r}") from None
        except UsageError as error:
            raise UsageError(f"{where}: {name!r}: {error}") from error
    return found
