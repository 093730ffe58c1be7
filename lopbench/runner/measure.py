"""What is measured of a learner: its scores on a task, its training steps, and diagnostics of its network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from torch import Tensor

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import LayerMetric, Metric, Task, TrainingMetric
from lopbench.core.measuring import measured
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.learner.learner import StackLearner
from lopbench.learner.probing import Seen


def task_scores(
    learner: StackLearner,
    replica: int,
    task: Task,
    *,
    losses: Tensor,
    scores: Tensor,
    kind: Literal["accuracy", "error"],
) -> Iterator[tuple[str, float]]:
    """Yield names and values of a replica's mean online and held-out scores on a task that it was just trained on.

    Args:
        learner: The learner.
        replica: Index of the replica.
        task: The task.
        losses: Mean loss of the task's steps, ``(R,)``.
        scores: Mean score of its steps' batches, each before its update, ``(R,)``.
        kind: What the scenario scores.
    """
    yield f"online_{kind}", scores[replica].item()
    yield "online_loss", losses[replica].item()
    for name, value in learner.evaluate(replica, task).items():
        yield name.replace("score", kind), value


def training_metrics(metrics: Sequence[tuple[str, Metric]]) -> dict[str, TrainingMetric]:
    """Return by label the metrics that are of training steps, which the learner computes as it takes them."""
    return {label: metric for label, metric in metrics if isinstance(metric, TrainingMetric)}


def training_means(values: Mapping[str, Tensor], replica: int) -> Iterator[tuple[str, float]]:
    """Yield label and mean of each metric of a replica's training steps on a task that is over.

    Args:
        values: The values of each metric by label, ``(steps, R)``, of all steps of the task.
        replica: Index of the replica.
    """
    for label, steps in values.items():
        yield label, steps[:, replica].double().mean().item()


def of_networks(learner: StackLearner, metrics: Sequence[tuple[str, Metric]]) -> list[tuple[str, Metric]]:
    """Return by label the metrics that read a probe of ``learner``, and have something to measure there."""
    return [
        (label, metric)
        for label, metric in metrics
        if not isinstance(metric, TrainingMetric) and (learner.profile is not None or not metric.needs_clones)
    ]


def diagnostics(
    learner: StackLearner, replica: int, task: Task, metrics: Sequence[tuple[str, Metric]], seen: Seen | None = None
) -> Iterator[tuple[str, str, float]]:
    """Yield label, layer and value of each metric on the probe batch of a task; the layer is empty for the network.

    Metrics that have nothing to measure are left out: those that need clones if the network was not cloned, and those
    that return None. Those of training steps are `training_means`.

    Args:
        learner: The learner.
        replica: Index of the replica.
        task: Its task.
        metrics: The metrics, by label.
        seen: What `StackLearner.see_together` returned of it, if it did.

    Raises:
        MetricFailure: If a metric raises, or returns what is no number.
        UnsupportedError: If a metric names a module that the network does not have.
    """
    wanted = of_networks(learner, metrics)
    if not wanted:
        return
    probe = learner.probe(replica, task, seen)
    for label, metric in wanted:
        for each in _layers(label, metric, probe) if isinstance(metric, LayerMetric) else (probe,):
            value = measured(metric, each)
            if value is not None:
                yield label, each.name if isinstance(each, LayerProbe) else "", value


def _layers(label: str, metric: LayerMetric, probe: NetworkProbe) -> Sequence[LayerProbe]:
    """Return what a metric is asked of: the modules that it names, or the layers that the architecture probes."""
    if not metric.modules:
        return probe.layers
    found = probe.modules(metric.modules)
    missing = sorted(set(metric.modules) - {layer.name for layer in found})
    if missing:
        raise UnsupportedError(
            f"metric {label!r} reads the output of {', '.join(map(repr, missing))}, and this network has no module of "
            "that name that returns a tensor; name others in 'modules', or leave the metric out"
        )
    return found
