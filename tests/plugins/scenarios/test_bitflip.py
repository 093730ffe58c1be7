"""Bit flipping against its definition, written here as the texts have it, and against facts measured in their code."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UsageError
from lopbench.core.interfaces import ChunkedBatches, Recipe
from lopbench.core.spec import ComponentSpec, RunSpec, parse_scenario
from lopbench.results.record import find_records
from lopbench.runner.request import Request
from lopbench.runner.study import execute, plan
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.scenarios.bitflip import BLOCK, BitFlip, BitFlipStream
from lopbench_plugins.scenarios.ltu import CONVENTIONS, LtuTarget
from lopbench_plugins.scenarios.slowly_changing_regression import SlowlyChangingRegression

CPU = torch.device("cpu")
SCENARIOS = {"bitflip": BitFlip, "slowly_changing_regression": SlowlyChangingRegression}

#: One state of the slow bits a bin, several, bins inside a state, states across bins; without table; no fast bits.
SHAPES: dict[str, dict[str, Any]] = {
    "one state": {"T": 500, "steps_per_task": 500},
    "many states": {"T": 40, "steps_per_task": 1000},
    "many bins": {"T": 1000, "steps_per_task": 50},
    "unaligned": {"T": 300, "steps_per_task": 500},
    "no table": {"T": 300, "steps_per_task": 500, "f": 2, "m": 18},
    "a state a sample": {"T": 1, "steps_per_task": 500, "f": 5},
    "all slow": {"T": 300, "steps_per_task": 500, "f": 20},
}


def scenario(**fields: Any) -> BitFlip:
    return BitFlip(**{"samples": 3000, "T": 500, "steps_per_task": 500, **fields})


def stream(seed: int = 0, **fields: Any) -> BitFlipStream:
    return scenario(**fields).stream(seed, data=None, device=CPU)


def bin_of(found: BitFlipStream, index: int) -> tuple[Tensor, Tensor]:
    """Return the samples of a bin, ``(N, D)``, and their targets, ``(N,)``."""
    inputs, targets = found.task(index).batches().take(found.scenario.steps_per_task)[0]
    return inputs.squeeze(1), targets[:, 0, 0]


def whole(found: BitFlipStream) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*(bin_of(found, index) for index in range(found.scenario.tasks)), strict=True)
    return torch.cat(inputs), torch.cat(targets)


# --- the target -----------------------------------------------------------------------------------------------------


class Written:
    """The target as the three texts write it: sums over weights, thresholds with S, and the bias as an input of one."""

    def __init__(self, name: str, m: int, width: int, beta: float, seed: int) -> None:
        generator = rng.derive(seed, "data", "bitflip", "target")

        def signs(*shape: int) -> Tensor:
            return (torch.randint(0, 2, shape, generator=generator) * 2 - 1).double()

        self.w, self.b, self.v, self.c = signs(width, m), signs(width), signs(width), signs(1)
        negative = (self.w < 0).sum(1)
        if name == "paper":
            self.theta = m * beta - (negative - 0.5 * self.b)
        elif name == "joudaki":
            self.theta = beta * (m + 1) - (negative - 0.5 * self.b)
        else:
            self.theta = beta * (m + 1) - (m - self.w.sum(1) + self.b) / 2
        self.at_zero = name == "paper"

    def __call__(self, bits: Tensor) -> Tensor:
        z = bits.double() @ self.w.T + self.b - self.theta
        fires = z > -1e-9 if self.at_zero else z > 1e-9
        return fires.double() @ self.v + self.c


@pytest.mark.parametrize("target", CONVENTIONS)
@settings(max_examples=25)
@given(
    m=st.integers(1, 40),
    width=st.integers(1, 30),
    percent=st.integers(1, 99),
    seed=st.integers(0, 10),
)
# Thresholds of a whole number of bits, which units reach: 0.14 * 25 - 1/2 = 3 and 0.7 * 45 + 1/2 = 32. The product in
# floats is above 3.5 in the first and below 31.5 in the second.
@example(m=25, width=30, percent=14, seed=0)
@example(m=44, width=30, percent=70, seed=0)
def test_the_target_is_the_network_that_the_text_writes_down(target: Any, m: int, width: int, percent: int, seed: int):
    generator = rng.derive(seed, "data", "bitflip", "target")
    ours = LtuTarget(CONVENTIONS[target], m, width, percent / 100, generator=generator, device=CPU)
    bits = torch.randint(0, 2, (200, m), generator=rng.derive(seed, "bits")).float()
    assert torch.equal(ours(bits)[:, 0].double(), Written(target, m, width, percent / 100, seed)(bits))


def binomial_tail(least: int, n: int = 20) -> float:
    return sum(math.comb(n, k) for k in range(least, n + 1)) / 2**n


@pytest.mark.parametrize(
    ("target", "needed", "rate", "variance"),
    [("paper", (14, 15), 0.0393, 3.72), ("joudaki", (15, 16), 0.0134, 1.31), ("dohare", (14, 17), 0.0297, 2.77)],
)
def test_units_fire_as_often_as_was_measured_in_the_authors_code(
    target: Any, needed: tuple[int, int], rate: float, variance: float
) -> None:
    # A bit matches a sign with probability 1/2, so a unit fires with the tail of Binomial(20, 1/2) from the matches
    # it needs: with a bias of +1 and -1 in turn, 14 >= 14 - 1/2, 15 >= 14 + 1/2; 15 > 14.7 - 1/2, 16 > 14.7 + 1/2;
    # 14 > 14.7 - 3/2, 17 > 14.7 + 3/2. Both biases are as likely.
    convention = CONVENTIONS[target]
    assert tuple(convention.matches_needed(20, 0.7, bias) for bias in (1, -1)) == needed
    expected = sum(binomial_tail(least) for least in needed) / 2
    bits = torch.randint(0, 2, (4000, 20), generator=rng.derive(0, "bits")).float()
    rates, variances = [], []
    for seed in range(50):
        made = LtuTarget(convention, 20, 100, 0.7, generator=rng.derive(seed, "target"), device=CPU)
        rates.append(made.firing(bits).float().mean().item())
        variances.append(made(bits).var().item())
    mean = sum(rates) / 50
    assert mean == pytest.approx(expected, rel=0.03)  # 5000 biases: their mean moves the rate by 1.3% or less (1 sd)
    assert mean == pytest.approx(rate, rel=0.04)
    assert sum(variances) / 50 == pytest.approx(variance, rel=0.1)  # theirs are 50 other targets; sd of the mean 3%


def test_conventions_share_their_weights_and_differ_in_threshold_and_inputs() -> None:
    found = {target: stream(target=target) for target in CONVENTIONS}
    assert {target: tuple(each.input_shape) for target, each in found.items()} == {
        "paper": (21,),
        "joudaki": (21,),
        "dohare": (20,),
    }
    samples = {target: whole(each) for target, each in found.items()}
    assert (samples["paper"][0][:, 20] == 1).all()
    assert torch.equal(samples["paper"][0], samples["joudaki"][0])
    assert torch.equal(samples["paper"][0][:, :20], samples["dohare"][0])
    assert not torch.equal(samples["paper"][1], samples["joudaki"][1])
    assert not torch.equal(samples["joudaki"][1], samples["dohare"][1])


# --- the stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("target", CONVENTIONS)
def test_samples_are_bits_and_the_targets_of_these_bits(target: Any, fields: dict[str, Any]) -> None:
    found = stream(3, target=target, **fields)
    inputs, targets = whole(found)
    m = found.scenario.m
    assert ((inputs == 0) | (inputs == 1)).all()
    written = Written(target, m, 100, 0.7, 3)
    assert torch.equal(targets.double(), written(inputs[:, :m]))


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_one_slow_bit_flips_every_period_and_none_in_between(fields: dict[str, Any]) -> None:
    found = stream(1, **fields)
    slow = whole(found)[0][:, : found.scenario.f]
    flips = (slow[1:] != slow[:-1]).sum(1)  # at the step from sample i to i + 1
    at_edge = (torch.arange(1, len(slow)) % found.scenario.T) == 0
    assert (flips[at_edge] == 1).all()
    assert (flips[~at_edge] == 0).all()


def test_any_slow_bit_may_flip_and_any_state_may_be_the_first() -> None:
    inputs = whole(stream(samples=3000, T=1))[0]
    flipped = (inputs[1:, :15] != inputs[:-1, :15]).sum(0)
    assert flipped.sum() == 2999
    assert flipped.min() > 200 - 5 * 14  # Binomial(2999, 1/15): mean 200, standard deviation 13.7
    assert flipped.max() < 200 + 5 * 14
    first = torch.stack([stream(seed).task(0).probe()[0][0, :15] for seed in range(60)]).mean(0)
    assert (first - 0.5).abs().max() < 5 * 0.5 / 60**0.5


def test_all_slow_bits_are_drawn_anew_where_all_flip() -> None:
    slow = whole(stream(flip="all", T=10, samples=10_000))[0][:, :15].reshape(1000, 10, 15)
    assert (slow == slow[:, :1]).all()
    changes = (slow[1:, 0] != slow[:-1, 0]).float()
    assert changes.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / (999 * 15) ** 0.5)
    assert changes.sum(1).std().item() == pytest.approx(15**0.5 / 2, rel=0.15)  # independent bits


def test_fast_bits_are_uniform_and_independent() -> None:
    fast = whole(stream(samples=20_000, T=5000, steps_per_task=5000))[0][:, 15:20]
    counts = (fast @ torch.tensor([1.0, 2, 4, 8, 16])).long().bincount(minlength=32)
    expected = 20_000 / 32
    assert (counts - expected).square().sum() / expected < 31 + 5 * (2 * 31) ** 0.5  # chi squared of 31 degrees
    lagged = (fast[1:] - 0.5) * (fast[:-1] - 0.5) * 4
    assert lagged.mean(0).abs().max() < 5 / 20_000**0.5


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_bins_only_bin_and_a_longer_stream_begins_as_a_shorter_one(fields: dict[str, Any]) -> None:
    fields = {**fields, "steps_per_task": 1000}
    inputs, targets = whole(stream(2, **fields))
    for change in ({"steps_per_task": 600}, {"steps_per_task": 3000}, {"samples": 6000}):
        others = whole(stream(2, **{**fields, **change}))
        assert torch.equal(inputs, others[0][:3000])
        assert torch.equal(targets, others[1][:3000])


def test_the_stream_is_the_seeds_and_bins_can_be_visited_in_any_order() -> None:
    found, again = stream(4), stream(4)
    for index in (5, 0, 3):
        for ours, theirs in zip(bin_of(found, index), bin_of(again, index), strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(bin_of(stream(5), 0)[0], bin_of(found, 0)[0])
    assert not torch.equal(bin_of(found, 1)[0][:, 15:], bin_of(found, 0)[0][:, 15:])


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
@settings(max_examples=10)
@given(asked=st.lists(st.integers(0, 700), min_size=1, max_size=8), resume=st.integers(0, 8))
def test_any_mixture_of_requests_and_resumes_gives_the_same_samples(
    fields: dict[str, Any], asked: list[int], resume: int
) -> None:
    task = stream(6, **fields).task(1)  # its bin begins inside a block of random bits
    batches = task.batches()
    assert isinstance(batches, ChunkedBatches)
    inputs, targets = [], []
    for index, steps in enumerate(asked):  # 0 stands for one by one
        if index == resume:
            state = {name: value.clone() for name, value in batches.state_dict().items()}
            batches = stream(6, **fields).task(1).batches()
            batches.load_state_dict(state)
        x, y = (part.unsqueeze(0) for part in next(batches)) if steps == 0 else batches.take(steps)[0]
        inputs.append(x)
        targets.append(y)
    x, y = torch.cat(inputs), torch.cat(targets)
    plain = task.batches().take(len(x))[0]
    assert x.shape[1:] == (1, *stream(**fields).input_shape)
    assert y.shape[1:] == (1, 1)
    assert torch.equal(x, plain[0])
    assert torch.equal(y, plain[1])


def test_one_by_one_is_the_same_across_blocks() -> None:
    task = stream(samples=3 * BLOCK, steps_per_task=3 * BLOCK).task(0)
    batches, (inputs, targets) = task.batches(), task.batches().take(2 * BLOCK + 5)[0]
    for x, y in zip(inputs, targets, strict=True):
        one = next(batches)
        assert torch.equal(one[0], x)
        assert torch.equal(one[1], y)


def test_past_its_end_a_bin_goes_on_under_its_last_slow_bits() -> None:
    task = stream(T=250).task(0)
    slow = task.batches().take(2000)[0][0][:, 0, :15]
    assert (slow[250:] == slow[499]).all()
    assert not torch.equal(slow[249], slow[250])


def test_the_stream_survives_whoever_changes_what_it_was_given() -> None:
    task = stream().task(0)
    before = task.batches().take(500)[0][0].clone()
    for part in (*task.batches().take(500)[0], *next(task.batches())):
        part.fill_(9)
    assert torch.equal(task.batches().take(500)[0][0], before)


# --- loss, score, chance, held-out data, probe ----------------------------------------------------------------------


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_chance_is_the_variance_of_the_target_over_the_bin(fields: dict[str, Any]) -> None:
    found = stream(7, **fields)
    fast = found.scenario.m - found.scenario.f
    inputs, values = bin_of(found, 1)
    if fast <= 5:  # the expectation over the fast bits of every sample; more of them are taken as they came
        slow, codes = inputs[:, : found.scenario.f], torch.arange(2**fast).unsqueeze(1) >> torch.arange(fast) & 1
        bits = torch.cat([slow.repeat_interleave(len(codes), 0), codes.repeat(len(slow), 1)], dim=1)
        values = Written("paper", found.scenario.m, 100, 0.7, 7)(bits)
    assert found.task(1).chance == pytest.approx(values.double().var(correction=0).item(), rel=1e-9, abs=1e-12)


def test_chance_is_what_the_best_constant_scores() -> None:
    task = stream(samples=40_000, T=10_000, steps_per_task=20_000, flip="all").task(0)
    ((_, targets),) = task.batches().take(20_000)
    values = targets.reshape(-1, 1)
    score = task.score(values.mean().expand_as(values), values)
    assert score.mean().item() == pytest.approx(task.chance, rel=0.05)


def test_score_is_the_squared_error_of_each_sample_and_loss_their_mean() -> None:
    task = stream().task(0)
    outputs, targets = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[0.0], [2.0], [2.0]])
    assert task.score(outputs, targets).tolist() == [1, 0, 9]
    assert task.loss(outputs, targets).item() == pytest.approx(10 / 3)
    assert task.held_out_scores(outputs, targets) == {}


@pytest.mark.parametrize("flip", ["one", "all"])
def test_nothing_is_held_out(flip: Any) -> None:
    found = stream(flip=flip)
    assert [list(found.task(index).held_out()) for index in (0, 5)] == [[], []]


def test_the_probe_is_spread_over_the_bin_and_always_the_same() -> None:
    found = stream(T=125, flip="all")
    inputs, targets = found.task(2).probe()
    assert inputs.shape == (128, 21)
    seen = bin_of(found, 2)[0]
    for quarter in range(4):
        assert (inputs[quarter * 32 : quarter * 32 + 32, :15] == seen[quarter * 125, :15]).all()
    assert torch.equal(targets[:, 0].double(), Written("paper", 20, 100, 0.7, 0)(inputs[:, :20]))
    again = stream(T=125, flip="all").task(2).probe()
    assert torch.equal(inputs, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(inputs[:, 15:], found.task(1).probe()[0][:, 15:])


def test_the_probe_may_be_spread_over_the_stream_and_is_then_the_same_in_all_bins() -> None:
    found = stream(T=125, flip="all", probe_rows="stream")
    inputs, targets = found.task(2).probe()
    assert inputs.shape == (128, 21)
    seen = whole(found)[0]
    for row in range(128):
        assert torch.equal(inputs[row, :15], seen[row * 3000 // 128, :15])
    assert torch.equal(targets[:, 0].double(), Written("paper", 20, 100, 0.7, 0)(inputs[:, :20]))
    assert len(inputs[:, 15:].unique(dim=0)) > 16  # of 32
    assert torch.equal(inputs, found.task(5).probe()[0])
    assert not torch.equal(inputs[:, 15:], stream(1, probe_rows="stream").task(2).probe()[0][:, 15:])
    assert torch.equal(seen, whole(stream(T=125, flip="all"))[0])


# --- the scenario ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "profile", "expected"),
    [
        ("bitflip", "full", (5_000_000, 10_000, 10_000, "one", "paper", 500)),
        ("bitflip", "smoke", (5_000, 500, 500, "one", "paper", 10)),
        ("slowly_changing_regression", "full", (1_000_000, 10_000, 20_000, "all", "dohare", 50)),
        ("slowly_changing_regression", "smoke", (5_000, 250, 500, "all", "dohare", 10)),
    ],
)
def test_profiles(name: str, profile: str, expected: tuple[object, ...]) -> None:
    built = parse_scenario(name, profile).build()
    assert isinstance(built, BitFlip)
    found = (built.samples, built.T, built.steps_per_task, built.flip, built.target, built.tasks)
    assert found == expected
    assert (built.m, built.f, built.beta, built.target_width) == (20, 15, 0.7, 100)
    assert (built.score, built.boundaries, built.head_policy, built.data) == ("error", False, "keep", None)
    assert built.default_architecture == "online_mlp"
    assert (
        built.recipe("online_mlp") == built.recipe("linear") == Recipe(optimizer="sgd:lr=0.01", reference="sgd:lr=0.01")
    )


@pytest.mark.parametrize("cls", SCENARIOS.values())
def test_lite_is_the_default_and_a_shorter_full(cls: type[BitFlip]) -> None:
    lite, full = (parse_scenario(cls.name, profile).build() for profile in (None, "full"))
    assert lite == cls()
    assert lite.samples < full.samples
    assert dataclasses.replace(lite, profile="full", samples=full.samples, tasks=0) == full
    assert cls.unranked == {"smoke"}
    assert cls.profiles.keys() - {"authors"} == {"full", "lite", "smoke"}


def test_tasks_follow_from_samples() -> None:
    assert parse_scenario("bitflip:samples=5e4").fields["tasks"] == 5
    assert parse_scenario("bitflip:samples=5e4,steps_per_task=1000").fields["tasks"] == 50
    spec = parse_scenario("bitflip:samples=5e4,tasks=5")
    assert spec == parse_scenario("bitflip:samples=5e4")
    assert spec.build() == ComponentSpec.from_json("scenarios", spec.to_json()).build()


@pytest.mark.parametrize(
    ("lr", "steps", "lead"),
    [
        (0.01, 10_000, 2),
        (0.01, 20_000, 1),
        (0.01, 3000, 7),
        (0.01, 1000, 20),
        (0.001, 10_000, 20),
        (0.001, 20_000, 10),
        (0.003, 10_000, 7),  # 66,667 samples
        (0.1, 1000, 2),
        (1e30, 10_000, 0),
    ],
)
def test_references_are_led_in_by_samples_in_inverse_proportion_to_their_rate(lr: float, steps: int, lead: int) -> None:
    assert scenario(samples=steps * 100, steps_per_task=steps).reference_lead(lr) == lead


@pytest.mark.parametrize("lr", [0.01, 0.001, 1e-320])
def test_references_never_start_before_the_stream(lr: float) -> None:
    built = scenario(samples=6000, steps_per_task=1000)
    assert built.late_tasks == range(1, 6)
    assert built.reference_lead(lr) == 1
    assert scenario(samples=5000, steps_per_task=1000).reference_lead(lr) == 0


# --- the profile of the authors' figures ----------------------------------------------------------------------------

RANK, DUPLICATES = "effective_rank:modules=hidden", "duplicate_fraction_first:modules=hidden,threshold=0.98"


def test_authors_is_full_with_their_target_probe_and_metrics() -> None:
    full, authors = (parse_scenario("bitflip", profile).build() for profile in ("full", "authors"))
    assert isinstance(full, BitFlip)
    assert authors == dataclasses.replace(full, profile="authors", target="joudaki", probe_rows="stream")
    asked = [Request(scenario="bitflip", profile=profile).asked().metrics for profile in ("full", "authors")]
    assert [spec.label() for spec in asked[1][len(asked[0]) :]] == [RANK, DUPLICATES]
    assert asked[1][: len(asked[0])] == asked[0]
    assert {"effective_rank", "dead_fraction"} <= {spec.label() for spec in asked[0]}


def test_authors_measures_the_tensor_before_the_relu_over_the_whole_stream(tmp_path: Path) -> None:
    shorter = "bitflip:samples=3000,T=125,steps_per_task=500,flip=all"
    assert execute(plan(scenario=shorter, profile="authors", seeds=[3], device="cpu", results=tmp_path)) == []
    (record,) = (r for r in find_records(tmp_path) if r.spec.kind == "continual")
    rows = record.measurements.query("step == 0").set_index("metric")
    found = stream(3, samples=3000, T=125, flip="all", target="joudaki", probe_rows="stream")
    module = OnlineMLP().build((21,), 1, generator=rng.derive(3, "init", 0))
    h = module.get_submodule("hidden")(found.task(0).probe()[0]).detach().double()  # (128, 5)
    assert (h < 0).any()
    share = torch.linalg.svdvals(h)
    share /= share.sum()
    assert rows.loc[RANK, "value"] == pytest.approx((-(share * share.log()).sum()).exp().item(), rel=1e-5)
    h /= h.norm(dim=0)
    later = [any(h[:, i] @ h[:, j] > 0.98 for j in range(i + 1, 5)) for i in range(5)]
    assert rows.loc[DUPLICATES, "value"] == sum(later) / 5
    assert list(rows.loc[[RANK, DUPLICATES], "layer"]) == ["hidden", "hidden"]
    assert rows.loc["effective_rank", "layer"] == "activation"
    assert rows.loc["effective_rank", "value"] != rows.loc[RANK, "value"]


@pytest.mark.parametrize("rows", ["bin", "stream"])
def test_slowly_changing_regression_has_no_such_profile_but_the_same_field(rows: Any) -> None:
    assert "authors" not in SlowlyChangingRegression.profiles
    assert len(SlowlyChangingRegression(probe_rows=rows).extra_metrics) == (2 if rows == "stream" else 0)


OTHER_VALUES = {
    "samples": "20000",
    "m": "21",
    "f": "14",
    "T": "1000",
    "beta": "0.6",
    "target_width": "50",
    "flip": "all",
    "target": "dohare",
    "steps_per_task": "5000",
    "probe_every": "100",
    "probe_rows": "stream",
    "late": "3",
}
FIXED = {"profile", "tasks", "head_policy", "optimizer_policy"}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(BitFlip) if f.name not in FIXED])
def test_every_field_changes_the_protocol(field: str) -> None:
    changed = parse_scenario(f"bitflip:{field}={OTHER_VALUES[field]}")
    assert changed.fields["profile"] == "lite+custom"
    assert protocol_id(changed) != protocol_id(parse_scenario("bitflip"))
    assert protocol_id(changed).startswith("bitflip@3+")


def protocol_id(spec: ComponentSpec) -> str:
    optimizer = ComponentSpec.parse("optimizers", "sgd:lr=0.01")
    architecture = ComponentSpec.parse("architectures", "online_mlp")
    return RunSpec(spec, architecture, optimizer, optimizer, (), 0, (), None).protocol_id


@pytest.mark.parametrize("cls", SCENARIOS.values())
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"f": 21}, "f must be at most m, .* got f=21, m=20"),
        ({"f": 0}, "f must be at least 1, got 0"),
        ({"m": 0}, "m must be at least 1 and at most 62, got 0"),
        ({"m": 63}, "m must be at least 1 and at most 62, got 63"),
        ({"T": 0}, "T must be at least 1, got 0"),
        ({"target_width": 0}, "target_width must be at least 1, got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"samples": 30_001}, "got samples=30001 and steps_per_task=.0000; the nearest is samples=.0000"),
        ({"steps_per_task": 0}, "steps_per_task must be at least 1, got 0"),
        ({"tasks": 7, "samples": 60_000}, "60,000 samples in bins of .0,000 are . tasks, got tasks=7; set samples"),
        ({"beta": 0.0}, "beta must be above 0 and below 1, got 0.0"),
        ({"beta": math.nan}, "beta must be a finite number, got nan"),
        ({"probe_every": -1}, "probe_every must be at least 0, got -1"),
        ({"flip": "two"}, "flip must be one of one, all, got 'two'"),
        ({"probe_rows": "all"}, "probe_rows must be one of bin, stream, got 'all'"),
        ({"target": "nature"}, "target must be one of paper, joudaki, dohare, got 'nature'"),
        ({"head_policy": "zero"}, "head_policy must be keep, got 'zero'"),
        ({"optimizer_policy": "reset"}, "optimizer_policy must be carry, got 'reset'"),
    ],
)
def test_values_out_of_range_are_refused(cls: type[BitFlip], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{cls.name}.*{message}"):
        cls(**fields)


@pytest.mark.parametrize("text", ["bitflip:t=5", "bitflip:flip=two", "bitflip:f=half", "bitflip:profile=full"])
def test_malformed_requests_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError):
        parse_scenario(text)
