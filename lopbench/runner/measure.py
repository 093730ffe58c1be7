"""What is measured of a learner: its scores on a task, and diagnostics of its network."""

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor

from lopbench.core.interfaces import Metric, Task
from lopbench.learner.learner import StackLearner


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


def diagnostics(
    learner: StackLearner, replica: int, task: Task, metrics: Sequence[tuple[str, Metric]]
) -> Iterator[tuple[str, str, float]]:
    """Yield label, layer and value of each metric on the probe batch of a task; the layer is empty for the network.

    Metrics that need clones are left out where the network was not cloned.
    """
    wanted = [(name, metric) for name, metric in metrics if learner.profile is not None or not metric.needs_clones]
    if not wanted:
        return
    probe = learner.probe(replica, task)
    for name, metric in wanted:
        if metric.scope == "network":
            yield name, "", metric.compute(probe)
        else:
            for layer in probe.layers:
                yield name, layer.name, metric.compute(layer)
