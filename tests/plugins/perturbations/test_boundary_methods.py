"""Reset, head reset and shrink and perturb: what they do at a task boundary."""

import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.head_reset import HeadReset
from lopbench_plugins.perturbations.reset import Reset
from lopbench_plugins.perturbations.shrink_and_perturb import ShrinkAndPerturb


def cross(trained, index=1):
    """Take the learner over a boundary and return its parameters before and after it."""
    before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
    trained.learner.begin_task(index, trained.tasks, first=False, reset_optimizer=False, zero_head=False)
    return before, trained.learner.view.parameters


def normalised(generator):
    with rng.isolated(generator):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)
        )


def test_reset_goes_on_as_a_network_that_starts_at_this_task(runner, adam):
    reference = Adam(lr=1e-3)
    ours = runner([Reset()], optimizer=adam, reference_optimizer=reference).run(10)
    cross(ours, index=4)
    ours.run(10)
    fresh = runner([], optimizer=reference, init_index=4)
    fresh.step = 10
    fresh.run(10)
    for name, value in fresh.learner.view.parameters.items():
        assert torch.equal(ours.learner.view.parameters[name], value)


@pytest.mark.parametrize(("layers", "kept"), [(1, 5), (2, 3), (3, 0)])
def test_head_reset_redraws_the_last_layers_and_leaves_the_body(layers, kept, runner):
    trained = runner([HeadReset(layers=layers)], build=normalised).run(5)
    before, after = cross(trained)
    names = [name for name in after if not name.startswith("2.")]  # of the linear layers
    body = [*names[: 2 * (3 - layers)], *(["2.weight", "2.bias"] if layers < 3 else [])]
    for name in after:
        assert torch.equal(before[name], after[name]) == (name in body), name
        forgotten = all(
            not value.any()
            for key, value in trained.learner.optimizer.state_dict().items()
            if key.startswith(f"{name}/") and "exp_avg" in key
        )
        assert forgotten == (name not in body), name


def test_head_reset_draws_from_the_law_of_construction(runner):
    trained = runner([HeadReset()]).run(1)
    head = []
    for index in range(1, 40):
        _, after = cross(trained, index)
        head.append(after["5.weight"].flatten().clone())
    drawn = torch.cat(head) * 7**0.5  # uniform in [-1, 1]: 819 draws, deviation of the mean .02, of the square .0104
    assert drawn.abs().max() <= 1
    assert drawn.mean().abs() < 0.08
    assert (drawn.square().mean() - 1 / 3).abs() < 0.04


def test_head_reset_of_more_layers_than_there_are_is_refused(runner):
    with pytest.raises(UnsupportedError, match="4 is more than the 3"):
        cross(runner([HeadReset(layers=4)]).run(1))


def test_shrink_without_perturbation_scales_by_the_share(runner):
    before, after = cross(runner([ShrinkAndPerturb(shrink=0.25, perturb=0.0)]).run(5))
    for name in after:
        assert torch.equal(after[name], 0.25 * before[name])


def test_shrink_to_nothing_with_full_perturbation_is_a_fresh_network(runner):
    trained = runner([ShrinkAndPerturb(shrink=0.0, perturb=1.0)], build=normalised).run(5)
    before, after = cross(trained)
    assert torch.equal(after["2.weight"], torch.ones(1, 8))
    assert torch.equal(after["2.bias"], torch.zeros(1, 8))
    bound = 8**-0.5
    assert not torch.equal(before["4.weight"], after["4.weight"])
    assert after["4.weight"].abs().max() <= bound
    assert after["4.weight"].abs().max() > 0.8 * bound


def test_shrink_and_perturb_adds_the_share_of_one_fresh_network(runner):
    shrunk = runner([ShrinkAndPerturb(shrink=0.5, perturb=0.0)]).run(5)
    perturbed = runner([ShrinkAndPerturb(shrink=0.5, perturb=0.25)]).run(5)
    fresh = runner([ShrinkAndPerturb(shrink=0.0, perturb=1.0)]).run(5)
    for trained in (shrunk, perturbed, fresh):
        cross(trained)
    for name, value in shrunk.learner.view.parameters.items():
        expected = value + 0.25 * fresh.learner.view.parameters[name]
        torch.testing.assert_close(perturbed.learner.view.parameters[name], expected)


def test_shrink_and_perturb_pulls_normalisation_towards_its_start(runner):
    before, after = cross(runner([ShrinkAndPerturb(shrink=0.25, perturb=0.1)], build=normalised).run(5))
    torch.testing.assert_close(after["2.weight"], 0.25 * before["2.weight"] + 0.75)
    torch.testing.assert_close(after["2.bias"], 0.25 * before["2.bias"])


def test_shrink_and_perturb_clears_the_optimizer(runner):
    trained = runner([ShrinkAndPerturb()]).run(5)
    assert trained.learner.optimizer.state_dict()
    cross(trained)
    assert not trained.learner.optimizer.state_dict()


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (HeadReset, {"layers": -1}),
        (ShrinkAndPerturb, {"shrink": 1.1}),
        (ShrinkAndPerturb, {"shrink": float("nan")}),
        (ShrinkAndPerturb, {"perturb": -0.1}),
        (ShrinkAndPerturb, {"perturb": float("inf")}),
    ],
)
def test_fields_out_of_range_are_refused(method, fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        method(**fields)
