"""Small data sets in the original layouts, a few classes and images, for the tests of any part."""

import gc
import gzip
import hashlib
import io
import json
import logging
import os
import shutil
import signal
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# Tests run beside each other: with two threads in each process they would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))
from pickled import python2_pickle

from lopbench.core.executor import usable_cores
from lopbench.results.pack import unpack  # torch reads the number of threads when it is imported
from lopbench_plugins.data import mnist
from lopbench_plugins.data.cifar import Cifar10, Part

# How long an example takes says nothing where tests run beside each other.
hypothesis.settings.register_profile("lopbench", deadline=None)
hypothesis.settings.load_profile("lopbench")

# pytest listens to every logger. Where somebody listens to this one, torch writes down each tensor that it traces, with
# the stack, which takes a tenth of the time.
logging.getLogger("torch.__trace").handlers.clear()
logging.getLogger("torch.__trace").addHandler = lambda handler: None

# What a shell starts in the background ignores interrupts, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

PUBLISHED = Path(__file__).parents[1] / "results" / "tinyimagenet40-lite-mlp" / "runs.lopbench"

TOP = "tiny-imagenet-200"


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz", type=int, default=60, metavar="N", help="broken inputs to feed to commands; 10000 a night"
    )
    parser.addoption("--kills", type=int, help="kill studies so often, instead of a few times (tests/runner)")


# Of the objects that are made while tests are collected none goes, and looking for some takes a third of the time.
gc.disable()


def pytest_collection_finish():
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with what takes long, so that at the end no process is left alone with it."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    return usable_cores() + 1  # many tests wait for processes of theirs


def jpeg(seed, mode="RGB", size=(64, 64)):
    from PIL import Image  # lazily: few tests need it

    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class Tiny:
    """The files of a small Tiny ImageNet; change ``files``, then write them as a folder or as a zip."""

    def __init__(self, classes=("n02", "n01", "n03"), train=12, val=2):
        self.files = {"wnids.txt": "\n".join(classes).encode() + b"\n", "words.txt": b"n01\tone\n"}
        for number, wnid in enumerate(classes):
            self.files[f"train/{wnid}/{wnid}_boxes.txt"] = b"".join(b"%d.JPEG\t0\t0\t1\t1\n" % k for k in range(500))
            for k in range(train):
                name = f"train/{wnid}/images/{wnid}_{k}.JPEG"
                self.files[name] = jpeg([number, k], "L" if k == 1 else "RGB")
        # As in the original, the classes of the val files are mixed.
        lines = []
        for k in range(val * len(classes)):
            self.files[f"val/images/val_{k}.JPEG"] = jpeg([99, k])
            lines.append(f"val_{k}.JPEG\t{classes[k % len(classes)]}\t0\t0\t63\t63\n")
        self.files["val/val_annotations.txt"] = "".join(lines).encode()
        self.files["test/images/test_0.JPEG"] = jpeg([100, 0])

    def folder(self, parent: Path) -> Path:
        for name, content in self.files.items():
            path = parent / TOP / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return parent / TOP

    def zip(self, parent: Path) -> Path:
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / f"{TOP}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(f"{TOP}/{name}", content)
        return path


class Cifar:
    """The files of a small CIFAR-10 of two training batches; change ``files``, then write them as a folder or tar."""

    FOLDER = "cifar-10-batches-py"

    def __init__(self):
        draws = np.random.default_rng(0)
        self.images = draws.integers(0, 256, (3, 6, 3, 32, 32), dtype=np.uint8)
        self.labels = [[2, 0, 1, 1, 0, 2], [0, 0, 1, 2, 1, 2], [2, 1, 0, 0, 1, 2]]
        names = ["data_batch_1", "data_batch_2", "test_batch"]
        self.files = {
            name: python2_pickle(images.reshape(6, 3072), labels)
            for name, images, labels in zip(names, self.images, self.labels, strict=True)
        }
        self.files["batches.meta"] = b"\x80\x02}U\x0blabel_names](U\x03apeU\x03batU\x03cates."
        self.files["readme.html"] = b"<html></html>"
        parts = {name: Part(name=name, md5=hashlib.md5(content).hexdigest()) for name, content in self.files.items()}
        self.parts = {
            "train": tuple(parts[name] for name in names[:2]),
            "test": parts[names[2]],
            "meta": parts["batches.meta"],
        }

    def folder(self, parent: Path) -> Path:
        for name, content in self.files.items():
            path = parent / self.FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return parent / self.FOLDER

    def tar(self, parent: Path, name="cifar-10-python.tar.gz") -> Path:
        parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(parent / name, f"w:{name.rpartition('.')[2]}") as archive:
            for file, content in self.files.items():
                member = tarfile.TarInfo(f"{self.FOLDER}/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return parent / name


class Mnist:
    """The four files of a small MNIST; change ``files``, then write them."""

    def __init__(self):
        draws = np.random.default_rng(0)
        self.images = draws.integers(0, 256, (2, 20, 1, 28, 28), dtype=np.uint8)
        self.labels = draws.permuted(np.tile(np.arange(10, dtype=np.uint8), (2, 2)), axis=1)
        self.files = {}
        for split, images, labels in zip(("train", "t10k"), self.images, self.labels, strict=True):
            self.files[f"{split}-images-idx3-ubyte"] = struct.pack(">4I", 2051, 20, 28, 28) + images.tobytes()
            self.files[f"{split}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, 20) + labels.tobytes()

    def folder(self, parent: Path, *, packed=True) -> Path:
        path = parent / "MNIST" / "raw"
        path.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            if packed:
                (path / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (path / name).write_bytes(content)
        return path


@pytest.fixture
def tiny():
    return Tiny()


@pytest.fixture
def cifar(monkeypatch):
    """Return a small CIFAR-10, which is the official one for as long as the test runs."""
    made = Cifar()
    for part, value in made.parts.items():
        monkeypatch.setattr(Cifar10, part, value)
    return made


@pytest.fixture
def digits(monkeypatch):
    """Return a small MNIST, which is the official one for as long as the test runs."""
    made = Mnist()
    monkeypatch.setattr(mnist, "MD5", {name: hashlib.md5(content).hexdigest() for name, content in made.files.items()})
    return made


@pytest.fixture
def make_jpeg():
    return jpeg


@pytest.fixture
def published_part(tmp_path):
    """Return a function that makes a folder of published runs: methods at some learning rates, and all references."""

    def make(name, seeds=range(5), **rates):
        unpack(PUBLISHED, tmp_path / name)
        for run in (tmp_path / name / "runs").iterdir():
            spec = json.loads((run / "spec.json").read_text())
            method = spec["methods"][0]["name"] if spec["methods"] else "none"
            asked = spec["kind"] == "fresh" or spec["optimizer"]["fields"]["lr"] in rates.get(method, ())
            if not (asked and spec["seed"] in seeds):
                shutil.rmtree(run)
        return tmp_path / name

    return make
