"""The pull towards the initial weights."""

import pytest
import torch

from lopbench_plugins.perturbations.l2_init import L2Init

LR = 0.05


@pytest.mark.parametrize("program", [False, True])
def test_without_loss_the_distance_to_the_start_falls_geometrically(compared, program):
    strengths = [0.5, 2.0, 19.0]  # of the replicas
    pair = compared(L2Init(strength=torch.tensor(strengths, dtype=torch.float64)), program=program, lr=LR, loss=0.0)
    starts = [{name: value.copy() for name, value in hand.p.items()} for hand in pair.hands]
    moved = torch.Generator().manual_seed(0)
    for short, name in (("w1", "0.weight"), ("b1", "0.bias"), ("w2", "2.weight"), ("b2", "2.bias")):
        value = pair.learner.view.parameters[name]
        value.add_(torch.randn(value.shape, generator=moved, dtype=value.dtype))
        for replica, hand in enumerate(pair.hands):
            hand.p[short][:] = value[replica].numpy()
    ahead = [
        {name: hand.p[name] - start[name] for name in start} for hand, start in zip(pair.hands, starts, strict=True)
    ]

    def rule(hand, replica):
        for name in hand.p:
            left = (1 - LR * strengths[replica]) ** hand.steps
            hand.p[name][:] = starts[replica][name] + left * ahead[replica][name]

    pair.run(12, rule)


def test_the_term_has_no_gradient_at_the_start(runner):
    ours = runner([L2Init(strength=10.0)]).run(1).learner.view.parameters
    theirs = runner([]).run(1).learner.view.parameters
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_steps_are_those_of_the_formula(compared):
    pair = compared(L2Init(strength=0.3), lr=LR)
    starts = [{name: value.copy() for name, value in hand.p.items()} for hand in pair.hands]

    def rule(hand, replica):
        for name in hand.g:
            hand.g[name] += 0.3 * (hand.p[name] - starts[replica][name])
        hand.descend()

    pair.run(15, rule)
