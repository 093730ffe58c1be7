import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, get_args

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config

from lopbench.core import fields, rng
from lopbench.core.interfaces import Learner, Perturbation, State, Task
from lopbench.core.manager import plugins
from lopbench.core.optimizer import Optimizer
from lopbench.core.perturbation import HOOKS
from lopbench.core.spec import ComponentSpec
from lopbench.learner import blocks as blocks_under_test
from lopbench.learner import compiling
from lopbench.learner import program as module_under_test
from lopbench.learner.blocks import Blocks
from lopbench.learner.learner import StackLearner, stacked_method
from lopbench.learner.program import Program
from lopbench_plugins.optimizers import adam, adamw, sgd
from lopbench_plugins.perturbations.cbp import ContinualBackprop, Utility
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.noisy_sgd import NoisySGD
from lopbench_plugins.perturbations.shrink_and_perturb_step import ShrinkAndPerturbStep

SGD = sgd.SGD(lr=0.05)
OPTIMIZERS = {
    "sgd": sgd.SGD(lr=0.05, weight_decay=0.01),
    "momentum": sgd.SGD(lr=0.02, momentum=0.9, weight_decay=0.01),
    "adam": adam.Adam(lr=0.01, weight_decay=0.01),
    "adamw": adamw.AdamW(lr=0.01, weight_decay=0.1),
}
#: Trains, and moves nothing.
STILL = sgd.SGD(lr=1e-30)
#: Replaces a unit of five every other step or so.
CBP = ContinualBackprop(replacement_rate=0.1, maturity=3)
#: A rate that is scheduled, a fifth of it, and itself again.
RATES_AND_FIFTH = (0.05, 0.05 * 0.2, 0.05)
#: All steps agree to this, in float64: sums are rounded in another order.
CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
INPUTS = 4


class Regression:
    """The task of the tests, as far as training needs one."""

    chance = 0.0
    classes = None
    presented = Task.presented

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().squeeze(1)


class Classification:
    """A task whose score is not of the type of its loss."""

    chance = 0.5
    classes = None
    presented = Task.presented

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets


TASK: Task = Regression()  # type: ignore[assignment]


def rectified() -> nn.Module:
    """Return one hidden layer of ReLU and a head of one output."""
    return nn.Sequential(nn.Linear(INPUTS, 5), nn.ReLU(), nn.Linear(5, 1))


def network(width: int = 5, depth: int = 1, inputs: int = INPUTS, bias: bool = True) -> nn.Module:
    """Return ``depth`` hidden layers of tanh units and a head of one output, with a bias or without."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.Tanh()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1, bias=bias))


def make(
    *methods: Perturbation,
    build: Any = network,
    seeds: Sequence[int] = (0, 1, 2),
    optimizer: Optimizer = SGD,
    dtype: torch.dtype = torch.float64,
    inputs: int = INPUTS,
    outputs: int = 1,
    **others: Any,
) -> StackLearner:
    def built(generator: torch.Generator) -> nn.Module:
        with rng.isolated(generator):
            module: nn.Module = build()
            return module

    learner = StackLearner(
        build=built,
        seeds=seeds,
        methods=methods,
        optimizer=optimizer,
        example=torch.zeros(2, inputs),
        outputs=outputs,
        dtype=dtype,
        **others,
    )
    learner.turn_to(0, [TASK] * len(seeds))
    return learner


def stream(
    seeds: Sequence[int], steps: int, size: int = 2, inputs: int = INPUTS, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Return inputs ``(steps, R, size, inputs)`` and targets ``(steps, R, size, 1)``, each replica's from its seed."""
    drawn = [
        torch.randn(steps, size, inputs + 1, generator=rng.derive(s, "stream"), dtype=torch.float64).to(dtype)
        for s in seeds
    ]
    together = torch.stack(drawn, dim=1)
    return together[..., :-1], together[..., -1:]


def program(learner: StackLearner, unroll: int = 2, compiled: bool = False, **options: Any) -> Program:
    inputs, targets = stream(learner.seeds, 1, dtype=learner.dtype, **options)
    return Program(learner, TASK, [(inputs[0], targets[0])], unroll=unroll, compiled=compiled)


