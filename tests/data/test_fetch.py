import hashlib
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lopbench import RemoteFile
from lopbench.core.errors import DataError, UsageError
from lopbench.data import cache_directory, download, get, load_data
from lopbench_plugins.data.tiny_imagenet import TinyImageNet

NAME = "tiny-imagenet-200"
ARCHIVE = f"{NAME}.zip"


class Server:
    """Serves ``body``, and remembers the Range header of each request.

    ``cut`` ends an answer after that many bytes; ``ranges`` tells whether ranges are understood; ``page`` is the
    content type; a ``status`` other than 200 is an error.
    """

    def __init__(self, body):
        self.body, self.page, self.status = body, "application/zip", 200
        self.cut, self.ranges, self.asked = None, True, []

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if start >= len(self.body) > 0:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        rest = self.body[start:]
        handler.send_response(206 if asked and self.ranges else 200)
        if asked and self.ranges:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        handler.send_header("Content-Type", self.page)
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: self.cut])


@contextmanager
def serving(body):
    server = Server(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}/{ARCHIVE}"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def body(tiny, tmp_path):
    return tiny.zip(tmp_path / "made").read_bytes()


@pytest.fixture
def server(body, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(body) as server:
        yield server


@pytest.fixture
def remote(server):
    return RemoteFile(url=server.url)


def test_download_gives_the_file_and_tells_progress(server, remote, body, tmp_path):
    calls = []
    path = download(remote, tmp_path / "new" / "data", lambda *call: calls.append(call))
    assert path == tmp_path / "new" / "data" / ARCHIVE
    assert path.read_bytes() == body
    assert [entry.name for entry in path.parent.iterdir()] == [ARCHIVE]
    assert (f"downloading {server.url}", len(body), len(body)) in calls
    assert calls[-1][0] == f"checking {ARCHIVE}"
    assert calls[-1][1] == calls[-1][2]


def test_get_finds_the_data_set_in_the_registry_and_load_finds_it_in_the_cache(remote, monkeypatch):
    monkeypatch.setattr(TinyImageNet, "files", (remote,))
    assert get(NAME) == cache_directory() / ARCHIVE
    assert load_data(NAME).name == NAME


def test_a_set_of_several_files_gets_all_of_them_into_their_folder(server, remote, body, monkeypatch):
    first = replace(remote, md5=hashlib.md5(body).hexdigest())
    files = (first, replace(first, url=server.url.replace(NAME, "other"), size_bytes=len(body)))
    monkeypatch.setattr(TinyImageNet, "files", files)
    monkeypatch.setattr(TinyImageNet, "folder", "a/b")
    folder = get(NAME)
    assert folder == cache_directory() / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == ["other.zip", ARCHIVE]


def test_a_cut_download_is_kept_and_goes_on_where_it_stopped(server, remote, body, tmp_path):
    server.cut = 30_000
    with pytest.raises(DataError, match=r"broke off after 30,000 of .* run again to go on"):
        download(remote, tmp_path)
    assert not (tmp_path / ARCHIVE).exists()
    with pytest.raises(DataError, match="broke off after 60,000 of"):
        download(remote, tmp_path)
    server.cut = None
    assert download(remote, tmp_path).read_bytes() == body
    assert server.asked == [None, "bytes=30000-", "bytes=60000-"]
    assert not (tmp_path / f"{ARCHIVE}.part").exists()


def test_a_server_without_ranges_starts_over(server, remote, body, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(body[:1000])
    server.ranges = False
    assert download(remote, tmp_path).read_bytes() == body


def test_a_part_that_is_whole_is_only_checked(server, remote, body, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(body)
    assert download(remote, tmp_path).read_bytes() == body
    assert server.asked == [f"bytes={len(body)}-"]


def test_a_part_longer_than_the_file_is_dropped(server, remote, body, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(body + b"more")
    with pytest.raises(DataError, match="run again to start over"):
        download(remote, tmp_path)
    assert download(remote, tmp_path).read_bytes() == body


def test_a_part_of_another_file_is_found_out_and_dropped(server, remote, body, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(bytes(5000))
    with pytest.raises(DataError, match="not a whole zip"):
        download(remote, tmp_path)
    assert list(tmp_path.glob(f"{ARCHIVE}*")) == []
    assert download(remote, tmp_path).read_bytes() == body


@pytest.mark.parametrize("page", ["text/html; charset=utf-8", "application/octet-stream"])
def test_an_html_page_is_refused(server, remote, tmp_path, page):
    server.body, server.page = b"\n<!DOCTYPE html><html>log in</html>", page
    with pytest.raises(DataError, match="HTML page, not the data"):
        download(remote, tmp_path)
    assert not (tmp_path / ARCHIVE).exists()
    assert not any(entry.stat().st_size for entry in tmp_path.glob(f"{ARCHIVE}*"))


def test_a_flipped_byte_is_found_by_the_crc(server, remote, body, tmp_path):
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 1
    server.body = bytes(damaged)
    with pytest.raises(DataError):
        download(remote, tmp_path)
    assert list(tmp_path.glob(f"{ARCHIVE}*")) == []


def test_a_published_size_and_hash_are_held_against_the_file(remote, body, tmp_path):
    digest = hashlib.md5(body).hexdigest()
    right = replace(remote, size_bytes=len(body), md5=digest)
    assert download(right, tmp_path / "right").read_bytes() == body
    with pytest.raises(DataError, match=f"has {len(body):,} bytes, and the original has 5"):
        download(replace(right, size_bytes=5), tmp_path / "size")
    with pytest.raises(DataError, match=f"has the MD5 {digest}"):
        download(replace(right, md5="0" * 32), tmp_path / "hash")


def test_a_whole_file_is_kept_and_a_damaged_one_is_not_overwritten(server, remote, body, tmp_path):
    (tmp_path / ARCHIVE).write_bytes(body)
    assert download(remote, tmp_path).read_bytes() == body
    (tmp_path / ARCHIVE).write_bytes(b"mine")
    with pytest.raises(DataError, match="delete this file to have it downloaded again"):
        download(remote, tmp_path)
    assert (tmp_path / ARCHIVE).read_bytes() == b"mine"
    assert server.asked == []


def test_http_errors_and_silence_are_told(server, remote, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match="HTTP 404"):
        download(remote, tmp_path)
    with pytest.raises(DataError, match=r"cannot be reached .* run again"):
        download(replace(remote, url=f"http://127.0.0.1:1/{ARCHIVE}"), tmp_path)


def test_an_unwritable_directory_is_told(remote, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(DataError, match="cannot be written"):
        download(remote, tmp_path / "file")


def test_get_refuses_what_cannot_be_downloaded(tmp_path):
    with pytest.raises(DataError, match="made on this machine"):
        get("procedural", tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'tiny-imagenet-200'"):
        get("tiny-imagenet", tmp_path)
