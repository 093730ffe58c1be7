"""Networks that are done with take no memory."""

import gc
import weakref

import pytest

from lopbench.learner.learner import StackLearner
from lopbench.runner import garbage, run, study


@pytest.mark.parametrize(
    ("enough", "most"),
    [
        pytest.param(1, 1, id="as soon as there is another network"),
        pytest.param(garbage.ENOUGH, 6, id="small ones when their run is over"),  # a reference is six networks
    ],
)
def test_networks_that_are_done_with_are_gone(make_study, monkeypatch, enough, most):
    made, in_training, at_starts = weakref.WeakSet(), [], []
    begin, execute = StackLearner.begin_task, run.Run.execute

    def begin_task(self, index, *args, **kwargs):
        made.add(self)
        in_training.append(len(made))
        return begin(self, index, *args, **kwargs)

    monkeypatch.setattr(StackLearner, "begin_task", begin_task)
    monkeypatch.setattr(run.Run, "execute", lambda self: at_starts.append(len(made)) or execute(self))
    monkeypatch.setattr("lopbench.runner.training.ENOUGH", enough)
    monkeypatch.setattr("lopbench.runner.worth.MOST_OPERATIONS", 0)  # one after the other
    gc.disable()
    try:
        assert study.execute(make_study(seeds=[0, 1])) == []
    finally:
        gc.enable()
    assert len(in_training) > 10
    assert max(in_training) == most
    assert len(at_starts) > 2
    assert set(at_starts) == {0}
    assert gc.get_freeze_count() == 0
