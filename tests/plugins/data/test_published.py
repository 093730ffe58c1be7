"""Records name data sets by content, and caches are found by key: neither may change."""

import hashlib
import os
from pathlib import Path

import pytest

from lopbench.core.spec import RunSpec
from lopbench.data import data_set, load_data, locate
from lopbench.data.catalog import cache_key
from lopbench.results.record import find_records

RESULTS = Path(__file__).parents[3] / "results"
REAL = os.environ.get("LOPBENCH_DATA")  # read before the fixture hides it

#: Name and content hash of the data of all published records.
PUBLISHED = {
    "cifar10": "636b7c093f2d6db33cfcc180fbc440194314497e93fe7d9ba2e23811def553b2",
    "mnist": "18f95a9c29520c1ed484a2390d1d7d7f78c8f5bf772e6f99968f23f47de74769",
    "tiny-shakespeare": "5b353cb9afa7ccd5762a8406d0a1e72a109ce64fa1eed73f80ae793e28552c8d",
    "tiny-imagenet-200": "6d64facc160b3f36ae7f50ccf6947b6250dc9e9a7debe89dc97d14d6d6f72217",
}

#: Those of which published records have a part alone.
PARTS = {"cifar10", "tiny-imagenet-200"}


def specs():
    return (record.spec_json for record in find_records(*sorted(RESULTS.glob("*/runs.lopbench"))))


def test_every_published_record_names_a_set_and_content_of_today():
    found = {(spec["data"]["name"], spec["data"]["content_hash"]) for spec in specs() if spec["data"]}
    assert found == set(PUBLISHED.items())
    assert {data_set(name).name for name in PUBLISHED} == set(PUBLISHED)


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="LOPBENCH_DATA, which holds the real sets, is not set")
@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_loaded_gives_the_protocols_of_the_published_records(name):
    samples = load_data("auto", wanted=name, data_dir=Path(str(REAL)))
    if name in PARTS and not samples.subset:
        pytest.skip(f"the published records are of a subset of {name}")
    data = {"name": samples.name, "content_hash": samples.content_hash}
    assert data == {"name": name, "content_hash": PUBLISHED[name]}
    theirs = next(spec for spec in specs() if (spec["data"] or {}).get("name") == name)
    ours = RunSpec.from_json({**theirs, "data": data})
    assert ours.protocol_id == RunSpec.from_json(theirs).protocol_id


@pytest.mark.parametrize("name", ["procedural", "procedural-cifar10", "procedural-cifar100", "procedural-mnist"])
def test_procedural_images_are_found_in_the_caches_of_former_versions(name):
    assert cache_key(data_set(name), None) == f"{name}-1-1"


def test_real_images_are_found_in_the_caches_of_former_versions(digits, cifar, tmp_path):
    folder = digits.folder(tmp_path)
    files = [
        folder / f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    batches = cifar.folder(tmp_path)
    parts = [batches / name for name in ("batches.meta", "data_batch_1", "data_batch_2", "test_batch")]
    for name, sources in (("mnist", files), ("cifar10", parts)):
        for path in sources:
            os.utime(path, ns=(0, 1_600_000_000_000_000_000))
        # As they were named: a hash of names, sizes and times, in the order in which the files are read.
        source = [(path.name, path.stat().st_size, 1_600_000_000_000_000_000) for path in sources]
        fingerprint = hashlib.sha256(repr(source).encode()).hexdigest()
        assert cache_key(data_set(name), locate(name, tmp_path)) == f"{name}-1-{fingerprint[:24]}"


def test_tiny_imagenet_is_found_in_the_caches_of_former_versions(tiny, tmp_path):
    path = tiny.zip(tmp_path)
    content = path.read_bytes()
    tail = hashlib.sha256(b"zip" + len(content).to_bytes(8, "little") + content).hexdigest()
    assert cache_key(data_set("tiny-imagenet-200"), path) == f"tiny-imagenet-200-1-{tail[:24]}"
