"""The authors' values, recorded from ajoudaki/loss-of-plasticity, src/utils/metrics.py, at commit 52fdf81.

No case has more rows than the 1,000 or 1,024 that the authors' code reads at most, so none was subsampled. The authors
compute in float32, this package in float64: shares agree exactly but for the float32 of the record, ranks to 4e-6.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.dead_fraction import DeadFraction
from lopbench_plugins.metrics.duplicate_fraction import DuplicateFraction, DuplicateFractionFirst
from lopbench_plugins.metrics.effective_rank import EffectiveRank
from lopbench_plugins.metrics.non_gaussianity import NonGaussianity
from lopbench_plugins.metrics.participation_ratio import ParticipationRatio
from lopbench_plugins.metrics.saturated_fraction import SaturatedFraction

RECORD = np.load(Path(__file__).parents[2] / "golden" / "metrics.npz", allow_pickle=False)
EXPECTED = json.loads(str(RECORD["expected"]))
METRICS = {
    "dead": (DeadFraction(), 1e-7),
    "duplicate": (DuplicateFractionFirst(), 1e-7),
    "saturated": (SaturatedFraction(), 1e-7),
    "effective_rank": (EffectiveRank(), 4e-6),
    "stable_rank": (ParticipationRatio(), 4e-6),
    "non_gaussianity_shapiro": (NonGaussianity(kind="shapiro"), 1e-6),
    "non_gaussianity_ks": (NonGaussianity(kind="ks"), 1e-6),
    "non_gaussianity_kurtosis": (NonGaussianity(kind="kurtosis"), 1e-6),
}


def probe(case):
    return LayerProbe(torch.tensor(RECORD[f"{case}__activation"]), torch.tensor(RECORD[f"{case}__gradient"]), case)


@pytest.mark.parametrize("case", EXPECTED)
def test_no_case_was_subsampled(case):
    assert probe(case).activation.shape[0] == EXPECTED[case]["rows"] <= 1000


@pytest.mark.parametrize("key", METRICS)
@pytest.mark.parametrize("case", EXPECTED)
def test_authors_value_is_reproduced(case, key):
    metric, tolerance = METRICS[key]
    assert metric.compute(probe(case)) == pytest.approx(EXPECTED[case][key], rel=tolerance, abs=1e-12)


@pytest.mark.parametrize("case", EXPECTED)
def test_symmetric_counting_finds_more_wherever_the_authors_find_any(case):
    first, symmetric = EXPECTED[case]["duplicate"], DuplicateFraction().compute(probe(case))
    assert symmetric > first + 1e-6 if first else symmetric == 0
