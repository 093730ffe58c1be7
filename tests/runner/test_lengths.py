"""Runs whose tasks differ in length."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.results.leaderboard import leaderboard
from lopbench.results.tasks import task_edges
from lopbench.runner import report, session, study
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40

LENGTHS = [4, 7, 3, 9, 5, 6]


@dataclass(frozen=True, kw_only=True)
class Uneven(TinyImageNet40):
    """Tasks of several lengths."""

    name: ClassVar[str] = "uneven"

    def steps(self, task):
        return LENGTHS[task]


@pytest.fixture
def planned(make_study, monkeypatch):
    entry = Registration("scenarios", "uneven", Uneven, "", Distribution("tests", "1"))
    monkeypatch.setitem(plugins().registry._entries["scenarios"], "uneven", entry)
    fields = "tasks=6,steps_per_task=5,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16,probe_every=3"
    return lambda **changes: make_study(scenario=f"uneven:{fields}", **{"methods": ["none", "l2"], **changes})


def test_each_task_is_trained_for_its_own_length(planned, record_of):
    made = planned()
    assert made.steps == (34, 30, 30, 34, 30)  # the late tasks are all but the first
    assert study.execute(made) == []
    record = record_of(made, made.specs[0])
    assert record.status["steps"] == sum(LENGTHS)
    assert task_edges(record) == [sum(LENGTHS[:task]) for task in range(7)]
    probes = record.measurements.query("metric == 'weight_norm' and layer == ''").groupby("task")["step"].apply(list)
    for task, length in enumerate(LENGTHS):
        begin = sum(LENGTHS[:task])
        assert probes[task] == [begin + at for at in sorted({*range(0, length, 3), length})]
    assert leaderboard(made.results)["retention"].notna().all()


def test_tasks_of_several_lengths_resume_bit_for_bit(planned, record_of, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    whole = planned(results=tmp_path / "whole", start=0.4)
    assert study.execute(whole) == []

    class Stopping(report.Quiet):
        left = 0

        def advanced(self, steps, task, tasks, score):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    parts = planned(results=tmp_path / "parts", start=0.4)
    stops = 0
    while any(not (parts.results / "runs" / spec.directory_name).exists() for spec in parts.pending):
        stopping = Stopping()
        stopping.left = 5
        try:
            study.execute(planned(results=parts.results, start=0.4), stopping, checkpoint_s=0.0)
        except KeyboardInterrupt:
            stops += 1
    assert stops > 10
    for spec in whole.pending:
        one, other = (record_of(replace(each), spec).measurements for each in (whole, parts))
        assert one.equals(other)
