"""Tells sinks what is measured in the runs that train together, and goes on without those that fail."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lopbench.core.errors import LopbenchError, UnsupportedError, UsageError
from lopbench.core.globals import kept_globals
from lopbench.core.interfaces import Sink, SinkRun, SinkWriter
from lopbench.core.sink import Ended
from lopbench.core.spec import ComponentSpec, RunSpec
from lopbench.core.text import line, told
from lopbench.results.record import Measurements, is_recorded, record_path
from lopbench.runner.report import Quiet, Reporter, label


def sinks_of(given: Iterable[str | Sink]) -> tuple[Sink, ...]:
    """Return sinks that are given as texts, as on the command line, or as objects.

    Raises:
        UsageError: If one is unknown or no sink.
        GivenValueError: If a value is out of range.
    """
    found = []
    for each in given:
        sink = ComponentSpec.parse("sinks", each).build() if isinstance(each, str) else each
        if not isinstance(sink, Sink):
            raise UsageError(f"{sink!r} is no Sink; give a name, or an object, as in MySink(field=value)")
        found.append(sink)
    return tuple(found)


def usable(given: Iterable[str | Sink]) -> tuple[Sink, ...]:
    """Return what `sinks_of` does, after asking each whether it can be used here.

    Raises:
        LopbenchError: If one cannot, with the reason.
    """
    sinks = sinks_of(given)
    for sink in sinks:
        try:
            sink.check()
        except (LopbenchError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise UnsupportedError(f"the sink {sink.name!r} cannot be used: {line(told(error))}") from error
    return sinks


@dataclass(frozen=True, eq=False)
class _Open:
    """A sink that takes the measurements of a run.

    Args:
        sink: The sink.
        replica: Index of the run.
        writer: What takes them.
    """

    sink: Sink
    replica: int
    writer: SinkWriter


class Sinks:
    """The sinks of runs that train together.

    What they are told are the rows of the records to come, read after they were written there. They get copies, and
    settings of torch and global random numbers are afterwards what they were, so that no record depends on them. As a
    context it closes on leaving what is still open: those runs were stopped.

    Args:
        sinks: The sinks.
        specs: What is run, in the order of the replicas.
        results: Results folder.
        reporter: Is told, once, of a sink that fails.
    """

    def __init__(self, sinks: Sequence[Sink], specs: Sequence[RunSpec], results: Path, *, reporter: Reporter) -> None:
        self._sinks = tuple(sinks)
        self._specs = tuple(specs)
        self._results = results
        self._reporter = reporter
        self._open: list[_Open] = []
        self._measurements: Sequence[Measurements] = ()
        self._told: list[int] = []  #: Rows of each run that were told.
        self._reasons: set[str] = set()  #: Why sinks failed, as far as it was told.

    def __enter__(self) -> Sinks:
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close what is still open."""
        self.close(["stopped"] * len(self._specs))

    def open(self, measurements: Sequence[Measurements], step: int) -> None:
        """Begin to tell of the runs that have no record yet, from ``step`` on.

        Args:
            measurements: What was measured of each run; it grows.
            step: The step of the stream at which they are.
        """
        if not self._sinks:
            return
        self._measurements = measurements
        self._told = [sum(row[0] < step for row in each.rows()) for each in measurements]
        with kept_globals():
            for replica, spec in enumerate(self._specs):
                if is_recorded(self._results, spec):
                    continue
                for sink in self._sinks:
                    with self._going_on(sink, spec):
                        self._open.append(_Open(sink, replica, sink.open(self._run(spec, step))))

    def _run(self, spec: RunSpec, step: int) -> SinkRun:
        return SinkRun(
            name=record_path(self._results, spec).name,
            run_id=spec.run_id,
            label=label(spec),
            spec=spec.recorded(),
            results=self._results.absolute(),
            step=step,
        )

    def tell(self) -> None:
        """Tell what was measured since the last time."""
        if not self._open:
            return
        new = {
            at: list(_moments(self._measurements[at], self._told[at])) for at in {each.replica for each in self._open}
        }
        self._told = [len(each) for each in self._measurements]
        with kept_globals():
            for each in [*self._open]:
                with self._going_on(each.sink, self._specs[each.replica], each):
                    for step, task, values in new[each.replica]:
                        each.writer.write(step, task, dict(values))

    def close(self, outcomes: Sequence[Ended]) -> None:
        """End, and tell how each run ended."""
        self.tell()
        if not self._open:
            return
        with kept_globals():
            for each in [*self._open]:
                with self._going_on(each.sink, self._specs[each.replica]):
                    each.writer.close(outcomes[each.replica])
        self._open = []

    @contextmanager
    def _going_on(self, sink: Sink, spec: RunSpec, opened: _Open | None = None) -> Iterator[None]:
        """Go on whatever a sink raises: say it, and call it no more for this run."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if opened is not None:
                self._open.remove(opened)
            sentence = f"the sink {sink.name} stopped: {line(told(error))}; the run goes on without it"
            if sentence in self._reasons:
                return  # of hundreds of replicas each would say it
            self._reasons.add(sentence)
            sentence = f"{label(spec)}: {sentence}"
            if isinstance(self._reporter, Quiet):  # measurements that get lost are no progress to be quiet about
                print(sentence, file=sys.stderr)
            else:
                self._reporter.note(sentence)


def _moments(measurements: Measurements, start: int) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Yield the rows from ``start`` on as step, task and the values by name that were measured then."""
    when, values = (0, 0), dict[str, float]()
    for step, task, layer, metric, value in measurements.rows(start):
        name = f"{metric}/{layer}" if layer else metric
        if values and ((step, task) != when or name in values):
            yield *when, values
            values = {}
        when = step, task
        values[name] = value if math.isfinite(value) else math.nan
    if values:
        yield *when, values
