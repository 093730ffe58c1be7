"""A stream of tokens and a transformer of third parties, on which built-in methods act."""

import math

import pytest
import torch
from third_party_lab import component, method

from lopbench import UnsupportedError
from lopbench.learner import evaluation
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program, why_not
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.cbp import ContinualBackprop
from lopbench_plugins.perturbations.l2 import L2

SCENARIO = component(
    "scenarios", "characters", profile="smoke", tasks=5, steps_per_task=10, alphabet=6, length=8, batch_size=4
)
ARCHITECTURE = component("architectures", "token_transformer", width=8, hidden=12, depth=2)
CBP = ContinualBackprop(replacement_rate=0.05, maturity=3)
CPU = torch.device("cpu")
STREAMS = [SCENARIO.stream(seed, data=None, device=CPU) for seed in range(3)]


def learner(*methods, seeds=(0, 1), optimizer=Adam(lr=3e-3), architecture=ARCHITECTURE, dtype=torch.float64):  # noqa: B008
    stream = STREAMS[0]
    inputs, targets = next(stream.task(0).batches())
    made = StackLearner(
        build=lambda generator: architecture.build(stream.input_shape, stream.outputs, generator=generator),
        seeds=seeds,
        methods=methods,
        optimizer=optimizer,
        example=inputs,
        targets=targets,
        tokens=stream.inputs == "tokens",
        outputs=stream.outputs,
        head=architecture.head,
        layers=architecture.layers,
        dtype=dtype,
    )
    made.begin_task(0, [STREAMS[seed].task(0) for seed in seeds], first=True, reset_optimizer=False, zero_head=False)
    return made


def train(made, steps, task=0):
    """Train on the first batches of a task; returns the losses ``(steps, R)``."""
    batches = [STREAMS[seed].task(task).batches() for seed in made.seeds]
    return torch.stack([made.step([next(each) for each in batches]).losses for _ in range(steps)])


def test_the_units_that_cbp_may_replace_are_those_of_the_hidden_layers():
    assert [(g.name, g.size) for g in learner(CBP).view.units] == [("blocks.0.mlp.0", 12), ("blocks.1.mlp.0", 12)]


def test_cbp_replaces_units_of_the_hidden_layers_and_moves_nothing_else():
    made = learner(CBP, optimizer=SGD(lr=1e-30))
    before = {name: value.clone() for name, value in made.view.parameters.items()}
    train(made, 30)
    assert (made.reports()["cbp.replaced"] > 10).all()
    moved = {name for name, value in made.view.parameters.items() if (value - before[name]).abs().max() > 1e-20}
    assert moved == {f"blocks.{block}.mlp.{name}" for block in (0, 1) for name in ("0.weight", "0.bias", "2.weight")}


def test_it_learns_the_source():
    losses = train(learner(seeds=(0,), optimizer=Adam(lr=1e-2)), 150)
    assert losses[0].item() > 0.9 * math.log(6)
    assert losses[-10:].mean().item() < 0.75 * losses[0].item()


@pytest.mark.parametrize("methods", [[], [CBP, L2(strength=0.01)], [method("c_chain")], [method("rank_penalty")]])
def test_replicas_and_programs_of_it_train_as_one_network_does(methods):
    together = learner(*methods, seeds=(0, 1))
    program = learner(*methods, seeds=(0, 1))
    alone = learner(*methods, seeds=(1,))
    train(together, 10)
    train(alone, 10)
    first = [
        tuple(torch.stack(part) for part in zip(*(next(STREAMS[s].task(0).batches()) for s in (0, 1)), strict=True))
    ]
    assert why_not(program, STREAMS[0].task(0), first) is None
    steps = Program(program, STREAMS[0].task(0), first, unroll=2, compiled=False)
    taken = [STREAMS[seed].task(0).batches().take(10)[0] for seed in (0, 1)]
    steps.advance(program, [tuple(zip(*taken, strict=True))])
    for name, value in together.view.parameters.items():
        torch.testing.assert_close(value[1], alone.view.parameters[name][0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(value, program.view.parameters[name], rtol=1e-9, atol=1e-11)


def test_scores_are_of_samples_and_the_permutation_changes_at_tasks():
    made, task = learner(seeds=(0,)), STREAMS[0].task(1)
    assert 0 <= evaluation.evaluate(made, 0, task)["heldout_score"] <= 1
    assert evaluation.probe(made, 0, task).outputs.shape == (16, 8, 6)
    train(made, 60)
    scores = [evaluation.evaluate(made, 0, STREAMS[0].task(index))["heldout_score"] for index in (0, 1)]
    assert scores[0] > scores[1] + 0.1


def test_a_network_without_an_embedding_is_refused():
    with pytest.raises(UnsupportedError, match="has no embedding"):
        learner(architecture=MLP(width=8, depth=1))
