"""Where the files of a record are: loose, in a directory of its own, or packed with those of others."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lopbench.core.errors import ResultsError
from lopbench.core.reading import MOST_JSON_BYTES, NoFileError, TooLargeError, open_regular
from lopbench.results.measurements import Rows, Series, table_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SPEC, ENVIRONMENT, STATUS, MEASUREMENTS, LOG = (
    "spec.json",
    "environment.json",
    "status.json",
    "measurements.parquet",
    "log.txt",
)

#: Most bytes of measurements or a log, packed and unpacked, and most rows: a small file can claim to hold billions.
_MOST_BYTES, _MOST_UNPACKED_BYTES, _MOST_ROWS = 2**30, 2**33, 2**27

#: Most bytes of a log that are written to a record, or packed: all logs of a row group are in memory at once.
MOST_LOG_BYTES = 64 * 2**20


class Stored(ABC):
    """The files of one record.

    Args:
        path: Where the record is: its directory, or in a packed set the set's path and behind it the record's name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file other than the measurements.

        Raises:
            ResultsError: If it is missing, no file, or too large.
        """

    @abstractmethod
    def has_log(self) -> bool:
        """Return whether there is a log, which is not needed to read a record."""

    @abstractmethod
    def check(self) -> None:
        """Look, without reading them, whether there are measurements.

        Raises:
            ResultsError: If there are none.
        """

    @abstractmethod
    def table(self) -> "pa.Table":
        """Return all measurements, with the columns of `table_schema`.

        Raises:
            ResultsError: If they are damaged.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return `Rows.digest` of the measurements.

        Raises:
            ResultsError: If they are damaged.
        """

    @abstractmethod
    def file_digest(self) -> str:
        """Return the SHA-256 of the file of the measurements as the run wrote it, hex.

        Raises:
            ResultsError: If it cannot be read.
        """

    @abstractmethod
    def whole(self, metric: str) -> Series | None:
        """Return the finite values of a metric of the whole network, None if there are none.

        Raises:
            ResultsError: If the measurements are damaged.
        """

    @abstractmethod
    def damaged(self, what: str) -> ResultsError:
        """Return the error that says what is wrong with the record, and what to do."""


class Loose(Stored):
    """The files of a record in a directory of its own."""

    def read(self, name: str) -> bytes:
        """Return the content of a file; one of JSON has a size of at most `MOST_JSON_BYTES`."""
        most = MOST_JSON_BYTES if name.endswith(".json") else _MOST_BYTES
        try:
            with open_regular(f"{self.path}/{name}", most=most, flags=os.O_NOFOLLOW) as file:
                return file.read()
        except FileNotFoundError as error:
            raise self.damaged(f"{name} is missing") from error
        except NoFileError as error:
            raise self.damaged(f"{name} is no file") from error
        except TooLargeError as error:
            raise self.damaged(f"{name}: {reason(error)}") from error
        except OSError as error:
            # Not what `Path` has for this: it raises where a folder may not be entered.
            if os.path.islink(f"{self.path}/{name}"):  # noqa: PTH114
                raise self.damaged(f"{name} is a link, and a record's files are its own") from error
            if isinstance(error, PermissionError):
                raise ResultsError(
                    f"The run record {self.path} cannot be read: {name}: {reason(error)}. Give yourself the right to "
                    "read it, or copy the record."
                ) from error
            raise self.damaged(f"{name} cannot be read ({reason(error)})") from error

    def has_log(self) -> bool:
        """Return whether there is a log, or something in its place."""
        return os.path.lexists(self.path / LOG)

    def check(self) -> None:
        """Look whether the file is there."""
        if not os.path.isfile(self.path / MEASUREMENTS):  # noqa: PTH113  (as above)
            raise self.damaged(f"{MEASUREMENTS} is missing")

    def table(self) -> "pa.Table":
        """Return all measurements, read anew."""
        table = self._table(self.read(MEASUREMENTS), table_schema())
        with self._decoding():
            table.validate(full=True)  # texts that are no UTF-8 would surprise whoever looks at them
        return table

    def digest(self) -> str:
        """Return the digest of the measurements."""
        return self._digest

    def file_digest(self) -> str:
        """Return the digest of the file."""
        return self._content[0]

    def whole(self, metric: str) -> Series | None:
        """Return the finite values of a metric."""
        return self._content[1].get(metric)

    def damaged(self, what: str) -> ResultsError:
        """Return the error that says what is wrong with the record."""
        return ResultsError(
            f"The run record {self.path} is damaged: {what}. Remove that directory and run its spec again."
        )

    @cached_property
    def _content(self) -> tuple[str, dict[str, Series]]:
        data = self.read(MEASUREMENTS)
        return hashlib.sha256(data).hexdigest(), self._rows(data).whole()

    @cached_property
    def _digest(self) -> str:
        return self._rows(self.read(MEASUREMENTS)).digest()

    def _rows(self, data: bytes) -> Rows:
        table = self._table(data, table_schema(dictionaries=True))
        with self._decoding():
            return Rows.of(table)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:  # no UTF-8; those of pyarrow are ValueErrors, too
            raise self.damaged(f"{MEASUREMENTS} cannot be read ({reason(error)})") from error

    def _table(self, data: bytes, expected: "pa.Schema") -> "pa.Table":
        """Return the measurements with the columns of ``expected``; where it has dictionaries, read as such."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        encoded = [field.name for field in expected if pa.types.is_dictionary(field.type)]
        try:
            with pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), read_dictionary=encoded) as file:
                if not file.schema_arrow.equals(expected):  # types too, and that only values may be null
                    raise self.damaged(f"{MEASUREMENTS} has the columns {', '.join(map(str, file.schema_arrow))}")
                self._check_size(file.metadata)
                table = file.read(use_threads=False)  # threads take longer to start than so little to read
        except KeyError as error:  # of pyarrow: a column that is to be read as a dictionary is not there
            raise self.damaged(f"{MEASUREMENTS} has no column {error.args[0].decode(errors='replace')!r}") from error
        except (OSError, pa.ArrowException) as error:
            raise self.damaged(f"{MEASUREMENTS} cannot be read ({reason(error)})") from error
        return table

    def _check_size(self, metadata: "pq.FileMetaData") -> None:
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if metadata.num_rows > _MOST_ROWS or size > _MOST_UNPACKED_BYTES:
            raise self.damaged(
                f"{MEASUREMENTS} says that it holds {metadata.num_rows:,} rows of {size:,} bytes; at most "
                f"{_MOST_ROWS:,} rows are read"
            )


def reason(error: BaseException) -> str:
    """Return why something could not be read or written, in one line without a full stop."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
