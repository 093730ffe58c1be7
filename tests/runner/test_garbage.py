"""Networks that are done with take no memory."""

import gc
import weakref

from lopbench.learner.learner import StackLearner
from lopbench.runner import run, study


def test_networks_of_the_runs_before_are_gone(make_study, monkeypatch):
    made, alive = weakref.WeakSet(), []
    begin, execute = StackLearner.begin_task, run.Run.execute

    def begin_task(self, index, *args, **kwargs):
        made.add(self)
        alive.append(len(made))
        return begin(self, index, *args, **kwargs)

    monkeypatch.setattr(StackLearner, "begin_task", begin_task)
    monkeypatch.setattr(run.Run, "execute", lambda self: alive.append(len(made)) or execute(self))
    monkeypatch.setattr("lopbench.runner.worth.MOST_OPERATIONS", 0)  # one after the other
    gc.disable()
    try:
        assert study.execute(make_study(seeds=[0, 1])) == []
    finally:
        gc.enable()
    assert len(alive) > 10
    assert max(alive) == 1
    assert gc.get_freeze_count() == 0
