"""The kit catches broken metrics."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from lopbench.testing import checks
from lopbench_plugins.metrics.dormant_fraction import DormantFraction
from lopbench_plugins.metrics.effective_rank import EffectiveRank
from lopbench_plugins.metrics.sample_plasticity import SamplePlasticity
from lopbench_plugins.metrics.saturated_fraction import SaturatedFraction
from lopbench_plugins.metrics.weight_norm import WeightNorm


def made(cls):
    return dataclass(frozen=True, kw_only=True)(cls)()


class WrongFormula(EffectiveRank):
    """The stable rank under another name."""

    known: ClassVar = ((((1.0, 0.0), (0.0, 2.0)), 1.25),)


class ReturnsATensor(EffectiveRank):
    """Leaves the number in a tensor."""

    def compute(self, probe):
        return torch.tensor(super().compute(probe))


class ChangesTheProbe(DormantFraction):
    """Takes magnitudes in place."""

    def compute(self, probe):
        probe.activation.sub_(1.0)
        return super().compute(probe)


class ScalesWeights(WeightNorm):
    """Normalises what it measures."""

    def compute(self, probe):
        for value in probe.parameters.values():
            value.mul_(0.5)
        return super().compute(probe)


class NotInvariant(DormantFraction):
    """An absolute threshold under a relative name."""

    invariances: ClassVar = frozenset({"scale"})

    def compute(self, probe):
        return (probe.mean_magnitude <= 2.0).double().mean().item()


class CountsDivergence(SaturatedFraction):
    """Gives a number for a network that has diverged."""

    def compute(self, probe):
        return (probe.gradient.nan_to_num().abs() < self.tolerance).double().mean().item()


class NormOfWhatIsLeft(WeightNorm):
    """Gives a number for a network that has diverged."""

    def compute(self, probe):
        return sum(value.nan_to_num(0, 0, 0).square().sum().item() for value in probe.parameters.values())


class MeasuresBlocked(SaturatedFraction):
    """Counts every unit behind a head of zeros as saturated."""

    def compute(self, probe):
        return super().compute(dataclasses.replace(probe, blocked=False))


class NeverMeasured(EffectiveRank):
    """Finds nothing to measure anywhere."""

    def compute(self, probe):
        return None


class MixesReplicas(SamplePlasticity):
    """Scales by the largest loss of the stack."""

    def compute(self, before, after):
        return (before - after) / before.max()


class MeanOfTheStack(SamplePlasticity):
    """Averages over the replicas."""

    def compute(self, before, after):
        return super().compute(before, after).mean()


class CountsDivergedSteps(SamplePlasticity):
    """Takes a loss that is not finite for one that has not fallen."""

    def compute(self, before, after):
        return super().compute(before, after).nan_to_num(0, 0, 0)


class ClampsInPlace(SamplePlasticity):
    """Changes the losses that it is given."""

    def compute(self, before, after):
        return 1 - after.clamp_(max=0.5) / before


class IgnoresTau(DormantFraction):
    """Never reads its field."""

    def compute(self, probe):
        return (probe.mean_magnitude == 0).double().mean().item()


class DrawsSubset(EffectiveRank):
    """Reads a random subset of the rows, another at each call."""

    def compute(self, probe):
        return probe.activation[torch.randint(len(probe.activation), (3,))].sum().item()


BROKEN = [
    (made(WrongFormula), "known-values-are-met"),
    (made(ReturnsATensor), "values-are-numbers"),
    (made(DrawsSubset), "values-are-numbers"),
    (made(ChangesTheProbe), "measuring-changes-nothing"),
    (made(ScalesWeights), "measuring-changes-nothing"),
    (made(NotInvariant), "declared-invariances-hold"),
    (made(CountsDivergence), "divergence-is-told"),
    (made(NormOfWhatIsLeft), "divergence-is-told"),
    (made(CountsDivergedSteps), "divergence-is-told"),
    (made(MeasuresBlocked), "blocked-gradients-are-not-measured"),
    (made(NeverMeasured), "values-are-numbers"),
    (made(MeanOfTheStack), "values-are-numbers"),
    (made(MixesReplicas), "replicas-are-independent"),
    (made(ClampsInPlace), "measuring-changes-nothing"),
    (made(IgnoresTau), "fields-matter"),
]


@pytest.mark.parametrize(
    ("component", "name"), BROKEN, ids=[f"{type(component).__name__}-{name}" for component, name in BROKEN]
)
def test_the_kit_catches_the_broken_component(component, name):
    (check,) = [check for check in checks(component) if check.name == name]
    outcome = check.run(component)
    assert outcome.status == "failed", f"{outcome.status}: {outcome.detail}"
    assert outcome.expected != "no error", outcome.found
