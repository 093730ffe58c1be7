"""The measurements of a run: as they grow, as arrays, as the table that a record stores, and their digest."""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


#: Larger numbers count as not finite: sums and squares of them would be beyond all numbers.
LARGEST = 1e100


class Series(NamedTuple):
    """The finite values of a metric of the whole network in one run.

    Args:
        tasks: Their tasks, ``(T,)``.
        values: They, ``(T,)``.
        dense: Whether the tasks rise by one, so that none is there twice or left out between.
    """

    tasks: Ints
    values: Floats
    dense: bool


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

    def rows(self, start: int = 0) -> Iterator[tuple[int, int, str, str, float]]:
        """Yield step, task, layer, metric and value of the rows from ``start`` on, as `add` took them."""
        names, columns = list(self._names), self._columns
        layers, metrics = columns["layer"], columns["metric"]
        for row in range(start, len(self)):
            where = columns["step"][row], columns["task"][row]
            yield *where, names[layers[row]], names[metrics[row]], self._values[row]

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
        arrays, names = self.to_arrays(), list(self._names)
        value = np.where(np.isfinite(arrays["value"]), arrays["value"], np.nan)
        return Rows(arrays["step"], arrays["task"], arrays["layer"], arrays["metric"], value, names, names).to_table()


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one run, or of several, as arrays ``(rows,)``.

    Args:
        step: Optimizer updates, int64.
        task: Index of the task, int32.
        layer: Index into ``layers``, int32.
        metric: Index into ``metrics``, int32.
        value: The number, float64; NaN is null.
        layers: Names.
        metrics: Names.
    """

    step: NDArray[np.int64]
    task: Ints
    layer: Ints
    metric: Ints
    value: Floats
    layers: Sequence[str]
    metrics: Sequence[str]

    @classmethod
    def of(cls, table: "pa.Table") -> "Rows":
        """Return the rows of a table whose layers and metrics were read as dictionaries."""
        table = table.combine_chunks()
        codes: dict[str, Ints] = {}
        names: dict[str, list[str]] = {}
        for column in ("layer", "metric"):
            chunks = table[column].chunks
            codes[column] = chunks[0].indices.to_numpy() if chunks else np.array([], dtype=np.int32)
            names[column] = chunks[0].dictionary.to_pylist() if chunks else []
        arrays = [table[key].to_numpy() for key in ("step", "task", "value")]
        return cls(arrays[0], arrays[1], codes["layer"], codes["metric"], arrays[2], names["layer"], names["metric"])

    def part(self, start: int, stop: int) -> "Rows":
        """Return the rows from ``start`` until before ``stop``."""
        cut = slice(start, stop)
        codes = self.layer[cut], self.metric[cut]
        return Rows(self.step[cut], self.task[cut], *codes, self.value[cut], self.layers, self.metrics)

    def to_table(self) -> "pa.Table":
        """Return the table that a record stores."""
        import pyarrow as pa

        texts = [
            pa.DictionaryArray.from_arrays(
                pa.array(codes, pa.int32()), pa.array(names, pa.string())
            ).dictionary_decode()
            for codes, names in ((self.layer, self.layers), (self.metric, self.metrics))
        ]
        columns = [
            pa.array(self.step, pa.int64()),
            pa.array(self.task, pa.int32()),
            *texts,
            pa.array(self.value, pa.float64(), mask=np.isnan(self.value)),
        ]
        return pa.Table.from_arrays(columns, schema=table_schema())

    def digest(self) -> str:
        """Return the SHA-256, hex, of what the rows say, whatever wrote their file: of two equal tables it is equal.

        Hashed are the names of all layers and metrics, sorted, as JSON, and then the columns, little-endian: step as
        int64, task, layer and metric as int32, the latter two as indices into the names, value as float64.
        """
        names = sorted({known[code] for codes, known in self._texts() for code in np.unique(codes)})
        place = {name: index for index, name in enumerate(names)}
        codes = [np.array([place.get(name, -1) for name in known], np.int32)[of] for of, known in self._texts()]
        value = np.where(np.isnan(self.value), np.nan, self.value)  # one NaN of many
        found = hashlib.sha256(json.dumps(names).encode() + b"\n")
        for column, kind in zip(
            (self.step, self.task, *codes, value), ("<i8", "<i4", "<i4", "<i4", "<f8"), strict=True
        ):
            found.update(np.ascontiguousarray(column, kind).data)
        return found.hexdigest()

    def _texts(self) -> tuple[tuple[Ints, Sequence[str]], tuple[Ints, Sequence[str]]]:
        return (self.layer, self.layers), (self.metric, self.metrics)

    def whole(self) -> dict[str, Series]:
        """Return the series of the metrics of the whole network.

        That is little, where all rows of thousands of runs are much.
        """
        network = self.layers.index("") if "" in self.layers else -1
        rows = np.flatnonzero((self.layer == network) & (np.abs(self.value) <= LARGEST))
        tasks, values, metric = self.task[rows], self.value[rows], self.metric[rows]
        order = np.argsort(metric, kind="stable")
        codes, starts = np.unique(metric[order], return_index=True)
        parts = np.split(order, starts[1:])
        return {
            self.metrics[code]: Series(tasks[mine], values[mine], bool((np.diff(tasks[mine]) == 1).all()))
            for code, mine in zip(codes, parts, strict=False)
        }


@cache
def table_schema(*, dictionaries: bool = False) -> "pa.Schema":
    """Return the columns that a record stores; with ``dictionaries``, as they are read to become `Rows`."""
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
