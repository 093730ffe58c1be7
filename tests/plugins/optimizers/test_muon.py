"""Muon against `torch.optim.Muon`, whose iteration is kept from rounding to bfloat16, and against its own theory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.muon import Muon, orthogonalised


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (12, 2)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_matrices_move_as_in_torch(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], nesterov: bool, adjust: str
) -> None:
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    rule = Muon(lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust=adjust)  # type: ignore[arg-type]
    leaves = [nn.Parameter(draw(r, *shape)) for r in range(3)]
    weight = torch.stack([leaf.detach().clone() for leaf in leaves])
    entries = rule.init(weight, hidden=True)
    theirs = torch.optim.Muon(leaves, lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn=adjust)
    for step in range(30):
        gradient = draw(100 + step, 3, *shape)
        for leaf, each in zip(leaves, gradient, strict=True):
            leaf.grad = each.clone()
        weight += rule.update(gradient, entries, weight, rule.lr)
        theirs.step()
    torch.testing.assert_close(weight, torch.stack([leaf.detach() for leaf in leaves]), rtol=1e-11, atol=1e-12)


def test_in_bfloat16_torch_moves_likewise() -> None:
    rule, leaf = Muon(lr=0.02), nn.Parameter(draw(0, 6, 4))
    theirs = torch.optim.Muon([leaf], lr=0.02, weight_decay=0.0)
    before, gradient = leaf.detach().clone().unsqueeze(0), draw(1, 1, 6, 4)
    leaf.grad = gradient[0]
    theirs.step()
    ours = rule.update(gradient, rule.init(before, hidden=True), before, rule.lr)
    torch.testing.assert_close(ours[0], leaf.detach() - before[0], rtol=0, atol=0.02 * 0.02)  # 2% of a learning rate


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 9), columns=st.integers(1, 9), size=st.floats(1e-3, 1e3))
@settings(max_examples=60)
def test_singular_values_end_near_1_with_the_singular_vectors_kept(
    seed: int, rows: int, columns: int, size: float
) -> None:
    u, _, vt = torch.linalg.svd(draw(seed, 2, rows, columns), full_matrices=False)
    values = 0.2 + draw(seed + 1, 2, min(rows, columns)).abs()  # no direction that five iterations cannot lift
    found = u.mT @ orthogonalised(u * (size * values).unsqueeze(1) @ vt, 5) @ vt.mT
    diagonal = found.diagonal(dim1=1, dim2=2)
    assert ((diagonal > 0.6) & (diagonal < 1.3)).all()
    torch.testing.assert_close(found, torch.diag_embed(diagonal), rtol=0, atol=1e-9)


def test_a_kernel_moves_as_the_matrix_of_its_outputs() -> None:
    rule, weight, gradient = Muon(lr=0.02), draw(0, 2, 6, 3, 2, 2), draw(1, 2, 6, 3, 2, 2)
    kernel = rule.update(gradient, rule.init(weight, hidden=True), weight, 0.02)
    flat = weight.flatten(2)
    matrix = rule.update(gradient.flatten(2), rule.init(flat, hidden=True), flat, 0.02)
    torch.testing.assert_close(kernel.flatten(2), matrix, rtol=1e-12, atol=0)


def test_a_gradient_of_zero_moves_nothing() -> None:
    rule, weight = Muon(lr=0.02), draw(0, 2, 4, 3)
    assert not rule.update(torch.zeros_like(weight), rule.init(weight, hidden=True), weight, 0.02).any()


def test_the_rest_moves_by_adam_at_a_tenth_of_the_learning_rate() -> None:
    muon, adam = Muon(lr=0.02), Adam(lr=0.002, betas=(0.9, 0.95))
    weight = draw(0, 2, 4, 3)
    ours, theirs = muon.init(weight, hidden=False), adam.init(weight, hidden=False)
    for step in range(5):
        gradient = draw(1 + step, 2, 4, 3)
        update = muon.update(gradient, ours, weight, torch.tensor([0.02, 0.04], dtype=torch.float64))
        expected = adam.update(gradient, theirs, weight, torch.tensor([0.002, 0.004], dtype=torch.float64))
        torch.testing.assert_close(update, expected, rtol=1e-12, atol=0)