def train(
    learner: StackLearner, steps: int, made: Program | None = None, *, unroll: int = 2, **options: Any
) -> tuple[Tensor, Tensor]:
    """Take the first ``steps`` steps in a program, ``made`` or a new one."""
    batches = stream(learner.seeds, steps, dtype=learner.dtype, **options)
    return advance(made or program(learner, unroll, **options), learner, *batches)


def advance(made: Program, learner: StackLearner, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Take steps on ``(steps, R, N, ...)`` in a program; returns losses and scores ``(steps, R)``."""
    taken = made.advance(learner, [(inputs.unbind(1), targets.unbind(1))])
    return taken.losses, taken.scores


def step(learner: StackLearner, steps: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Take the first ``steps`` steps one by one."""
    inputs, targets = stream(learner.seeds, steps, dtype=learner.dtype, **options)
    taken = [learner.step(list(zip(x, y, strict=True))) for x, y in zip(inputs, targets, strict=True)]
    return torch.stack([each.losses for each in taken]), torch.stack([each.scores for each in taken])


def snapshot(learner: StackLearner) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}


def replica(learner: StackLearner, index: int) -> dict[str, Tensor]:
    """Return the parameters, optimizer's and methods' tensors of one replica."""
    tensors = {f"parameter/{name}": value for name, value in learner.view.parameters.items()}
    tensors.update({f"buffer/{name}": value for name, value in learner.view.buffers.items()})
    for name, entries in learner.optimizer.stacked_state().items():
        shape = learner.view.parameters[name].shape
        tensors.update({f"optimizer/{name}/{key}": value.expand(shape) for key, value in entries.items()})
    for method, state in learner.hooks.acting:
        tensors.update({f"{method.name}/{key}": value for key, value in state.tensors.items()})
    return {name: value[index].clone() for name, value in tensors.items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], **tolerance: Any) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, theirs[name], msg=partial("{}: {}".format, name), **(tolerance or {"rtol": 0, "atol": 0})
        )


@dataclass(frozen=True, kw_only=True)
class Renewer(Perturbation):
    """Resets all units so many times in two steps of three."""

    name: ClassVar[str] = "renewer"
    times: int = 1

    def begin(self, learner: Learner, state: State) -> None:
        state["step"] = torch.zeros(learner.replicas, dtype=torch.int64)

    def after_step(self, learner: Learner, state: State) -> None:
        state["step"] += 1
        for group in learner.units:
            for _ in range(self.times):
                group.reset((state["step"] % 3 != 0).unsqueeze(1).expand(-1, group.size))


def replaced(learner: StackLearner, steps: int) -> bool:
    """Whether any unit was replaced in the last ``steps`` steps."""
    return bool((learner.states[0]["age"] < steps).any())


# --- the same as step by step ---------------------------------------------------------------------------------------


def compare_with_steps(methods: Sequence[Perturbation], steps: int = 24, **options: Any) -> StackLearner:
    """Take the same steps in a program and one by one, and return the program's learner."""
    network_options = {"inputs": options["inputs"]} if "inputs" in options else {}
    if "size" in options:
        network_options["size"] = options.pop("size")
    in_program, one_by_one = make(*methods, **options), make(*methods, **options)
    ours, theirs = train(in_program, steps, **network_options), step(one_by_one, steps, **network_options)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == (steps, in_program.replicas)
        torch.testing.assert_close(mine, other, **CLOSE)
    for index in range(in_program.replicas):
        assert_same(replica(in_program, index), replica(one_by_one, index), **CLOSE)
    return in_program


