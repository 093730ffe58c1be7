"""Duplicate units: Joudaki et al. 2025, arXiv:2510.00304, appendix B (metric suite), in two countings.

Units are duplicates of each other if the cosine of their columns of activations, signed and not centred, exceeds a
threshold. The paper does not say how pairs become a share of units: `DuplicateFraction` counts every unit that has a
duplicate, `DuplicateFractionFirst` counts as the authors' code does. A column of zeros has no direction and no
duplicate.

Deviation: the authors divide by norms of at least 1e-12, so that a unit of smaller norm has no duplicate; here only a
unit of norm zero has none, and the value does not depend on the scale of the activations.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Invariance, Known, LayerMetric, LayerProbe, number


def duplicates(probe: LayerProbe, threshold: float) -> Tensor:
    """Return which units are duplicates, boolean ``(D, D)``, symmetric, with a diagonal of False."""
    norm = probe.gram.diagonal().sqrt()
    # The cosine times both norms, which avoids 0/0: with a silent unit the comparison is 0 > 0.
    return (probe.gram > threshold * norm.outer(norm)).fill_diagonal_(False)


@dataclass(frozen=True, kw_only=True)
class DuplicateFraction(LayerMetric):
    """Share of units that have a duplicate: every member of a group of duplicates counts.

    Args:
        threshold: Cosine above which two units are duplicates, in [0, 1).
    """

    name: ClassVar[str] = "duplicate_fraction"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((1.0, 2.0, 0.0), (2.0, 4.0, 1.0)), 2 / 3),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows"})
    threshold: float = number(0.95, least=0, below=1)

    def compute(self, probe: LayerProbe) -> float:
        """Return the share of the units with a duplicate, in [0, 1]."""
        return duplicates(probe, self.threshold).any(dim=1).double().mean().item()


@dataclass(frozen=True, kw_only=True)
class DuplicateFractionFirst(DuplicateFraction):
    """Share of units that have a duplicate further on in the order of units, as the authors' code counts.

    One member fewer counts in each group: a network of pairs of clones gives 0.5. Where being a duplicate is not
    transitive, the value depends on the order of the units.
    """

    name: ClassVar[str] = "duplicate_fraction_first"
    default: ClassVar[bool] = False
    known: ClassVar[Known] = ((((1.0, 2.0, 0.0), (2.0, 4.0, 1.0)), 1 / 3),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "rows"})

    def compute(self, probe: LayerProbe) -> float:
        """Return the share of the units with a later duplicate, in [0, 1 - 1/D]."""
        return duplicates(probe, self.threshold).triu().any(dim=1).double().mean().item()
