"""Plasticity injection: outputs that do not notice, and parameters that are trained."""

import pytest
import torch
from method_lab import rectified
from torch import nn

from lopbench.core.errors import UnsupportedError
from lopbench_plugins.perturbations.crelu import CReLU
from lopbench_plugins.perturbations.plasticity_injection import PlasticityInjection

HEAD = ("5.weight", "5.bias")


def cross(trained, index):
    trained.learner.begin_task(index, trained.tasks, first=False, reset_optimizer=False, zero_head=False)


def outputs(trained):
    inputs = torch.stack([task.batch(99)[0] for task in trained.tasks])
    with torch.no_grad():
        return trained.learner.view.forward(inputs).outputs


def moved(trained, steps=3):
    """Return the names of the parameters that some steps move."""
    before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
    trained.run(steps)
    return {name for name, value in trained.learner.view.parameters.items() if not torch.equal(value, before[name])}


def count(trained, names):
    return sum(trained.learner.view.parameters[name].numel() for name in names)


def test_until_the_injection_it_trains_as_without_the_method(runner):
    ours, theirs = runner([PlasticityInjection(boundary=2)]).run(5), runner([]).run(5)
    for trained in (ours, theirs):
        cross(trained, 1)
        trained.run(5)
    for name, value in theirs.learner.view.parameters.items():
        assert torch.equal(ours.learner.view.parameters[name], value), name


def test_an_injection_changes_no_output_and_trains_as_many_parameters_without_the_old_head(runner):
    trained = runner([PlasticityInjection()], seeds=(0, 1), dtype=torch.float64).run(5)
    before, was = outputs(trained), moved(trained)
    before = outputs(trained)
    cross(trained, 1)
    assert torch.equal(outputs(trained), before)
    now = moved(trained)
    assert set(HEAD) <= was
    assert now == was - set(HEAD) | {"5.fresh_weight", "5.fresh_bias"}
    assert count(trained, now) == count(trained, was)
    assert not torch.equal(outputs(trained), before)


def test_a_head_that_was_widened_behind_it_still_starts_where_it_was(runner):
    methods = [PlasticityInjection(), CReLU()]
    trained = runner(methods, seeds=(0, 1), dtype=torch.float64, build=rectified).run(3)
    parameters = trained.learner.view.parameters
    shapes = {tuple(parameters[f"5.{kind}weight"].shape) for kind in ("", "fresh_", "start_")}
    assert shapes == {(2, 3, 14)}
    assert torch.equal(parameters["5.fresh_weight"], parameters["5.start_weight"])
    before = outputs(trained)
    cross(trained, 1)
    assert torch.equal(outputs(trained), before)
    assert {"5.fresh_weight", "5.fresh_bias"} <= moved(trained)


def test_once_is_once(runner):
    trained = runner([PlasticityInjection()], dtype=torch.float64).run(3)
    cross(trained, 1)
    trained.run(3)
    before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
    cross(trained, 2)
    assert all(torch.equal(value, before[name]) for name, value in trained.learner.view.parameters.items())


def test_repeated_injections_change_no_output_and_start_from_other_heads(runner):
    trained = runner([PlasticityInjection(repeat=True)], seeds=(0, 1), dtype=torch.float64).run(3)
    cross(trained, 1)
    view, starts = trained.learner.view, []
    for index in (2, 3):
        trained.run(4)
        before = outputs(trained)
        cross(trained, index)
        torch.testing.assert_close(outputs(trained), before, rtol=1e-12, atol=1e-13)
        assert torch.equal(view.parameters["5.fresh_weight"], view.parameters["5.start_weight"])
        state = trained.learner.optimizer.state_dict()
        assert not any(value.any() for name, value in state.items() if "fresh" in name and "exp_avg" in name)
        starts.append(view.parameters["5.start_weight"].clone())
        assert moved(trained, 1) >= {"5.fresh_weight", "5.fresh_bias"}
        assert not moved(trained, 1) & {*HEAD, "5.start_weight"}
    assert not torch.equal(*starts)
    assert not torch.equal(starts[0][0], starts[0][1])


def test_a_head_that_is_no_linear_layer_is_refused(runner):
    class Special(nn.Linear):
        pass

    with pytest.raises(UnsupportedError, match="the head is a Special, not a linear layer"):
        runner([PlasticityInjection()], build=lambda generator: nn.Sequential(nn.Flatten(), Special(16, 3)))