@pytest.fixture(params=["together", "one after another"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all replicas take a call together, or each all calls by itself."""
    if request.param == "one after another":
        monkeypatch.setattr(Program, "_choose_blocks", lambda made: Blocks(3, 1))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("methods", [(), (L2(strength=0.1), CBP)], ids=["none", "l2+cbp"])
def test_program_takes_the_steps_of_the_learner(methods: Sequence[Perturbation], optimizer: str) -> None:
    learner = compare_with_steps(methods, optimizer=OPTIMIZERS[optimizer])
    assert not methods or bool((learner.states[1]["age"] < 24).any())


@pytest.mark.parametrize("utility", [kind for kind in get_args(Utility) if kind != "random"])
def test_program_replaces_the_units_of_the_learner(utility: Utility) -> None:
    learner = compare_with_steps([ContinualBackprop(replacement_rate=0.15, maturity=2, utility=utility)])
    assert replaced(learner, 24)


@pytest.mark.usefixtures("blocks")
def test_program_replaces_units_of_several_layers_and_moves_their_means() -> None:
    method = ContinualBackprop(replacement_rate=0.15, maturity=2, bias_transfer=True)
    learner = compare_with_steps([method], build=lambda: network(depth=2), optimizer=OPTIMIZERS["adam"])
    ages = learner.states[0]["age"]
    assert (ages[:, :5] < 24).any()
    assert (ages[:, 5:] < 24).any()


def test_program_replaces_units_behind_normalisation() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(INPUTS, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 1))

    assert replaced(compare_with_steps([CBP], build=build, optimizer=OPTIMIZERS["momentum"]), 24)


@pytest.mark.usefixtures("blocks")
def test_program_moves_running_statistics_and_keeps_what_is_frozen() -> None:
    def build() -> nn.Module:
        made = nn.Sequential(nn.Linear(INPUTS, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1))
        made[0].bias.requires_grad_(False)
        return made

    learner = compare_with_steps([L2(strength=0.1)], build=build, optimizer=OPTIMIZERS["momentum"], size=4)
    assert learner.view.buffers["1.num_batches_tracked"].tolist() == [24] * 3
    assert torch.equal(learner.view.parameters["0.bias"], learner.view.initial["0.bias"])
    assert learner.view.buffers["1.running_mean"].abs().amax(1).gt(0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_program_takes_the_rate_of_the_schedule_without_being_traced_again(optimizer: str) -> None:
    spec = OPTIMIZERS[optimizer]
    scheduled, slower, one_by_one = (make(L2(strength=0.1), optimizer=spec, rates=[r] * 3) for r in RATES_AND_FIFTH)
    made, other = program(scheduled), program(slower)
    graph = made._compiled
    scheduled.optimizer.follow(0.2)
    train(scheduled, 4, made)
    train(slower, 4, other)
    one_by_one.optimizer.follow(0.2)
    step(one_by_one, 4)
    assert made._compiled is graph
    for index in range(3):
        assert_same(replica(scheduled, index), replica(slower, index), rtol=0, atol=0)
        assert_same(replica(scheduled, index), replica(one_by_one, index), **CLOSE)
    before = replica(scheduled, 0)
    scheduled.optimizer.follow(0.0)
    train(scheduled, 4, made)
    assert torch.equal(replica(scheduled, 0)["parameter/0.weight"], before["parameter/0.weight"])


# Parameters of whole sixteens of numbers are drawn alike all at once, many steps ahead and one by one.
SIXTEENS: dict[str, Any] = {"build": lambda: network(16, inputs=2, bias=False), "inputs": 2}


@pytest.mark.parametrize("method", [NoisySGD(scale=0.1, decay=0.9), ShrinkAndPerturbStep(weight_decay=0.1, std=0.01)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_program_adds_the_noise_of_the_learner(method: Perturbation, dtype: torch.dtype) -> None:
    in_program, one_by_one = (make(method, dtype=dtype, **SIXTEENS) for _ in range(2))
    train(in_program, 12, inputs=2)
    step(one_by_one, 12, inputs=2)
    tolerance = CLOSE if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    for name, weight in in_program.view.parameters.items():
        torch.testing.assert_close(weight, one_by_one.view.parameters[name], **tolerance)


@pytest.mark.usefixtures("blocks")
def test_program_throws_the_dice_of_the_learner() -> None:
    # With maturity 0 both throw from the first step on; 15 random utilities and the die are 16 numbers a step.
    method = ContinualBackprop(replacement_rate=0.03, maturity=0, utility="random", accumulate=False)
    learner = compare_with_steps([method], build=lambda: network(15))
    ages = learner.states[0]["age"]
    assert replaced(learner, 24)
    assert not torch.equal(ages[0], ages[1])


def test_score_need_not_be_of_the_type_of_the_loss() -> None:
    task: Any = Classification()
    learners = [make(build=lambda: nn.Linear(INPUTS, 2), outputs=2) for _ in range(2)]
    inputs, _ = stream((0, 1, 2), 4, size=6)
    targets = (inputs.sum(-1) > 0).long()
    for learner in learners:
        learner.turn_to(0, [task] * 3)
    made = Program(learners[0], task, [(inputs[0], targets[0])], unroll=2, compiled=False)
    losses, scores = advance(made, learners[0], inputs, targets)
    for x, y, loss, score in zip(inputs, targets, losses, scores, strict=True):
        batches = list(zip(x, y, strict=True))
        taken = learners[1].step(batches)
        torch.testing.assert_close(loss, taken.losses, **CLOSE)
        assert torch.equal(score, taken.scores)


@pytest.mark.parametrize("row_bytes", [2**20, 1], ids=["enough", "few"])
def test_more_units_than_rows_at_hand_are_replaced_as_one_by_one(
    row_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All five units in every step: 10 rows a call, of which 10 are at hand, or 5.
    monkeypatch.setattr(module_under_test, "_ROW_BYTES", row_bytes)
    learner = compare_with_steps([ContinualBackprop(replacement_rate=1.0, maturity=0)], steps=80)
    assert learner.states[0]["age"].tolist() == [[0] * 5] * 3
    assert learner.boundary.rows.state_dict()["0"].tolist() == [400] * 3


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("row_bytes", [2**20, 1], ids=["enough", "few"])
def test_units_that_are_replaced_more_than_once_in_a_step_get_rows_of_their_own(
    row_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 15 units a step, which are 30 rows a call, of which 10 are at hand, or 5; and none in every third step.
    monkeypatch.setattr(module_under_test, "_ROW_BYTES", row_bytes)
    learner = compare_with_steps([Renewer(times=3)], steps=12)
    assert learner.boundary.rows.state_dict()["0"].tolist() == [8 * 15] * 3


@pytest.mark.usefixtures("blocks")
def test_calls_with_more_rows_than_at_hand_lie_among_calls_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "_ROW_BYTES", 1)
    learner = make(Renewer(times=1))
    made = program(learner)
    inputs, targets = stream(learner.seeds, 18)
    for start in (0, 6, 12):  # and the rows of later calls are those that come next
        advance(made, learner, inputs[start : start + 6], targets[start : start + 6])
    theirs = make(Renewer(times=1))
    step(theirs, 18)
    for index in range(3):
        assert_same(replica(learner, index), replica(theirs, index), **CLOSE)
    assert_same(learner.boundary.rows.state_dict(), theirs.boundary.rows.state_dict())


# --- a replica beside others ----------------------------------------------------------------------------------------

#: Strong enough to show in 24 steps.
SPECS = {
    "cbp": "cbp:replacement_rate=0.1,maturity=3,accumulate=false",
    "effective_rank_penalty": "effective_rank_penalty:strength=1,every=1",
    "l2": "l2:strength=0.1",
    "noisy_sgd": "noisy_sgd:scale=0.1,decay=0.99",
    "shrink_and_perturb_step": "shrink_and_perturb_step:weight_decay=0.1,std=0.01",
}
#: Methods that take networks of ReLU alone.
RECTIFIED = ("crelu", "nap")


def built(spec: str) -> Perturbation:
    made = ComponentSpec.parse("methods", spec).build()
    assert isinstance(made, Perturbation)
    return made


#: Those that take part in steps. Dropout draws from one stream for all replicas, and `swr` counts on the host.
IN_STEPS = [
    name
    for name in plugins().registry.names("methods")
    if name not in ("dropout", "swr")
    and any(built(name).has(hook) for hook in HOOKS if hook not in ("begin", "on_task_start"))
]


@pytest.mark.parametrize("name", IN_STEPS)
def test_replica_computes_the_same_alone_and_beside_others(name: str) -> None:
    method, build = built(SPECS.get(name, name)), rectified if name in RECTIFIED else network
    together = make(method, build=build)
    train(together, 24)
    made = program(make(method, build=build, seeds=[0]))
    for index, seed in enumerate(together.seeds):
        alone = make(method, build=build, seeds=[seed])
        train(alone, 24, made)
        assert_same(replica(together, index), replica(alone, 0), **CLOSE)
    assert not torch.equal(together.view.parameters["0.weight"][0], together.view.parameters["0.weight"][1])


def test_random_utilities_are_the_same_alone_and_beside_others() -> None:
    method = ContinualBackprop(replacement_rate=0.1, maturity=3, utility="random")
    together, alone = make(method), make(method, seeds=[2])
    for learner in (together, alone):
        train(learner, 24)
    assert_same(replica(together, 2), replica(alone, 0), **CLOSE)


def test_noise_is_independent_from_replica_to_replica_step_to_step_and_entry_to_entry() -> None:
    method = ShrinkAndPerturbStep(weight_decay=0, std=1.0)
    learner = make(method, seeds=range(40), optimizer=STILL)
    before = {name: weight.clone() for name, weight in learner.view.parameters.items()}
    train(learner, 16, unroll=8)
    moved = torch.cat([(w - before[n]).flatten(1) for n, w in learner.view.parameters.items()], dim=1) / 4  # (40, 31)
    # Sums of 16 independent numbers, over four: 1,240 of them have a mean square of 1 +- 0.040. Numbers that came
    # back in each call would double it, those that came back in each step would make it eight times as much.
    assert abs(moved.square().mean().item() - 1) < 4 * 0.040
    # The largest of 780 and of 465 correlations of independent numbers, 31 and 40 of each.
    for rows in (moved, moved.T):
        others = torch.corrcoef(rows) - torch.eye(len(rows))
        assert others.abs().max() < 0.8


# --- sweeps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replica_of_a_sweep_of_learning_rates_equals_the_one_alone(optimizer: str) -> None:
    spec, rates = OPTIMIZERS[optimizer], (0.03, 0.01, 0.001)
    together = make(optimizer=spec, rates=rates, seeds=(5, 5, 6))
    train(together, 12)
    made = program(make(optimizer=spec, seeds=[5]))
    for index, (seed, rate) in enumerate(zip(together.seeds, rates, strict=True)):
        alone = make(optimizer=spec, rates=[rate], seeds=[seed])
        train(alone, 12, made)
        assert_same(replica(together, index), replica(alone, 0), **CLOSE)
    assert not torch.equal(together.view.parameters["0.weight"][0], together.view.parameters["0.weight"][1])


SWEEPS = [
    ("c_chain", "strength", (1.0, 0.1)),
    ("cbp:maturity=3", "replacement_rate", (0.0, 0.2)),
    ("cpr:period=5", "rate", (0.0, 0.2)),
    ("cpr:rate=0.2,period=5", "decay", (0.9, 0.1)),
    ("cpr:rate=0.2,period=5", "steepness", (16.0, 1.0)),
    ("effective_rank_penalty:every=1", "strength", (1.0, 0.1)),
    ("hare_and_tortoise:every=7", "momentum", (0.5, 0.9)),
    ("infer", "strength", (0.01, 0.001)),
    ("infer:strength=0.001", "scale", (10.0, 1.0)),
    ("l2", "strength", (0.3, 0.1)),
    ("l2_init", "strength", (0.3, 0.1)),
    ("noisy_sgd", "scale", (0.1, 0.0)),
    ("noisy_sgd", "decay", (1.0, 0.9)),
    ("parseval", "strength", (1e-4, 1e-5)),
    ("redo:period=5", "threshold", (0.9, 0.0)),
    ("regrama:period=5", "threshold", (0.9, 0.0)),
    ("shrink_and_perturb_step", "weight_decay", (0.0, 0.1)),
    ("shrink_and_perturb_step", "std", (0.1, 0.01)),
    ("snr:cap=24,window=30", "eta", (0.6, 0.01)),
    ("spectral", "strength", (0.3, 0.1)),
    ("upgd", "decay", (0.1, 0.9)),
    ("upgd", "noise", (0.1, 0.01)),
    ("upgd", "weight_decay", (0.1, 0.0)),
    ("wasserstein", "strength", (0.3, 0.1)),
    ("weight_clipping", "kappa", (0.3, 1.0)),
    ("weight_decay", "strength", (1.0, 0.1)),
]


@pytest.mark.parametrize(("name", "field", "values"), SWEEPS)
def test_replica_of_a_sweep_of_a_method_equals_the_one_alone(name: str, field: str, values: Sequence[float]) -> None:
    methods = [replace(built(name), **{field: value}) for value in values]
    together = make(stacked_method(methods), seeds=(5, 5))
    train(together, 24)
    for index, method in enumerate(methods):
        alone = make(method, seeds=[5])
        train(alone, 24)
        ours, theirs = replica(together, index), replica(alone, 0)
        if not method.active:  # it keeps nothing then
            theirs.update({key: value for key, value in ours.items() if key.startswith(f"{method.name}/")})
        assert_same(ours, theirs, **CLOSE)
    assert not torch.equal(together.view.parameters["0.weight"][0], together.view.parameters["0.weight"][1])


def test_every_swept_field_is_tested() -> None:
    tested = {(name.partition(":")[0], field) for name, field, _ in SWEEPS}
    assert tested == {(name, field) for name in IN_STEPS for field in fields.swept(type(built(name)))}


# --- calls and portions ---------------------------------------------------------------------------------------------

#: All that draws, replaces and remembers.
EVERYTHING = (
    NoisySGD(scale=0.1, decay=0.99),
    ContinualBackprop(replacement_rate=0.1, maturity=3, accumulate=False),
    ShrinkAndPerturbStep(weight_decay=0.1, std=0.01),
)


def test_two_halves_are_the_whole_bit_for_bit() -> None:
    whole, halves = make(*EVERYTHING), make(*EVERYTHING)
    inputs, targets = stream(whole.seeds, 32)
    made = program(whole)
    losses, _ = advance(made, whole, inputs, targets)
    first, _ = advance(made, halves, inputs[:16], targets[:16])
    second, _ = advance(made, halves, inputs[16:], targets[16:])
    assert torch.equal(losses, torch.cat([first, second]))
    assert_same(snapshot(whole), snapshot(halves))


def test_noise_in_small_portions_is_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, little_by_little = make(*EVERYTHING), make(*EVERYTHING)
    made = program(at_once)
    train(at_once, 32, made)
    monkeypatch.setattr(module_under_test, "_NOISE_BYTES", 1)
    train(little_by_little, 32, made)
    assert_same(snapshot(at_once), snapshot(little_by_little))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_saved_learner_goes_on_bit_for_bit(optimizer: str) -> None:
    methods = EVERYTHING if optimizer == "adam" else [CBP]
    whole, resumed = (make(*methods, optimizer=OPTIMIZERS[optimizer]) for _ in range(2))
    inputs, targets = stream(whole.seeds, 32)
    made = program(whole)
    advance(made, whole, inputs[:16], targets[:16])
    saved = snapshot(whole)
    losses, _ = advance(made, whole, inputs[16:], targets[16:])

    advance(made, resumed, inputs[:4], targets[:4])  # and it has rows of another place at hand
    resumed.load_state_dict(saved)
    assert torch.equal(advance(made, resumed, inputs[16:], targets[16:])[0], losses)
    assert_same(snapshot(resumed), snapshot(whole))


def test_one_program_advances_learners_in_turn() -> None:
    inputs, targets = stream((0, 1, 2), 16)
    first, second, alone = make(CBP), make(CBP, seeds=(3, 4, 5)), make(CBP)
    made = program(first)
    for start in (0, 8):
        for learner in (first, second):
            advance(made, learner, inputs[start : start + 8], targets[start : start + 8])
    advance(made, alone, inputs, targets)
    assert_same(snapshot(first), snapshot(alone))
    assert not torch.equal(first.view.parameters["0.weight"], second.view.parameters["0.weight"])


def test_batches_may_lie_in_memory_as_they_like() -> None:
    ours, theirs = make(), make()
    inputs, targets = stream(ours.seeds, 8)
    made = program(ours)
    advance(made, ours, inputs, targets)
    advance(
        made,
        theirs,
        inputs.transpose(0, 3).contiguous().transpose(0, 3),
        targets.transpose(0, 1).contiguous().transpose(0, 1),
    )
    assert_same(snapshot(ours), snapshot(theirs))


def test_batches_of_other_shapes_are_not_taken() -> None:
    made = program(make())
    inputs, targets = stream((0, 1, 2), 2)
    with pytest.raises(AssertionError, match="was given"):
        advance(made, make(), inputs[:, :, :1], targets[:, :, :1])


@pytest.mark.parametrize(
    "other",
    [{"build": lambda: network(7)}, {"optimizer": OPTIMIZERS["momentum"]}, {"methods": [L2(strength=0.1)]}],
    ids=["network", "optimizer", "method"],
)
def test_learners_of_another_make_take_steps_of_their_own(other: dict[str, Any]) -> None:
    made, methods = program(make()), other.pop("methods", [])
    ours, theirs = (make(*methods, **other) for _ in range(2))
    train(ours, 4, made)
    step(theirs, 4)
    for index in range(3):
        assert_same(replica(ours, index), replica(theirs, index), **CLOSE)


# --- compiled -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Let nothing be found that was compiled before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "_compiled", {})


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler on this machine")
def test_compiled_program_computes_what_the_graph_does() -> None:
    methods = EVERYTHING[:2]
    compiled, graph = make(*methods), make(*methods)
    inputs, targets = stream(compiled.seeds, 8)
    batch, announced = [(inputs[0], targets[0])], []
    options: Any = {"unroll": 2, "compiled": True, "announce": lambda: announced.append(True)}
    made = Program(compiled, TASK, batch, **options)
    assert made.compile_error is None
    assert made.compile_s is not None
    ours, theirs = advance(made, compiled, inputs, targets), advance(program(graph, unroll=2), graph, inputs, targets)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **CLOSE)
    for index in range(3):
        assert_same(replica(compiled, index), replica(graph, index), **CLOSE)
    assert announced == [True]
    again = Program(make(*methods), TASK, batch, **options)
    assert again.compile_s == 0.0
    assert announced == [True]


@pytest.mark.parametrize(
    ("cache", "seeds", "count"),
    # A replica of 31 parameters and twice as many numbers of Adam's is some 750 bytes.
    [(2**20, 12, 12), (1500, 12, 2), (4500, 12, 6), (1, 12, 1), (1500, 7, 1), (4500, 7, 7)],
)
def test_as_many_replicas_take_calls_together_as_the_caches_hold(
    cache: int, seeds: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def compile_(graph: Any, arguments: Sequence[Tensor], *others: Any) -> compiling.Compiled:
        given.append(len(arguments[0]))
        return compiling.Compiled(graph, 0.0)

    monkeypatch.setattr(module_under_test, "compile_graph", compile_)
    monkeypatch.setattr(blocks_under_test, "CACHE_BYTES", cache)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    ours, theirs = (make(seeds=range(seeds), optimizer=OPTIMIZERS["adam"], build=rectified) for _ in range(2))
    made = program(ours, unroll=2, compiled=True)
    assert given == [count]
    train(ours, 6, made)
    step(theirs, 6)
    for index in range(seeds):
        assert_same(replica(ours, index), replica(theirs, index), **CLOSE)


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("cache", [2**20, 1])
def test_program_runs_as_it_is_where_nothing_can_be_compiled(cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_under_test, "CACHE_BYTES", cache)
    ours, theirs = make(CBP), make(CBP)
    with config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        made = program(ours, unroll=2, compiled=True)
    assert made.compile_s is None
    assert "no-such-compiler" in (made.compile_error or "")
    inputs, targets = stream(ours.seeds, 8)
    assert torch.equal(
        advance(made, ours, inputs, targets)[0], advance(program(theirs, unroll=2), theirs, inputs, targets)[0]
    )
    assert_same(snapshot(ours), snapshot(theirs))
