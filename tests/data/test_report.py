import numpy as np
import pytest

from lopbench.core.errors import DataError
from lopbench.data import load_data, verify
from lopbench_plugins.data import procedural

NAME = "tiny-imagenet-200"


def test_verify_counts_and_compares_with_the_cache(tiny, tmp_path):
    del tiny.files["train/n02/images/n02_11.JPEG"]
    path = tiny.zip(tmp_path / "data")
    before = verify(NAME, path)
    assert before.cache == "absent"
    assert before.ok
    assert before.subset
    assert (before.classes, before.train_per_class, before.test_per_class) == (3, (11, 12), (2, 2))
    assert "subset" in before.message
    images = load_data(NAME, data_dir=path)
    after = verify(NAME, path)
    assert after.cache == "matches"
    assert after.content_hash == before.content_hash == images.content_hash


@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy"])
def test_verify_finds_a_changed_pixel_or_label_in_the_cache(tiny, tmp_path, file):
    path = tiny.zip(tmp_path / "data")
    load_data(NAME, data_dir=path)
    (array,) = (tmp_path / "cache").rglob(file)
    content = np.load(array)
    content.flat[-1] ^= 1
    np.save(array, content)
    report = verify(NAME, path)
    assert report.cache == "differs"
    assert not report.ok
    assert str(array.parent) in report.message


def test_verify_names_the_damaged_file(tiny, tmp_path):
    tiny.files["train/n01/images/n01_4.JPEG"] = b"no image"
    with pytest.raises(DataError, match=r"n01_4\.JPEG"):
        verify(NAME, tiny.zip(tmp_path / "data"))


def test_verify_says_where_it_looked(tmp_path):
    with pytest.raises(DataError, match="lopbench data get"):
        verify(NAME, tmp_path)


def test_verify_draws_the_procedural_images_again(monkeypatch):
    whole = procedural.plan
    monkeypatch.setattr(procedural, "plan", lambda *_: whole(2, 3, 1))
    images = load_data("procedural")
    report = verify("procedural")
    assert report.cache == "matches"
    assert report.path is None
    assert report.content_hash == images.content_hash
