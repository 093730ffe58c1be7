"""The record of one run: a directory that appears whole, by a rename, and never changes.

``<results>/runs/<name>-<run id>/`` holds ``spec.json``, ``environment.json``, ``status.json``,
``measurements.parquet`` (tidy: step, task, layer, metric, value) and ``log.txt``.
"""

import hashlib
import json
import os
import shutil
import stat
import uuid
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import LopbenchError, ResultsError
from lopbench.core.spec import SCHEMA_VERSION, RunSpec, canonical_json, digest
from lopbench.results.schema import problem

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Outcome = Literal["completed", "diverged", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("completed", "diverged", "failed")

SPEC, ENVIRONMENT, STATUS, MEASUREMENTS, LOG = (
    "spec.json",
    "environment.json",
    "status.json",
    "measurements.parquet",
    "log.txt",
)

_PARTIAL = ".partial"

#: How files are opened: a link would lead out of the record, and a pipe or device might never end.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: A file of JSON larger than this is none of ours.
_MOST_JSON_BYTES = 16 * 2**20


class Measurements:
    """Grows by one number at a time, and turns into arrays for checkpoints and into the table of the record."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}  # name -> index; layers and metrics repeat, so rows hold indices
        self._columns = {"step": array("q"), "task": array("i"), "layer": array("i"), "metric": array("i")}
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values)

    def add(self, step: int, task: int, metric: str, value: float, layer: str = "") -> None:
        """Append one row.

        Args:
            step: Optimizer updates done when it was measured, from 0.
            task: Index of the task, from 0.
            metric: Label of the metric.
            value: The number; non-finite ones are kept here and become null in the record.
            layer: Name of the layer, empty for the whole network.
        """
        value = float(value)  # first, so that what is not a number leaves no half row
        self._columns["step"].append(step)
        self._columns["task"].append(task)
        self._columns["layer"].append(self._names.setdefault(layer, len(self._names)))
        self._columns["metric"].append(self._names.setdefault(metric, len(self._names)))
        self._values.append(value)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of all rows as arrays ``(rows,)``, and the names as UTF-8 JSON bytes: fit for safetensors."""
        arrays: dict[str, NDArray[Any]] = {key: np.array(column) for key, column in self._columns.items()}
        arrays["value"] = np.array(self._values)
        arrays["names"] = np.frombuffer(json.dumps(list(self._names)).encode(), dtype=np.uint8).copy()
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Measurements":
        """Return the measurements that `to_arrays` was called on; appending goes on from there."""
        made = cls()
        made._names = {name: index for index, name in enumerate(json.loads(arrays["names"].tobytes()))}
        for key, column in made._columns.items():
            column.extend(arrays[key].tolist())
        made._values.extend(arrays["value"].tolist())
        return made

    def to_table(self) -> "pa.Table":
        """Return the rows in the order in which they were added, as the table that a record stores."""
        import pyarrow as pa

        arrays = self.to_arrays()
        names = np.array(list(self._names), dtype=object)
        value = arrays["value"]
        columns = [
            pa.array(arrays["step"], pa.int64()),
            pa.array(arrays["task"], pa.int32()),
            pa.array(names[arrays["layer"]] if len(self) else [], pa.string()),
            pa.array(names[arrays["metric"]] if len(self) else [], pa.string()),
            pa.array(value, pa.float64(), mask=~np.isfinite(value)),
        ]
        return pa.Table.from_arrays(columns, schema=_schema())


@dataclass(frozen=True, eq=False)
class Record:
    """One run as it was recorded; the measurements are read when they are first asked for.

    Args:
        path: The run directory.
        spec: What was run.
        spec_json: The same as it stands in ``spec.json``.
        environment: Versions, device, platform; free-form.
        status: Outcome, times, memory.
    """

    path: Path
    spec: RunSpec
    spec_json: Mapping[str, Any]
    environment: Mapping[str, Any]
    status: Mapping[str, Any]

    @cached_property
    def run_id(self) -> str:
        """Hash of the spec, 16 hex digits."""
        return digest(self.spec_json, 16)

    @cached_property
    def protocol_id(self) -> str:
        """Which records stand together: `RunSpec.protocol_id`."""
        return self.spec.protocol_id

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return cast(Outcome, self.status["status"])

    @property
    def measurements_digest(self) -> str:
        """SHA-256 of the measurements file, hex.

        Raises:
            ResultsError: If the file is damaged or has other columns.
        """
        return self._content[0]

    @cached_property
    def world(self) -> str:
        """What fixes the tasks of a seed, scenario and data set, as canonical JSON."""
        return canonical_json([self.spec_json["scenario"], self.spec_json["data"]])

    @cached_property
    def table(self) -> "pa.Table":
        """The measurements: step int64, task int32, layer string, metric string, value float64 (null: not finite).

        Raises:
            ResultsError: If the file is damaged or has other columns.
        """
        return _table(self.path, _read_bytes(self.path, MEASUREMENTS), _schema())

    @cached_property
    def measurements(self) -> "pd.DataFrame":
        """The same as a frame; what was not finite is NaN."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def per_task(self, metric: str) -> dict[int, float]:
        """Return the finite values of a metric that has one row a task, such as "online_accuracy", by task.

        Raises:
            ResultsError: If the measurements are damaged or a task has two rows.
        """
        if metric not in self._content[1]:
            return {}
        tasks, values = self._content[1][metric]
        found: dict[int, float] = dict(zip(tasks.tolist(), values.tolist(), strict=True))
        if len(found) != len(tasks):
            raise _damaged(self.path, f"{metric} stands more than once for the same task")
        return found

    @cached_property
    def _content(self) -> tuple[str, Mapping[str, tuple[NDArray[np.int32], NDArray[np.float64]]]]:
        """Digest of the measurements, and tasks and finite values of the metrics of the whole network.

        That is little, where all rows of thousands of runs are much.
        """
        data = _read_bytes(self.path, MEASUREMENTS)
        table = _table(self.path, data, _schema(dictionaries=True)).combine_chunks()
        codes: dict[str, NDArray[Any]] = {}
        names: dict[str, list[str]] = {}
        for column in ("layer", "metric"):
            chunks = table[column].chunks
            codes[column] = chunks[0].indices.to_numpy() if chunks else np.array([], dtype=np.int32)
            names[column] = chunks[0].dictionary.to_pylist() if chunks else []
        values = table["value"].to_numpy()  # null is NaN
        whole = names["layer"].index("") if "" in names["layer"] else -1
        rows = np.flatnonzero((codes["layer"] == whole) & np.isfinite(values))
        tasks, values, metric = table["task"].to_numpy()[rows], values[rows], codes["metric"][rows]
        found = {}
        for code in np.unique(metric).tolist():
            mine = metric == code
            found[names["metric"][code]] = tasks[mine], values[mine]
        return hashlib.sha256(data).hexdigest(), found


def record_path(root: str | os.PathLike[str], spec: RunSpec) -> Path:
    """Return where the record of ``spec`` stands, or will stand, in the results folder ``root``."""
    return Path(root) / "runs" / spec.directory_name


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
        spec_json: What `RunSpec.to_json` gave.
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
    if target.exists():
        return target
    stem = f".{target.name}."
    partial = target.with_name(f"{stem}{uuid.uuid4().hex[:8]}{_PARTIAL}")
    try:
        partial.mkdir(parents=True)
        _write_files(partial, {SPEC: spec_json, ENVIRONMENT: environment, STATUS: status}, measurements, log_path)
        partial.rename(target)
        _flush_directory(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if target.is_dir():  # another process ran the same spec and was first
            return target
        raise ResultsError(
            f"The record of run {run_id} cannot be written to {target.parent}: {_reason(error)}. "
            "Make room or choose another results folder, then run the same command again."
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for stale in target.parent.glob(f"{stem}*{_PARTIAL}"):  # left by a kill; the run is published, nobody needs them
        shutil.rmtree(stale, ignore_errors=True)
    return target


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
            _flush(file)
    with (directory / MEASUREMENTS).open("wb") as file:
        pq.write_table(measurements.to_table(), file)
        _flush(file)
    with (directory / LOG).open("wb") as file:
        if log_path is not None:
            with Path(log_path).open("rb") as log:
                shutil.copyfileobj(log, file)
        _flush(file)
    _flush_directory(directory)


def read_record(path: str | os.PathLike[str]) -> Record:
    """Return the record in the run directory ``path``; the measurements are read later, when asked for.

    Raises:
        ResultsError: If a file is missing or damaged, the spec was changed, or a newer lopbench wrote the record.
    """
    return _Reader().read(Path(path))


class _Reader:
    """Reads records. What many have in common, most of their specs and environments, is checked and kept once."""

    def __init__(self) -> None:
        self._specs: dict[str, tuple[RunSpec, Mapping[str, Any]]] = {}  # by canonical JSON without the seed
        self._environments: dict[bytes, Mapping[str, Any]] = {}

    def read(self, path: Path) -> Record:
        """Return the record in ``path``, as `read_record` does."""
        spec, spec_json = self._spec(path)
        environment, status = self._environment(path), _parsed(path, STATUS, _read_json(path, STATUS))
        found = problem("status", status)
        if found is not None:
            raise _damaged(path, f"{STATUS}: {found}")
        idle = status.get("idle")
        if idle is not None and len(idle) != len(spec.methods):
            raise _damaged(path, f"{STATUS}: idle is not of the {len(spec.methods)} methods of {SPEC}")
        if not (path / MEASUREMENTS).is_file():
            raise _damaged(path, f"{MEASUREMENTS} is missing")
        record = Record(path, spec, spec_json, environment, status)
        if not (path.name.endswith(record.run_id) or path.resolve().name.endswith(record.run_id)):
            name = f"run id {record.run_id}, which the directory's name does not end in"
            raise _damaged(path, f"{SPEC} has {name}: one was changed")
        return record

    def _spec(self, path: Path) -> tuple[RunSpec, Mapping[str, Any]]:
        value = _parsed(path, SPEC, _read_json(path, SPEC))
        version, seed = value.get("schema_version"), value.pop("seed", None)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ResultsError(
                f"{path} was written by a newer lopbench (record schema {version}, this one reads up to "
                f"{SCHEMA_VERSION}); upgrade lopbench to read it."
            )
        if type(seed) is not int or seed < 0:
            raise _damaged(path, f"{SPEC}: seed is {seed!r}, not a whole number from 0")
        key = canonical_json(value)
        if key not in self._specs:
            whole = {**value, "seed": 0}
            found = problem("spec", whole) or _unprintable(whole)
            if found is not None:
                raise _damaged(path, f"{SPEC}: {found}")
            try:
                self._specs[key] = RunSpec.from_json(whole), value
            except LopbenchError as error:
                raise _damaged(path, f"{SPEC}: {error}") from error
        spec, rest = self._specs[key]
        return replace(spec, seed=seed), {**rest, "seed": seed}

    def _environment(self, path: Path) -> Mapping[str, Any]:
        data = _read_json(path, ENVIRONMENT)
        if data not in self._environments:
            value = _parsed(path, ENVIRONMENT, data)
            found = problem("environment", value)
            if found is not None:
                raise _damaged(path, f"{ENVIRONMENT}: {found}")
            self._environments[data] = value
        return self._environments[data]


def find_records(*paths: str | os.PathLike[str]) -> list[Record]:
    """Return the records under ``paths``, each path once, in the order of their names.

    Args:
        paths: Results folders (which hold ``runs/``), folders of run directories, or single run directories. Runs that
            are still being written are left out.

    Raises:
        ResultsError: If a path does not exist or a record is damaged.
    """
    records, problems = scan_records(*paths)
    if problems:
        raise problems[0]
    return records


def scan_records(*paths: str | os.PathLike[str]) -> tuple[list[Record], list[ResultsError]]:
    """Return the records under ``paths`` as `find_records` does, and beside them what is wrong with the others.

    What cannot be read as a record is left out, and told of: damaged and foreign directories, records of a newer
    lopbench, and links that lead out of the folder. Nothing that is read is executed. Measurements are not read yet.

    Raises:
        ResultsError: If a path does not exist or cannot be listed.
    """
    found: dict[Path, Path] = {}
    problems: list[ResultsError] = []
    for path in map(Path, paths):
        for real, directory in _run_directories(path, problems):
            found.setdefault(real, directory)
    records, reader = [], _Reader()
    for directory in sorted(found.values(), key=lambda directory: directory.name):
        try:
            records.append(reader.read(directory))
        except ResultsError as error:
            problems.append(error)
    return records, problems


def _run_directories(path: Path, problems: list[ResultsError]) -> Iterator[tuple[Path, Path]]:
    """Yield the directories of a results folder, each where it really is and as it was named."""
    if not path.is_dir():
        raise ResultsError(f"{path} is not a folder; give a results folder or a run directory.")
    if (path / SPEC).exists():
        yield path.resolve(), path
        return
    try:
        runs = path / "runs" if (path / "runs").is_dir() else path
        real, root = runs.resolve(), path.resolve()
        with os.scandir(runs) as entries:
            for entry in entries:
                child, is_link = runs / entry.name, entry.is_symlink()
                if entry.name.startswith(".") or not entry.is_dir():
                    continue
                if runs is path and not (child / SPEC).exists():  # of any folder, what looks like a run
                    continue
                target = child.resolve() if is_link else real / entry.name
                if is_link and not target.is_relative_to(root):
                    problems.append(
                        ResultsError(
                            f"{child} is a link to {target}, out of the results folder, and was left out; name that "
                            "folder too, or copy the record."
                        )
                    )
                    continue
                yield target, child
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {_reason(error)}.") from error


def _table(path: Path, data: bytes, expected: "pa.Schema") -> "pa.Table":
    """Return measurements with the columns of ``expected``; where it has dictionaries, read as such."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = [field.name for field in expected if pa.types.is_dictionary(field.type)]
    try:
        with pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), read_dictionary=encoded) as file:
            if not file.schema_arrow.equals(expected):  # types too, and that only values may be null
                raise _damaged(path, f"{MEASUREMENTS} has the columns {', '.join(map(str, file.schema_arrow))}")
            table = file.read(use_threads=False)  # threads take longer to start than so little to read
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, f"{MEASUREMENTS} cannot be read ({_reason(error)})") from error
    return table


