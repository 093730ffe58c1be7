"""Small Tiny ImageNets: a few classes and images in the original layout."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOP = "tiny-imagenet-200"


def jpeg(seed, mode="RGB", size=(64, 64)):
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


@pytest.fixture
def tiny():
    return Tiny()


@pytest.fixture
def make_jpeg():
    return jpeg


@pytest.fixture(autouse=True)
def own_directories(tmp_path, monkeypatch):
    """Keep the tests away from the user's data and cache."""
    monkeypatch.delenv("LOPBENCH_DATA", raising=False)
    monkeypatch.setenv("LOPBENCH_CACHE", str(tmp_path / "cache"))
