"""The record of one run: a directory that appears whole, by a rename, and never changes.

``<results>/runs/<name>-<run id>/`` holds ``spec.json``, ``environment.json``, ``status.json``,
``measurements.parquet`` (tidy: step, task, layer, metric, value) and ``log.txt``.
"""

import hashlib
import json
import os
import shutil
import uuid
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import LopbenchError, ResultsError
from lopbench.core.spec import SCHEMA_VERSION, RunSpec, digest

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

#: What ``status.json`` holds, and the types a reader may rely on.
_STATUS_TYPES: Mapping[str, tuple[type, ...]] = {
    "error": (str, type(None)),
    "wall_time_s": (int, float),
    "train_time_s": (int, float),
    "steps": (int,),
    "peak_bytes": (int,),
    "state_bytes": (int,),
    "started_utc": (str,),
    "sessions": (int,),
    "diverged_at": (int, type(None)),
}


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

    @property
    def run_id(self) -> str:
        """Hash of the spec, 16 hex digits."""
        return digest(self.spec_json, 16)

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return cast(Outcome, self.status["status"])

    @cached_property
    def measurements_digest(self) -> str:
        """SHA-256 of the measurements file, hex.

        Raises:
            ResultsError: If it cannot be read.
        """
        return hashlib.sha256(_read_bytes(self.path, MEASUREMENTS)).hexdigest()

    @cached_property
    def table(self) -> "pa.Table":
        """The measurements: step int64, task int32, layer string, metric string, value float64 (null: not finite).

        Raises:
            ResultsError: If the file is damaged or has other columns.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # ParquetFile, since read_table would take "name=value" in the path for a column.
            with pq.ParquetFile(self.path / MEASUREMENTS) as file:
                table = file.read()
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.path, f"{MEASUREMENTS} cannot be read ({_reason(error)})") from error
        expected = _schema()
        if table.schema.names != expected.names or table.schema.types != expected.types:
            raise _damaged(self.path, f"{MEASUREMENTS} has the columns {', '.join(map(str, table.schema))}")
        return table

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
        import pyarrow.compute as pc

        table = self.table
        rows = table.filter(
            pc.and_(
                pc.and_(pc.equal(table["metric"], metric), pc.equal(table["layer"], "")),
                pc.is_valid(table["value"]),
            )
        )
        tasks, values = rows["task"].to_pylist(), rows["value"].to_pylist()
        found = dict(zip(tasks, values, strict=True))
        if len(found) != len(tasks):
            raise _damaged(self.path, f"{metric} stands more than once for the same task")
        return found


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
            "steps", "peak_bytes", "state_bytes", "started_utc", "sessions", "diverged_at".
        measurements: All rows.
        log_path: The run's log, copied; None for an empty one.

    Raises:
        ResultsError: If the folder cannot be written to; nothing is published then.
    """
    import pyarrow.parquet as pq

    spec = RunSpec.from_json(spec_json)
    assert spec.run_id == run_id, f"spec has run id {spec.run_id}, not {run_id}"
    problem = _status_problem(status)
    assert problem is None, problem
    target = record_path(directory_root, spec)
    if target.exists():
        return target
    stem = f".{target.name}."
    partial = target.with_name(f"{stem}{uuid.uuid4().hex[:8]}{_PARTIAL}")
    try:
        partial.mkdir(parents=True)
        for name, value in ((SPEC, spec_json), (ENVIRONMENT, environment), (STATUS, status)):
            text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
            with (partial / name).open("wb") as file:
                file.write(text.encode())
                _flush(file)
        with (partial / MEASUREMENTS).open("wb") as file:
            pq.write_table(measurements.to_table(), file)
            _flush(file)
        with (partial / LOG).open("wb") as file:
            if log_path is not None:
                with Path(log_path).open("rb") as log:
                    shutil.copyfileobj(log, file)
            _flush(file)
        _flush_directory(partial)
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


def read_record(path: str | os.PathLike[str]) -> Record:
    """Return the record in the run directory ``path``; the measurements are read later, when asked for.

    Raises:
        ResultsError: If a file is missing or damaged, the spec was changed, or a newer lopbench wrote the record.
    """
    path = Path(path)
    spec_json = _read_json(path, SPEC)
    version = spec_json.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ResultsError(
            f"{path} was written by a newer lopbench (record schema {version}, this one reads up to {SCHEMA_VERSION}); "
            "upgrade lopbench to read it."
        )
    try:
        spec = RunSpec.from_json(spec_json)
    except LopbenchError as error:
        raise _damaged(path, f"{SPEC}: {error}") from error
    if spec.kind not in ("continual", "fresh"):
        raise _damaged(path, f"{SPEC}: kind is {spec.kind!r}, not continual or fresh")
    run_id = digest(spec_json, 16)
    if not path.resolve().name.endswith(run_id):
        raise _damaged(path, f"{SPEC} has run id {run_id}, which the directory's name does not end in: one was changed")
    environment, status = _read_json(path, ENVIRONMENT), _read_json(path, STATUS)
    problem = _status_problem(status)
    if problem is not None:
        raise _damaged(path, f"{STATUS}: {problem}")
    if not (path / MEASUREMENTS).is_file():
        raise _damaged(path, f"{MEASUREMENTS} is missing")
    return Record(path, spec, spec_json, environment, status)


def find_records(*paths: str | os.PathLike[str]) -> list[Record]:
    """Return the records under ``paths``, each path once, in the order of their names.

    Args:
        paths: Results folders (which hold ``runs/``), folders of run directories, or single run directories. Runs that
            are still being written are left out.

    Raises:
        ResultsError: If a path does not exist or a record is damaged.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for directory in _run_directories(path):
            found.setdefault(directory.resolve(), directory)
    return [read_record(directory) for directory in sorted(found.values(), key=lambda directory: directory.name)]


def _run_directories(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        raise ResultsError(f"{path} is not a folder; give a results folder or a run directory.")
    if (path / SPEC).exists():
        yield path
        return
    try:
        if (path / "runs").is_dir():
            children = (path / "runs").iterdir()
        else:
            children = (child for child in path.iterdir() if (child / SPEC).exists())
        yield from (child for child in children if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {_reason(error)}.") from error


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("step", pa.int64(), nullable=False),
            pa.field("task", pa.int32(), nullable=False),
            pa.field("layer", pa.string(), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            pa.field("value", pa.float64()),
        ]
    )


def _status_problem(status: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a status, None if nothing."""
    if status.get("status") not in OUTCOMES:
        return f"status is {status.get('status')!r}, not one of {', '.join(OUTCOMES)}"
    for key, types in _STATUS_TYPES.items():
        if key not in status:
            return f"{key} is missing"
        if not isinstance(status[key], types) or isinstance(status[key], bool):
            return f"{key} is {status[key]!r}"
    return None


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


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError as error:
        raise _damaged(path, f"{name} is missing") from error
    except OSError as error:
        raise _damaged(path, f"{name} cannot be read ({_reason(error)})") from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    data = _read_bytes(path, name)
    try:
        value = json.loads(data)
    except ValueError as error:  # malformed JSON or not UTF-8
        raise _damaged(path, f"{name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(path, f"{name} is not a JSON object")
    return value


def _damaged(path: Path, what: str) -> ResultsError:
    return ResultsError(f"The run record {path} is damaged: {what}. Remove that directory and run its spec again.")


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
