import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lopbench.core.errors import DataError, UsageError
from lopbench.data import cache_directory, load_data, locate
from lopbench_plugins.data import procedural, tiny_imagenet

NAME = "tiny-imagenet-200"


@pytest.fixture
def small_procedural(monkeypatch):
    """Make the procedural set small: its full size is tested elsewhere."""
    whole = procedural.plan
    monkeypatch.setattr(procedural, "plan", lambda *_: whole(3, 4, 2))


def refuse(*_):
    raise AssertionError("decoded again")


def test_a_second_load_decodes_nothing(tiny, tmp_path, monkeypatch):
    for path in (tiny.zip(tmp_path / "a"), tiny.folder(tmp_path / "b")):
        first = load_data(NAME, data_dir=path)
        with monkeypatch.context() as patch:
            patch.setattr(tiny_imagenet, "_decode", refuse)
            second = load_data(NAME, data_dir=path)
        assert second.content_hash == first.content_hash
        assert second.classes == first.classes
        np.testing.assert_array_equal(second.train_images, first.train_images)


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_a_changed_source_is_decoded_again(tiny, tmp_path, make_jpeg, form):
    first = load_data(NAME, data_dir=getattr(tiny, form)(tmp_path / "data"))
    tiny.files["train/n01/images/n01_0.JPEG"] = make_jpeg(4242)
    second = load_data(NAME, data_dir=getattr(tiny, form)(tmp_path / "data"))
    assert (first.train_images[0] != second.train_images[0]).any()
    assert first.content_hash != second.content_hash


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def garble(path):
    path.write_bytes(b"{")


def misshape(path):
    np.save(path, np.zeros((3, 5), np.uint8))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("train_images.npy", cut),
        ("test_images.npy", cut),
        ("train_labels.npy", cut),
        ("train_images.npy", misshape),
        ("test_labels.npy", misshape),
        ("test_labels.npy", garble),
        ("meta.json", garble),
        ("meta.json", cut),
        ("meta.json", Path.unlink),
        ("test_images.npy", Path.unlink),
    ],
)
def test_a_damaged_cache_is_made_anew(tiny, tmp_path, file, damage):
    path = tiny.zip(tmp_path / "data")
    first = load_data(NAME, data_dir=path)
    (entry,) = (path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir())
    damage(entry / file)
    second = load_data(NAME, data_dir=path)
    assert second.content_hash == first.content_hash
    assert second.train_images.shape == (36, 3, 64, 64)
    assert second.test_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_changed_byte_or_hash_in_the_cache_is_found_and_it_is_made_anew(tiny, tmp_path):
    path = tiny.zip(tmp_path / "data")
    first = load_data(NAME, data_dir=path)
    (entry,) = (path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir())
    pixels, hashed = first.train_images.tobytes(), first.content_hash
    for file, old, new in (("train_images.npy", None, None), ("meta.json", hashed, "0" * 64)):
        content = (entry / file).read_bytes()
        if old is None:
            changed = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        else:
            changed = content.replace(old.encode(), new.encode())
        (entry / file).unlink()  # what is mapped into memory stays
        (entry / file).write_bytes(changed)
        again = load_data(NAME, data_dir=path)
        assert again.content_hash == hashed
        assert again.train_images.tobytes() == pixels


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_for_a_moment_is_left_as_it_is(tiny, tmp_path, monkeypatch, code):
    path = tiny.zip(tmp_path / "data")
    load_data(NAME, data_dir=path)
    (entry,) = (path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir())
    (entry / "meta.json").touch()
    before = {file: file.stat().st_ino for file in entry.iterdir()}

    def short(*arguments, **options):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", short)
        with pytest.raises(DataError, match=r"cannot be read now .* nothing in it was changed"):
            load_data(NAME, data_dir=path)
    assert {file: file.stat().st_ino for file in entry.iterdir()} == before


def test_what_a_killed_process_left_is_replaced(tiny, tmp_path):
    path = tiny.zip(tmp_path / "data")
    first = load_data(NAME, data_dir=path)
    images = tmp_path / "cache" / "images"
    (entry,) = (path for path in images.iterdir() if path.is_dir())
    entry.rename(images / f"{entry.name}.partial")
    (images / f"{entry.name}.partial" / "test_images.npy").unlink()
    assert load_data(NAME, data_dir=path).content_hash == first.content_hash
    assert [path.name for path in images.iterdir() if path.is_dir()] == [entry.name]


