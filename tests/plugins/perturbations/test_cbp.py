"""Continual backprop."""

import json
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Task
from lopbench.learner.fresh import FreshPool
from lopbench.learner.learner import StackLearner
from lopbench.learner.memory import Generators, MethodState
from lopbench.learner.program import Program
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations._units import lowest
from lopbench_plugins.perturbations.cbp import ContinualBackprop, Utility

GOLDEN = Path(__file__).parents[2] / "golden"
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Regression:
    """The task of the recorded runs."""

    chance = 0.0
    classes = None
    presented = Task.presented

    def loss(self, outputs, targets):
        return nn.functional.mse_loss(outputs, targets)

    def score(self, outputs, targets):
        return -(outputs - targets).square().mean(dim=1)


class Recorded:
    """A recorded run of the authors' code, and a learner that starts where it did.

    Args:
        case: Name of the file.
        replicas: Replicas of the learner; the one in the middle is the recorded one, the others are different ones.
    """

    NAMES: ClassVar = {"w1": "0.weight", "b1": "0.bias", "w2": "2.weight", "b2": "2.bias"}

    def __init__(self, case, replicas):
        with np.load(GOLDEN / f"{case}.npz", allow_pickle=False) as archive:
            self.golden = {key: torch.from_numpy(value) for key, value in archive.items() if key != "hyperparameters"}
            recipe = json.loads(str(archive["hyperparameters"]))
        self.decay = recipe["decay_rate"]
        self.steps = len(self.golden["x"])
        self.replaced = list(
            zip(self.golden["replaced_step"].tolist(), self.golden["replaced_unit"].tolist(), strict=True)
        )
        self.due = dict(self.replaced)
        assert len(self.due) == len(self.replaced)
        self.where = replicas // 2
        method = ContinualBackprop(
            replacement_rate=recipe["replacement_rate"],
            decay=self.decay,
            maturity=recipe["maturity_threshold"],
            utility=recipe["utility"],
            accumulate=recipe["accumulate"],
        )

        def build(generator):
            hidden = nn.Linear(20, recipe["hidden"])
            out = nn.Linear(recipe["hidden"], 1)
            for parameter in (*hidden.parameters(), *out.parameters()):
                nn.init.uniform_(parameter, -0.2, 0.2, generator=generator)
            return nn.Sequential(hidden, ACTIVATIONS[recipe["activation"]](), out)

        self.learner = StackLearner(
            build=build,
            seeds=range(replicas),
            methods=[method],
            optimizer={"sgd": SGD, "adam": Adam}[recipe["optimizer"]](lr=recipe["step_size"]),
            example=torch.zeros(2, 20),
            outputs=1,
        )
        self.learner.turn_to(0, [Regression()] * replicas)
        for short, name in self.NAMES.items():
            self.learner.view.parameters[name][self.where].copy_(self.golden[f"{short}_0"])
        self.history = {"loss": [], "utility": [], "age": [], "mean_activation": []}

    def rows(self, pool, group, replica, skip, count):
        """Return fresh rows as the pool would: the recorded ones where there are any."""
        rows = torch.full((count, 20), 0.1)
        if replica == self.where:
            start = int(pool.state_dict()[group.name][replica]) + skip
            recorded = self.golden["replaced_weight"][start : start + count]
            rows[: len(recorded)] = recorded
        return rows, torch.ones(count)

    def break_tie(self, step):
        """Settle as recorded which of the dead units goes, all of utility zero; below the rounding of any other."""
        if step in self.due:
            self.learner.states[0]["utility"][self.where, self.due[step]] -= 1e-12

    def batches(self, step):
        """Return inputs ``(R, B, 20)`` and targets ``(R, B, 1)``."""
        others = (torch.arange(self.learner.replicas) != self.where).view(-1, 1, 1)
        return self.golden["x"][step] + others, self.golden["y"][step].expand(self.learner.replicas, -1, -1)

    def note(self, loss):
        """Keep loss ``(R,)`` and state after a step."""
        self.history["loss"].append(loss[self.where].double())
        for name in ("utility", "age", "mean_activation"):
            self.history[name].append(self.learner.states[0][name][self.where].clone())

    def compare(self):
        ours = {name: torch.stack(values) for name, values in self.history.items()}
        assert (ours["age"] == 0).nonzero().tolist() == [[*pair] for pair in self.replaced]
        assert torch.equal(ours["age"], self.golden["age"])
        old = ours["age"] > 0  # the recorded utility of a replaced unit is the one for which it was chosen
        ours["utility"] /= (1 - self.decay ** ours["age"].double()).clamp(min=1e-3)
        torch.testing.assert_close(ours["utility"][old], self.golden["utility"][old], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours["mean_activation"], self.golden["mean_activation"], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours["loss"], self.golden["loss"], atol=1e-5, rtol=1e-5)
        for short, name in self.NAMES.items():
            weight = self.learner.view.parameters[name][self.where]
            torch.testing.assert_close(weight, self.golden[f"{short}_T"], atol=1e-5, rtol=0)


