import io
import tarfile
import zipfile

import pytest

from lopbench import open_zip, read_tar
from lopbench.core.errors import DataError

AGAIN = "get it again"


def make_zip(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(path, **options):
    return dict(read_tar(path, **{"wanted": lambda name: True, "largest": 100, "again": AGAIN, **options}))


def test_members_of_a_zip_are_read_where_they_lie(tmp_path):
    path = make_zip(tmp_path / "a.zip", **{"x/": b"", "x/a.txt": b"abc", "b": b""})
    with open_zip(path, again=AGAIN) as archive:
        assert sorted(archive.names()) == ["b", "x/a.txt"]
        assert archive.read("x/a.txt", 3) == b"abc"
        with pytest.raises(DataError, match=r"has no c; get it again"):
            archive.read("c", 3)
        with pytest.raises(DataError, match="has 3 bytes"):
            archive.read("x/a.txt", 2)
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_a_tar_come_one_by_one(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", ("x/a", b"abc"), ("./b", b"defg"), ("c", b"h"))
    assert read(path, wanted=lambda name: name != "c", largest=3) == {"x/a": b"abc", "./b": b"def"}


@pytest.mark.parametrize("name", ["/etc/evil", "a/../../evil", "a\\evil", ".."])
def test_a_member_with_an_unsafe_path_is_refused(tmp_path, name):
    with (
        pytest.raises(DataError, match="unsafe path"),
        open_zip(make_zip(tmp_path / "a.zip", **{name: b"x"}), again=""),
    ):
        pass
    with pytest.raises(DataError, match="unsafe path"):
        read(make_tar(tmp_path / "a.tar.gz", (name, b"x")), wanted=lambda name: False)


def test_no_two_dots_are_unsafe_inside_a_name(tmp_path):
    assert read(make_tar(tmp_path / "a.tar.gz", ("a..b", b"x"))) == {"a..b": b"x"}


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04 and no more"])
def test_what_is_no_archive_is_one_sentence(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(DataError, match=AGAIN), open_zip(path, again=AGAIN):
        pass
    with pytest.raises(DataError, match=AGAIN):
        read(path)
    with pytest.raises(DataError, match="cannot be read"), open_zip(tmp_path / "nowhere", again=AGAIN):
        pass
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "nowhere")
