"""Packing records into one file that is read like a folder of runs, and unpacking them again."""

import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.core.errors import ResultsError
from lopbench.results.container import write_container
from lopbench.results.files import flush, flush_directory
from lopbench.results.measurements import Rows, table_schema
from lopbench.results.packed import (
    COLUMN_OF,
    MANIFEST,
    MEMBERS,
    MOST_RECORDS,
    MOST_ROWS,
    RECORDS,
    SUFFIX,
    Manifest,
    measurements_schema,
    records_schema,
)
from lopbench.results.record import Record, find_records
from lopbench.results.stored import ENVIRONMENT, LOG, MEASUREMENTS, MOST_LOG_BYTES, SPEC, STATUS, Loose, Stored, reason

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Is told what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

#: Files of a record; anything else in its directory would be lost.
_FILES = frozenset({SPEC, ENVIRONMENT, STATUS, MEASUREMENTS, LOG})

#: Rows of the runs of a block, unless one run has more: they are sorted in memory, as is all that a reader keeps.
_BLOCK_ROWS = 2_000_000

#: Small files, and the same whatever the number of processors. Values hardly repeat, and rows and steps rise evenly.
_MEASUREMENTS_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 9,
    "use_dictionary": ["run", "step", "task", "layer", "metric"],
    "column_encoding": {"row": "DELTA_BINARY_PACKED", "value": "PLAIN"},
}
_RECORDS_OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 9, "write_statistics": False}


@dataclass(frozen=True)
class Packing:
    """What packing or unpacking came to.

    Args:
        path: The packed set, or the folder of run directories.
        records: Number of records.
        rows: Number of rows of their measurements.
        loose_bytes: Size of all files of the records.
        packed_bytes: Size of the packed set.
        rewritten: Number of records whose ``measurements.parquet`` holds the same in other bytes, after unpacking.
    """

    path: Path
    records: int
    rows: int
    loose_bytes: int
    packed_bytes: int
    rewritten: int = 0


