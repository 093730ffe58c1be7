"""What replicas are fed: streams in periods of several sizes, streams that watch the learner, and those it acts in."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from stopping import in_parts
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import ActingBatches, Batches, ChunkedBatches, Recipe, Scenario, Stream, Task
from lopbench.core.manager import plugins
from lopbench.core.registry import OWN, Distribution, Registration
from lopbench.learner.acting import Actor
from lopbench.results.record import find_records
from lopbench.runner import groups, programs, session, study
from lopbench.runner.feed import Feed
from lopbench.runner.schedule import Schedule
from lopbench.runner.timing import throwaway

SIZES = (3, 3, 2)
CPU = torch.device("cpu")


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


class Bets(ActingBatches):
    """Bets on the sign of a number, six at once, of which each is paid twice; what wins is another in each task."""

    every, sizes = 6, (2,)

    def __init__(self, seed, index):
        self.seed, self.index, self.made, self.taken = seed, index, 0, 0
        self.points, self.paid = torch.zeros(6, 4), torch.zeros(6, 2)

    @property
    def left(self):
        return self.every - self.taken if self.made else 0

    @classmethod
    def act(cls, streams, policy):
        points = [torch.randn(6, 4, generator=rng.derive(s.seed, "bets", s.index, s.made)) for s in streams]
        for stream, seen, made in zip(streams, points, policy(torch.stack(points)), strict=True):
            bet = made.argmax(dim=1)
            won = bet == (seen[:, 0] > 0) ^ (stream.index % 2)
            paid = made.float().scatter(1, bet.unsqueeze(1), won.float().unsqueeze(1))
            stream.points, stream.paid, stream.made, stream.taken = seen, paid, stream.made + 1, 0

    def __next__(self):
        return tuple(part[0] for part in self.take(1)[0])

    def take(self, periods):
        rows = (torch.arange(2 * periods) + 2 * self.taken).view(periods, 2) % 6
        if self.made:
            assert periods <= self.left
            self.taken += periods
        return [(self.points[rows], self.paid[rows])]

    def state_dict(self):
        place = {"made": torch.tensor(self.made), "taken": torch.tensor(self.taken)}
        return {**place, "points": self.points.clone(), "paid": self.paid.clone()}

    def load_state_dict(self, state):
        self.made, self.taken = int(state["made"]), int(state["taken"])
        self.points, self.paid = state["points"].clone(), state["paid"].clone()


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


@dataclass(frozen=True, kw_only=True)
class Bookmaker(Periodic):
    """What wins is another in each task."""

    name: ClassVar[str] = "bookmaker"
    batches: ClassVar = Bets
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
    for cls in (Periodic, Bandit, Bookmaker):
        # As ours: what is of others is first tried out in a copy of the process, each time.
        entry = Registration("scenarios", cls.name, cls, "", Distribution(OWN, "1"))
        monkeypatch.setitem(plugins().registry._entries["scenarios"], cls.name, entry)
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    defaults = {"architecture": None, "methods": ["none"], "metrics": []}
    return lambda *arguments, **changes: make_study(*arguments, **{**defaults, **changes})


def frames(planned):
    return {record.run_id: record.measurements for record in find_records(planned.results)}


# -- periods


def test_feed_hands_out_each_place_of_a_period_for_all_replicas():
    feed = Feed({seed: Toy(Periodic, seed) for seed in (4, 7)}, [4, 7, 4])
    feed.turn_to(2)
    assert feed.period == 3
    taken = feed.take(2)
    assert [[tuple(each.shape) for each in x] for x, _ in taken] == [[(2, size, 4)] * 3 for size in SIZES]
    again = Feed({seed: Toy(Periodic, seed) for seed in (4, 7)}, [4, 7, 4])
    again.turn_to(2)
    for period in range(2):
        for place in range(3):
            for replica, (x, y) in enumerate(again.step()):
                assert torch.equal(taken[place][0][replica][period], x)
                assert torch.equal(taken[place][1][replica][period], y)
    first = feed.first()
    assert [
        torch.equal(x, torch.stack([each[0] for each in taken[place][0]])) for place, (x, _) in enumerate(first)
    ] == ([True] * 3)
    assert not torch.equal(feed.take(1)[0][0][0], taken[0][0][0][:1])  # and the streams have not moved back


@pytest.mark.parametrize(
    "scenario",
    [
        "periodic:steps_per_task=18",
        "periodic:steps_per_task=20",
        "periodic:steps_per_task=18,probe_every=7",
        "bookmaker:steps_per_task=18",
        "bookmaker:steps_per_task=20,probe_every=7",
    ],
)
def test_steps_in_periods_are_those_that_are_taken_one_by_one(make_toy, monkeypatch, tmp_path, scenario):
    request = {"scenario": scenario, "seeds": [0, 1], "metrics": ["weight_norm"]}
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


@pytest.mark.parametrize(("scenario", "steps"), [("periodic", 18), ("periodic", 20), ("bookmaker", 20)])
def test_steps_in_periods_resume_bit_for_bit(make_toy, monkeypatch, tmp_path, scenario, steps):
    monkeypatch.setattr(programs, "BLOCK_STEPS", 6 if scenario == "periodic" else 4)
    # A metric of training steps is saved in the middle of a task too.
    request = {"scenario": f"{scenario}:steps_per_task={steps}", "seeds": [0, 1], "metrics": ["sample_plasticity"]}
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


# -- streams in which the learner acts


def test_networks_act_when_it_is_time_and_are_fed_what_came_of_it(make_toy):
    training = throwaway(
        make_toy(scenario="bookmaker:steps_per_task=20", seeds=[4, 7]).pending[:1], data=None, device=CPU
    )
    feed, actor = training.feed, Actor(training.learner.learner)
    assert (feed.period, feed.every) == (1, 6)
    assert not any(part.any() for part in feed.first()[0])  # blank, as long as nobody has acted
    assert feed.act(actor, 20) == 6
    (((points,), (paid,)),) = feed.take(6)
    made = actor.learner.view.forward(points.view(1, 12, 4)).outputs.view(6, 2, 2)
    bets = made.argmax(dim=-1)
    won = (bets == (points[..., 0] > 0)).float()  # in task 0 the positive ones win
    torch.testing.assert_close(paid, made.scatter(-1, bets.unsqueeze(-1), won.unsqueeze(-1)))
    assert feed.act(actor, 20) == 6  # again, for all was taken
    feed.step()
    assert (feed.act(actor, 20), feed.act(actor, 2)) == (5, 2)


def test_what_comes_of_acting_is_trained_on(make_toy):
    planned = make_toy(scenario="bookmaker:tasks=2,steps_per_task=600", optimizers=["adam:lr=1e-2"])
    assert study.execute(planned) == []
    (record,) = [r for r in find_records(planned.results) if r.spec.kind == "continual"]
    assert record.environment["steps"] == "program"
    training = throwaway([record.spec], data=None, device=CPU)
    errors = record.per_task("online_error")
    assert all(0 < errors[task] < 0.2 for task in (0, 1)), errors
    assert training.feed.every == 6


def test_networks_act_alike_beside_others_and_alone(make_toy):
    planned = make_toy(scenario="bookmaker", seeds=[0, 1, 2], methods=["layernorm"])
    specs = [spec for spec in planned.pending if spec.kind == "continual"]
    together, alone = (throwaway(each, data=None, device=CPU).learner.learner for each in (specs, specs[1:2]))
    seen = []
    for learner in (together, alone):
        streams = [Bets(seed, 0) for seed in learner.seeds]
        assert Actor(learner).act(streams) == 6
        seen.append(streams[learner.seeds.index(1)].paid)
    torch.testing.assert_close(*seen)


def test_calls_of_a_program_end_when_networks_act(make_toy):
    (spec,) = [s for s in make_toy(scenario="bookmaker:steps_per_task=48").pending if s.kind == "continual"]
    schedule = Schedule.of(spec.scenario.build(), spec)
    assert (schedule.unroll(), schedule.unroll(every=6), schedule.unroll(every=125)) == (16, 6, 1)
