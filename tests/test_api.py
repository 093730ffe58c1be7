import pytest
import torch

import lopbench
from lopbench_plugins.data.procedural import procedural_images

TINY = {
    "scenario": "tinyimagenet40:tasks=2,steps_per_task=5,classes_per_task=2,resolution=8,images_per_class=10",
    "architecture": "mlp:width=8,depth=1",
    "metrics": [],
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


def test_run_returns_its_rows_beside_none_and_nothing_else(tiny, capsys):
    lopbench.run(**tiny)
    lopbench.run(**tiny, methods=["reset"])
    frame = lopbench.run(**tiny, methods=["l2:strength=0.5"])
    assert set(frame["method"]) == {"none", "l2:strength=0.5"}
    assert frame["protocol_id"].nunique() == 1
    assert set(lopbench.leaderboard(tiny["results"])["method"]) == {"none", "reset", "l2:strength=0.5"}
    assert capsys.readouterr() == ("", "")


def test_rows_of_other_protocols_are_left_out(tiny):
    lopbench.run(**tiny)
    frame = lopbench.run(**tiny, optimizers=["sgd:lr=0.1"])
    assert list(frame["optimizer"]) == ["sgd:lr=0.1"]


def test_run_shows_progress_when_it_is_not_quiet(tiny, capsys):
    lopbench.run(**tiny, quiet=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "seed 0: completed" in shown.err


def test_sweeps_and_later_starts_are_runs_of_their_own(tiny):
    frame = lopbench.run(**tiny, methods=["l2:strength=0.5"], sweeps=["lr=0.1,0.01"], start=0.5)
    assert sorted(frame["lr"]) == [0.01, 0.1]
    assert set(frame["method"]) == {"l2:strength=0.5 from 0.5"}