CASES = ["cbp_sgd_contribution", "cbp_sgd_adaptable", "cbp_adam_contribution"]


@pytest.mark.parametrize("case", CASES)
def test_recorded_run_of_the_authors_code_is_reproduced(case, monkeypatch):
    recorded = Recorded(case, replicas=1)
    monkeypatch.setattr(FreshPool, "look_ahead", lambda *request: recorded.rows(*request))
    for step in range(recorded.steps):
        recorded.break_tie(step)
        inputs, targets = recorded.batches(step)
        recorded.note(recorded.learner.step([(inputs[0], targets[0])]).losses)
    recorded.compare()


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_recorded_run_of_the_authors_code_is_reproduced_in_a_program(case, replicas, monkeypatch):
    recorded = Recorded(case, replicas)
    monkeypatch.setattr(FreshPool, "look_ahead", lambda *request: recorded.rows(*request))
    program = Program(recorded.learner, Regression(), [recorded.batches(0)], unroll=1, compiled=False)
    for step in range(recorded.steps):
        recorded.break_tie(step)
        inputs, targets = recorded.batches(step)
        recorded.note(program.advance(recorded.learner, [(inputs.unsqueeze(1), targets.unsqueeze(1))]).losses[0])
    recorded.compare()


def single_layer(activation=nn.ReLU, width=4):
    """Return a builder of a network of ``width`` hidden units on four inputs, with one output."""

    def build(generator):
        with rng.isolated(generator):
            return nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 1))

    return build


#: Trains, and moves nothing.
STILL = SGD(lr=1e-30)


def regression_learner(method, *, build=None, optimizer=STILL):
    learner = StackLearner(
        build=build or single_layer(),
        seeds=[0],
        methods=[method],
        optimizer=optimizer,
        example=torch.zeros(2, 4),
        outputs=1,
        dtype=torch.float64,
    )
    learner.turn_to(0, [Regression()])
    return learner


def train(learner, inputs, steps=1):
    targets = torch.zeros(len(inputs), 1, dtype=torch.float64)
    for _ in range(steps):
        learner.step([(inputs, targets)] * learner.replicas)


@pytest.mark.parametrize("utility", get_args(Utility))
def test_utility_is_the_published_formula(utility):
    # decay=0: the means are those of the batch, so that "h - f" is the deviation from the batch's mean.
    learner = regression_learner(ContinualBackprop(utility=utility, decay=0.0))
    inputs = torch.randn(8, 4, generator=rng.derive(0, "x"), dtype=torch.float64)
    with torch.no_grad():
        h = learner.network.module[1](learner.network.module[0](inputs))
    train(learner, inputs)
    w_in = learner.view.parameters["0.weight"][0].abs().mean(dim=1)
    w_out = learner.view.parameters["2.weight"][0].abs().mean(dim=0)
    deviation = (h - h.mean(dim=0)).abs().mean(dim=0)
    uniform = torch.rand(4, generator=rng.derive(0, "method", 0, "cbp"), dtype=torch.float64)
    expected = {
        "weight": w_out,
        "contribution": w_out * h.abs().mean(dim=0),
        "adaptation": 1 / w_in,
        "zero_contribution": w_out * deviation,
        "adaptable_contribution": w_out * deviation / w_in,
        "feature_by_input": deviation / w_in,
        "random": uniform,
    }[utility]
    torch.testing.assert_close(learner.states[0]["utility"][0], expected, rtol=1e-12, atol=0)


