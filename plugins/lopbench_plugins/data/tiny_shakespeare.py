"""Tiny Shakespeare: a megabyte of plays, on which models of characters have been trained since Karpathy's char-rnn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench import DataError, DataSet, RemoteFile, read_regular

_SIZE = 1_115_394


@dataclass(frozen=True, kw_only=True)
class TinyShakespeare(DataSet):
    """Plays of Shakespeare: ``text``, bytes of ASCII ``(N,)``, and its ``vocabulary``, the different ones in order."""

    name: ClassVar[str] = "tiny-shakespeare"
    title: ClassVar[str] = "Tiny Shakespeare"
    terms: ClassVar[str] = "The plays are in the public domain; the selection is that of karpathy/char-rnn."
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            size_bytes=_SIZE,
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    )
    folder: ClassVar[str] = "tinyshakespeare"

    def read(self, path: Path) -> Mapping[str, NDArray[np.uint8]]:
        """Return the text of the file in the folder ``path``, and its vocabulary."""
        file = path / self.files[0].name
        try:
            text = np.frombuffer(read_regular(file, most=_SIZE), np.uint8)
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
        return {"text": text, "vocabulary": np.unique(text)}

    def example(self) -> Mapping[str, NDArray[np.uint8]]:
        """Return 20,000 letters, of which some follow each other more often than others."""
        drawn = np.random.default_rng(0).geometric(0.2, 20_000)
        text = (97 + np.cumsum(drawn) % 26).astype(np.uint8)
        return {"text": text, "vocabulary": np.unique(text)}
