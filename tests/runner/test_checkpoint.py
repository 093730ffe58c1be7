"""The checkpoint file: whole or not there, and never a pickle."""

import json
import os
import signal
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lopbench.core.errors import ResultsError
from lopbench.runner import checkpoint
from lopbench.runner.checkpoint import DamagedError, load_checkpoint, save_checkpoint, steps_of
from lopbench.runner.unfinished import checkpoints

TENSORS = {
    "weights": torch.linspace(0, 1, 7),
    "rows": torch.arange(6, dtype=torch.int32).view(2, 3),
    "flag": torch.tensor(True),
    "half": torch.linspace(-1, 1, 3).bfloat16(),
    "none": torch.empty(0, dtype=torch.float64),
    "numpy's none": torch.from_numpy(np.array([], dtype=np.int32)),
    "one, expanded": torch.tensor(3.0, dtype=torch.float64).expand(1),
    "odd/key with blanks": torch.tensor([float("nan"), float("inf"), -0.0], dtype=torch.float64),
}
HEADER = {"place": 3, "clock": {"started_utc": "2025-01-01T00:00:00+00:00"}}


def save(folder, tensors=TENSORS, header=HEADER, *, session="a", steps=7):
    return save_checkpoint(folder, session, steps, tensors, header)


def bits(tensors):
    def as_bytes(tensor):
        return torch.cat([tensor.reshape(-1), tensor.new_zeros(1)])[:-1].view(torch.uint8).tolist()  # of stride 1

    return {name: (tensor.dtype, tensor.shape, tensor.numel() and as_bytes(tensor)) for name, tensor in tensors.items()}


def test_saved_tensors_and_header_come_back_bit_for_bit(tmp_path):
    path = save(tmp_path)
    found = load_checkpoint(path)
    assert bits(found.tensors) == bits(TENSORS)
    assert (found.path, found.steps) == (path, steps_of(path)) == (path, 7)
    assert found.header == {**HEADER, "session": "a", "steps": 7}


def test_views_of_one_stack_are_saved_each_for_itself(tmp_path):
    stack = torch.arange(12.0).view(3, 4)
    path = save(tmp_path, {"a": stack[0], "b": stack[:, 1], "whole": stack}, {})
    expected = {"a": stack[0].clone(), "b": stack[:, 1].contiguous(), "whole": stack}
    assert bits(load_checkpoint(path).tensors) == bits(expected)


def test_sessions_write_files_of_their_own(tmp_path):
    one, other = save(tmp_path), save(tmp_path, session="b", steps=9)
    assert checkpoints(tmp_path) == [one, other]
    assert save(tmp_path, steps=8) == one
    assert [steps_of(path) for path in checkpoints(tmp_path)] == [8, 9]


def test_loaded_tensors_are_aligned_as_new_ones_and_independent_of_the_file(tmp_path):
    path = save(tmp_path)
    tensors = load_checkpoint(path).tensors
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors.values())
    before = path.read_bytes()
    tensors["weights"].zero_()
    assert path.read_bytes() == before


def test_file_is_safetensors_with_a_json_header_and_no_pickle(tmp_path):
    content = save(tmp_path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    assert json.loads(table["__metadata__"]["header"]).items() >= HEADER.items()
    # Nothing is in the file but this table and the numbers it points to.
    ends = [entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"]
    assert len(ends) == len(TENSORS)
    assert 8 + length + max(ends) == len(content)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_interrupted_save_leaves_the_old_checkpoint(tmp_path, monkeypatch, moment):
    path = save(tmp_path)
    before = path.read_bytes()

    def interrupt(*arguments):
        signal.raise_signal(signal.SIGINT)

    target = (checkpoint.os, "fsync") if moment == "fsync" else (checkpoint.Path, "replace")
    monkeypatch.setattr(*target, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, {"weights": torch.zeros(3)}, {})
    assert path.read_bytes() == before


# -- damage


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_is_loaded(tmp_path, data):
    path = save(tmp_path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1), label="byte")
    content[place] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    path.write_bytes(content)
    try:
        found = load_checkpoint(path)
    except DamagedError:
        return
    # A blank behind the table is all that may differ.
    assert bits(found.tensors) == bits(TENSORS)
    assert found.header == {**HEADER, "session": "a", "steps": 7}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_truncated_file_is_loaded(tmp_path, data):
    path = save(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DamagedError):
        load_checkpoint(path)


@pytest.mark.parametrize("damage", ["text", "no header", "no hash", "header is no JSON", "header is a list", "folder"])
def test_what_is_no_checkpoint_is_damaged(tmp_path, damage):
    path = save(tmp_path)
    metadata = {
        "no header": None,
        "no hash": {"header": "{}"},
        "header is no JSON": {"header": "{", "hash": checkpoint._hash(TENSORS, "{")},
        "header is a list": {"header": "[]", "hash": checkpoint._hash(TENSORS, "[]")},
    }
    if damage in metadata:
        path.write_bytes(checkpoint.save(TENSORS, metadata=metadata[damage]))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DamagedError):
        load_checkpoint(path)
    assert steps_of(path) == 0


def test_checkpoint_that_is_gone_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "gone")


# -- places that cannot be written to


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
    path = save(small_disk)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"cannot be written: No space left on device\. The run stops"):
        save(small_disk, {"large": torch.zeros(100_000)}, {})
    assert [entry.name for entry in small_disk.iterdir()] == [path.name]
    assert path.read_bytes() == before
    assert os.statvfs(small_disk).f_bavail > 0


def test_folder_that_is_gone_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "gone")
