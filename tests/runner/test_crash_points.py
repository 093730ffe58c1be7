"""A process that dies at any operation on a file below the results folder leaves what the same command finishes.

A run is done once, and the results folder is copied at each of its operations: that is what a process leaves that dies
there. Each copy that differs from the others is then finished.
"""

import hashlib
from dataclasses import replace

import pytest

from lopbench.results.record import find_records
from lopbench.runner import session, study

#: A run that takes its steps one by one, and a group of two that are replicas of one program.
SINGLE = {
    "scenario": "tinyimagenet40:tasks=2,steps_per_task=2,classes_per_task=2,images_per_class=8,resolution=8",
    "architecture": "mlp:width=4,depth=1",
    "metrics": [],
}
GROUP = {
    "scenario": "bitflip:samples=10,m=8,f=5,T=10,steps_per_task=5",
    "architecture": None,
    "metrics": [],
    "seeds": [0, 1],
}
#: Least number of different states that the operations leave.
STATES = 40


def content(results):
    """Return a digest of each file of a results folder, None for a folder, by path."""
    return {
        path.relative_to(results): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in sorted(results.rglob("*"))
    }


def of_records(found):
    """Return what of the content of a results folder is records."""
    return {path: value for path, value in found.items() if path.match("runs/[!.]*") or path.match("runs/[!.]*/*")}


def outcomes(results):
    return {
        record.run_id: (record.outcome, record.measurements_digest, record.environment["replicas"])
        for record in find_records(results)
    }


def finish(planned):
    """Do the continual runs of a study that are pending."""
    pending = tuple(spec for spec in planned.pending if spec.kind == "continual")
    assert study.execute(replace(planned, pending=pending), checkpoint_s=0.0) == []


@pytest.mark.slow
@pytest.mark.parametrize("plan", [SINGLE, GROUP], ids=["single", "group"])
def test_crash_at_each_operation_is_finished_by_the_same_command(make_study, server, monkeypatch, tmp_path, plan):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    results, kept = tmp_path / "results", tmp_path / "kept"
    results.mkdir()
    assert server.run(results, plan=plan, look_s=0.0, checkpoint_s=0.0, kept=str(kept)) == 0
    left = {repr(content(folder)): folder for folder in sorted(kept.iterdir())}.values()
    assert len(left) >= STATES
    for folder in left:
        before, published = of_records(content(folder)), {record.run_id for record in find_records(folder)}
        began = any(folder.glob(".partial/*/checkpoint-*.safetensors"))
        finish(make_study(folder, **plan))
        assert outcomes(folder) == outcomes(results), folder
        assert before.items() <= content(folder).items(), folder
        # What had been saved is not trained again.
        new = [record.status["sessions"] for record in find_records(folder) if record.run_id not in published]
        assert set(new) <= {2 if began else 1}, folder
        assert {path.name for path in folder.iterdir()} == {"runs"}, folder
        assert not list(folder.glob("runs/.*")), folder
