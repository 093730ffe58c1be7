"""Which data sets there are, how to get them, and whether what is here is whole."""

import hashlib
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal

import numpy as np

from lopbench.core.errors import DataError
from lopbench.data import procedural, tiny_imagenet
from lopbench.data.cache import cache_directory, entry_directory, open_entry
from lopbench.data.images import Plan, Progress, content_hash, hashed
from lopbench.data.load import absent, check_name, describe, locate, procedural_key, tiny_imagenet_key

_BLOCK = 1 << 18  # bytes read at a time
_TIMEOUT_S = 60  # without a single byte


@dataclass(frozen=True, kw_only=True)
class DataSetInfo:
    """What is known of a data set without having it.

    Args:
        name: As ``load_images`` takes it.
        summary: What it is, in one line.
        url: Where its file is downloaded from; None if it is made here.
        size_bytes: Size of that file, None if none is published.
        sha256: SHA-256 of that file, hex, None if none is published.
        terms: Who holds the rights, and what is allowed.
        used_by: Names of the scenarios that stream it.
    """

    name: str
    summary: str
    url: str | None
    size_bytes: int | None
    sha256: str | None
    terms: str
    used_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What ``verify`` found.

    Args:
        name: Name of the data set.
        path: The zip or folder that was read; None if the images are made here.
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


def catalog() -> tuple[DataSetInfo, ...]:
    """Return all data sets."""
    return (
        DataSetInfo(
            name=tiny_imagenet.NAME,
            summary="Tiny ImageNet: 200 classes of ImageNet at 64x64, 500 train and 50 held-out images each",
            url=f"http://cs231n.stanford.edu/{tiny_imagenet.ARCHIVE}",
            size_bytes=None,
            sha256=None,
            terms=tiny_imagenet.TERMS,
            used_by=("tinyimagenet40",),
        ),
        DataSetInfo(
            name=procedural.NAME,
            summary="NOT Tiny ImageNet: images drawn by a program in its shape, "
            "{} classes at 64x64, {} train and {} held-out images each".format(*procedural.DEFAULT),
            url=None,
            size_bytes=None,
            sha256=None,
            terms=procedural.TERMS,
            used_by=("tinyimagenet40",),
        ),
    )


def get(name: str, directory: Path | None = None, progress: Progress | None = None) -> Path:
    """Download the data set ``name`` into ``directory`` and return the path of its file, as `download` does.

    Args:
        name: Name of a data set that is downloaded.
        directory: Where the file goes; the cache directory, in which it is found without being named, if None.
        progress: Told of bytes.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: As `download`.
    """
    infos = {info.name: info for info in catalog()}
    check_name(name, tuple(infos))
    return download(infos[name], directory or cache_directory(), progress)


def download(info: DataSetInfo, directory: Path, progress: Progress | None = None) -> Path:
    """Download ``info.url`` into ``directory``, going on where an earlier attempt was cut, and check it.

    The file appears under its name only when it is whole: its size is the server's, its hash the published one if
    there is one, and every member of the zip has its CRC. A file that is already there is checked and kept.

    Raises:
        DataError: If there is nothing to download; if the server cannot be reached, sends something else or breaks
            off (what came is kept, and the next call goes on from there); if the file is damaged; if ``directory``
            cannot be written.
    """
    if info.url is None:
        raise DataError(f"{info.name} is made on this machine when it is needed; there is nothing to download")
    target = directory / info.url.rsplit("/", 1)[1]
    part = target.with_name(f"{target.name}.part")
    if target.exists():
        try:
            _check(target, info, progress)
        except DataError as error:
            raise DataError(f"{error}; delete this file to have it downloaded again") from error
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _fetch(info.url, part, progress)
        try:
            _check(part, info, progress)
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
            raise DataError(f"{url} answers with an HTML page, not a zip: an error or log-in page; download it by hand")
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
                raise DataError(f"{url} sends an HTML page, not a zip: an error or log-in page; download it by hand")
            file.write(block)
            have += len(block)
            if progress is not None and total is not None and (have - shown >= total / 100 or have == total):
                progress(f"downloading {url}", have, total)
                shown = have
    if total is not None and have != total:
        raise DataError(f"{url} broke off after {have:,} of {total:,} bytes; run again to go on")


def _check(path: Path, info: DataSetInfo, progress: Progress | None) -> None:
    """Check the size and hash if they are known, and the CRC of every member of the zip.

    Raises:
        DataError: If anything is wrong.
    """
    size = path.stat().st_size
    if info.size_bytes is not None and size != info.size_bytes:
        raise DataError(f"{path} has {size:,} bytes, and {info.name} has {info.size_bytes:,}")
    if info.sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != info.sha256:
            raise DataError(f"{path} has the SHA-256 {found}, and {info.name} has {info.sha256}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for done, member in enumerate(members):
                if progress is not None and done % (len(members) // 100 + 1) == 0:
                    progress(f"checking {info.name}", done, len(members))
                with archive.open(member) as file:
                    while file.read(_BLOCK):  # the CRC is checked at the end
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path} is not a whole zip ({error})") from error
    if progress is not None:
        progress(f"checking {info.name}", len(members), len(members))


def verify(
    name: str, data_dir: Path | None = None, progress: Progress | None = None, *, cache_dir: Path | None = None
) -> Report:
    """Read every image of the data set ``name`` from its source, count, hash, and compare with the decoded cache.

    Args:
        name: "tiny-imagenet-200" or "procedural".
        data_dir: As for `load_images`.
        progress: Told of decoding.
        cache_dir: As for `load_images`.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If the data set is not found, or its source is damaged or incomplete.
    """
    path = locate(name, data_dir)
    if name == procedural.NAME:
        return _report(name, None, procedural_key(), procedural.plan(), cache_dir, progress)
    if path is None:
        raise DataError(absent(data_dir))
    with tiny_imagenet.opened(path) as source:
        return _report(name, path, tiny_imagenet_key(path), tiny_imagenet.plan(source), cache_dir, progress)


def _report(
    name: str, path: Path | None, key: str, plan: Plan, cache_dir: Path | None, progress: Progress | None
) -> Report:
    digest = hashed(plan, f"verifying {name}", progress)
    cache = cache_dir or cache_directory()
    entry = open_entry(cache, key)
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
