"""Packed sets: the records of many runs in one file, ``NAME.lopbench``, read like a folder of runs.

The file is an uncompressed zip (`Container`) of three:

- ``manifest.json``: versions, number of records and rows, size and SHA-256 of the other two, and the first record of
  each block;
- ``records.parquet``: a row for each record, by name: the name of its directory, its files ``spec``, ``environment``,
  ``status`` and ``log`` byte for byte, the digest of its measurements, and the SHA-256 of the file they came from;
- ``measurements.parquet``: the columns of a record's measurements, behind the index ``run`` of the record and the index
  ``row`` in its table. Of each block of records, each metric of the whole network has row groups of its own, so that
  a leaderboard reads only what it needs; behind these are the layers.

``lopbench.results.pack`` writes it.
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.core.reading import MOST_JSON_BYTES
from lopbench.core.spec import SCHEMA_VERSION
from lopbench.core.text import counted
from lopbench.results.container import Container
from lopbench.results.measurements import LARGEST, Floats, Ints, Rows, Series
from lopbench.results.stored import ENVIRONMENT, LOG, MEASUREMENTS, SPEC, STATUS, Stored, reason

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SUFFIX = ".lopbench"
FORMAT = "lopbench packed set"

#: Version of the layout that this lopbench writes, and the newest that it reads.
PACK_VERSION = 1

MANIFEST, RECORDS = "manifest.json", "records.parquet"
MEMBERS = (MANIFEST, RECORDS, MEASUREMENTS)

#: Column of ``records.parquet`` that holds each file.
COLUMN_OF = {SPEC: "spec", ENVIRONMENT: "environment", STATUS: "status", LOG: "log"}

#: Most rows of a row group, of records and of measurements: what is read at once is bounded.
MOST_RECORDS, MOST_ROWS = 1_000, 2**21

_MOST_MANIFEST_BYTES = 2**20

#: Most bytes of a row group of measurements, of which a row has 36, and of one of records, as its file declares them.
_MOST_GROUP_BYTES = {MEASUREMENTS: MOST_ROWS * 64, RECORDS: 2**31}

#: What a directory of a run may be called.
_NAME = re.compile(r"[^./\\\0][^/\\\0]{0,254}")


@dataclass(frozen=True)
class Manifest:
    """What a packed set says of itself.

    Args:
        records: Number of records.
        rows: Number of rows of measurements.
        blocks: Index of the first record of each block, from 0, rising.
        files: Size in bytes and SHA-256 of each of the other files.
    """

    records: int
    rows: int
    blocks: tuple[int, ...]
    files: dict[str, tuple[int, str]]

    def to_bytes(self) -> bytes:
        """Return the file."""
        value = {
            "format": FORMAT,
            "pack_version": PACK_VERSION,
            "schema_version": SCHEMA_VERSION,
            "records": self.records,
            "rows": self.rows,
            "blocks": self.blocks,
            "files": {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in self.files.items()},
        }
        return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def parse(cls, path: Path, data: bytes) -> "Manifest":
        """Return what the manifest of the packed set ``path`` says.

        Raises:
            ResultsError: If it is none, or of a newer lopbench.
        """
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                raise ValueError(f"the format {str(value['format'])[:40]!r}, not {FORMAT!r}")
            for key, ours in (("pack_version", PACK_VERSION), ("schema_version", SCHEMA_VERSION)):
                if _whole(value[key]) > ours:
                    raise ResultsError(
                        f"{path} was packed by a newer lopbench ({key.replace('_', ' ')} {value[key]}, this one reads "
                        f"up to {ours}); upgrade lopbench to read it."
                    )
            files = {name: (_whole(part["bytes"]), str(part["sha256"])) for name, part in value["files"].items()}
            blocks = tuple(map(_whole, value["blocks"]))
            made = cls(_whole(value["records"]), _whole(value["rows"]), blocks, files)
            if set(files) != {RECORDS, MEASUREMENTS} or list(blocks) != sorted({0, *blocks} if blocks else ()):
                raise ValueError("other files or blocks than a packed set has")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ResultsError(
                f"{path} is no packed set: expected the manifest of one in its {MANIFEST}, found {reason(error)}."
            ) from error
        return made


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]!r} in place of a whole number")
    return value


class _Whole(NamedTuple):
    """All finite values of a metric: tasks and values, where each record's begin, and whether they are dense."""

    tasks: Ints
    values: Floats
    bounds: list[int]
    dense: list[bool]


