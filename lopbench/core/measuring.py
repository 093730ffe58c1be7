"""Takes the value of a metric at a probe or of a step, and holds the metric to its contract."""

from math import isfinite, nan

import torch
from torch import Tensor

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.metric import LayerMetric, Metric, NetworkMetric, TrainingMetric
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.core.text import told


class MetricFailure(Exception):  # noqa: N818 (it is what became of a metric)
    """A metric that raised, or returned what is no number: a fault of its own, which ends the run that it measures."""


def measured(metric: Metric, probe: LayerProbe | NetworkProbe) -> float | None:
    """Return the value of ``metric`` at ``probe``, NaN if it is not finite, None if there is nothing to measure.

    Raises:
        MetricFailure: If the metric raises, or returns what is no number; the message names it and the layer.
        InvalidInputError: If the metric is of layers and the probe of a network, or the other way round.
        UnsupportedError: If the metric refuses the probe with a sentence of its own.
    """
    try:
        if isinstance(metric, LayerMetric) and isinstance(probe, LayerProbe):
            value = metric.compute(probe) if probe.finite else nan
        elif isinstance(metric, NetworkMetric) and isinstance(probe, NetworkProbe):
            value = metric.compute(probe)
        else:
            raise InvalidInputError(
                f"metric {metric.name} is a {_base(metric)}, which a {type(probe).__name__} cannot serve"
            )
    except (InvalidInputError, UnsupportedError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise MetricFailure(f"{_name(metric, probe)} raised {told(error)}") from error
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetricFailure(f"{_name(metric, probe)} returned a {type(value).__name__} where a float or None belongs")
    return float(value) if isfinite(value) else nan


def measured_in_step(metric: TrainingMetric, before: Tensor, after: Tensor) -> Tensor:
    """Return the value of ``metric`` of a step, ``(R,)``, given the losses ``(R,)`` before and after its update.

    Raises:
        MetricFailure: If the metric raises, or returns what is no number for each replica; the message names it.
        UnsupportedError: If the metric refuses the step with a sentence of its own.
    """
    try:
        value = metric.compute(before, after)
        fits = isinstance(value, Tensor) and value.shape == before.shape
    except (InvalidInputError, UnsupportedError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        error.add_note(in_metric(metric))
        raise MetricFailure(f"{_name(metric)} raised {told(error)}") from error
    if not fits:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise MetricFailure(
            f"{_name(metric)} returned {got} where a number for each replica belongs, shape {tuple(before.shape)}"
        )
    return value


def in_metric(metric: Metric) -> str:
    """Return the note on an error that it came out of this metric."""
    return f"in metric {metric.name}"


def _base(metric: Metric) -> str:
    bases = (base.__name__ for base in type(metric).__mro__ if base.__module__ == Metric.__module__)
    return next(bases, "Metric")


def _name(metric: Metric, probe: LayerProbe | NetworkProbe | None = None) -> str:
    where = f", at layer {probe.name!r}," if isinstance(probe, LayerProbe) else ""
    return f"metric {metric.name} of {type(metric).__module__.partition('.')[0]}{where}"
