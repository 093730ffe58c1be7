"""The probe: shapes, what it derives, and that it derives each thing once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lopbench.core import moments
from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe, NetworkProbe, as_units

matrices = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.integers(-12, 12).map(lambda k: k / 4),
)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-9)


def test_channels_of_a_convolution_are_units_and_pixels_rows():
    maps = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    units = as_units(maps)
    assert units.shape == (8, 3)
    assert units[5].tolist() == maps[1, :, 0, 1].tolist()


def test_tokens_are_rows():
    tokens = torch.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    assert torch.equal(as_units(tokens), tokens.flatten(0, 1))


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (2, 3, 2, 2, 2)])
def test_other_shapes_are_refused_with_the_shape(shape):
    with pytest.raises(InvalidInputError, match=str(tuple(shape)).replace("(", r"\(").replace(")", r"\)")):
        as_units(torch.zeros(shape))


def test_gradient_of_another_shape_is_refused():
    with pytest.raises(InvalidInputError, match=r"hidden.*gradients of shape \(2, 3\)"):
        LayerProbe(torch.zeros(3, 2), torch.zeros(2, 3), name="hidden")


def test_probe_is_outside_autograd():
    values = torch.ones(3, 2, requires_grad=True)
    assert not LayerProbe(values * 2, values * 3).singular_values.requires_grad


@given(matrices)
def test_derived_quantities_equal_their_definitions(matrix):
    h = torch.tensor(matrix)
    probe = LayerProbe(h)
    centred = h - h.mean(dim=0)
    close(probe.mean, h.mean(dim=0))
    close(probe.mean_magnitude, h.abs().mean(dim=0))
    close(probe.covariance, centred.T @ centred)
    close(probe.gram, h.T @ h)
    # Below 1e-7 of the largest the squares hold no digits.
    torch.testing.assert_close(probe.singular_values, torch.linalg.svdvals(h), rtol=1e-7, atol=1e-5)


@given(matrices)
def test_blocks_of_rows_do_not_change_the_values(matrix):
    h = torch.tensor(matrix)
    whole = LayerProbe(h)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "_CHUNK_ELEMENTS", 1)
        rows = LayerProbe(h)
        for name in ("mean", "mean_magnitude", "covariance", "gram"):
            close(getattr(rows, name), getattr(whole, name))
        assert torch.equal(rows.share_of_rows(lambda x: x > 0), whole.share_of_rows(lambda x: x > 0))


DERIVED = ["mean", "mean_magnitude", "covariance", "gram", "singular_values", "varying"]


@pytest.mark.parametrize("shape", [(3, 40, 7), (3, 7, 40)])
@pytest.mark.parametrize("elements", [1, 10**6], ids=["rows", "whole"])
def test_what_follows_of_several_replicas_together_is_that_of_each_alone(shape, elements, monkeypatch):
    monkeypatch.setattr(moments, "_CHUNK_ELEMENTS", elements)
    stack = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stack[..., 0] = 0.5  # does not vary
    stack[1, 2, 3] = float("nan")  # of one, which the others do not feel
    together = moments.Moments(stack)
    for place, activation in enumerate(stack):
        alone, shared = LayerProbe(activation), LayerProbe(activation)
        shared.share(together, place)
        assert shared.finite == alone.finite == (place != 1)
        for name in DERIVED:
            torch.testing.assert_close(getattr(shared, name), getattr(alone, name), equal_nan=True, msg=name)
    assert together.covariance.shape == (3, shape[2], shape[2])


def test_a_probe_of_other_activations_shares_nothing():
    probe = LayerProbe(torch.ones(3, 2))
    probe.share(moments.Moments(torch.ones(4, 3, 2)), 1)
    assert replace(probe, activation=torch.zeros(3, 2)).mean.tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_singular_values_of_a_rank_one_matrix_hold_no_noise(shape):
    generator = torch.Generator().manual_seed(0)
    columns = torch.rand(shape[0], 1, generator=generator, dtype=torch.float64)
    values = LayerProbe(columns * torch.rand(1, shape[1], generator=generator, dtype=torch.float64)).singular_values
    assert values.shape == (7,)
    assert (values > 0).tolist() == [True] + [False] * 6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_activations_are_noticed(value):
    h = torch.ones(4, 3)
    assert LayerProbe(h).finite
    h[2, 1] = value
    probe = LayerProbe(h)
    assert not probe.finite
    assert probe.singular_values.isnan().all()


def test_infinities_of_both_signs_do_not_cancel():
    assert not LayerProbe(torch.tensor([[float("inf")], [-float("inf")]])).finite


def test_large_float32_activations_are_finite():
    assert LayerProbe(torch.full((1000, 2), 3e38)).finite


def test_units_constant_up_to_float32_rounding_do_not_vary():
    rounding = 1000 * (1 + 1.2e-7 * torch.arange(8.0)[:, None] / 8)
    h = torch.cat([rounding, torch.zeros(8, 1), torch.full((8, 1), 0.1), torch.arange(8.0)[:, None] * 1e-30], dim=1)
    assert LayerProbe(h).varying.tolist() == [False, False, False, True]


@given(st.integers(1, 400), st.sampled_from([0.95, 0.99, 0.9, 0.7, 0.3]))
def test_share_of_rows_equals_the_literal_at_a_tie(rows, share):
    count = round(share * rows)
    h = (torch.arange(rows) < count).float()[:, None]
    found = LayerProbe(h).share_of_rows(lambda x: x > 0).item()
    exact_tie = count * 100 == round(share * 100) * rows
    assert (found == share) == exact_tie
    assert found == count / rows


@pytest.mark.parametrize("name", DERIVED)
def test_what_metrics_share_is_computed_once(name):
    probe = LayerProbe(torch.rand(5, 3))
    assert getattr(probe, name) is getattr(probe, name)


def test_half_precision_is_summed_in_float64():
    h = torch.full((70_000, 1), 1.0, dtype=torch.float16)
    probe = LayerProbe(h)
    assert probe.gram.item() == 70_000
    assert probe.mean_magnitude.item() == 1


def test_network_computes_what_its_metrics_share_once():
    probe = NetworkProbe({"w": torch.ones(2)}, {}, {}, ())
    calls = []

    def total(network):
        calls.append(network)
        return network.parameters["w"].sum()

    assert probe.shared("total", total) is probe.shared("total", total)
    assert calls == [probe]


def test_a_probe_without_its_network_says_so_when_it_is_asked():
    probe = NetworkProbe({"w": torch.ones(2)}, {}, {}, ())
    for ask in (
        lambda: probe.loss(probe.parameters),
        lambda: probe.forward(probe.parameters, torch.ones(1)),
        lambda: probe.modules(["a"]),
    ):
        with pytest.raises(InvalidInputError, match="take it from a learner"):
            ask()
    assert probe.previous is None


def test_what_was_at_the_previous_probe_is_asked_for_once():
    calls = []
    probe = NetworkProbe({"w": torch.ones(2)}, {}, {}, (), recall=lambda: calls.append(1))
    assert calls == []
    assert probe.previous is probe.previous is None
    assert calls == [1]


@pytest.mark.parametrize(
    ("parameters", "blocked"),
    [
        ({"body": torch.ones(2, 2), "out.weight": torch.zeros(2, 2), "out.bias": torch.ones(2)}, True),
        ({"body": torch.ones(2, 2), "out.weight": torch.eye(2), "out.bias": torch.zeros(2)}, False),
        ({"body": torch.zeros(2, 2), "out.weight": torch.eye(2), "out.bias": torch.ones(2)}, False),
        ({"out.weight": torch.zeros(2, 2), "out.bias": torch.ones(2)}, False),  # nothing lies behind it
    ],
)
def test_a_network_is_blocked_where_the_weights_of_its_head_are_zero(parameters, blocked):
    assert NetworkProbe(parameters, {}, {}, (), head=("out.weight", "out.bias")).blocked is blocked


def test_a_network_without_a_head_is_not_blocked():
    assert not NetworkProbe({"w": torch.zeros(2, 2)}, {}, {}, ()).blocked
