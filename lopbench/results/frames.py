"""Records as pandas frames."""

import os
from typing import TYPE_CHECKING, Any

from lopbench.results.record import Record, find_records

if TYPE_CHECKING:
    import pandas as pd

#: What names a run, in front of its measurements.
NAMES = ("protocol", "method", "optimizer", "seed", "kind")


def measurements(*paths: str | os.PathLike[str], metric: str | None = None) -> "pd.DataFrame":
    """Return all that was measured in the runs under ``paths``, a number a row.

    Columns:
        protocol, method, optimizer: Which row of a table the run belongs to; rows of several protocols do not compare.
        seed: Its seed.
        kind: "continual" for a learner, "fresh" for fresh networks: without a method they are the reference.
        step, task: When it was measured: optimizer updates, from 0, and the index of the task.
        layer: Of which layer; empty for the whole network.
        metric: What, such as "online_accuracy".
        value: The number; NaN where it was not finite.

    Args:
        paths: Results folders, run directories or packed sets.
        metric: Only this metric; None for all, which of thousands of runs is millions of rows.

    Raises:
        ResultsError: If a path does not exist, there are no runs, or a record is damaged.
    """
    import pandas as pd

    from lopbench.core.errors import ResultsError

    records = find_records(*paths)
    if not records:
        raise ResultsError(
            f"There are no runs in {', '.join(map(str, paths))}; 'lopbench run --results DIR' makes some."
        )
    frame = pd.concat([_named(record, metric) for record in records], ignore_index=True)
    return frame.astype(dict.fromkeys(("protocol", "method", "optimizer", "kind", "layer", "metric"), "category"))


def _named(record: Record, metric: str | None) -> "pd.DataFrame":
    """Return the measurements of a run behind what names it."""
    found = record.measurements if metric is None else record.measurements.query("metric == @metric")
    named = found.copy()
    spec = record.spec
    values: tuple[Any, ...] = (record.protocol_id, spec.method_label, spec.optimizer_label, record.seed, spec.kind)
    for name, value in zip(NAMES, values, strict=True):
        named[name] = [value] * len(named)
    return named[[*NAMES, "step", "task", "layer", "metric", "value"]]