def test_two_processes_may_race(tiny, tmp_path):
    path = tiny.zip(tmp_path / "data")
    code = (
        "import sys; from pathlib import Path; from lopbench.data import load_data; "
        "print(load_data('tiny-imagenet-200', data_dir=Path(sys.argv[1])).content_hash)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    hashes = {process.communicate()[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert hashes == {load_data(NAME, data_dir=path).content_hash}


def test_progress_counts_all_images_about_once_a_percent(tiny, tmp_path):
    calls = []
    load_data(NAME, data_dir=tiny.zip(tmp_path / "data"), progress=lambda *call: calls.append(call))
    assert calls[0] == ("decoding tiny-imagenet-200", 0, 42)
    assert calls[-1] == ("decoding tiny-imagenet-200", 42, 42)
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})


def test_look_up_order_is_data_dir_then_environment_then_cache(tiny, tmp_path, monkeypatch):
    assert locate(NAME) is None
    in_cache = tiny.zip(cache_directory())
    assert locate(NAME) == in_cache
    in_environment = tiny.zip(tmp_path / "environment")
    monkeypatch.setenv("LOPBENCH_DATA", str(in_environment.parent))
    assert locate(NAME) == in_environment
    given = tiny.zip(tmp_path / "given")
    assert locate(NAME, given.parent) == given
    (tmp_path / "nothing").mkdir()
    assert locate(NAME, tmp_path / "nothing") == in_environment


def test_zip_folder_or_their_parent_may_be_named(tiny, tmp_path):
    folder, archive = tiny.folder(tmp_path / "a"), tiny.zip(tmp_path / "b")
    assert locate(NAME, folder) == locate(NAME, folder.parent) == folder
    assert locate(NAME, archive) == locate(NAME, archive.parent) == archive


def test_a_data_directory_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_data("auto", wanted=NAME, data_dir=tmp_path / "nowhere")


def test_absence_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LOPBENCH_DATA", str(tmp_path / "environment"))
    with pytest.raises(DataError) as caught:
        load_data(NAME, data_dir=tmp_path)
    for part in (
        str(tmp_path),
        str(tmp_path / "environment"),
        str(tmp_path / "cache"),
        "lopbench data get",
        "LOPBENCH_DATA",
    ):
        assert part in str(caught.value)


def test_auto_falls_back_with_a_notice_that_cannot_be_missed(small_procedural):
    images = load_data("auto", wanted=NAME)
    assert images.name == "procedural"
    assert not images.real
    assert images.notice.startswith("NOT Tiny ImageNet")
    assert "PROCEDURAL" in images.notice
    assert "lopbench data get tiny-imagenet-200" in images.notice
    assert "\n" not in images.notice


