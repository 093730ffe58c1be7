"""Dead units."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.dead_fraction import DeadFraction
from lopbench_plugins.metrics.dormant_fraction import DormantFraction


def active_on(counts, rows, value=1.0):
    return LayerProbe((torch.arange(rows)[:, None] < torch.tensor(counts)).float() * value)


def test_unit_silent_on_exactly_the_share_is_alive():
    # Of 20 rows the units are silent on 20, 19 (exactly 0.95), 18 and none.
    assert DeadFraction().compute(active_on([0, 1, 2, 20], 20)) == 0.25
    assert DeadFraction().compute(active_on([0, 1, 2, 20], 21)) == 0.5


def test_negative_activations_count_by_magnitude():
    assert DeadFraction().compute(active_on([0, 5], 5, value=-1.0)) == 0.5


def test_tolerance_is_strict():
    probe = LayerProbe(torch.tensor([[0.5, 0.25]]))
    assert DeadFraction(tolerance=0.5).compute(probe) == 0.5


def test_threshold_of_magnitude_is_1e_7():
    assert DeadFraction().compute(LayerProbe(torch.tensor([[0.9e-7, 1.1e-7]]))) == 0.5


def test_all_zero_layer_is_dead():
    assert DeadFraction().compute(LayerProbe(torch.zeros(3, 4))) == 1


@given(hnp.arrays(np.float64, (6, 5), elements=st.sampled_from([0.0, 0.0, 0.0, 1e-8, 1.0, -2.0])))
def test_units_that_are_zero_everywhere_are_dead(matrix):
    probe = LayerProbe(torch.tensor(matrix))
    assert DormantFraction(tau=0).compute(probe) <= DeadFraction().compute(probe)


@pytest.mark.parametrize(
    "fields", [{"tolerance": 0.0}, {"tolerance": float("nan")}, {"row_share": 1.0}, {"row_share": -0.1}]
)
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        DeadFraction(**fields)