def pack(*paths: str | os.PathLike[str], output: str | os.PathLike[str], progress: Progress | None = None) -> Packing:
    """Pack the records under ``paths`` into one file; the same records and version of pyarrow give the same bytes.

    Args:
        paths: Results folders, run directories or packed sets, as in `find_records`.
        output: The packed set, ``NAME.lopbench``; what is there is replaced when the new one is whole.
        progress: Is told how it goes.

    Returns:
        What it came to.

    Raises:
        ResultsError: If a record is damaged, a directory holds a file that is not of a record, a run is there with two
            results, there are no runs, or the file cannot be written.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise ResultsError(f"{output} is no name for a packed set: it has to end in {SUFFIX}.")
    if output.exists() and not output.is_file():
        raise ResultsError(f"{output} is a folder, pipe or device; name a file.")
    records = _unique(find_records(*paths))
    if not records:
        raise ResultsError(f"There are no runs in {', '.join(map(str, paths))} to pack.")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=".partial", dir=output.parent) as folder:
            files = {name: Path(folder) / name for name in MEMBERS}
            blocks, rows, size = _write_measurements(files[MEASUREMENTS], records, progress)
            size += _write_records(files[RECORDS], records)
            hashes = {name: (files[name].stat().st_size, _sha256(files[name])) for name in (RECORDS, MEASUREMENTS)}
            files[MANIFEST].write_bytes(Manifest(len(records), rows, tuple(blocks), hashes).to_bytes())
            whole = Path(folder) / output.name
            write_container(whole, files)
            with whole.open("rb+") as file:
                flush(file)
            packed_bytes = whole.stat().st_size
            whole.replace(output)
        flush_directory(output.parent)
    except OSError as error:
        raise ResultsError(f"The packed set {output} cannot be written: {reason(error)}.") from error
    return Packing(output, len(records), rows, size, packed_bytes)


def unpack(
    path: str | os.PathLike[str], results: str | os.PathLike[str], *, progress: Progress | None = None
) -> Packing:
    """Write the records of a packed set as run directories into ``results/runs``.

    All files come out byte for byte. Only ``measurements.parquet`` may differ, where another version of pyarrow wrote
    it, which cannot be told to write the same bytes: it has the same rows then, but another digest of the file.

    Args:
        path: The packed set.
        results: Results folder; made if it does not exist. A record that is there and is the same is left alone.
        progress: Is told how it goes.

    Returns:
        What it came to.

    Raises:
        ResultsError: If the packed set is damaged, a directory of another content is there, or the folder cannot be
            written to.
    """
    path, runs = Path(path), Path(results) / "runs"
    records = find_records(path)
    rewritten, size, rows = 0, 0, 0
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for number, record in enumerate(records):
            if progress is not None:
                progress(f"unpacking {path.name}", number, len(records))
            table = record.stored.table()  # which is held against its digest
            files = {name: data for name in COLUMN_OF if (data := _read(record.stored, name)) is not None}
            files[MEASUREMENTS] = _parquet(table)
            rewritten += hashlib.sha256(files[MEASUREMENTS]).hexdigest() != record.stored.file_digest()
            rows, size = rows + len(table), size + sum(map(len, files.values()))
            _publish(runs / record.path.name, files, record)
        flush_directory(runs)
    except OSError as error:
        raise ResultsError(f"{path} cannot be unpacked into {runs}: {reason(error)}.") from error
    return Packing(runs, len(records), rows, size, path.stat().st_size, rewritten)


def _unique(records: list[Record]) -> list[Record]:
    """Return each run once, by the names of the directories.

    Raises:
        ResultsError: If a run is there twice with different results, or a directory holds more than a record.
    """
    found: dict[str, Record] = {}
    for record in records:
        other = found.setdefault(record.run_id, record)
        same = other.status == record.status and other.content_digest == record.content_digest
        if other is not record and not same:
            raise ResultsError(
                f"{other.path} and {record.path} are the same run with different results; leave one of them out."
            )
        if isinstance(record.stored, Loose):
            for name in sorted({path.name for path in record.path.iterdir()} - _FILES):
                raise ResultsError(
                    f"{record.path} holds {name}, which is no file of a record and would be lost; move it elsewhere."
                )
    return sorted(found.values(), key=lambda record: record.path.name)


def _write_measurements(path: Path, records: Sequence[Record], progress: Progress | None) -> tuple[list[int], int, int]:
    """Write the measurements of all records; return the first record of each block, and numbers of rows and bytes."""
    import pyarrow.parquet as pq

    blocks: list[int] = []
    rows = size = 0
    with pq.ParquetWriter(path, measurements_schema(), **_MEASUREMENTS_OPTIONS) as writer:
        waiting: list[Rows] = []
        for index, record in enumerate(records):
            if progress is not None:
                progress("packing", index, len(records))
            mine = _rows(record)
            if not blocks or sum(len(each.value) for each in waiting) + len(mine.value) > _BLOCK_ROWS:
                _write_block(writer, blocks[-1] if blocks else 0, waiting)
                waiting = []
                blocks.append(index)
            waiting.append(mine)
            rows += len(mine.value)
            if isinstance(record.stored, Loose):
                size += (record.path / MEASUREMENTS).stat().st_size
            else:
                size += len(_parquet(mine.to_table()))
        _write_block(writer, blocks[-1], waiting)
    return blocks, rows, size


def _rows(record: Record) -> Rows:
    """Return all rows of a record."""
    return Rows.of(record.stored.table().cast(table_schema(dictionaries=True)))


def _write_block(writer: "pq.ParquetWriter", first: int, block: Sequence[Rows]) -> None:
    """Write the rows of some runs: each metric of the whole network in row groups of its own, then the layers."""
    import pyarrow as pa
    from pyarrow import compute

    if not block:
        return
    tables = []
    for index, rows in enumerate(block, first):
        count = len(rows.value)
        behind = [pa.array(np.full(count, index), pa.int32()), pa.array(np.arange(count), pa.int32())]
        tables.append(pa.Table.from_arrays([*behind, *rows.to_table().columns], schema=measurements_schema()))
    table = pa.concat_tables(tables)
    of_network = compute.equal(table["layer"], "")
    whole, layers = table.filter(of_network), table.filter(compute.invert(of_network))
    for name in sorted(compute.unique(whole["metric"]).to_pylist()):
        writer.write_table(
            whole.filter(compute.equal(whole["metric"], name)).combine_chunks(), row_group_size=MOST_ROWS
        )
    if len(layers):
        writer.write_table(layers.combine_chunks(), row_group_size=MOST_ROWS)


def _write_records(path: Path, records: Sequence[Record]) -> int:
    """Write the other files of all records; return their number of bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = 0
    with pq.ParquetWriter(path, records_schema(), **_RECORDS_OPTIONS) as writer:
        for start in range(0, len(records), MOST_RECORDS):
            part = [record.stored for record in records[start : start + MOST_RECORDS]]
            files = {column: [_read(stored, name) for stored in part] for name, column in COLUMN_OF.items()}
            size += sum(len(data or b"") for column in files.values() for data in column)
            columns: dict[str, list[Any]] = {**files}
            columns["name"] = [stored.path.name for stored in part]
            columns["measurements_digest"] = [stored.digest() for stored in part]
            columns["measurements_sha256"] = [stored.file_digest() for stored in part]
            writer.write_table(pa.table([columns[name] for name in records_schema().names], schema=records_schema()))
    return size


def _read(stored: Stored, name: str) -> bytes | None:
    """Return a file of a record; None for a log that is not there."""
    if name == LOG and not stored.has_log():
        return None
    data = stored.read(name)
    if len(data) > MOST_LOG_BYTES:
        raise ResultsError(f"{stored.path / name} has {len(data):,} bytes; at most {MOST_LOG_BYTES:,} can be packed.")
    return data


def _publish(target: Path, files: dict[str, bytes], record: Record) -> None:
    """Write a run directory whole or not at all; one that is there must be the same run with the same results."""
    if target.exists():
        (there,) = find_records(target)
        if there.status != record.status or there.content_digest != record.content_digest:
            raise ResultsError(f"{target} is there, with other results than the same run has in {record.path.parent}.")
        return
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        folder.mkdir()
        for name, data in files.items():
            with (folder / name).open("wb") as file:
                file.write(data)
                flush(file)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parquet(table: "pa.Table") -> bytes:
    """Return the file that a run writes for its measurements."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
