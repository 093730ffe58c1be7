"""The runs of tuned entries of a study: those of the chosen configuration, which the logs in their records tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lopbench.core.errors import ResultsError
from lopbench.core.spec import RunSpec
from lopbench.core.text import counted
from lopbench.core.tuning import TuningLog
from lopbench.results.record import Record
from lopbench.results.tuned import Logs
from lopbench.runner.tuning import Values, configurations, tuned


class Chosen:
    """The tuned entries among some records, found by what a study asks for.

    A run that is asked for has an empty log. It means the entry whose log has just the configurations that the study
    asks for, and which is the configuration that this log chose.

    Args:
        records: The records, development runs included.
        problems: Why other records cannot be used.
    """

    def __init__(self, records: Sequence[Record], problems: Iterable[ResultsError] = ()) -> None:
        self._logs = Logs(records)
        self._problems = list(problems)
        self._entries: dict[str, dict[str, Record]] = {}  # by protocol and entry, one run of each
        for record in records:
            if record.spec.kind == "continual" and record.spec.tuning is not None:
                self._entries.setdefault(record.protocol_id, {}).setdefault(record.recipe.entry_id, record)
        self._known: dict[tuple[str, str], TuningLog | None] = {}

    def of(self, asked: RunSpec) -> RunSpec | None:
        """Return the run that is meant by one that is asked for, itself if it is not tuned; None if no log is here.

        Raises:
            ResultsError: If the log disagrees with a development run that is here, or there are two logs.
        """
        if asked.tuning is None:
            return asked
        key = asked.protocol_id, asked.entry_id
        if key not in self._known:
            self._known[key] = self._log(asked, asked.tuning)
        log = self._known[key]
        return None if log is None else tuned(asked, log)

    def needed(self, asked: RunSpec) -> RunSpec:
        """Return what `of` does; the log has to be here.

        Raises:
            ResultsError: As `of`, or if no log is here.
        """
        found = self.of(asked)
        if found is not None:
            return found
        assert asked.tuning is not None  # it would be itself
        reason = "run the study, which tunes it"
        if self._problems:
            reason = f"{counted(len(self._problems), 'record')} cannot be used: {self._problems[0]}"
        raise ResultsError(f"no log of its tuning by {asked.tuning.tuning.label} is here; {reason}")

    def followed(self, asked: Iterable[RunSpec]) -> list[RunSpec]:
        """Return the runs that are meant by those that are asked for; of tuned ones without a log here, as they are.

        Raises:
            ResultsError: As `of`.
        """
        return [self.of(spec) or spec for spec in asked]

    def _log(self, asked: RunSpec, empty: TuningLog) -> TuningLog | None:
        entries = self._entries.get(asked.protocol_id, {})
        wanted = configurations(empty.tuning, asked.methods, asked.optimizer) if entries else ()
        found = [record for entry_id, record in entries.items() if _is_of(asked, record, wanted)]
        for record in found:
            self._logs.check(record)
        if len(found) > 1:
            raise ResultsError(
                f"{asked.method_label} was tuned twice by {empty.tuning.label}, and the two logs have different "
                f"scores. Leave out {found[0].path} or {found[1].path}"
            )
        return found[0].spec.tuning if found else None


def _is_of(asked: RunSpec, record: Record, wanted: Sequence[Values]) -> bool:
    """Return whether a tuned run is of the entry that is asked for."""
    log = record.spec.tuning
    assert log is not None  # it is tuned
    tried = [dict(each.values) for each in log.configurations]
    return tried == [dict(values) for values in wanted] and tuned(asked, log).entry_id == record.recipe.entry_id
