"""Self-Normalized Resets."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench_plugins.perturbations.snr import SelfNormalizedResets


def quantile(runs, share):
    """Return the least of the runs that at least ``share`` of them do not exceed."""
    runs = sorted(runs)
    return next(run for place, run in enumerate(runs, 1) if place / len(runs) >= share)


@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_ages_thresholds_and_resets_are_those_of_the_formula(compared, reset_by_hand, program, batch):
    etas, cap, window = [0.1, 0.3, 0.6], 12 * batch, 15 * batch
    method = SelfNormalizedResets(eta=torch.tensor(etas, dtype=torch.float64), cap=cap, window=window)
    pair = compared(method, program=program, batch=batch, silent=(2,), lr=0.1)
    seen = {"up": 0, "down": 0, "resets": 0}

    def rule(hand, replica):
        memory = hand.memory
        age = memory.setdefault("age", np.zeros(6, dtype=int))
        threshold = memory.setdefault("threshold", np.full(6, cap))
        runs = memory.setdefault("runs", [[] for _ in range(6)])
        hand.descend()
        chosen = np.zeros(6, dtype=bool)
        for unit in range(6):
            if (hand.h[:, unit] <= 0).all():
                age[unit] += batch
                chosen[unit] = age[unit] >= threshold[unit]
            if age[unit] and (chosen[unit] or (hand.h[:, unit] > 0).any()):
                runs[unit].append(age[unit])
                age[unit] = 0
        seen["resets"] += chosen.sum()
        reset_by_hand(hand, replica, chosen)
        if hand.steps * batch % window == 0:
            for unit in range(6):
                if runs[unit]:
                    new = quantile(runs[unit], 1 - etas[replica])
                    new = new if new < threshold[unit] else 2 * threshold[unit]
                    new = min(max(new, batch), cap)
                    seen["down" if new < threshold[unit] else "up"] += new != threshold[unit]
                    threshold[unit] = new
                runs[unit].clear()
        state = pair.learner.states[0]
        np.testing.assert_array_equal(state["age"][replica].numpy(), age)
        np.testing.assert_array_equal(state["threshold"][replica].numpy(), threshold)

    pair.run(100, rule)
    assert min(seen.values()) >= 3, seen


@pytest.mark.parametrize("batch", [1, 256])
def test_a_unit_that_always_fires_keeps_its_threshold_and_is_never_reset(compared, batch):
    # The authors' code and FIRE's divide 0 by 0 here, and put the threshold at its floor.
    pair = compared(SelfNormalizedResets(cap=40 * batch, window=4 * batch), batch=batch, replicas=2, lr=1e-30)
    parameters = pair.learner.view.parameters
    parameters["0.bias"][:, 0] = 100.0
    before = parameters["0.weight"][:, 0].clone()
    for step in range(30):
        pair.learner.step(list(zip(*pair.draw(step), strict=True)))
    state = pair.learner.states[0]
    assert state["threshold"][:, 0].tolist() == [40 * batch] * 2
    assert torch.equal(parameters["0.weight"][:, 0], before)
    parameters["0.bias"][:, 0] = -100.0  # one silent batch is no reason yet
    pair.learner.step(list(zip(*pair.draw(30), strict=True)))
    assert state["age"][:, 0].tolist() == [batch] * 2
    assert (parameters["0.bias"][:, 0] < -99).all()


@pytest.mark.parametrize("batch", [1, 256])
def test_a_silent_unit_is_reset_at_exactly_its_threshold(compared, batch):
    pair = compared(SelfNormalizedResets(cap=9 * batch), batch=batch, replicas=1, silent=(3,), lr=1e-30)
    for step in range(8):
        pair.learner.step(list(zip(*pair.draw(step), strict=True)))
    assert pair.learner.states[0]["age"][0, 3] == 8 * batch
    assert pair.learner.view.parameters["0.bias"][0, 3] == -100
    pair.learner.step(list(zip(*pair.draw(8), strict=True)))
    assert pair.learner.states[0]["age"][0, 3] == 0
    assert pair.learner.view.parameters["0.bias"][0, 3] == 0
    assert not pair.learner.view.parameters["2.weight"][0, :, 3].any()


@pytest.mark.parametrize(("cap", "samples"), [(20_000, 1), (20_000, 16), (20_000, 100), (50, 100), (1, 1), (6400, 100)])
def test_bins_are_whole_batches_up_to_64_and_eighths_of_an_octave_beyond(cap, samples):
    edges = SelfNormalizedResets(cap=cap)._edges(samples)
    assert edges[-1] == cap
    whole = [edge // samples for edge in edges[:-1]]
    assert [edge * samples for edge in whole] == edges[:-1]
    assert whole[:64] == list(range(1, len(whole[:64]) + 1))
    assert all(a < b <= max(a + 1, a * 9 / 8) for a, b in pairwise(whole))
    assert len(edges) < 64 + 8 * 9


@pytest.mark.parametrize("fields", [{"eta": 0.0}, {"eta": 1.0}, {"cap": 0}, {"window": 0}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        SelfNormalizedResets(**fields)
