from types import SimpleNamespace

import pytest
import torch
from lopbench_gradient_clipping import GradientClipping

from lopbench import InvalidInputError
from lopbench.testing import examples, parametrize_with_checks


@parametrize_with_checks(examples(GradientClipping))
def test_conformance(component, check):
    check(component)


def clipped(norm, gradients):
    """Return what is left of gradients ``(R, ...)``, and how many replicas were clipped."""
    left, state = {name: gradient.clone() for name, gradient in gradients.items()}, {}
    replicas = len(next(iter(gradients.values())))
    learner = SimpleNamespace(gradients=left, replicas=replicas, device=torch.device("cpu"))
    method = GradientClipping(norm=norm)
    method.begin(learner, state)
    method.after_backward(learner, state)
    return left, method.report(learner, state)["clipped"]


def some(replicas=3):
    draws = torch.Generator().manual_seed(0)
    return {name: torch.randn(replicas, *shape, generator=draws) for name, shape in {"w": (4, 5), "b": (4,)}.items()}


def test_each_replica_is_clipped_as_torch_does_it():
    gradients = some()
    gradients["w"][1] *= 1e-3
    gradients["b"][1] *= 1e-3  # shorter than the bound
    left, count = clipped(0.5, gradients)
    assert count.tolist() == [1, 0, 1]
    for replica in range(3):
        leaves = [torch.zeros_like(gradient[replica]).requires_grad_() for gradient in gradients.values()]
        for leaf, gradient in zip(leaves, gradients.values(), strict=True):
            leaf.grad = gradient[replica].clone()
        torch.nn.utils.clip_grad_norm_(leaves, 0.5)
        for leaf, value in zip(leaves, left.values(), strict=True):
            torch.testing.assert_close(value[replica], leaf.grad, rtol=1e-5, atol=0)
    assert all(torch.equal(left[name][1], gradients[name][1]) for name in gradients)


def test_a_gradient_of_zero_stays():
    left, count = clipped(0.5, {"w": torch.zeros(2, 3)})
    assert not left["w"].any()
    assert not count.any()


@pytest.mark.parametrize("norm", [0.0, -1.0, float("inf"), float("nan")])
def test_other_bounds_are_refused(norm):
    with pytest.raises(InvalidInputError, match="norm"):
        GradientClipping(norm=norm)
