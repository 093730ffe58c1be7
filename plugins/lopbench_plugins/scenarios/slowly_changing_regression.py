"""Slowly-changing regression: bit flipping as Dohare et al. published it.

Dohare et al. 2024, "Loss of plasticity in deep continual learning", Nature 632, and 2021 (arXiv:2108.06325v2),
section 3, with the values of their code (shibhansh/loss-of-plasticity at 63c35f3): every 10,000 samples all slow bits
are drawn anew (their texts say that one flips), and errors are averaged over bins of 20,000 samples. Their step sizes
are 0.01, 0.003 and 0.001, their learner has five hidden units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench_plugins.scenarios.bitflip import BitFlip, Flip
from lopbench_plugins.scenarios.ltu import TargetName


@dataclass(frozen=True, kw_only=True)
class SlowlyChangingRegression(BitFlip):
    """Bit flipping in which all slow bits change at once."""

    name: ClassVar[str] = "slowly_changing_regression"
    version: ClassVar[int] = 3
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "full": {"samples": 1_000_000},
        "lite": {"samples": 500_000},
        "smoke": {"samples": 5_000, "T": 250, "steps_per_task": 500},
    }

    samples: int = 500_000
    flip: Flip = "all"
    target: TargetName = "dohare"
    steps_per_task: int = 20_000
