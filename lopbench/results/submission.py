"""Entries for a repository of results: packed from runs, and checked as the repository checks them.

An entry is a folder with these files: ``entry.json`` (whose results these are, and what they hold), ``runs.lopbench``
(the records), ``leaderboard.csv`` (their table) and, if methods were tuned, ``tuning.json`` (the logs). A check only
reads these files. It executes, imports and unpacks nothing.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import LopbenchError, ResultsError, UsageError
from lopbench.core.reading import MOST_JSON_BYTES, open_regular, parsed_json, read_regular, real_path
from lopbench.core.seeds import parse_seeds
from lopbench.core.text import counted
from lopbench.results.check import check
from lopbench.results.leaderboard import Board, board
from lopbench.results.pack import Progress, pack
from lopbench.results.packed import SUFFIX
from lopbench.results.pairs import FEWEST_RANKED
from lopbench.results.schema import problem
from lopbench.results.stored import reason
from lopbench.results.tables import to_csv
from lopbench.results.tuning_file import TUNING, log_problems, recorded_logs

if TYPE_CHECKING:
    import pandas as pd

ENTRY, RUNS, TABLE = "entry.json", f"runs{SUFFIX}", "leaderboard.csv"
_NEEDED = frozenset({ENTRY, RUNS, TABLE})

#: Seeds that each row of an entry must have, so that rows of different entries can be paired.
SEEDS = range(FEWEST_RANKED)

#: Most differences between a table and its records that are told.
_MOST_TOLD = 5

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
#: An address without a user, and without characters that end a link in Markdown or HTML.
_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[A-Za-z0-9._~!$&+,;=:@%/?#-]*)?")
#: Characters that mean more than themselves in Markdown, HTML or LaTeX.
_MARKUP = frozenset('<>[]{}|`\\*$&#"')


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Who made the results of an entry, and where their code is.

    Args:
        code: Where the code of its methods is, an https URL.
        contact: Who answers questions, and where, such as a name with an address.
        paper: Where the methods are described, an https URL; None if nowhere.
    """

    code: str
    contact: str
    paper: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with it, a sentence each."""
        for name, url in (("code", self.code), ("paper", self.paper)):
            if url is not None and (len(url) > 200 or not _URL.fullmatch(url)):
                yield f"{name}: {url[:80]!r} is not an https URL of at most 200 plain characters"
        if not 3 <= len(self.contact) <= 200 or not self.contact.isprintable() or _MARKUP & set(self.contact):
            yield f"contact: {self.contact[:80]!r} is not a text of 3 to 200 characters without markup"


@dataclass(frozen=True)
class Verified:
    """An entry that was checked, and in which nothing is wrong.

    Args:
        name: Its name.
        rows: Its leaderboard.
        board: The rows that its records make.
    """

    name: str
    rows: "pd.DataFrame"
    board: Board


def submit(
    *paths: str | os.PathLike[str],
    output: str | os.PathLike[str],
    metadata: Metadata,
    tuning: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Pack the runs under ``paths`` as an entry, and return its folder.

    Args:
        paths: Results folders or packed sets, as `board` takes them. All their runs go into the entry.
        output: Folder of the entry, which must not exist; its name becomes the name of the entry.
        metadata: Whose results these are.
        tuning: File with the logs of tuning, as `tuning_file` has them; if None, the logs in the records.
        progress: Is told how packing goes.

    Raises:
        UsageError: If the metadata or the name cannot be used.
        ResultsError: If the runs make no entry, with what is missing, or if it cannot be written.
    """
    output = Path(output)
    for found in (*_name_problems(real_path(output).name), *metadata.problems()):
        raise UsageError(f"{found}; choose another")
    if output.exists() or output.is_symlink():
        raise ResultsError(f"{output} exists; remove it, or choose another folder for the entry.")
    made = board(*paths)
    for found in _board_problems(made):
        raise ResultsError(f"These runs make no entry yet: {found.rstrip('.')}.")
    try:
        logs = recorded_logs(made) if tuning is None else _json_bytes(Path(tuning))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"The file of tuning logs {tuning} cannot be read: {reason(error)}.") from error
    for found in () if logs is None else log_problems(logs, made):
        raise ResultsError(f"These runs make no entry yet: {found.rstrip('.')}.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=".partial", dir=output.parent) as partial:
            folder = Path(partial) / "entry"
            folder.mkdir()
            pack(*paths, output=folder / RUNS, progress=progress)
            to_csv(made.rows, folder / TABLE)
            if logs is not None:
                (folder / TUNING).write_bytes(logs)
            value = _entry_json(real_path(output).name, metadata, folder, made.rows)
            (folder / ENTRY).write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
            folder.rename(output)
    except (OSError, ValueError) as error:
        raise ResultsError(f"The entry cannot be written to {output}: {reason(error)}.") from error
    return output


def verify_entry(folder: str | os.PathLike[str], *, protocols: Collection[str] = ()) -> Verified:
    """Check an entry as a repository of results does: by reading its files, and executing nothing.

    Args:
        folder: Folder of the entry.
        protocols: Ids of the protocols that are accepted; empty for all.

    Raises:
        ResultsError: If anything is wrong, with a line for each thing.
    """
    folder = Path(folder)
    found = list(_file_problems(folder))
    if found:
        raise _refused(folder, found)
    value, found = _read_entry(folder / ENTRY)
    if found:
        raise _refused(folder, found)
    hashes = list(_hash_problems(folder, value))
    found += hashes
    try:
        made = board(folder / RUNS)
        found += _board_problems(made, protocols)
        if not hashes and (folder / TUNING).exists():
            found += log_problems(_json_bytes(folder / TUNING), made)
        found += _row_problems(value["rows"], made.rows)
        differences = check(folder / TABLE, made)
    except LopbenchError as error:
        raise _refused(folder, [*found, str(error)]) from error
    found += [f"{TABLE}: {each}" for each in differences[:_MOST_TOLD]]
    if len(differences) > _MOST_TOLD:
        found.append(f"{TABLE}: {counted(len(differences) - _MOST_TOLD, 'more difference')}")
    if found:
        raise _refused(folder, found)
    return Verified(value["name"], made.rows, made)


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of an entry, hex, by its name."""
    return {path.name: _sha256(path) for path in sorted(folder.iterdir())}


def outside(changed: Iterable[str], folder: str | os.PathLike[str]) -> list[str]:
    """Return the paths of a change that are not files directly in the folder of the entry.

    Args:
        changed: Paths from the root of the repository, as ``git diff --name-only`` gives them.
        folder: Folder of the entry, from the root of the repository.
    """
    entry = PurePosixPath(Path(folder).as_posix())
    paths = [each for each in changed if each.strip()]
    return [each for each in paths if PurePosixPath(each).parent != entry or ".." in PurePosixPath(each).parts]


def _refused(folder: Path, found: list[str]) -> ResultsError:
    lines = "".join(f"\n  {each}" for each in found)
    return ResultsError(f"{folder} is not an entry that can be accepted:{lines}")


def _name_problems(name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"the folder is called {name[:80]!r}, and a name has 1 to 64 lower-case letters, digits and hyphens"


def _file_problems(folder: Path) -> Iterator[str]:
    """Yield which files of the folder do not belong there, and which are missing; nothing is opened."""
    if folder.is_symlink() or not folder.is_dir():
        yield "it is no folder"
        return
    yield from _name_problems(real_path(folder).name)
    names = set()
    with os.scandir(folder) as listed:
        for each in sorted(listed, key=lambda each: each.name):
            names.add(each.name)
            if each.is_symlink():
                yield f"{each.name} is a link: put the file itself there"
            elif each.name not in _NEEDED | {TUNING}:
                yield f"{each.name} is no file of an entry: take it out"
            elif not each.is_file(follow_symlinks=False):
                yield f"{each.name} is no file"
    yield from (f"{name} is missing: 'lopbench submit' writes it" for name in sorted(_NEEDED - names))


def _read_entry(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the content of ``entry.json``, and what is wrong with it."""
    try:
        value = parsed_json(read_regular(path, most=MOST_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{ENTRY} cannot be read: {reason(error)}"]
    found = problem("entry", value)
    if found is not None:
        return {}, [f"{ENTRY}: {found}"]
    metadata = Metadata(code=value["code"], contact=value["contact"], paper=value["paper"])
    problems = [f"{ENTRY}, {each}" for each in metadata.problems()]
    if value["name"] != real_path(path).parent.name:
        problems.append(f"{ENTRY}, name: it is {value['name']!r}, and the folder is {real_path(path).parent.name!r}")
    if not value["lopbench"].isprintable():
        problems.append(f"{ENTRY}, lopbench: the version has characters that cannot be printed")
    return value, problems


def _hash_problems(folder: Path, value: Mapping[str, Any]) -> Iterator[str]:
    """Yield which files differ from those that the entry was packed with."""
    if _sha256(folder / RUNS) != value["runs_sha256"]:
        yield f"{RUNS} differs from the file that {ENTRY} names (runs_sha256): submit the runs again"
    tuning = folder / TUNING
    if tuning.exists() != (value["tuning_sha256"] is not None):
        there, named = ("there", "none") if tuning.exists() else ("missing", "one")
        yield f"{TUNING} is {there}, and {ENTRY} names {named} (tuning_sha256): submit the runs again"
    elif tuning.exists():
        try:
            log = _json_bytes(tuning)
        except (OSError, ValueError, RecursionError) as error:
            yield f"{TUNING} cannot be read: {reason(error)}"
            return
        if hashlib.sha256(log).hexdigest() != value["tuning_sha256"]:
            yield f"{TUNING} differs from the file that {ENTRY} names (tuning_sha256): submit the runs again"


def _board_problems(made: Board, protocols: Collection[str] = ()) -> Iterator[str]:
    """Yield why runs make no entry: damage, unranked profiles, procedural data, missing seeds or references."""
    yield from (f"{RUNS}: {each}" for each in made.problems)
    for row in made.rows.to_dict("records"):
        name = f"{row['method']} with {row['optimizer']} under {row['protocol_id']}"
        if protocols and row["protocol_id"] not in protocols:
            yield f"{name}: this protocol is not accepted here; accepted are {', '.join(sorted(protocols))}"
        if not row["ranked"]:
            yield f"{name}: the profile {row['profile']} is not ranked"
        if str(row["data"]).startswith("procedural"):
            yield f"{name}: the data are procedural images, which lopbench draws, and no real data set"
        missing = sorted(set(SEEDS) - set(parse_seeds(str(row["coverage"]))))
        if missing:
            seeds = f"seed{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
            are = "are" if len(missing) > 1 else "is"
            yield f"{name}: {seeds} {are} missing; a row of an entry needs seeds {SEEDS[0]} to {SEEDS[-1]}"
        if row["unpaired"]:
            yield f"{name}: {counted(int(row['unpaired']), 'run')} without a fresh reference; do these references too"


def _row_problems(rows: list[dict[str, str]], frame: "pd.DataFrame") -> Iterator[str]:
    """Yield which rows an entry names and its records do not make, and the other way round."""
    named, derived = ({tuple(sorted(row.items())) for row in some} for some in (rows, _rows(frame)))
    for each in sorted(named - derived):
        row = dict(each)
        yield f"{ENTRY}, rows: {row['method']} under {row['protocol_id']} is named, and the records hold no such row"
    for each in sorted(derived - named):
        row = dict(each)
        yield f"{ENTRY}, rows: {row['method']} under {row['protocol_id']} is in the records, and not named"


def _entry_json(name: str, metadata: Metadata, folder: Path, frame: "pd.DataFrame") -> dict[str, Any]:
    tuning = folder / TUNING
    return {
        "entry_version": 1,
        "name": name,
        "code": metadata.code,
        "paper": metadata.paper,
        "contact": metadata.contact,
        "lopbench": version("lopbench"),
        "rows": _rows(frame),
        "runs_sha256": _sha256(folder / RUNS),
        "tuning_sha256": _sha256(tuning) if tuning.exists() else None,
    }


def _rows(frame: "pd.DataFrame") -> list[dict[str, str]]:
    """Return ids, names and seeds of each row of a table."""
    named = {"protocol_id": "protocol_id", "entry_id": "entry_id", "method": "method", "optimizer": "optimizer"}
    columns = {**named, "seeds": "coverage"}
    return [{key: str(row[column]) for key, column in columns.items()} for row in frame.to_dict("records")]


def _json_bytes(path: Path) -> bytes:
    """Return a file of JSON.

    Raises:
        OSError, ValueError: If it cannot be read, or is none.
    """
    data = read_regular(path, most=MOST_JSON_BYTES)
    parsed_json(data)
    return data


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path, flags=os.O_NOFOLLOW) as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
