"""FIRE: its iterations against NumPy, and what they lead to."""

import numpy as np
import pytest
import torch
from method_lab import convolutional, rectified
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.perturbations.fire import Fire, isometric


def cross(trained):
    """Take the learner over a boundary and return its parameters before and after it."""
    before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
    trained.learner.begin_task(1, trained.tasks, first=False, reset_optimizer=False, zero_head=False)
    return before, trained.learner.view.parameters


def by_hand(matrix, iterations):
    """Return what NumPy makes of one matrix, written from the formula."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x * np.sqrt(matrix.shape[0] / matrix.shape[1])


def numbers(*shape):
    return torch.randn(*shape, generator=rng.derive(0, "weights"), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_a_matrix_is_iterated_as_the_formula_says(shape):
    weight = numbers(2, *shape)
    for replica, made in enumerate(isometric(weight, 10)):
        np.testing.assert_allclose(made.numpy(), by_hand(weight[replica].numpy(), 10), rtol=1e-10, atol=1e-12)


def test_each_position_of_a_kernel_is_a_matrix_of_its_own():
    weight = numbers(2, 4, 3, 2, 5)
    made = isometric(weight, 10).numpy()
    for replica in range(2):
        for row in range(2):
            for column in range(5):
                expected = by_hand(weight[replica, :, :, row, column].numpy(), 10) / 10
                np.testing.assert_allclose(made[replica, :, :, row, column], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_ten_iterations_bring_singular_values_near_each_other_and_many_give_the_polar_factor(shape):
    weight, scale = numbers(1, *shape), (shape[0] / shape[1]) ** 0.5
    values = torch.linalg.svdvals(isometric(weight, 10)) / scale
    assert 0.95 < values.min() <= values.max() < 1 + 1e-12
    made = isometric(weight, 60)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(made, scale * left @ right)
    assert (made * weight).sum().item() == pytest.approx(scale * values.sum().item())
    torch.testing.assert_close(isometric(made, 60), made)


def test_weights_of_zeros_stay_zeros():
    assert not isometric(torch.zeros(1, 3, 4), 10).any()


@pytest.mark.parametrize("build", [rectified, convolutional])
def test_all_weights_are_replaced_the_heads_too_and_nothing_else(build, runner):
    before, after = cross(runner([Fire(iterations=7)], seeds=(0, 1), build=build, dtype=torch.float64).run(5))
    for name, value in after.items():
        expected = isometric(before[name], 7) if value.ndim > 2 else before[name]
        assert torch.equal(value, expected), name


def test_the_optimizer_is_cleared(runner):
    trained = runner([Fire()]).run(5)
    assert trained.learner.optimizer.state_dict()
    cross(trained)
    assert not trained.learner.optimizer.state_dict()


def vit(generator):
    architecture = ViT(patch=2, width=12, depth=2, heads=2)
    return architecture.build((1, 4, 4), 3, generator=generator)


def test_of_a_vision_transformer_queries_and_keys_alone_are_replaced(runner):
    before, after = cross(runner([Fire()], build=vit, dtype=torch.float64))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"}
    for name in changed:
        old, new = before[name].chunk(3, dim=1), after[name].chunk(3, dim=1)
        assert torch.equal(new[2], old[2])
        for part in (0, 1):
            torch.testing.assert_close(new[part], isometric(old[part], 10))


def test_scope_all_takes_queries_keys_and_values_apart(runner):
    before, after = cross(runner([Fire(scope="all")], build=vit, dtype=torch.float64))
    for old, new in zip(
        before["blocks.0.attn.qkv.weight"].chunk(3, dim=1),
        after["blocks.0.attn.qkv.weight"].chunk(3, dim=1),
        strict=True,
    ):
        torch.testing.assert_close(new, isometric(old, 10))
    assert not torch.equal(after["head.weight"], before["head.weight"])


def test_a_layer_of_torch_that_attends_is_taken_apart_too(runner):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            x = x.flatten(1, 2)
            return self.out(self.attention(x, x, x, need_weights=False)[0].mean(dim=1))

    before, after = cross(runner([Fire()], build=lambda generator: Attending(), dtype=torch.float64))
    assert {n for n, v in after.items() if not torch.equal(v, before[n])} == {"attention.in_proj_weight"}


def test_scope_attention_without_attention_is_refused(runner):
    with pytest.raises(UnsupportedError, match="fire:scope=all"):
        runner([Fire(scope="attention")])