class Packed:
    """A packed set, opened: its hashes are checked, its records are read when they are asked for.

    Args:
        path: The file.

    Raises:
        ResultsError: If it is no packed set, damaged, cut off, or of a newer lopbench.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = Container(path, MEMBERS)
        manifest = self._container.member(MANIFEST)
        self.manifest = Manifest.parse(path, manifest.read(min(manifest.size, _MOST_MANIFEST_BYTES)))
        for name, (size, sha256) in self.manifest.files.items():
            self._check(name, size, sha256)
        self._texts: dict[str, tuple[int, list[bytes | None]]] = {}  # by column, the row group that was read last
        self._block: tuple[int, Rows, NDArray[np.int64]] | None = None  # the one that was read last
        self._metrics: dict[str, _Whole] = {}

    @cached_property
    def names(self) -> list[str]:
        """The names of the records' directories, in order; no two are equal."""
        names = [str(name) for name in self._column("name")]
        for name in names:
            if not _NAME.fullmatch(name) or not name.isprintable():
                raise self.damaged(f"a record is called {name[:300]!r}, which is no name of a directory of ours")
        if names != sorted(set(names)):
            raise self.damaged("names of records are not in order")
        return names

    def records(self) -> "Iterator[InPack]":
        """Yield the files of each record, in the order of their names."""
        for index in range(len(self.names)):
            yield InPack(self, index)

    def find(self, name: str) -> "InPack":
        """Return the files of the record of this name.

        Raises:
            ResultsError: If there is none.
        """
        try:
            return InPack(self, self.names.index(name))
        except ValueError:
            raise ResultsError(
                f"{self.path} has no record {name!r}; it has {counted(len(self.names), 'other')}."
            ) from None

    def text(self, column: str, index: int) -> bytes | None:
        """Return a file of the record ``index``, None if it had none."""
        group, place = divmod(index, MOST_RECORDS)
        if self._texts.get(column, (None,))[0] != group:
            with self._reading(RECORDS):
                read = self._records.read_row_group(group, columns=[column], use_threads=False)
                self._texts[column] = group, read[column].to_pylist()
        return self._texts[column][1][place]

    @cached_property
    def digests(self) -> list[str]:
        """The digests of the measurements of all records."""
        return list(self._column("measurements_digest"))

    @cached_property
    def file_digests(self) -> list[str]:
        """The SHA-256 of the files of the measurements of all records."""
        return list(self._column("measurements_sha256"))

    def rows(self, index: int) -> Rows:
        """Return all measurements of the record ``index``, in their order."""
        block = bisect_right(self.manifest.blocks, index) - 1
        if self._block is None or self._block[0] != block:
            self._block = block, *self._read_block(block)
        _, rows, bounds = self._block
        first = self.manifest.blocks[block]
        return rows.part(bounds[index - first], bounds[index - first + 1])

    def whole(self, metric: str, index: int) -> Series | None:
        """Return the finite values of a metric of the whole network of the record ``index``, None if there are none."""
        found = self._metrics.get(metric)
        if found is None:
            found = self._metrics[metric] = self._read_metric(metric)
        start, stop = found.bounds[index], found.bounds[index + 1]
        if start == stop:
            return None
        return Series(found.tasks[start:stop], found.values[start:stop], found.dense[index])

    def _read_metric(self, metric: str) -> "_Whole":
        groups = [group for _, of, group in self._groups if of == metric]
        run, task, value = self._read_groups(groups, ["run", "task", "value"])
        known = np.abs(value) <= LARGEST
        run, task, value = run[known], task[known], value[known]
        bounds = np.searchsorted(run, np.arange(self.manifest.records + 1))
        dense = np.full(self.manifest.records, True)
        dense[run[1:][(run[1:] == run[:-1]) & (np.diff(task) != 1)]] = False
        return _Whole(task, value, bounds.tolist(), dense.tolist())

    def damaged(self, what: str) -> ResultsError:
        """Return the error that says what is wrong with the file."""
        return ResultsError(
            f"The packed set {self.path} is damaged: {what}. Get the file again, or pack its runs again."
        )

    def _check(self, name: str, size: int, sha256: str) -> None:
        member = self._container.member(name)
        if member.size != size:
            raise self.damaged(f"{name} should have {size:,} bytes by the manifest, and has {member.size:,}")
        found = hashlib.sha256()
        while part := member.read(2**20):
            found.update(part)
        if found.hexdigest() != sha256:
            raise self.damaged(
                f"{name} should have the SHA-256 {sha256[:12]}... by the manifest, and has {found.hexdigest()[:12]}..."
            )

    def _open(self, name: str, expected: "pa.Schema", rows: int, most: int) -> "pq.ParquetFile":
        """Open one of the Parquet files, having looked at its columns and at how much there is to read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        encoded = [field.name for field in expected if pa.types.is_dictionary(field.type)]
        with self._reading(name):
            file = pq.ParquetFile(
                pa.PythonFile(self._container.member(name), mode="r"), read_dictionary=encoded, pre_buffer=False
            )
            if not file.schema_arrow.equals(expected):
                raise self.damaged(f"{name} has the columns {', '.join(map(str, file.schema_arrow))[:500]}")
            about = file.metadata
            if about.num_rows != rows:
                raise self.damaged(f"{name} should have {rows:,} rows by the manifest, and has {about.num_rows:,}")
            for group in map(about.row_group, range(about.num_row_groups)):
                if group.num_rows > most or group.total_byte_size > _MOST_GROUP_BYTES[name]:
                    raise self.damaged(
                        f"{name} claims {group.num_rows:,} rows and {group.total_byte_size:,} bytes in one group, more "
                        "than lopbench writes"
                    )
        return file

    @cached_property
    def _records(self) -> "pq.ParquetFile":
        file = self._open(RECORDS, records_schema(dictionaries=True), self.manifest.records, MOST_RECORDS)
        if file.metadata.num_row_groups != -(-self.manifest.records // MOST_RECORDS):  # `text` counts on full groups
            raise self.damaged(f"{RECORDS} is not laid out as lopbench packs it")
        return file

    @cached_property
    def _measurements(self) -> "pq.ParquetFile":
        expected = measurements_schema(dictionaries=True)
        return self._open(MEASUREMENTS, expected, self.manifest.rows, MOST_ROWS)

    def _column(self, column: str) -> list[Any]:
        with self._reading(RECORDS):
            found: list[Any] = self._records.read(columns=[column], use_threads=False)[column].to_pylist()
        return found

    @cached_property
    def _groups(self) -> list[tuple[int, str | None, int]]:
        """Block, metric (None for those of layers) and index of each row group of measurements."""
        about, found = self._measurements.metadata, []
        run, layer, metric = (measurements_schema().get_field_index(name) for name in ("run", "layer", "metric"))
        blocks = self.manifest.blocks
        for index in range(about.num_row_groups):
            group = about.row_group(index)
            with self._reading(MEASUREMENTS):
                known = [group.column(column).statistics for column in (run, layer, metric)]
                if any(part is None or not part.has_min_max for part in known):
                    raise self.damaged(f"{MEASUREMENTS} lacks the statistics that lopbench writes")
                runs, layers, metrics = ((part.min, part.max) for part in known)
            block = bisect_right(blocks, runs[0]) - 1
            if block < 0 or block != bisect_right(blocks, runs[1]) - 1 or runs[1] >= self.manifest.records:
                raise self.damaged(f"{MEASUREMENTS} has rows of runs {runs[0]} to {runs[1]} in one group")
            whole = layers[1] == ""
            if (whole and metrics[0] != metrics[1]) or (not whole and layers[0] == ""):
                raise self.damaged(f"{MEASUREMENTS} is not laid out as lopbench packs it")
            found.append((block, metrics[0] if whole else None, index))
        return found

    def _read_groups(self, groups: list[int], columns: list[str]) -> list[NDArray[Any]]:
        """Return columns of some row groups; NaN is null."""
        with self._reading(MEASUREMENTS):
            read = self._measurements.read_row_groups(groups, columns=columns, use_threads=False)
            made = [read[column].to_numpy() for column in columns]
        if (np.diff(made[columns.index("run")]) < 0).any():
            raise self.damaged(f"{MEASUREMENTS} has its runs in no order")
        return made

    def _read_block(self, block: int) -> tuple[Rows, NDArray[np.int64]]:
        """Return the rows of a block, run by run in their order, and where those of each run begin."""
        import pyarrow as pa

        groups = [index for of, _, index in self._groups if of == block]
        with self._reading(MEASUREMENTS):
            table = self._measurements.read_row_groups(groups, use_threads=False)
            run, row = (table[column].to_numpy() for column in ("run", "row"))
            order = np.lexsort((row, run))
            table = table.drop_columns(["run", "row"]).unify_dictionaries().combine_chunks().take(pa.array(order))
            rows = Rows.of(table)
        first, last = self.manifest.blocks[block], [*self.manifest.blocks[1:], self.manifest.records][block]
        bounds = np.searchsorted(run[order], np.arange(first, last + 1))
        begun = np.repeat(bounds[:-1], np.diff(bounds))  # for each row, where its run begins
        if bounds[0] or bounds[-1] != len(order) or (row[order] != np.arange(len(order)) - begun).any():
            raise self.damaged(f"{MEASUREMENTS} lacks rows of a run, or has some twice")
        return rows, bounds

    def _reading(self, name: str) -> "_Reading":
        return _Reading(self, name)


class _Reading:
    """Turns what goes wrong in reading a Parquet file into a sentence."""

    def __init__(self, packed: Packed, name: str) -> None:
        self._packed = packed
        self._name = name

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(error, OSError | pa.ArrowException | UnicodeDecodeError | KeyError):  # the last of pyarrow, too
            raise self._packed.damaged(f"{self._name} cannot be read ({reason(error)})") from error


class InPack(Stored):
    """The files of a record in a packed set.

    Args:
        packed: The set.
        index: Index of the record, in the order of names.
    """

    def __init__(self, packed: Packed, index: int) -> None:
        super().__init__(packed.path / packed.names[index])
        self.packed = packed
        self._index = index

    def read(self, name: str) -> bytes:
        """Return the content of a file; one of JSON has a size of at most `MOST_JSON_BYTES`."""
        data = self.packed.text(COLUMN_OF[name], self._index)
        if data is None:
            raise self.damaged(f"{name} is missing")
        if name != LOG and len(data) > MOST_JSON_BYTES:
            raise self.damaged(f"{name} has {len(data)} bytes")
        return data

    def has_log(self) -> bool:
        """Return whether there was a log."""
        return self.packed.text(COLUMN_OF[LOG], self._index) is not None

    def check(self) -> None:
        """All records of a packed set have measurements, be they without rows."""

    def table(self) -> "pa.Table":
        """Return all measurements, held against their digest."""
        rows = self.packed.rows(self._index)
        if rows.digest() != self.digest():
            raise self.damaged("its measurements are not those of its digest")
        return rows.to_table()

    def digest(self) -> str:
        """Return the digest of the measurements, as it was packed."""
        return self.packed.digests[self._index]

    def file_digest(self) -> str:
        """Return the digest of the file, as it was packed."""
        return self.packed.file_digests[self._index]

    def whole(self, metric: str) -> Series | None:
        """Return the finite values of a metric."""
        return self.packed.whole(metric, self._index)

    def damaged(self, what: str) -> ResultsError:
        """Return the error that says what is wrong with the record."""
        return ResultsError(
            f"The run record {self.path} is damaged: {what}. Get the packed set again, or pack its runs again."
        )


@cache
def records_schema(*, dictionaries: bool = False) -> "pa.Schema":
    """Return the columns of ``records.parquet``; with ``dictionaries``, as they are read: nothing is multiplied."""
    import pyarrow as pa

    def kind(of: "pa.DataType") -> "pa.DataType":
        return pa.dictionary(pa.int32(), of) if dictionaries else of

    return pa.schema(
        [
            pa.field("name", kind(pa.string()), nullable=False),
            *(pa.field(COLUMN_OF[name], kind(pa.binary()), nullable=False) for name in (SPEC, ENVIRONMENT, STATUS)),
            pa.field("measurements_digest", kind(pa.string()), nullable=False),
            pa.field("measurements_sha256", kind(pa.string()), nullable=False),
            pa.field("log", kind(pa.binary())),
        ]
    )


@cache
def measurements_schema(*, dictionaries: bool = False) -> "pa.Schema":
    """Return the columns of ``measurements.parquet``; with ``dictionaries``, as they are read."""
    import pyarrow as pa

    from lopbench.results.measurements import table_schema

    behind = [pa.field("run", pa.int32(), nullable=False), pa.field("row", pa.int32(), nullable=False)]
    return pa.schema([*behind, *table_schema(dictionaries=dictionaries)])
