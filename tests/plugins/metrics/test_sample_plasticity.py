"""Sample plasticity of training steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from lopbench_plugins.metrics.sample_plasticity import SamplePlasticity

METRIC = SamplePlasticity()
losses = st.floats(0, 1e6)


def of(before, after):
    return METRIC.compute(*torch.tensor([[before], [after]], dtype=torch.float64)).item()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(2.0, 1.0, 0.5), (2.0, 0.0, 1.0), (2.0, 2.0, 0.0), (2.0, 3.0, 0.0), (4.0, 3.0, 0.25)],
)
def test_it_is_the_share_by_which_the_loss_fell(before, after, expected):
    assert of(before, after) == expected


@pytest.mark.parametrize("lr", [0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5])
def test_a_step_on_a_parabola_has_the_closed_form(lr):
    # L = w^2 / 2 and w <- (1 - lr) w: L(after) / L(before) = (1 - lr)^2.
    weight = 3.0
    after = ((1 - lr) * weight) ** 2 / 2
    assert of(weight**2 / 2, after) == pytest.approx(max(0.0, 1 - (1 - lr) ** 2), abs=1e-15)


@given(losses, losses)
def test_it_is_a_share(before, after):
    assert 0 <= of(before, after) <= 1


def test_a_loss_of_zero_is_taken_as_the_papers_epsilon():
    assert of(0.0, 0.0) == 1.0
    assert of(0.0, 1e-8) == 0.0
    assert of(0.0, 5e-9) == pytest.approx(0.5)


@given(st.lists(st.tuples(losses, losses), min_size=1, max_size=5))
def test_replicas_do_not_meet(pairs):
    before, after = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    assert METRIC.compute(before, after).tolist() == [of(*pair) for pair in pairs]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_nan_and_no_share(bad):
    before = torch.tensor([1.0, bad, 1.0])
    after = torch.tensor([0.5, 1.0, bad])
    assert METRIC.compute(before, after).isnan().tolist() == [False, True, True]


def test_it_can_be_traced():
    traced = make_fx(lambda before, after: METRIC.compute(before, after))(torch.ones(2), torch.ones(2))
    assert traced(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 3.0])).tolist() == [0.5, 0.0]
