"""The checks of sinks: made-up runs are told to them, in a folder that is removed afterwards."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from lopbench.core.errors import UnsupportedError
from lopbench.core.globals import SETTINGS
from lopbench.core.interfaces import Component, Sink, SinkRun, SinkWriter
from lopbench.core.sink import Ended
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.shared import SHARED

_VALUES = {"online_accuracy": 0.5, "effective_rank/layers.0": 3.0, "method#2.share": math.nan}


@contextmanager
def _usable(component: Component) -> Iterator[tuple[Sink, Path]]:
    """Yield the sink and a folder.

    Raises:
        NotApplicable: If it cannot be used here.
    """
    assert isinstance(component, Sink)
    try:
        component.check()
    except UnsupportedError as error:
        raise NotApplicable(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        yield component, Path(folder)


def _open(sink: Sink, results: Path, seed: int = 0, step: int = 0) -> SinkWriter:
    label = f"none, mlp, seed {seed}"
    spec = {"kind": "continual", "seed": seed, "methods": [], "metrics": []}
    run = SinkRun(name=f"none-{seed:016x}", run_id=f"{seed:016x}", label=label, spec=spec, results=results, step=step)
    writer = sink.open(run)
    if not isinstance(writer, SinkWriter):
        raise Mismatch("a SinkWriter from open", type(writer).__name__)
    return writer


@check("It takes the measurements of a run, including values that are no numbers, and every way in which a run ends.")
def runs_are_taken(component: Component) -> None:
    """Tell a short run for each way to end, one of them without a measurement."""
    with _usable(component) as (sink, folder):
        for seed, outcome in enumerate(get_args(Ended)):
            writer = _open(sink, folder, seed)
            for step in range(0, 10 * seed, 10):
                writer.write(step, step // 10, dict(_VALUES))
            writer.close(outcome)


@check("Runs that train together are open side by side, and each ends by itself.")
def runs_stand_side_by_side(component: Component) -> None:
    """Tell three runs in turn."""
    with _usable(component) as (sink, folder):
        writers = [_open(sink, folder, seed) for seed in range(3)]
        for step in (0, 10):
            for writer in writers:
                writer.write(step, 0, dict(_VALUES))
        for writer in writers:
            writer.close("completed")
            if writer is not writers[-1]:
                writers[-1].write(20, 0, dict(_VALUES))


@check("A run that was stopped continues, and a run that is done again starts again.")
def runs_go_on(component: Component) -> None:
    """Stop a run, go on with it from its middle, and begin it again."""
    with _usable(component) as (sink, folder):
        ends: tuple[tuple[int, Ended], ...] = ((0, "stopped"), (10, "completed"), (0, "completed"))
        for first, outcome in ends:
            writer = _open(sink, folder, step=first)
            for step in range(first, 30, 10):
                writer.write(step, 0, dict(_VALUES))
            writer.close(outcome)


@check("The settings of torch and the global random seed are left alone.")
def globals_are_left_alone(component: Component) -> None:
    """Compare them before and after a run."""
    with _usable(component) as (sink, folder):
        before = [(setting, setting.read()) for setting in SETTINGS]
        writer = _open(sink, folder)
        writer.write(0, 0, dict(_VALUES))
        writer.close("completed")
        changed = [setting.name for setting, then in before if setting.change(then, setting.read())]
        if changed:
            raise Mismatch("all as it was", f"another {', another '.join(changed)}")


CHECKS: tuple[Check, ...] = (*SHARED, runs_are_taken, runs_stand_side_by_side, runs_go_on, globals_are_left_alone)