def test_running_mean_of_a_constant_is_the_constant():
    learner = regression_learner(ContinualBackprop(decay=0.9, replacement_rate=1e-9))
    learner.view.parameters["0.weight"].zero_()
    learner.view.parameters["0.bias"].fill_(1.0)
    train(learner, torch.randn(3, 4, dtype=torch.float64, generator=rng.derive(0, "x")), steps=200)
    state = learner.states[0]
    torch.testing.assert_close(state["mean_activation"], torch.ones(1, 4, dtype=torch.float64), rtol=1e-8, atol=0)


class Ages:
    """The count of replacements, worked out from the age of every unit."""

    def __init__(self, size, maturity):
        self.ages = [0] * size
        self.maturity = maturity

    def advance(self):
        """Return the number of mature units after one more step."""
        self.ages = [age + 1 for age in self.ages]
        return sum(age > self.maturity for age in self.ages)

    def replace(self, count):
        mature = [i for i, age in enumerate(self.ages) if age > self.maturity]
        assert len(mature) >= count
        for i in mature[:count]:
            self.ages[i] = 0


def counting(seeds, groups):
    """Return the state of replicas in which nothing was replaced yet."""
    state = MethodState(Generators([rng.derive(seed, "method") for seed in seeds]))
    state["share"] = torch.zeros(len(seeds), groups, dtype=torch.float64)
    return state


@given(st.floats(0.001, 1.0), st.integers(0, 7), st.booleans(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
@settings(max_examples=40)
def test_count_of_replacements_follows_the_ages_of_the_units(rate, maturity, accumulate, sizes):
    method = ContinualBackprop(replacement_rate=rate, maturity=maturity, accumulate=accumulate)
    state = counting([0], len(sizes))
    groups = [Ages(size, maturity) for size in sizes]
    totals = [0.0] * len(sizes)
    done = [0] * len(sizes)
    for _ in range(40):
        mature = [group.advance() for group in groups]
        state["age"] = torch.tensor([[age for group in groups for age in group.ages]])
        counts = method._count(state, sizes)[0].int().tolist()
        for i, group in enumerate(groups):
            expected = rate * mature[i]
            totals[i] += expected
            done[i] += counts[i]
            group.replace(counts[i])
            if accumulate:
                assert abs(done[i] - totals[i]) < 1 + 1e-9
            elif expected < 1:
                assert counts[i] in (0, 1)
            else:
                assert counts[i] == int(expected)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, float("inf")]), min_size=1, max_size=7), st.data())
def test_looking_for_a_few_units_finds_those_that_rank_lowest(row, data):
    values = torch.tensor([row, row[::-1]])
    most = data.draw(st.integers(0, min(2, sum(value < float("inf") for value in row))))
    counts = torch.tensor([data.draw(st.integers(0, most)) for _ in range(2)])
    places = [
        sorted(range(len(row)), key=lambda i: (v[i], i))[:c] for v, c in zip(values.tolist(), counts, strict=True)
    ]
    expected = torch.tensor([[i in found for i in range(len(row))] for found in places])
    assert torch.equal(lowest(values, counts, most), expected)
    assert torch.equal(lowest(values, counts, 7), expected)


def test_share_of_a_unit_is_a_probability_where_shares_do_not_accumulate():
    method = ContinualBackprop(replacement_rate=0.05, maturity=0, accumulate=False)
    state = counting([0, 1], 1)
    state["age"] = torch.ones(2, 5, dtype=torch.int64)
    counts = torch.stack([method._count(state, [5])[:, 0] for _ in range(2000)])  # (2000, 2)
    assert not torch.equal(counts[:, 0], counts[:, 1])  # each replica throws its own dice
    # Standard deviation of the mean of 2000 draws of probability 1/4: 0.0097.
    assert (counts.mean(dim=0) - 0.25).abs().max() < 0.04


def test_no_immature_unit_is_replaced_and_the_least_useful_mature_one_is():
    learner = regression_learner(ContinualBackprop(replacement_rate=0.25, maturity=5, decay=0.0, utility="weight"))
    learner.view.parameters["2.weight"].copy_(torch.tensor([4.0, 1.0, 3.0, 2.0]))
    inputs = torch.randn(3, 4, dtype=torch.float64, generator=rng.derive(0, "x"))
    train(learner, inputs, steps=5)
    assert learner.states[0]["age"].tolist() == [[5, 5, 5, 5]]
    train(learner, inputs)
    assert learner.states[0]["age"].tolist() == [[6, 0, 6, 6]]
    # Three mature units are three quarters of a unit; the fourth quarter comes with the next step.
    train(learner, inputs)
    assert learner.states[0]["age"].tolist() == [[7, 1, 7, 7]]
    train(learner, inputs)
    assert learner.states[0]["age"].tolist() == [[8, 2, 8, 0]]