def test_auto_takes_the_real_images_where_they_are(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LOPBENCH_DATA", str(tiny.zip(tmp_path / "data").parent))
    images = load_data("auto", wanted=NAME)
    assert images.name == NAME
    assert images.real


def test_procedural_is_taken_when_asked_for_and_cached(tiny, tmp_path, small_procedural, monkeypatch):
    images = load_data("procedural", data_dir=tiny.zip(tmp_path / "data"))
    assert images.train_images.shape == (12, 3, 64, 64)
    assert images.notice.startswith("NOT Tiny ImageNet")
    monkeypatch.setattr(procedural, "draw", refuse)
    assert load_data("procedural").content_hash == images.content_hash


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean 'procedural'"):
        load_data("proceduarl")
    with pytest.raises(UsageError, match="Did you mean 'auto'"):
        load_data("aut", wanted=NAME)
    with pytest.raises(UsageError, match="There are cifar10, cifar100, "):
        load_data("imagenet-21k", wanted="imagenet-21k")


def test_auto_is_the_data_set_that_the_scenario_streams(cifar, tiny, tmp_path):
    cifar.folder(tmp_path)
    tiny.zip(tmp_path)
    assert load_data("auto", wanted="cifar10", data_dir=tmp_path).name == "cifar10"
    assert load_data("cifar10", wanted="cifar10", data_dir=tmp_path).name == "cifar10"
    assert load_data("auto", wanted=NAME, data_dir=tmp_path).name == NAME


@pytest.mark.parametrize(
    ("wanted", "title", "shape"),
    [
        (NAME, "Tiny ImageNet", (3, 64, 64)),
        ("cifar10", "CIFAR-10", (3, 32, 32)),
        ("cifar100", "CIFAR-100", (3, 32, 32)),
        ("mnist", "MNIST", (1, 28, 28)),
    ],
)
def test_procedural_images_have_the_shape_of_what_the_scenario_streams(wanted, title, shape, small_procedural):
    fallen = load_data("auto", wanted=wanted)
    asked = load_data("procedural", wanted=wanted)
    assert fallen.shape == asked.shape == shape
    assert fallen.content_hash == asked.content_hash
    assert not fallen.real
    assert fallen.notice.startswith(f"NOT {title} ({wanted} is not in ")
    assert f"lopbench data get {wanted}" in fallen.notice
    assert asked.notice.startswith(f"NOT {title} but PROCEDURAL")
    assert load_data("auto", wanted=fallen.name).content_hash == fallen.content_hash
    assert load_data(fallen.name).content_hash == fallen.content_hash


def test_a_data_set_that_the_scenario_does_not_stream_is_refused(cifar, tmp_path):
    cifar.folder(tmp_path)
    for name in ("cifar10", "procedural-cifar10"):
        with pytest.raises(UsageError, match=f"streams mnist, and not {name}: take mnist, procedural or auto"):
            load_data(name, wanted="mnist", data_dir=tmp_path)


def test_an_absent_set_that_is_named_is_an_error_for_a_scenario_too():
    with pytest.raises(DataError, match=r"cifar10 is not in .*cifar-10-batches-py with --data-dir"):
        load_data("cifar10", wanted="cifar10")


def test_an_unwritable_cache_is_told(tiny, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(DataError, match=r"cannot be written to the cache .*LOPBENCH_CACHE"):
        load_data(NAME, data_dir=tiny.zip(tmp_path / "data"), cache_dir=tmp_path / "file")


def test_an_unreadable_cache_is_told(tiny, tmp_path, monkeypatch):
    path = tiny.zip(tmp_path / "data")
    load_data(NAME, data_dir=path)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", deny)
    with pytest.raises(DataError, match=r"may not be read .*LOPBENCH_CACHE"):
        load_data(NAME, data_dir=path)


def test_a_full_disk_is_told_before_and_while_decoding(tiny, tmp_path, monkeypatch):
    path = tiny.zip(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        with pytest.raises(DataError, match="0 MB free and the decoded images need 1 MB"):
            load_data(NAME, data_dir=path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lopbench.data.images._write_header", full)
    with pytest.raises(DataError, match="No space left on device"):
        load_data(NAME, data_dir=path)


@pytest.mark.parametrize(
    "statement",
    [
        "import lopbench.data",
        "import lopbench.cli; lopbench.cli.cli(['data', 'list'], standalone_mode=False)",
    ],
)
def test_looking_at_data_sets_imports_neither_torch_nor_pillow(statement):
    code = f"import sys; {statement}; sys.exit(any(name in sys.modules for name in ('torch', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


REAL = os.environ.get("LOPBENCH_DATA")  # read before the fixture hides it


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="LOPBENCH_DATA, which holds the real Tiny ImageNet, is not set")
def test_the_real_set_is_decoded_once(monkeypatch):
    images = load_data(NAME, data_dir=Path(str(REAL)))
    monkeypatch.setattr("lopbench_plugins.data.tiny_imagenet._decode", None)  # which nobody may call any more
    again = load_data(NAME, data_dir=Path(str(REAL)))
    assert again.content_hash == images.content_hash
    assert len(images.classes) == 200
    assert images.classes == tuple(sorted(images.classes))
    counts = np.bincount(images.train_labels)
    assert counts.min() == counts.max()
    assert images.subset == (counts[0] < 500)
    assert np.bincount(images.test_labels).tolist() == [50] * 200
    if counts[0] == 250:  # the first half of the train set, in numeric order
        assert images.content_hash == "6d64facc160b3f36ae7f50ccf6947b6250dc9e9a7debe89dc97d14d6d6f72217"
    grey = (images.test_images == images.test_images[:, :1]).all(axis=(1, 2, 3))
    assert 0.01 < grey.mean() < 0.03
