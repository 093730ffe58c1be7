from typing import Any

import pytest
import torch
from learner_toys import (
    ADAM,
    BATCH_NORM,
    DROPOUT,
    MOMENTUM,
    SMALL,
    Noise,
    Recycler,
    Restart,
    cross,
    equal,
    make,
    snapshot,
    train,
)

from lopbench.core.interfaces import Optimizer, Perturbation


@pytest.mark.parametrize(
    ("architecture", "methods", "seeds"),
    [
        (SMALL, (), (0,)),
        (BATCH_NORM, (), (0,)),
        (DROPOUT, (), (0,)),
        (BATCH_NORM, (Recycler(), Noise()), (0,)),
        (DROPOUT, (Restart(), Recycler()), (0,)),
        (BATCH_NORM, (Recycler(), Noise()), (0, 1)),
    ],
    ids=["plain", "batch", "dropout", "resets", "restart", "stack"],
)
@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["sgd", "adam"])
def test_a_resumed_learner_goes_on_bit_for_bit(
    architecture: Any, methods: tuple[Perturbation, ...], seeds: tuple[int, ...], optimizer: Optimizer
) -> None:
    learner = make(architecture, seeds, methods, optimizer)
    train(learner, range(5))
    cross(learner, 1, zero_head=True)
    train(learner, range(8), index=1)
    saved = snapshot(learner.state_dict())
    resumed = make(architecture, seeds, methods, optimizer)
    cross(resumed, 1, first=True)
    resumed.load_state_dict(saved)
    assert equal(resumed.state_dict(), saved)
    for ours, theirs in zip(train(learner, range(8, 20), index=1), train(resumed, range(8, 20), index=1), strict=True):
        assert torch.equal(ours.losses, theirs.losses)
    assert equal(resumed.state_dict(), learner.state_dict())
    assert torch.equal(resumed.optimizer.lr, learner.optimizer.lr)
    assert equal(resumed.view.initial, learner.view.initial)
    assert resumed.hooks.acted == learner.hooks.acted


def test_learners_share_no_memory_after_loading() -> None:
    first, second = (make(BATCH_NORM, methods=[Recycler(), Noise()]) for _ in range(2))
    train(first, range(4))
    second.load_state_dict(first.state_dict())
    before = snapshot(first.state_dict())
    train(second, range(4, 8))
    assert equal(first.state_dict(), before)


def test_state_bytes_counts_weights_buffers_and_optimizer() -> None:
    learner = make(BATCH_NORM, optimizer=MOMENTUM)
    weights = sum(value.nbytes for value in learner.view.parameters.values())
    buffers = sum(value.nbytes for value in learner.view.buffers.values())
    assert learner.state_bytes() == weights + buffers
    train(learner, range(1))
    assert learner.state_bytes() == 2 * weights + buffers
