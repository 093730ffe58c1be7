"""Which data sets there are, how to get them, and whether what is here is whole."""

import hashlib
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal

import numpy as np

from lopbench.core.errors import DataError
from lopbench.data.cache import cache_directory, entry_directory, open_entry
from lopbench.data.data_set import DataSet, FileSet, RemoteFile
from lopbench.data.images import Plan, Progress, content_hash, hashed
from lopbench.data.load import SETS, absent, cache_key, data_set, describe, locate, planned

_BLOCK = 1 << 18  # bytes read at a time
_TIMEOUT_S = 60  # without a single byte


@dataclass(frozen=True, kw_only=True)
class Report:
    """What ``verify`` found.

    Args:
        name: Name of the data set.
        path: The archive or folder that was read; None if the images are made here.
        content_hash: As in `ImageSet`, computed anew from the source.
        classes: Number of classes, K.
        train_per_class: Fewest and most train images of a class.
        test_per_class: Fewest and most held-out images of a class.
        subset: Whether the original has more images.
        cache: Whether the decoded cache holds exactly these images, others, or is absent.
        message: All this in words, with what to do if something is wrong.
    """

    name: str
    path: Path | None
    content_hash: str
    classes: int
    train_per_class: tuple[int, int]
    test_per_class: tuple[int, int]
    subset: bool
    cache: Literal["matches", "differs", "absent"]
    message: str

    @property
    def ok(self) -> bool:
        """Whether the cache, if there is one, can be trusted."""
        return self.cache != "differs"


def catalog() -> tuple[DataSet, ...]:
    """Return all data sets."""
    return SETS


def get(name: str, directory: Path | None = None, progress: Progress | None = None) -> Path:
    """Download the data set ``name`` into ``directory`` as `download` does; return its file, or the folder of several.

    Args:
        name: Name of a data set that is downloaded.
        directory: Where the files go; the cache directory, in which they are found without being named, if None.
        progress: Told of bytes.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If there is nothing to download, or as `download`.
    """
    entry = data_set(name)
    paths = [download(file, directory or cache_directory(), progress) for file in entry.files]
    if not paths:
        raise DataError(f"{name} is made on this machine when it is needed; there is nothing to download")
    return paths[0] if len(paths) == 1 else paths[0].parent


