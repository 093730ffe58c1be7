"""What replicas are fed: streams in periods of several sizes, and streams that watch the learner."""

import signal
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Batches, ChunkedBatches, Recipe, Scenario, Stream, Task
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.results.record import find_records
from lopbench.runner import groups, programs, report, session, study
from lopbench.runner.feed import Feed

SIZES = (3, 3, 2)


class Points(ChunkedBatches):
    """Random points in batches of several sizes, whose target is their mean and the number of the task."""

    sizes = SIZES

    def __init__(self, seed, index):
        self.seed, self.index, self.step = seed, index, 0

    def __next__(self):
        generator = rng.derive(self.seed, "points", self.index, self.step)
        x = torch.randn(SIZES[self.step % len(SIZES)], 4, generator=generator)
        self.step += 1
        return x, x.mean(dim=1, keepdim=True) + self.index

    def take(self, periods):
        assert self.step % len(SIZES) == 0
        batches = [next(self) for _ in range(periods * len(SIZES))]
        places = [batches[place :: len(SIZES)] for place in range(len(SIZES))]
        return [(torch.stack([x for x, _ in each]), torch.stack([y for _, y in each])) for each in places]

    def state_dict(self):
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state):
        self.step = int(state["step"])


class Arms(Batches):
    """A bandit with two arms, of which the learner pulls the one that it thinks better, and sees no other's reward."""

    def __init__(self, seed, index):
        self.seed, self.index, self.step, self.pulls = seed, index, 0, torch.zeros(2, dtype=torch.int64)

    def __next__(self):
        self.step += 1
        return torch.ones(1, 4), torch.zeros(1, 2)

    def observe(self, outputs):
        arm = int(outputs[0].argmax())
        self.pulls[arm] += 1
        reward = float(arm == self.index % 2)
        targets = outputs.clone()
        targets[0, arm] = reward
        return targets

    def state_dict(self):
        return {"step": torch.tensor(self.step), "pulls": self.pulls.clone()}

    def load_state_dict(self, state):
        self.step, self.pulls = int(state["step"]), state["pulls"].clone()


@dataclass(frozen=True, kw_only=True)
class Periodic(Scenario):
    """Points in periods."""

    name: ClassVar[str] = "periodic"
    score: ClassVar = "error"
    default_architecture: ClassVar[str] = "mlp:width=8,depth=1"
    default_profile: ClassVar[str] = "full"
    profiles: ClassVar = {"full": {}}
    batches: ClassVar = Points
    outputs: ClassVar[int] = 1
    data: ClassVar = None

    profile: str = "full"
    tasks: int = 6
    steps_per_task: int = 18

    def recipe(self, architecture):
        return Recipe(optimizer="sgd:lr=0.05", reference="sgd:lr=0.05")

    def stream(self, seed, *, data, device):
        return Toy(type(self), seed)


@dataclass(frozen=True, kw_only=True)
class Bandit(Periodic):
    """The better arm is another in each task."""

    name: ClassVar[str] = "bandit"
    batches: ClassVar = Arms
    outputs: ClassVar[int] = 2


class Toy(Stream):
    input_shape = (4,)

    def __init__(self, cls, seed):
        self.cls, self.seed, self.outputs = cls, seed, cls.outputs

    def task(self, index):
        return ToyTask(self, index)


class ToyTask(Task):
    chance = 1.0

    def __init__(self, stream, index):
        self.stream, self.index = stream, index

    def batches(self):
        return self.stream.cls.batches(self.stream.seed, self.index)

    def loss(self, outputs, targets):
        return F.mse_loss(outputs, targets)

    def score(self, outputs, targets):
        return (outputs - targets).square().sum(dim=1)

    def held_out(self):
        yield self.probe()

    def probe(self):
        return torch.ones(8, 4), torch.ones(8, self.stream.outputs)


@pytest.fixture
def make_toy(make_study, monkeypatch):
    for cls in (Periodic, Bandit):
        entry = Registration("scenarios", cls.name, cls, "", Distribution("tests", "1"))
        monkeypatch.setitem(plugins().registry._entries["scenarios"], cls.name, entry)
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    defaults = {"architecture": None, "methods": ["none"], "metrics": []}
    return lambda *arguments, **changes: make_study(*arguments, **{**defaults, **changes})


def frames(planned):
    return {record.run_id: record.measurements for record in find_records(planned.results)}


class Stopping(report.Quiet):
    """Interrupts after a number of looks."""

    def __init__(self, looks):
        self.left = looks

    def advanced(self, steps, task, tasks, score):
        self.left -= 1
        if self.left < 0:
            signal.raise_signal(signal.SIGINT)


def in_parts(make, looks):
    """Do a study stopped every few looks; returns how often it was."""
    for stops in range(10**3):
        try:
            assert study.execute(make(), Stopping(looks), checkpoint_s=0.0) == []
        except KeyboardInterrupt:
            continue
        return stops
    raise AssertionError("it never ends")


