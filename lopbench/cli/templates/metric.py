"""MyThing: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Invariance, Known, LayerMetric, LayerProbe, Register, hookimpl, number

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(LayerMetric):
    """Share of the activations of a layer that are above a threshold.

    Args:
        threshold: The threshold, in units of the activation, at least 0.
    """

    name: ClassVar[str] = "my-thing"
    # Values worked out by hand, and what must not change them; the checks hold you to both.
    known: ClassVar[Known] = ((((1.0, 0.0), (2.0, 3.0)), 0.75),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"units", "rows", "duplication"})
    threshold: float = number(0.0, least=0)

    def compute(self, probe: LayerProbe) -> float:
        """Return the share, in [0, 1]."""
        return (probe.activation > self.threshold).double().mean().item()  # activation is (N, D)


@hookimpl
def lopbench_metrics(register: Register) -> None:
    """Make the metric known."""
    register("my-thing", MyThing, "share of activations above a threshold")
