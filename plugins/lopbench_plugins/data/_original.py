"""Whether a file is the one that its publisher hashed."""

import hashlib
from pathlib import Path

from lopbench import DataError


def check_md5(content: bytes, md5: str, name: str, path: Path, again: str) -> None:
    """Refuse the file ``name`` of the set at ``path`` if its content is not the original.

    Raises:
        DataError: Saying ``again``, what to do.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{name} in {path} is damaged or not the original: its MD5 is {found} and not {md5}; {again}")
