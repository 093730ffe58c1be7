"""The record of one run: a directory that appears whole, by a rename, and never changes.

``<results>/runs/<name>-<run id>/`` holds ``spec.json``, ``environment.json``, ``status.json``,
``measurements.parquet`` (tidy: step, task, layer, metric, value) and ``log.txt``.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from lopbench.core.errors import InvalidInputError, LopbenchError, ResultsError, UsageError
from lopbench.core.reading import open_regular, parsed_json, real_path
from lopbench.core.spec import SCHEMA_VERSION, RunSpec, canonical_json
from lopbench.results.files import flush, flush_directory
from lopbench.results.measurements import Measurements, Series
from lopbench.results.packed import SUFFIX, Packed
from lopbench.results.recipes import Recipe, stands_for_all, without_seed
from lopbench.results.schema import problem
from lopbench.results.stored import (
    ENVIRONMENT,
    LOG,
    MEASUREMENTS,
    MOST_LOG_BYTES,
    SPEC,
    STATUS,
    Loose,
    Stored,
    reason,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "OUTCOMES",
    "Measurements",
    "Outcome",
    "Record",
    "check_recordable",
    "find_records",
    "folders_with_runs",
    "is_recorded",
    "one_of_each",
    "read_record",
    "record_path",
    "remove_cut_short",
    "scan_records",
    "write_record",
]

Outcome = Literal["completed", "diverged", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("completed", "diverged", "failed")

_PARTIAL = ".partial"

#: Most bytes of the name of a run's directory: file systems take 255, of which the name it has at first needs some.
_MOST_NAME_BYTES = 255 - len("..01234567") - len(_PARTIAL)


@dataclass(frozen=True, eq=False)
class Record:
    """One run as it was recorded; the measurements are read when they are first asked for.

    Args:
        stored: Its files.
        recipe: What was run, but for the seed.
        seed: Its seed.
        environment: Versions, device, platform; free-form.
        status: Outcome, times, memory.
    """

    stored: Stored
    recipe: Recipe
    seed: int
    environment: Mapping[str, Any]
    status: Mapping[str, Any]

    def __repr__(self) -> str:
        """Name the run in one line."""
        kind = {"fresh": " on fresh networks", "development": ", tuning"}.get(self.recipe.rest["kind"], "")
        what = f"{self.spec.method_label}{kind}, seed {self.seed}, {self.protocol_id}"
        return f"Record({what}, {self.outcome}, {self.path})"

    @cached_property
    def spec(self) -> RunSpec:
        """What was run."""
        return self.recipe.spec(self.seed)

    @property
    def spec_json(self) -> Mapping[str, Any]:
        """The spec as ``spec.json`` holds it and as its hash is taken: without ``shown``."""
        return {**self.recipe.rest, "seed": self.seed}

    @property
    def path(self) -> Path:
        """The run directory; of a record in a packed set, the path of the set followed by the directory's name."""
        return self.stored.path

    @cached_property
    def _series(self) -> dict[str, Series | None]:
        """What `series` has found, by metric: a table asks for the same over and over."""
        return {}

    @cached_property
    def run_id(self) -> str:
        """The id of the run, `RunSpec.run_id`. Records of an older schema have another hash in their name."""
        return self.recipe.run_id(self.seed)

    @property
    def protocol_id(self) -> str:
        """The id of the protocol, `RunSpec.protocol_id`: only records of one protocol compare."""
        return self.recipe.protocol_id

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return cast(Outcome, self.status["status"])

    @property
    def measurements_digest(self) -> str:
        """SHA-256 of the measurements file as the run wrote it, hex.

        Raises:
            ResultsError: If the file is damaged or has other columns.
        """
        return self.stored.file_digest()

    @property
    def content_digest(self) -> str:
        """SHA-256 of the measurements themselves (`Rows.digest`), hex, which does not depend on what wrote the file.

        Raises:
            ResultsError: If the measurements are damaged or have other columns.
        """
        return self.stored.digest()

    @property
    def world(self) -> str:
        """Scenario and data set as canonical JSON: with the seed, they determine the tasks."""
        return self.recipe.world

    @cached_property
    def table(self) -> "pa.Table":
        """The measurements: step int64, task int32, layer string, metric string, value float64 (null: not finite).

        Raises:
            ResultsError: If the measurements are damaged or have other columns.
        """
        return self.stored.table()

    @cached_property
    def measurements(self) -> "pd.DataFrame":
        """The measurements as a frame; a value that was not finite is NaN."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def per_task(self, metric: str) -> dict[int, float]:
        """Return the finite values of a metric that has one row a task, such as "online_accuracy", by task.

        Raises:
            ResultsError: If the measurements are damaged or a task has two rows.
        """
        series = self.series(metric)
        return {} if series is None else dict(zip(series.tasks.tolist(), series.values.tolist(), strict=True))

    def series(self, metric: str) -> Series | None:
        """Return what `per_task` does, as arrays; None if there are no finite values.

        Raises:
            ResultsError: If the measurements are damaged or a task has two rows.
        """
        if metric not in self._series:
            series = self.stored.whole(metric)
            if series is not None and not series.dense and len(set(series.tasks.tolist())) != len(series.tasks):
                raise self.stored.damaged(f"{metric} stands more than once for the same task")
            self._series[metric] = series
        return self._series[metric]


def record_path(root: str | os.PathLike[str], spec: RunSpec) -> Path:
    """Return where the record of ``spec`` stands, or will stand, in the results folder ``root``."""
    return Path(root) / "runs" / spec.directory_name


def is_recorded(root: str | os.PathLike[str], spec: RunSpec) -> bool:
    """Return whether ``spec`` has a record in the results folder ``root``, damaged or not; an empty folder is none."""
    path = record_path(root, spec)
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except OSError:  # no folder, or not ours to look into: whoever reads what is there says so
        return path.exists()


def check_recordable(spec: RunSpec) -> None:
    """Refuse a run whose record could not be written, or not be read again, before it is trained.

    Raises:
        UsageError: If its directory would have too long a name.
        InvalidInputError: If a text of it cannot be printed, or its spec is none by the schema.
    """
    size = len(os.fsencode(spec.directory_name))
    if size > _MOST_NAME_BYTES:
        raise UsageError(
            f"the record of this run would be called {spec.directory_name[:60]}..., {size} bytes of which a file "
            f"system takes {_MOST_NAME_BYTES}; compose fewer methods, or give components shorter names"
        )
    value = spec.recorded()
    found = problem("spec", value) or _unprintable(value)
    if found is not None:
        raise InvalidInputError(f"a record of this run could not be read again: {found}")


def write_record(
    directory_root: str | os.PathLike[str],
    spec_json: Mapping[str, Any],
    run_id: str,
    environment: Mapping[str, Any],
    status: Mapping[str, Any],
    measurements: Measurements,
    log_path: str | os.PathLike[str] | None,
) -> Path:
    """Publish the record of a run in one step, and return its directory.

    All files are written to a hidden directory beside it and flushed to disk, then that directory is renamed: whatever
    interrupts this, a record is there whole or not at all. A record that exists is left as it is.

    Args:
        directory_root: Results folder; made if it does not exist.
        spec_json: What `RunSpec.recorded` gave.
        run_id: Its run id.
        environment: What only changed where and how fast it ran; JSON values.
        status: Outcome ("status": completed, diverged or failed), "error", "wall_time_s" and "train_time_s" in seconds,
            "steps", "peak_bytes", "state_bytes", "started_utc", "sessions", "diverged_at", and "idle", in the order of
            the spec's methods why each changed nothing.
        measurements: All rows.
        log_path: The run's log, copied; None for an empty one.

    Raises:
        ResultsError: If the folder cannot be written to; nothing is published then.
    """
    spec = RunSpec.from_json(spec_json)
    assert spec.run_id == run_id, f"spec has run id {spec.run_id}, not {run_id}"
    found = problem("status", status) or problem("environment", environment)
    assert found is None, found
    target = record_path(directory_root, spec)
    if is_recorded(directory_root, spec):
        return target
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{_PARTIAL}")
    try:
        partial.mkdir(parents=True)
        _write_files(partial, {SPEC: spec_json, ENVIRONMENT: environment, STATUS: status}, measurements, log_path)
        partial.rename(target)
        flush_directory(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if target.is_dir():  # another process ran the same spec and was first
            return target
        raise ResultsError(
            f"The record of run {run_id} cannot be written to {target.parent}: {reason(error)}. "
            "Make it writable, make room, or choose another folder; then run the same command again."
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def remove_cut_short(root: str | os.PathLike[str]) -> None:
    """Remove what interrupted writes of records left behind, if the record has been written since.

    Writing a record does not do this, since it would have to look at all others, which may be very many.
    """
    for path in (Path(root) / "runs").glob(f".*{_PARTIAL}"):
        name = path.name.removesuffix(_PARTIAL)[1:].rpartition(".")[0]
        if any((path.parent / name).glob("*")):  # an empty folder is no record
            shutil.rmtree(path, ignore_errors=True)


def _write_files(
    directory: Path,
    values: Mapping[str, Mapping[str, Any]],
    measurements: Measurements,
    log_path: str | os.PathLike[str] | None,
) -> None:
    """Write the files of a record, those of JSON ``values`` by name among them, and flush them to disk."""
    import pyarrow.parquet as pq

    for name, value in values.items():
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
        with (directory / name).open("wb") as file:
            file.write(text.encode())
            flush(file)
    with (directory / MEASUREMENTS).open("wb") as file:
        pq.write_table(measurements.to_table(), file)
        flush(file)
    with (directory / LOG).open("wb") as file:
        if log_path is not None:
            # Another process that is at the same run may have removed it.
            with suppress(FileNotFoundError), open_regular(log_path) as log:
                # A longer one is none of ours, and what came last tells most.
                log.seek(max(0, os.fstat(log.fileno()).st_size - MOST_LOG_BYTES))
                file.write(log.read(MOST_LOG_BYTES))
        flush(file)
    flush_directory(directory)


def read_record(path: str | os.PathLike[str]) -> Record:
    """Return the record in the run directory ``path``; the measurements are read later, when asked for.

    A record of a packed set is named by the path of the set followed by the name of the record's directory.

    Raises:
        ResultsError: If a file is missing or damaged, the spec was changed, or a newer lopbench wrote the record.
    """
    path = Path(path)
    if path.is_file():
        raise ResultsError(f"{path} is a file, not one record; of a packed set name one as {path / 'RECORD'}.")
    packed = path.parent.is_file()
    return _Reader().read(Packed(path.parent).find(path.name) if packed else Loose(path))


class _Reader:
    """Reads records. Specs and environments that many records share are checked once and kept."""

    def __init__(self) -> None:
        self._by_text: dict[bytes, Recipe] = {}  # by what `without_seed` leaves
        self._recipes: dict[str, Recipe] = {}  # by canonical JSON without the seed
        self._environments: dict[bytes, Mapping[str, Any]] = {}

    def read(self, stored: Stored) -> Record:
        """Return the record with these files, as `read_record` does."""
        path = stored.path
        recipe, seed = self._recipe(stored)
        environment, status = self._environment(stored), _parsed(stored, STATUS, stored.read(STATUS))
        found = problem("status", status)
        if found is not None:
            raise stored.damaged(f"{STATUS}: {found}")
        idle = status.get("idle")
        if idle is not None and len(idle) != len(recipe.rest["methods"]):
            raise stored.damaged(f"{STATUS}: idle is not of the {len(recipe.rest['methods'])} methods of {SPEC}")
        stored.check()
        run_id = recipe.stored_id(seed)  # of the spec as it stands there, whatever its schema
        if not (path.name.endswith(run_id) or real_path(path).name.endswith(run_id)):
            name = f"run id {run_id}, which the directory's name does not end in"
            raise stored.damaged(f"{SPEC} has {name}: one was changed")
        return Record(stored, recipe, seed, environment, status)

    def _recipe(self, stored: Stored) -> tuple[Recipe, int]:
        data = stored.read(SPEC)
        text, seed = without_seed(data) or (None, 0)
        if text is not None and text in self._by_text:
            return self._by_text[text], seed
        recipe, seed = self._parsed(stored, data)
        if text is not None and stands_for_all(text):
            self._by_text[text] = recipe
        return recipe, seed

    def _parsed(self, stored: Stored, data: bytes) -> tuple[Recipe, int]:
        value = _parsed(stored, SPEC, data)
        version, seed = value.get("schema_version"), value.pop("seed", None)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ResultsError(
                f"{stored.path} was written by a newer lopbench (record schema {version}, this one reads up to "
                f"{SCHEMA_VERSION}); upgrade lopbench to read it."
            )
        if type(seed) is not int or seed < 0:
            raise stored.damaged(f"{SPEC}: seed is {seed!r}, not a whole number from 0")
        key = canonical_json(value)
        if key not in self._recipes:
            whole = {**value, "seed": 0}
            found = problem("spec-1" if version == 1 else "spec", whole)
            if found is None and "\\" in key:  # or else all of it is printable ASCII
                found = _unprintable(whole)
            if found is not None:
                raise stored.damaged(f"{SPEC}: {found}")
            try:
                spec = RunSpec.from_json(whole)
                value.pop("shown", None)
                self._recipes[key] = Recipe(spec, value)
            except LopbenchError as error:
                raise stored.damaged(f"{SPEC}: {error}") from error
        return self._recipes[key], seed

    def _environment(self, stored: Stored) -> Mapping[str, Any]:
        data = stored.read(ENVIRONMENT)
        if data not in self._environments:
            value = _parsed(stored, ENVIRONMENT, data)
            found = problem("environment", value)
            if found is not None:
                raise stored.damaged(f"{ENVIRONMENT}: {found}")
            self._environments[data] = value
        return self._environments[data]


def find_records(*paths: str | os.PathLike[str]) -> list[Record]:
    """Return the records under ``paths``, each path once, in the order of their names.

    Args:
        paths: Results folders (which hold ``runs/``), folders of run directories, single run directories, or packed
            sets; packed sets in a folder are read with it. Runs that are still being written are left out.

    Raises:
        ResultsError: If a path does not exist or a record is damaged.
    """
    records, problems = scan_records(*paths)
    if problems:
        raise problems[0]
    return records


def one_of_each(records: Iterable[Record]) -> list[Record]:
    """Return one record for each protocol, entry, seed and kind.

    Runs that share these learn the same, and differ in what they measure. The one with most metrics stays, however it
    ended.
    """
    found: dict[tuple[object, ...], Record] = {}
    for record in records:
        recipe = record.recipe
        key = (recipe.protocol_id, recipe.entry_id, recipe.rest["kind"], record.seed)
        if _measured(record) >= _measured(found.setdefault(key, record)):
            found[key] = record
    return list(found.values())


def _measured(record: Record) -> tuple[int, str]:
    """Return what `one_of_each` chooses by: the number of metrics, then the run id."""
    return len(record.recipe.rest["metrics"]), record.run_id


def scan_records(*paths: str | os.PathLike[str]) -> tuple[list[Record], list[ResultsError]]:
    """Return the records under ``paths`` as `find_records` does, and beside them what is wrong with the others.

    What cannot be read as a record is left out, and told of: damaged and foreign directories, records of a newer
    lopbench, and links that lead out of the folder. Nothing that is read is executed. Measurements are not read yet.

    Raises:
        ResultsError: If a path does not exist or cannot be listed.
    """
    found: dict[str, Stored] = {}
    problems: list[ResultsError] = []
    for path in map(Path, paths):
        for real, stored in _stored(path, problems):
            found.setdefault(real, stored)
    records, reader = [], _Reader()
    for stored in sorted(found.values(), key=lambda stored: stored.path.name):
        try:
            records.append(reader.read(stored))
        except ResultsError as error:
            problems.append(error)
    return records, problems


def folders_with_runs(path: str | os.PathLike[str]) -> list[Path]:
    """Return the direct subfolders that look like results folders, by name: they hold runs or packed sets."""
    folders = sorted(child for child in Path(path).glob("*") if child.is_dir())
    return [folder for folder in folders if (folder / "runs").is_dir() or _holds_sets(folder)]


def is_packed(path: Path) -> bool:
    """Return whether ``path`` is a packed set, or a folder of packed sets without runs of its own."""
    return path.is_file() or (_holds_sets(path) and not (path / "runs").exists())


def _holds_sets(folder: Path) -> bool:
    return any(folder.glob(f"*{SUFFIX}"))


def _stored(path: Path, problems: list[ResultsError]) -> Iterator[tuple[str, Stored]]:
    """Yield the records of a path, each with its real path and its files.

    Raises:
        ResultsError: If the path cannot be read. What cannot be read inside a folder goes to ``problems``.
    """
    if path.is_file():
        yield from _in_pack(path)
    elif path.parent.is_file():
        stored = Packed(path.parent).find(path.name)
        yield f"{real_path(path.parent)}/{path.name}", stored
    elif not path.is_dir():
        what = "is not a folder" if os.path.lexists(path) else "does not exist"
        raise ResultsError(f"{path} {what}; give a results folder, a run directory or a packed set.")
    elif os.path.exists(path / SPEC):  # noqa: PTH110  (where the folder may not be entered it is False)
        yield str(real_path(path)), Loose(path)
    else:
        for real, child in _children(path, problems):
            if child.suffix == SUFFIX and not child.is_dir():
                try:
                    yield from _in_pack(child)
                except ResultsError as error:
                    problems.append(error)
            else:
                yield str(real), Loose(child)


def _in_pack(path: Path) -> Iterator[tuple[str, Stored]]:
    real = real_path(path)
    for stored in Packed(path).records():
        yield f"{real}/{stored.path.name}", stored


def _children(path: Path, problems: list[ResultsError]) -> Iterator[tuple[Path, Path]]:
    """Yield the run directories and packed sets of a results folder, each with its real path and as it was named."""
    try:
        runs, root = path / "runs", real_path(path)
        for folder in (path, runs) if runs.is_dir() else (path,):
            real = real_path(folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    child = folder / entry.name
                    if entry.name.startswith(".") or not _is_run(entry, child, foreign=folder is path):
                        continue
                    target = real_path(child) if entry.is_symlink() else real / entry.name
                    if entry.is_symlink() and not target.is_relative_to(root):
                        problems.append(
                            ResultsError(
                                f"{child} is a link to {target}, out of the results folder, and was left out; name "
                                "that too, or copy the record."
                            )
                        )
                        continue
                    yield target, child
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {reason(error)}.") from error


def _is_run(entry: "os.DirEntry[str]", child: Path, *, foreign: bool) -> bool:
    """Return whether an entry of a folder may be a record or packed set; in a foreign folder it must look like one."""
    try:
        is_folder = entry.is_dir()
    except OSError:  # links that lead round in a circle are no folder
        is_folder = False
    if not is_folder:
        return child.suffix == SUFFIX
    return not foreign or os.path.exists(child / SPEC)  # noqa: PTH110  (as above)


def _parsed(stored: Stored, name: str, data: bytes) -> dict[str, Any]:
    try:
        value = parsed_json(data)
    except (ValueError, RecursionError) as error:  # malformed JSON, not UTF-8, or nested beyond all measure
        raise stored.damaged(f"{name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise stored.damaged(f"{name} is not a JSON object")
    return value


def _unprintable(value: object) -> str | None:
    """Return the first text that would control a terminal or mislead a reader when printed; None if there is none."""
    if isinstance(value, str):
        return None if value.isprintable() else f"{value!r} has characters that cannot be printed"
    if isinstance(value, dict):
        return _unprintable([*value, *value.values()])
    if isinstance(value, list):
        return next(filter(None, map(_unprintable, value)), None)
    return None
