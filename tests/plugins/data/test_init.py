import pytest

from lopbench import RemoteFile
from lopbench.core.manager import plugins
from lopbench.data import data_set

NAME = "tiny-imagenet-200"
REGISTRY = plugins().registry
SETS = {entry.name: data_set(entry.name) for entry in REGISTRY.entries("data") if entry.distribution.name == "lopbench"}


def test_every_real_set_of_images_has_a_stand_in_of_its_shape_that_says_what_it_is_not():
    assert {NAME, "cifar10", "cifar100", "mnist", "emnist-balanced", "procedural"} <= set(SETS)
    assert {entry.name for entry in SETS.values() if entry.files and not hasattr(entry, "shape")} == {
        "tiny-shakespeare"
    }
    for entry in SETS.values():
        if entry.files and hasattr(entry, "shape"):
            stand_in = SETS[entry.stand_in]
            assert entry.real
            assert not stand_in.real
            assert stand_in.files == ()
            assert (stand_in.shape, stand_in.title) == (entry.shape, entry.title)
            assert REGISTRY.get("data", stand_in.name).summary.startswith(f"NOT {entry.title}: ")


def test_the_catalogue_gives_torchvisions_sources_and_claims_no_unpublished_hash():
    datasets = pytest.importorskip("torchvision.datasets")
    files = {entry.name: entry.files for entry in SETS.values()}
    (tiny,) = files[NAME]
    assert tiny == RemoteFile(url="http://cs231n.stanford.edu/tiny-imagenet-200.zip")
    for name, theirs in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        (ours,) = files[name]
        assert (ours.url, ours.md5) == (theirs.url, theirs.tgz_md5)
        parts = SETS[name]
        assert [[part.name, part.md5] for part in parts.train] == theirs.train_list
        assert [[parts.test.name, parts.test.md5]] == theirs.test_list
        assert (parts.meta.name, parts.meta.md5) == (theirs.meta["filename"], theirs.meta["md5"])
        assert parts.unpacked == theirs.base_folder
    assert [(file.name, file.md5) for file in files["mnist"]] == datasets.MNIST.resources
    assert all(file.url.startswith(datasets.MNIST.mirrors[0]) for file in files["mnist"])
    assert SETS["mnist"].folder == "MNIST/raw"
    (letters,) = files["emnist-balanced"]
    assert (letters.url, letters.md5) == (datasets.EMNIST.url, datasets.EMNIST.md5)
    assert SETS["emnist-balanced"].folder == "EMNIST/raw"
