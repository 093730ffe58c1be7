"""Tables of a study file, and the sentences for what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lopbench.core.errors import UsageError
from lopbench.core.registry import suggest

T = TypeVar("T")

#: Largest number in size. Squares of larger ones are beyond all floats, and so is what is made of them.
_LARGEST = 1e100


@dataclass(frozen=True)
class Table:
    """A table of a study file.

    Args:
        table: Its values.
        where: The file and the place in it, for messages.
    """

    table: Mapping[str, Any]
    where: str

    def choice(self, key: str, known: Sequence[T], default: T | None = None) -> T:
        """Return the value of a key, which has to be one of ``known``."""
        value = self.table.get(key, default) if default is not None else self.value(key)
        if value not in known:
            listing = [str(each) for each in known]
            raise self.wrong(f"{key!r} is {value!r}.{suggest(str(value), listing)} It is one of {', '.join(listing)}")
        return next(each for each in known if each == value)

    def text(self, key: str) -> str:
        """Return the text of a key, which has to be there."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(f"{key!r} must be a text, got {str(value)[:60]!r}")
        return value

    def maybe(self, key: str) -> str | None:
        """Return the text of a key, None if the key is not there."""
        return self.text(key) if key in self.table else None

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number that one can calculate with, or the default where none is given."""
        if key not in self.table and default is not None:
            return default
        value = self.value(key)
        if not is_number(value):
            raise self.wrong(f"{key!r} must be a number from {-_LARGEST:g} to {_LARGEST:g}, got {str(value)[:60]!r}")
        return float(value)

    def whole(self, key: str) -> int | None:
        """Return a whole number of at least 1, None if the key is not there."""
        value = self.table.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise self.wrong(f"{key!r} must be a whole number, at least 1, got {str(value)[:60]!r}")
        return value

    def refuse_others(self, known: Sequence[str]) -> None:
        """Refuse keys that are not known."""
        for key in self.table:
            if key not in known:
                raise self.wrong(f"unknown key {key!r}.{suggest(key, [*known])} Known are: {', '.join(known)}")

    def value(self, key: str) -> Any:
        """Return the value of a key, which has to be there."""
        if key not in self.table:
            raise self.wrong(f"{key!r} is missing")
        return self.table[key]

    def wrong(self, what: str) -> UsageError:
        """Return an error about the table."""
        return UsageError(f"{self.where}: {what}.")


def is_number(value: object) -> bool:
    """Return whether a value is a number that one can calculate with; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST  # NaN is not
