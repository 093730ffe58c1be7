"""Event files are read with TensorBoard's own reader, and hold what the records hold."""

import importlib.util
import json
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lopbench
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import SinkRun
from lopbench.results.record import find_records
from lopbench_plugins.data.procedural import procedural_images
from lopbench_plugins.sinks.tensorboard import TensorBoard

TINY = {
    "scenario": "tinyimagenet40:tasks=2,steps_per_task=5,classes_per_task=2,resolution=8,images_per_class=10",
    "architecture": "mlp:width=8,depth=1",
    "metrics": ["dead_fraction", "weight_norm"],
    "device": "cpu",
}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    images = procedural_images(classes=4, train=10, test=4)
    monkeypatch.setattr("lopbench.runner.study.load_data", lambda name, **_: images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {**TINY, "results": tmp_path / "results"}
    torch.set_num_threads(threads)


def read(folder):
    """Return what TensorBoard shows of a run: by name steps and values, in order."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}, events


def assert_shown(folder, record):
    expected = {}
    for row in record.table.to_pylist():
        name = row["metric"] + (f"/{row['layer']}" if row["layer"] else "")
        expected.setdefault(name, []).append((row["step"], row["value"]))
    found, _ = read(folder)
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=1e-6)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_event_files_hold_what_the_records_hold(tiny, tmp_path, elsewhere):
    folder = tmp_path / "logs" if elsewhere else tiny["results"] / "tensorboard"
    lopbench.run(**tiny, methods=["none", "l2"], sinks=[f"tensorboard:{folder}" if elsewhere else TensorBoard()])
    records = find_records(tiny["results"])
    assert {path.name for path in folder.iterdir()} == {record.path.name for record in records}
    assert len(records) == 4
    for record in records:
        assert_shown(folder / record.path.name, record)
        _, events = read(folder / record.path.name)
        (told,) = events.Tensors("run/text_summary")
        label, _, spec = told.tensor_proto.string_val[0].decode().partition("\n\n")
        assert f"seed {record.spec.seed}" in label
        assert json.loads(spec) == json.loads((record.path / "spec.json").read_text())
    assert set(lopbench.status(tiny["results"])["state"]) == {"completed"}


def told(folder, step, *points, closes=True):
    run = SinkRun(name="run", run_id="0", label="none", spec={}, results=folder, step=step)
    writer = TensorBoard().open(run)
    for at, value in points:
        writer.write(at, 0, {"online_accuracy": value})
    if closes:
        writer.close("completed")


def test_what_is_void_after_a_kill_is_not_shown(tmp_path):
    told(tmp_path, 0, (0, 0.0), (5, 0.25), (10, 0.5), (15, 0.75), closes=False)
    told(tmp_path, 10, (10, 0.125), (20, 1.0))
    found, _ = read(tmp_path / "tensorboard" / "run")
    assert found == {"online_accuracy": [(0, 0.0), (5, 0.25), (10, 0.125), (20, 1.0)]}


def test_a_run_that_is_done_anew_replaces_what_there_was(tmp_path):
    told(tmp_path, 0, (0, 0.0), (5, 0.25))
    told(tmp_path, 0, (5, 0.5))
    found, _ = read(tmp_path / "tensorboard" / "run")
    assert found == {"online_accuracy": [(5, 0.5)]}


def test_values_that_are_no_numbers_are_written(tmp_path):
    told(tmp_path, 0, (0, math.nan))
    found, _ = read(tmp_path / "tensorboard" / "run")
    ((step, value),) = found["online_accuracy"]
    assert step == 0
    assert math.isnan(value)


def test_without_the_extra_a_sentence_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setattr("lopbench_plugins.sinks.tensorboard.find_spec", lambda name: None)
    assert importlib.util.find_spec("tensorboard") is not None
    with pytest.raises(UnsupportedError, match=r"is not installed; pip install 'lopbench\[tensorboard\]'"):
        lopbench.run(**tiny, sinks=["tensorboard"])
    assert not tiny["results"].exists()  # before anything is run