@cache
def _schema(*, dictionaries: bool = False) -> "pa.Schema":
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string()) if dictionaries else pa.string()
    return pa.schema(
        [
            pa.field("step", pa.int64(), nullable=False),
            pa.field("task", pa.int32(), nullable=False),
            pa.field("layer", text, nullable=False),
            pa.field("metric", text, nullable=False),
            pa.field("value", pa.float64()),
        ]
    )


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_bytes(path: Path, name: str, most: int | None = None) -> bytes:
    try:
        with os.fdopen(os.open(f"{path}/{name}", _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _damaged(path, f"{name} is no file")
            if most is not None and status.st_size > most:
                raise _damaged(path, f"{name} has {status.st_size} bytes")
            return file.read()
    except FileNotFoundError as error:
        raise _damaged(path, f"{name} is missing") from error
    except OSError as error:
        if (path / name).is_symlink():
            raise _damaged(path, f"{name} is a link, and a record's files are its own") from error
        raise _damaged(path, f"{name} cannot be read ({_reason(error)})") from error


def _read_json(path: Path, name: str) -> bytes:
    return _read_bytes(path, name, _MOST_JSON_BYTES)


def _parsed(path: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # malformed JSON, not UTF-8, or nested beyond all measure
        raise _damaged(path, f"{name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(path, f"{name} is not a JSON object")
    return value


def _unprintable(value: object) -> str | None:
    """Return which text a terminal would obey or a reader misread once a table prints it, None if there is none."""
    if isinstance(value, str):
        return None if value.isprintable() else f"{value!r} has characters that cannot be printed"
    if isinstance(value, dict):
        return _unprintable([*value, *value.values()])
    if isinstance(value, list):
        return next(filter(None, map(_unprintable, value)), None)
    return None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _damaged(path: Path, what: str) -> ResultsError:
    return ResultsError(f"The run record {path} is damaged: {what}. Remove that directory and run its spec again.")


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
