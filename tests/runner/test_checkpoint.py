"""The checkpoint file: whole or not there, and never a pickle."""

import json
import os
import subprocess

import pytest
import torch

from lopbench.core.errors import ResultsError
from lopbench.runner import checkpoint
from lopbench.runner.checkpoint import load_checkpoint, save_checkpoint

TENSORS = {
    "weights": torch.linspace(0, 1, 7),
    "rows": torch.arange(6, dtype=torch.int32).view(2, 3),
    "flag": torch.tensor(True),
    "none": torch.empty(0, dtype=torch.float64),
    "odd/key with blanks": torch.tensor([float("nan"), float("inf"), -0.0], dtype=torch.float64),
}
HEADER = {"progress": {"place": 3, "started_utc": "2025-01-01T00:00:00+00:00"}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


def bits(tensors):
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in tensors.items()}


def test_saved_tensors_and_header_come_back_bit_for_bit(path):
    save_checkpoint(path, TENSORS, HEADER)
    tensors, header = load_checkpoint(path)
    assert bits(tensors) == bits(TENSORS)
    assert header == HEADER


def test_views_of_one_stack_are_saved_each_for_itself(path):
    stack = torch.arange(12.0).view(3, 4)
    save_checkpoint(path, {"a": stack[0], "b": stack[:, 1], "whole": stack}, {})
    tensors, _ = load_checkpoint(path)
    assert bits(tensors) == bits({"a": stack[0].clone(), "b": stack[:, 1].contiguous(), "whole": stack})


def test_no_file_is_no_checkpoint(path):
    assert load_checkpoint(path) is None


def test_loaded_tensors_are_aligned_as_new_ones_and_independent_of_the_file(path):
    save_checkpoint(path, TENSORS, HEADER)
    tensors, _ = load_checkpoint(path)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors.values())
    before = path.read_bytes()
    tensors["weights"].zero_()
    assert path.read_bytes() == before


def test_file_is_safetensors_with_a_json_header_and_no_pickle(path):
    save_checkpoint(path, TENSORS, HEADER)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    assert json.loads(table["__metadata__"]["header"]) == HEADER
    # Nothing is in the file but this table and the numbers it points to.
    ends = [entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"]
    assert len(ends) == len(TENSORS)
    assert 8 + length + max(ends) == len(content)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_interrupted_save_leaves_the_old_checkpoint(path, monkeypatch, moment):
    save_checkpoint(path, TENSORS, HEADER)
    before = path.read_bytes()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    target = (checkpoint.os, "fsync") if moment == "fsync" else (checkpoint.Path, "replace")
    monkeypatch.setattr(*target, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"weights": torch.zeros(3)}, {})
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "no header", "header is no JSON", "folder"])
def test_damaged_checkpoint_is_named_with_what_to_do(path, damage):
    save_checkpoint(path, TENSORS, HEADER)
    content = path.read_bytes()
    if damage == "no header":
        path.write_bytes(checkpoint.save(TENSORS))
    elif damage == "header is no JSON":
        path.write_bytes(checkpoint.save(TENSORS, metadata={"header": "{"}))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-1], "text": b"<html>not found</html>"}[damage])
    with pytest.raises(ResultsError) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(f"The checkpoint {path} is damaged (")
    assert "delete it to start that run from its beginning" in str(error.value)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(small_disk):
    path = small_disk / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, HEADER)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"cannot be written: No space left on device\. The run stops"):
        save_checkpoint(path, {"large": torch.zeros(100_000)}, {})
    assert [entry.name for entry in small_disk.iterdir()] == [path.name]
    assert path.read_bytes() == before
    assert os.statvfs(small_disk).f_bavail > 0


def test_folder_that_is_gone_is_one_sentence(tmp_path):
    with pytest.raises(ResultsError, match=r"cannot be written: No such file or directory\."):
        save_checkpoint(tmp_path / "gone" / "checkpoint.safetensors", TENSORS, HEADER)