# -- periods


def test_feed_hands_out_each_place_of_a_period_for_all_replicas():
    feed = Feed({seed: Toy(Periodic, seed) for seed in (4, 7)}, [4, 7, 4])
    feed.turn_to(2)
    assert feed.period == 3
    taken = feed.take(2)
    assert [tuple(x.shape) for x, _ in taken] == [(2, 3, size, 4) for size in SIZES]
    again = Feed({seed: Toy(Periodic, seed) for seed in (4, 7)}, [4, 7, 4])
    again.turn_to(2)
    for period in range(2):
        for place in range(3):
            for replica, (x, y) in enumerate(again.step()):
                assert torch.equal(taken[place][0][period, replica], x)
                assert torch.equal(taken[place][1][period, replica], y)
    first = feed.first()
    assert [torch.equal(x, taken[place][0][0]) for place, (x, _) in enumerate(first)] == [True] * 3
    assert not torch.equal(feed.take(1)[0][0], taken[0][0][:1])  # and the streams have not moved back


@pytest.mark.parametrize("fields", ["steps_per_task=18", "steps_per_task=20", "steps_per_task=18,probe_every=7"])
def test_steps_in_periods_are_those_that_are_taken_one_by_one(make_toy, monkeypatch, tmp_path, fields):
    request = {"scenario": f"periodic:{fields}", "seeds": [0, 1], "metrics": ["weight_norm"]}
    together = make_toy(tmp_path / "together", **request)
    assert [len(group) for group in groups.groups(together.pending, data=None, device=torch.device("cpu"))] == [2, 2]
    assert study.execute(together) == []
    assert {record.environment["steps"] for record in find_records(together.results)} == {"program"}
    alone = make_toy(tmp_path / "alone", **request)
    monkeypatch.setattr(Feed, "period", None)
    assert study.execute(alone) == []
    assert {record.environment["steps"] for record in find_records(alone.results)} == {"one by one"}
    one, other = frames(together), frames(alone)
    assert one.keys() == other.keys()
    for run_id, frame in one.items():
        assert frame.drop(columns="value").equals(other[run_id].drop(columns="value"))
        np.testing.assert_allclose(frame["value"], other[run_id]["value"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [18, 20])
def test_steps_in_periods_resume_bit_for_bit(make_toy, monkeypatch, tmp_path, steps):
    monkeypatch.setattr(programs, "BLOCK_STEPS", 6)
    # A metric of training steps is saved in the middle of a task too.
    request = {"scenario": f"periodic:steps_per_task={steps}", "seeds": [0, 1], "metrics": ["sample_plasticity"]}
    whole = make_toy(tmp_path / "whole", **request)
    assert study.execute(whole) == []
    assert in_parts(lambda: make_toy(tmp_path / "parts", **request), looks=6) > 3
    one, other = frames(whole), frames(make_toy(tmp_path / "parts", **request))
    assert one.keys() == other.keys()
    assert all(frame.equals(other[run_id]) for run_id, frame in one.items())


# -- streams that watch the learner


def test_each_replica_has_a_stream_of_its_own_that_watches_its_network():
    feed = Feed({4: Toy(Bandit, 4)}, [4, 4])
    assert feed.period is None
    feed.step()
    outputs = torch.tensor([[[0.2, 0.9]], [[0.8, 0.1]]])  # in task 0 arm 0 is the better one
    targets = feed.observe(outputs)
    torch.testing.assert_close(targets, torch.tensor([[[0.2, 0.0]], [[1.0, 0.1]]]))
    assert [state.tolist() for name, state in feed.state_dict().items() if "pulls" in name] == [[0, 1], [1, 0]]


def test_what_a_stream_makes_of_the_outputs_is_trained_on(make_toy):
    planned = make_toy(scenario="bandit:steps_per_task=200")
    assert study.execute(planned) == []
    (record,) = [r for r in find_records(planned.results) if r.spec.kind == "continual"]
    assert record.environment["steps"] == "one by one"
    errors = record.per_task("online_error")
    # The head starts at zero, and so pulls arm 0: that is the better one in every other task, and learned there. In
    # the others its reward is what is expected of it, as those of the batches are throughout.
    assert all(0.01 < errors[task] < 0.5 for task in (0, 2, 4))
    assert all(errors[task] == 0 for task in (1, 3, 5))


def test_stream_that_watches_the_learner_resumes_bit_for_bit(make_toy, tmp_path):
    request = {"scenario": "bandit:steps_per_task=7"}
    whole = make_toy(tmp_path / "whole", **request)
    assert study.execute(whole) == []
    assert in_parts(lambda: make_toy(tmp_path / "parts", **request), looks=5) > 5
    one, other = frames(whole), frames(make_toy(tmp_path / "parts", **request))
    assert all(frame.equals(other[run_id]) for run_id, frame in one.items())