def test_transfer_makes_the_replacement_of_a_constant_unit_leave_the_outputs_alone():
    inputs = torch.randn(16, 4, dtype=torch.float64, generator=rng.derive(0, "x"))
    outputs = {}
    for transfer in (False, True):
        method = ContinualBackprop(
            replacement_rate=0.25, maturity=5, utility="zero_contribution", bias_transfer=transfer
        )
        learner = regression_learner(method)
        learner.view.parameters["0.weight"][0, 2] = 0.0  # a constant unit, of utility zero
        learner.view.parameters["0.bias"][0, 2] = 1.5
        before = learner.network.module(inputs).detach()
        train(learner, inputs, steps=6)
        assert learner.states[0]["age"].tolist() == [[6, 6, 0, 6]]
        outputs[transfer] = (learner.network.module(inputs) - before).detach().abs().max()
    assert outputs[True] < 1e-12
    assert outputs[False] > 0.01


def test_replacement_of_a_dead_unit_leaves_the_outputs_alone_without_transfer():
    inputs = torch.randn(16, 4, dtype=torch.float64, generator=rng.derive(0, "x"))
    learner = regression_learner(ContinualBackprop(replacement_rate=0.25, maturity=5))
    learner.view.parameters["0.bias"][0, 2] = -100.0
    before = learner.network.module(inputs).detach()
    train(learner, inputs, steps=6)
    assert learner.states[0]["age"].tolist() == [[6, 6, 0, 6]]
    assert learner.view.parameters["0.bias"][0, 2] == 0
    assert learner.view.parameters["0.weight"][0, 2].abs().min() > 0
    torch.testing.assert_close(learner.network.module(inputs).detach(), before, rtol=0, atol=1e-14)


def test_optimizer_forgets_replaced_units_alone():
    learner = regression_learner(
        ContinualBackprop(replacement_rate=0.25, maturity=5),
        build=single_layer(nn.Tanh),
        optimizer=Adam(lr=1e-3),
    )
    inputs = torch.randn(16, 4, dtype=torch.float64, generator=rng.derive(0, "x"))
    train(learner, inputs, steps=6)
    replaced = learner.states[0]["age"][0] == 0
    assert replaced.sum() == 1
    moments = {k: v for k, v in learner.optimizer.state_dict().items() if k.endswith(("exp_avg", "exp_avg_sq"))}
    for name, value in moments.items():
        if name.startswith("2.bias"):
            continue
        rows = value.view(1, 4).T if name.startswith("2.weight") else value.view(4, -1)
        assert torch.equal(rows.abs().amax(dim=1) == 0, replaced), name
    assert any(name.startswith("2.weight") for name in moments)


def test_transfer_into_a_layer_without_bias_is_refused_before_the_first_step():
    def build(generator):
        with rng.isolated(generator):
            return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1, bias=False))

    with pytest.raises(UnsupportedError, match="bias"):
        regression_learner(ContinualBackprop(bias_transfer=True), build=build)


def test_channels_behind_normalisation_pooling_and_flattening_are_replaced(runner):
    def build(generator):
        with rng.isolated(generator):
            return nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Conv2d(4, 5, 3, padding=1),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(20, 3),
            )

    trained = runner([ContinualBackprop(replacement_rate=0.2, maturity=3)], build=build).run(4)
    age = trained.learner.states[0]["age"][0]
    assert age.shape == (9,)
    assert (age[:4] == 0).sum() == 0  # 0.8 of a unit is due
    (channel,) = (age[4:] == 0).nonzero().flatten().tolist()
    columns = trained.learner.view.parameters["7.weight"][0].view(3, 5, 4).abs().amax(dim=(0, 2))
    assert (columns == 0).nonzero().flatten().tolist() == [channel]


@pytest.mark.parametrize(
    "fields",
    [
        {"replacement_rate": -0.1},
        {"replacement_rate": 1.1},
        {"replacement_rate": float("nan")},
        {"decay": 1.0},
        {"decay": -0.1},
        {"maturity": -1},
        {"utility": "usefulness"},
    ],
)
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        ContinualBackprop(**fields)