def download(file: RemoteFile, directory: Path, progress: Progress | None = None) -> Path:
    """Download ``file`` into its folder below ``directory``, going on where an earlier attempt was cut, and check it.

    The file appears under its name only when it is whole: its size is the server's, size and hash the published ones if
    there are any, and every member of a zip has its CRC. A file that is already there is checked and kept.

    Raises:
        DataError: If the server cannot be reached, sends something else or breaks off (what came is kept, and the next
            call goes on from there); if the file is damaged; if ``directory`` cannot be written.
    """
    target = directory / file.folder / file.name
    part = target.with_name(f"{target.name}.part")
    if target.exists():
        try:
            _check(target, file, progress)
        except DataError as error:
            raise DataError(f"{error}; delete this file to have it downloaded again") from error
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(file.url, part, progress)
        try:
            _check(part, file, progress)
        except DataError:
            part.unlink()  # going on from it would never end well
            raise
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror or error}); name another directory") from error
    return target


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Append to ``part`` what it lacks of ``url``."""
    have = part.stat().st_size if part.exists() else 0
    # No compression on the way: sizes and ranges would be those of the compressed stream.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing lies beyond what is there: it is whole, or longer than the file now is
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return
                part.unlink()
                raise DataError(
                    f"{url} is shorter than the {have:,} bytes kept of it; run again to start over"
                ) from None
        raise DataError(f"{url} cannot be downloaded (HTTP {error.code} {error.reason})") from error
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url} cannot be reached ({reason}); check the network and run again") from error
    with response:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise DataError(
                f"{url} answers with an HTML page, not the data: an error or log-in page; download it by hand"
            )
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise DataError(f"{url} answered with another range than was asked for; run again to start over")
        else:
            have = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        _receive(response, part, have, total, url, progress)


def _receive(
    response: HTTPResponse, part: Path, have: int, total: int | None, url: str, progress: Progress | None
) -> None:
    shown = have
    with part.open("ab" if have else "wb") as file:
        while True:
            try:
                block = response.read(_BLOCK)
            except (OSError, HTTPException) as error:
                raise DataError(f"{url} broke off after {have:,} bytes ({error}); run again to go on") from error
            if not block:
                break
            if have == 0 and block.lstrip()[:1] == b"<":
                raise DataError(f"{url} sends an HTML page, not the data: an error or log-in page; download it by hand")
            file.write(block)
            have += len(block)
            if progress is not None and total is not None and (have - shown >= total / 100 or have == total):
                progress(f"downloading {url}", have, total)
                shown = have
    if total is not None and have != total:
        raise DataError(f"{url} broke off after {have:,} of {total:,} bytes; run again to go on")


def _check(path: Path, file: RemoteFile, progress: Progress | None) -> None:
    """Check size and hash of ``path`` if they are published, and the CRC of every member of a zip.

    Raises:
        DataError: If anything is wrong.
    """
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        raise DataError(f"{path} has {size:,} bytes, and the original has {file.size_bytes:,}")
    if file.md5 is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if found != file.md5:
            raise DataError(f"{path} has the MD5 {found}, and the original has {file.md5}")
    if file.name.endswith(".zip"):
        _check_zip(path, file.name, progress)


def _check_zip(path: Path, name: str, progress: Progress | None) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for done, member in enumerate(members):
                if progress is not None and done % (len(members) // 100 + 1) == 0:
                    progress(f"checking {name}", done, len(members))
                with archive.open(member) as file:
                    while file.read(_BLOCK):  # the CRC is checked at the end
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path} is not a whole zip ({error})") from error
    if progress is not None:
        progress(f"checking {name}", len(members), len(members))


def verify(
    name: str, data_dir: Path | None = None, progress: Progress | None = None, *, cache_dir: Path | None = None
) -> Report:
    """Read every image of the data set ``name`` from its source, count, hash, and compare with the decoded cache.

    Args:
        name: Name of a data set.
        data_dir: As for `load_images`.
        progress: Told of decoding.
        cache_dir: As for `load_images`.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If the data set is not found, or its source is damaged or incomplete.
    """
    entry, path = data_set(name), locate(name, data_dir)
    if path is None and isinstance(entry, FileSet):
        raise DataError(absent(entry, data_dir))
    with planned(entry, path) as plan:
        return _report(name, path, cache_key(entry, path), plan, cache_dir, progress)


def _report(
    name: str, path: Path | None, key: str, plan: Plan, cache_dir: Path | None, progress: Progress | None
) -> Report:
    digest = hashed(plan, f"verifying {name}", progress)
    cache = cache_dir or cache_directory()
    entry = open_entry(cache, key, plan.shape)
    state: Literal["matches", "differs", "absent"] = "absent"
    if entry is not None:
        cached = content_hash(
            entry.classes, (entry.train_images, entry.train_labels), (entry.test_images, entry.test_labels)
        )
        state = "matches" if digest == cached == entry.content_hash else "differs"
    words = {
        "matches": "the decoded cache holds exactly these",
        "differs": f"the decoded cache holds others: delete {entry_directory(cache, key)}, it will be made anew",
        "absent": "they are not in the decoded cache yet",
    }
    whole = "a subset of the original" if plan.subset else "complete"
    train, test = np.bincount(plan.train_labels), np.bincount(plan.test_labels)
    return Report(
        name=name,
        path=path,
        content_hash=digest,
        classes=len(plan.classes),
        train_per_class=(int(train.min()), int(train.max())),
        test_per_class=(int(test.min()), int(test.max())),
        subset=plan.subset,
        cache=state,
        message=f"{name} is {whole}: {describe(plan)}, all readable; {words[state]}.",
    )
