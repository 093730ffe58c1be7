"""Data sets on disk as they were read: written once, published by one rename, then mapped into memory by every process.

An entry is the folder ``<cache>/<form>/<key>/`` with ``.npy`` files and ``meta.json``. Its key names the source, so an
entry is never changed; a damaged one is made anew.
"""

import shutil
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from lopbench.core.errors import DataError
from lopbench.core.reading import NoFileError, TooLargeError
from lopbench.data.arrays import Arrays
from lopbench.data.contents import Contents, Kept, Progress
from lopbench.data.images import ImagePlan

#: What says that there is no entry, or none of ours.
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, NoFileError, TooLargeError)

_FORMS: tuple[type[Contents], ...] = (ImagePlan, Arrays)


def entry_directory(cache: Path, form: type[Contents], key: str) -> Path:
    """Return the folder of entry ``key``."""
    return cache / form.form / key


def open_entry(cache: Path, key: str, *, check: bool = True) -> Kept | None:
    """Return entry ``key``, whatever its form; None if it does not exist or is damaged.

    All its bytes are hashed at the first time in a process, and again when size or time of one of its files changes.

    Args:
        cache: The cache.
        key: Key of the entry.
        check: Whether content that has another hash than its own says counts as damaged.

    Raises:
        DataError: If the entry exists and cannot be read, for a reason that says nothing about what is in it.
    """
    for form in _FORMS:
        directory = entry_directory(cache, form, key)
        try:
            kept = form.opened(directory)
            if not check or _is_whole(form, directory, _stamps(directory)):
                return kept
        except PermissionError as error:
            raise DataError(
                f"The cache {directory} may not be read ({error.strerror}); "
                "make it readable, or name another cache directory in LOPBENCH_CACHE"
            ) from error
        except _NOT_THERE:
            continue
        except OSError as error:  # no memory or descriptors, say: another time it may be read
            raise DataError(
                f"The cache {directory} cannot be read now ({error.strerror or error}); nothing in it was changed, and "
                "the same command tries again"
            ) from error
        # numpy: ValueError for a file shorter than its header says
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


@lru_cache
def _is_whole(form: type[Contents], directory: Path, stamps: tuple[tuple[str, int, int], ...]) -> bool:
    """Return whether an entry with files of these names, sizes and times has the hash that it says."""
    kept = form.opened(directory)
    return kept.hash() == kept.content_hash


def _stamps(directory: Path) -> tuple[tuple[str, int, int], ...]:
    found = [(path.name, path.stat()) for path in sorted(directory.iterdir())]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)


def store(cache: Path, key: str, contents: Contents, description: str, progress: Progress | None) -> Kept:
    """Return entry ``key``, made from ``contents`` unless another process makes it first.

    Raises:
        DataError: If the cache cannot be written, or ``contents`` cannot be decoded.
    """
    form = type(contents)
    directory = entry_directory(cache, form, key)
    # A fixed name: what a killed process left is replaced, not piled up. The lock keeps a second writer away.
    partial = directory.with_name(f"{key}.partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_name(f"{key}.lock"), fallback_to_soft=False):
            if entry := open_entry(cache, key):
                return entry
            _check_space(directory.parent, contents)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                contents.write(partial, description, progress)
                shutil.rmtree(directory, ignore_errors=True)  # a damaged entry
                partial.rename(directory)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"Decoded {form.form} cannot be written to the cache {cache} ({error.strerror or error}); "
            "make room or make it writable, or name another cache directory in LOPBENCH_CACHE"
        ) from error
    entry = open_entry(cache, key)
    assert entry is not None, f"{directory} is damaged right after it was written"
    return entry


def _check_space(directory: Path, contents: Contents) -> None:
    free = shutil.disk_usage(directory).free
    if free < 1.05 * contents.size_bytes:
        raise DataError(
            f"The cache {directory} has {free / 1e6:,.0f} MB free and the decoded {contents.form} need "
            f"{contents.size_bytes / 1e6:,.0f} MB; make room, or name another cache directory in LOPBENCH_CACHE"
        )
