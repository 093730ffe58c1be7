"""Hare and Tortoise: mean, returns and memory."""

import numpy as np
import pytest
import torch
from method_lab import convolutional

from lopbench.learner import evaluation
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.hare_and_tortoise import HareAndTortoise


def slow(trained):
    """Return the evaluated parameters and buffers, ``(R, ...)`` by name."""
    found = [evaluation.replica(trained.learner, replica) for replica in range(trained.learner.replicas)]
    merged = [{**parameters, **buffers} for parameters, buffers in found]
    return {name: torch.stack([each[name] for each in merged]).detach().clone() for name in merged[0]}


def fast(trained):
    return {
        n: v.clone()
        for part in (trained.learner.view.parameters, trained.learner.view.buffers)
        for n, v in part.items()
    }


def test_mean_and_returns_are_those_of_the_formula(runner):
    """Between returns the hare trains as a network without the method does from where it stands."""
    method, options = HareAndTortoise(momentum=0.8, every=3), {"build": convolutional, "optimizer": SGD(lr=0.05)}
    ours, plain = (runner(m, seeds=(0, 1), dtype=torch.float64, **options) for m in ([method], []))
    mean = {name: value.numpy() for name, value in fast(plain).items()}
    for step in range(1, 11):
        plain.run(1)
        hare = {name: value.numpy() for name, value in fast(plain).items()}
        for name, value in hare.items():
            is_count = name.endswith("num_batches_tracked")
            mean[name] = value if is_count else 0.8 * mean[name] + 0.2 * value
        if step % 3 == 0:
            for part in (plain.learner.view.parameters, plain.learner.view.buffers):
                for name, value in part.items():
                    value.copy_(torch.from_numpy(np.asarray(mean[name])))
            hare = mean
        ours.run(1)
        for name, value in fast(ours).items():
            np.testing.assert_allclose(value.numpy(), hare[name], rtol=1e-10, atol=1e-13)
        for name, value in slow(ours).items():
            np.testing.assert_allclose(value.numpy(), mean[name], rtol=1e-10, atol=1e-13)


def test_hare_and_tortoise_share_no_memory_after_a_return(runner):
    trained = runner([HareAndTortoise(momentum=0.9, every=3)], build=convolutional).run(3)
    state, view = trained.learner.states[0], trained.learner.view
    for name, value in {**view.parameters, **view.buffers}.items():
        mean = state[f"slow/{name}"]
        assert torch.equal(mean, value)
        assert mean.untyped_storage().data_ptr() != value.untyped_storage().data_ptr()
    trained.run(1)
    assert not torch.equal(state["slow/0.weight"], view.parameters["0.weight"])


def test_the_mean_lies_within_what_the_hare_has_been(runner):
    trained = runner([HareAndTortoise(momentum=0.7, every=100)], dtype=torch.float64)
    least, most = fast(trained), fast(trained)
    for _ in range(20):
        for name, value in fast(trained.run(1)).items():
            least[name], most[name] = torch.minimum(least[name], value), torch.maximum(most[name], value)
    for name, value in slow(trained).items():
        assert (value >= least[name] - 1e-14).all()
        assert (value <= most[name] + 1e-14).all()


def test_momentum_zero_is_the_hare(runner):
    trained, plain = runner([HareAndTortoise(momentum=0.0, every=2)]).run(7), runner([]).run(7)
    for name, value in slow(trained).items():
        assert torch.equal(value, fast(plain)[name])


@pytest.mark.parametrize("every", [1, 4])
def test_the_optimizer_keeps_its_state(every, runner):
    trained = runner([HareAndTortoise(momentum=0.5, every=every)]).run(4)
    assert any(value.any() for name, value in trained.learner.optimizer.state_dict().items() if "exp_avg" in name)
