"""Running standardisation of inputs, against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench_plugins.perturbations.input_norm import InputNorm


def seen(trained, steps):
    """Return all samples of the first steps, ``(R, samples, ...)``."""
    return [np.concatenate([task.batch(step)[0].numpy() for step in range(steps)]) for task in trained.tasks]


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_statistics_are_those_of_all_samples_so_far(steps, runner):
    trained = runner([InputNorm()], seeds=(0, 1), dtype=torch.float64).run(steps)
    buffers = trained.learner.view.buffers
    for replica, samples in enumerate(seen(trained, steps)):
        assert buffers["input_count"][replica] == len(samples)
        np.testing.assert_allclose(buffers["input_mean"][replica].numpy(), samples.mean(axis=0), atol=1e-14)
        np.testing.assert_allclose(buffers["input_variance"][replica].numpy(), samples.var(axis=0), rtol=1e-12)


def test_the_network_reads_standardised_inputs_the_batch_included(runner):
    trained = runner([InputNorm()], dtype=torch.float64).run(4)
    read = []
    trained.learner.network.module[0].register_forward_pre_hook(lambda layer, inputs: read.append(inputs[0]))
    trained.run(1)
    (samples,) = seen(trained, 5)
    batch = trained.tasks[0].batch(4)[0].numpy()
    expected = (batch - samples.mean(axis=0)) / np.sqrt(samples.var(axis=0) + 1e-8)
    np.testing.assert_allclose(read[0].detach().numpy().reshape(expected.shape), expected, rtol=1e-10)


def test_shift_and_scale_of_the_inputs_change_nothing(runner):
    plain, moved = (runner([InputNorm(eps=1e-300)], dtype=torch.float64) for _ in range(2))
    draw = moved.tasks[0].batch
    moved.tasks[0].batch = lambda step: (7 + 300 * draw(step)[0], draw(step)[1])
    moved.run(10)
    for name, value in plain.run(10).learner.view.parameters.items():
        torch.testing.assert_close(moved.learner.view.parameters[name], value, rtol=1e-6, atol=1e-9)


def test_an_entry_that_is_always_the_same_becomes_zero_and_evaluation_moves_nothing():
    module = InputNorm().configure(nn.Flatten(), example=torch.zeros(2, 3), generator=rng.derive(0))
    constant = torch.tensor([[1.1, 2.0, 3.0], [1.1, 4.0, 9.0]])
    for _ in range(50):
        made = module(constant)
    assert made[:, 0].abs().max() < 2e-2  # rounding over the root of eps
    torch.testing.assert_close(made[:, 1:], torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    before = {name: value.clone() for name, value in module.named_buffers()}
    module.eval()(100 * constant)
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())


def test_before_training_inputs_are_left_as_they_are():
    module = InputNorm().configure(nn.Flatten(), example=torch.zeros(2, 3), generator=rng.derive(0)).eval()
    inputs = torch.randn(4, 3, generator=rng.derive(0, "x"))
    torch.testing.assert_close(module(inputs), inputs)


def test_tokens_are_refused():
    with pytest.raises(UnsupportedError, match="such as tokens; leave input_norm out, or use a stream of real numbers"):
        InputNorm().configure(nn.Embedding(3, 4), example=torch.zeros(2, 3, dtype=torch.long), generator=rng.derive(0))
