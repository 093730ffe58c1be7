"""What a data set is once it is read, on its way into the cache, and what the cache gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from lopbench.core.interfaces import Samples
from lopbench.core.reading import check_regular


class Progress(Protocol):
    """Is told how far a long piece of work has come, about a hundred times in all."""

    def __call__(self, description: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of the work ``description`` are finished."""


class Kept(ABC):
    """Content that is whole: in a folder of the cache, mapped into memory read-only, or in memory."""

    #: As in `Samples`.
    content_hash: str
    #: Whether the original has more.
    subset: bool

    @abstractmethod
    def hash(self) -> str:
        """Return the content hash, computed anew."""

    @abstractmethod
    def describe(self) -> str:
        """Return how much there is, in words."""

    @abstractmethod
    def samples(self, *, name: str, real: bool, notice: str, terms: str) -> Samples:
        """Return what a scenario is given; arguments as in `Samples`."""


class Contents(ABC):
    """Content that is read, or can be made: it is hashed, and written to a folder of the cache."""

    #: Folder of the cache for content of this form, and its name in sentences.
    form: ClassVar[str]
    #: Whether the original has more.
    subset: bool

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Size on disk."""

    @abstractmethod
    def describe(self) -> str:
        """Return how much there is, in words."""

    @abstractmethod
    def hash(self, description: str, progress: Progress | None) -> str:
        """Return the content hash and keep nothing.

        Args:
            description: What ``progress`` is told to be done.
            progress: Told how far it is.
        """

    @abstractmethod
    def write(self, directory: Path, description: str, progress: Progress | None) -> None:
        """Write everything into an empty folder; arguments as of `hash`.

        Raises:
            OSError: If it cannot be written.
        """

    @abstractmethod
    def held(self) -> Kept:
        """Return all of it in memory."""

    @classmethod
    @abstractmethod
    def opened(cls, directory: Path) -> Kept:
        """Open what `write` has written.

        Raises:
            OSError, ValueError, KeyError, TypeError: If it is damaged: a file missing, cut short or misshapen.
        """


def open_array(path: Path) -> Any:
    """Map the array in a file of numpy's into memory, read-only."""
    check_regular(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)
