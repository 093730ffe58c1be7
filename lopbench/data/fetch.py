"""Download the files of a data set: resumed where they were cut, and checked."""

import urllib.error
import urllib.request
import zipfile
import zlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from lopbench.core.errors import DataError
from lopbench.core.interfaces import RemoteFile
from lopbench.core.places import cache_directory
from lopbench.data.catalog import data_set
from lopbench.data.contents import Progress

_BLOCK = 1 << 18  # bytes read at a time
_TIMEOUT_S = 60  # without a single byte
_MADE = "is made on this machine when it is needed"


def get(name: str, directory: Path | None = None, progress: Progress | None = None) -> Path:
    """Download the data set ``name`` into ``directory`` as `download` does; return its file, or the folder of several.

    Args:
        name: Name of a data set that is downloaded.
        directory: Where the set's folder goes; the cache directory, in which it is found without being named, if None.
        progress: Told of bytes.

    Raises:
        UsageError: If ``name`` is unknown.
        DataError: If there is nothing to download, or as `download`.
    """
    entry = data_set(name)
    if not entry.files:
        reason = f"is read from {entry.layout or 'files'} that lopbench does not get" if entry.real else _MADE
        raise DataError(f"{name} {reason}; there is nothing to download")
    folder = (directory or cache_directory()) / (entry.folder or entry.name)
    paths = [download(file, folder, progress) for file in entry.files]
    return paths[0] if len(paths) == 1 else paths[0].parent


def download(file: RemoteFile, directory: Path, progress: Progress | None = None) -> Path:
    """Download ``file`` into ``directory``, going on where an earlier attempt was cut, and check it.

    The file appears under its name only when it is whole: its size is the server's, size and hash the published ones if
    there are any, and every member of a zip has its CRC. A file that is already there is checked and kept.

    Raises:
        DataError: If the server cannot be reached, sends something else or breaks off (what came is kept, and the next
            call goes on from there); if the file is damaged; if ``directory`` cannot be written.
    """
    target = directory / file.name
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
    file.check(path)
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
