"""What the runner makes of metrics: which are asked of what, and what is recorded of their values."""

from dataclasses import dataclass
from math import isnan, nan
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import LayerMetric, NetworkMetric, TrainingMetric
from lopbench.core.measuring import MetricFailure
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.learner.step import Taken
from lopbench.runner.measure import diagnostics, training_means, training_metrics
from lopbench.runner.scored import ScoredLearner


@dataclass(frozen=True, kw_only=True)
class Units(LayerMetric):
    """Number of units; none of layers of one unit."""

    name: ClassVar[str] = "units"

    def compute(self, probe: LayerProbe) -> float | None:
        units = probe.activation.shape[1]
        return None if units == 1 else float(units)


@dataclass(frozen=True, kw_only=True)
class Layers(NetworkMetric):
    """Number of layers, but for a number that is given."""

    name: ClassVar[str] = "layers"
    minus: float = 0.0

    def compute(self, probe: NetworkProbe) -> float:
        return len(probe.layers) - self.minus


@dataclass(frozen=True, kw_only=True)
class OfClones(Layers):
    """The same of clones."""

    needs_clones: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Fall(TrainingMetric):
    """How much the loss fell."""

    name: ClassVar[str] = "fall"

    def compute(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return before - after


@dataclass(frozen=True, kw_only=True)
class Broken(LayerMetric):
    """Always fails."""

    name: ClassVar[str] = "broken"

    def compute(self, probe: LayerProbe) -> float:
        raise IndexError("out of range")


class Learner:
    """Has one probe, and counts how often it is taken."""

    def __init__(self, profile: object = None) -> None:
        self.profile, self.probes = profile, 0

    def probe(self, replica: int, task: object, seen: object = None) -> NetworkProbe:
        self.probes += 1
        layers = tuple(LayerProbe(torch.ones(3, units), name=f"of {units}") for units in (2, 1, 4))
        inside = {"inside": LayerProbe(torch.ones(3, 7), name="inside"), "of 4": layers[2]}
        return NetworkProbe(
            {}, {}, {}, layers, modules=lambda names: tuple(inside[name] for name in names if name in inside)
        )


def rows(*metrics: Any, learner: Any = None) -> list[tuple[str, str, float]]:
    return list(diagnostics(learner or Learner(), 0, SimpleNamespace(), metrics))  # type: ignore[arg-type]


def test_layers_and_networks_are_measured_in_the_order_of_the_metrics_under_their_labels() -> None:
    assert rows(("a", Units()), ("b", Layers()), ("c", Layers(minus=1))) == [
        ("a", "of 2", 2.0),
        ("a", "of 4", 4.0),
        ("b", "", 3.0),
        ("c", "", 2.0),
    ]


def test_a_metric_of_layers_may_name_the_modules_that_it_is_of() -> None:
    named = Units(modules=("of 4", "inside"))
    assert rows(("a", Units()), ("b", named)) == [
        ("a", "of 2", 2.0),
        ("a", "of 4", 4.0),
        ("b", "of 4", 4.0),
        ("b", "inside", 7.0),
    ]


def test_a_module_that_is_not_there_is_told() -> None:
    with pytest.raises(UnsupportedError, match="metric 'b' reads the output of 'elsewhere', and this network has no"):
        rows(("b", Units(modules=("inside", "elsewhere"))))


def test_metrics_of_clones_are_asked_of_clones() -> None:
    assert rows(("d", OfClones())) == []
    assert rows(("d", OfClones()), learner=Learner(profile=object())) == [("d", "", 3.0)]


def test_no_probe_is_taken_for_metrics_of_steps() -> None:
    learner = Learner()
    assert rows(("fall", Fall()), ("d", OfClones()), learner=learner) == []
    assert learner.probes == 0
    rows(("a", Units()), ("b", Layers()), learner=learner)
    assert learner.probes == 1


def test_a_metric_that_fails_is_named_with_its_layer() -> None:
    with pytest.raises(MetricFailure, match=r"broken of tests, at layer 'of 2', raised IndexError: out of range"):
        rows(("b", Broken()))


def test_metrics_of_steps_are_told_from_the_others() -> None:
    fall = Fall()
    assert training_metrics([("a", Units()), ("f", fall), ("b", Layers())]) == {"f": fall}


def test_mean_of_a_metric_of_steps_is_each_replicas_own() -> None:
    values = {"f": torch.tensor([[1.0, 3.0], [2.0, nan]]), "g": torch.tensor([[0.0, 1.0], [0.0, 1.0]])}
    assert list(training_means(values, 0)) == [("f", 1.5), ("g", 0.0)]
    (_, mean), other = training_means(values, 1)
    assert isnan(mean)
    assert other == ("g", 1.0)


class Stepping(Learner):
    """Two replicas, of which the second loses its loss in the second step."""

    device, replicas = torch.device("cpu"), 2

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def step(self, batches: object, **options: object) -> Taken:
        self.steps += 1
        return Taken(torch.tensor([1.0, nan if self.steps == 2 else 1.0]), torch.zeros(2))


def test_a_replica_is_measured_for_as_long_as_its_losses_are_finite() -> None:
    scored = ScoredLearner(Stepping(), metrics=[("b", Layers())], score="accuracy")  # type: ignore[arg-type]

    def measured() -> list[int]:
        return [len(list(scored.diagnostics(replica, SimpleNamespace()))) for replica in range(2)]  # type: ignore[arg-type]

    scored.start_counting(3)
    assert measured() == [1, 1]
    for expected in ([1, 1], [1, 0], [1, 0]):
        scored.step([])
        assert measured() == expected
    scored.start_counting(3)
    assert measured() == [1, 1]
