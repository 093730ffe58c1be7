"""The runs that claims and figures of a study speak of; what they name wrongly is refused before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lopbench.core.errors import LopbenchError, ResultsError, UsageError
from lopbench.core.interfaces import Scenario
from lopbench.core.registry import suggest
from lopbench.core.spec import ComponentSpec, RunSpec, parse_methods
from lopbench.core.text import counted
from lopbench.results.claims import Claim, EntryName
from lopbench.results.group import Group
from lopbench.results.judged import Asked, Judged, judge
from lopbench.results.leaderboard import board_of
from lopbench.results.per_seed import Quantity
from lopbench.results.record import Record
from lopbench.results.seed_scores import BASE
from lopbench.runner.chosen import Chosen
from lopbench.runner.references import with_references
from lopbench.runner.request import Request
from lopbench.runner.tuning import Candidates

#: Protocol and entry.
_Key = tuple[str, str]

#: The runs of a study as they are asked for, one sequence for each of its tables of runs; tuned ones have an empty log.
Tables = Sequence[Sequence[RunSpec]]


@dataclass(frozen=True)
class Meant:
    """The runs that a name means.

    Args:
        name: The name.
        specs: The runs as the study asks for them, one for each seed.
    """

    name: EntryName
    specs: tuple[RunSpec, ...]

    @property
    def seeds(self) -> Collection[int]:
        """Their seeds."""
        return [spec.seed for spec in self.specs]


def meant(name: EntryName, tables: Tables, where: str) -> Meant:
    """Return the runs of an entry of a study.

    Raises:
        UsageError: If there is no such entry, or more than one.
    """
    if name.runs is not None and name.runs > len(tables):
        raise UsageError(
            f"{where}: an entry has runs = {name.runs}, and the study has {counted(len(tables), 'table')} of runs."
        )
    specs = [spec for table in (tables if name.runs is None else [tables[name.runs - 1]]) for spec in table]
    if name.method is not None:
        methods = _methods(name.method, where)
        found = [spec for spec in specs if spec.methods == methods]
        _check(found, "method", name.method, [spec.method_label for spec in specs], where)
        specs = found
    if name.optimizer is not None:
        optimizer = _optimizer(name.optimizer, where)
        found = [spec for spec in specs if spec.optimizer == optimizer]
        _check(found, "optimizer", name.optimizer, [spec.optimizer_label for spec in specs], where)
        specs = found
    entries: dict[_Key, dict[int, RunSpec]] = {}
    for spec in specs:
        entries.setdefault((spec.protocol_id, spec.entry_id), {})[spec.seed] = spec
    if len(entries) > 1:
        several = [next(iter(by_seed.values())) for by_seed in entries.values()]
        raise UsageError(f"{where}: {str(name)!r} matches more than one entry: {_several(name, several, tables)}.")
    (by_seed,) = entries.values()
    return Meant(name, tuple(by_seed.values()))


def check_measured(quantity: Quantity, runs: Iterable[Meant], where: str) -> None:
    """Refuse a metric that the runs do not measure, and a layer of what the network has one of.

    Raises:
        UsageError: If there is one.
    """
    if quantity.of is None:
        return
    if quantity.layer is not None and quantity.name.startswith(("online_", "heldout_")):
        raise UsageError(f"{where}: {quantity.name!r} is of the whole network; leave out 'layer = {quantity.layer}'.")
    for each in runs:
        spec = each.specs[0]
        known = _measured(spec)
        owner = quantity.name.partition(".")[0].partition("#")[0]
        if quantity.name.removeprefix(BASE) in known or owner in [method.name for method in spec.methods]:
            continue
        raise UsageError(
            f"{where}: no run of {spec.method_label} measures {quantity.name!r}.{suggest(quantity.name, known)} "
            f"Measured are: {', '.join(known)}; add it to the 'metrics' of the study."
        )


def resolved(claims: Sequence[Claim], tables: Tables) -> list[Mapping[EntryName, Meant]]:
    """Return the entries that each claim names.

    Raises:
        UsageError: If the study has no such entry, or does not measure what is claimed of it.
    """
    found: list[Mapping[EntryName, Meant]] = []
    for claim in claims:
        names = dict.fromkeys(name for link in claim.links for name in link.entries)
        entries = {name: meant(name, tables, claim.where) for name in names}
        for link in claim.links:
            for quantity in link.quantities:
                check_measured(quantity, (entries[name] for name in link.entries), claim.where)
        found.append(entries)
    return found


def lacking(records: Sequence[Record], tables: Tables) -> bool:
    """Return whether runs of a study have no record, be it learners, fresh networks, or entries that are not tuned yet.

    Raises:
        ResultsError: If a log of tuning was edited.
    """
    followed = _followed(tables, Chosen(records))
    if any(spec.tuning is not None and not spec.tuning.configurations for table in followed for spec in table):
        return True
    wanted = {run.run_id for table in followed for run in with_references(table)}
    return not wanted <= {record.run_id for record in records}


def recorded_tables(requests: Iterable[Mapping[str, Any]], records: Sequence[Record]) -> list[list[RunSpec]]:
    """Return the runs of a study as they are asked for, without its data set, which only training needs.

    Args:
        requests: The keywords of each request, as a study file has them.
        records: The records that there are. They say on which data the runs are. If the records of a scenario are on
            several data sets, the one of most records is meant, unless the request names one.

    Raises:
        LopbenchError: If a request means nothing that could be run, or a plugin cannot make a part of it.
    """
    found = []
    for request in requests:
        fields = {key: value for key, value in request.items() if key != "data"}
        asked = Request(**fields).asked()
        if asked.aside:
            what, reason = asked.aside[0]
            raise LopbenchError(f"the study needs {what}, which cannot be made: {reason}")
        name = request.get("data", "auto")
        data = None if asked.scenario.data is None else _recorded_data(asked.scenario_spec.name, name, records)
        specs = asked.specs(data)
        if asked.tuning is not None:
            specs = tuple(spec for each in Candidates.of(asked.tuning, specs) for spec in each.unsettled)
        found.append([*specs])
    return found


def _recorded_data(scenario: str, name: str, records: Sequence[Record]) -> Mapping[str, Any]:
    """Return the data that most runs of a scenario are on; unless ``name`` is "auto", of those of this name."""
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        data = record.spec.data
        if record.spec.scenario.name == scenario and data is not None and name in ("auto", data["name"]):
            counts[str(data["name"]), str(data["content_hash"])] += 1
    (found, content), _ = counts.most_common(1)[0] if counts else ((name, "none"), 0)
    return {"name": found, "content_hash": content}


def missing(records: Sequence[Record], tables: Tables) -> int:
    """Return how many runs of learners have no record.

    Raises:
        ResultsError: If a log of tuning was edited.
    """
    there = {_row(record) for record in records if record.spec.kind == "continual"}
    return len(_rows(_followed(tables, Chosen(records))) - there)


class Rows:
    """The rows that records make of a study.

    Args:
        records: The records.
        tables: The runs of the study.
        problems: Why other records cannot be used.

    Raises:
        ResultsError: If a log of tuning was edited, or nothing can be used.
    """

    def __init__(self, records: Sequence[Record], tables: Tables, problems: Iterable[ResultsError] = ()) -> None:
        told = tuple(problems)
        self._chosen = Chosen(records, told)
        used = of_study(records, _followed(tables, self._chosen))
        board = board_of(used) if any(record.spec.kind == "continual" for record in used) else None
        #: Why records were left out, first those that could not be read.
        self.problems = (*told, *(() if board is None else board.problems))
        self._groups = {} if board is None else board.groups

    def group(self, entry: Meant, where: str) -> Group | None:
        """Return the row of an entry; None if it has no runs.

        Raises:
            ResultsError: If it has to be tuned, and the log of its tuning is missing.
        """
        try:
            run = self._chosen.needed(entry.specs[0])
        except ResultsError as error:
            raise ResultsError(f"{where}: {entry.name} cannot be judged: {error}") from error
        return self._groups.get((run.protocol_id, run.entry_id))


def of_study(records: Iterable[Record], tables: Tables) -> list[Record]:
    """Return the records of the entries and seeds of a study, and all records of fresh networks and of tuning.

    Which diagnostics a run measured does not matter, unless it was done with those of the study as well: that record
    then stands for it.
    """
    asked, ids = _rows(tables), {spec.run_id for table in tables for spec in table}
    listed = list(records)
    exact = {_row(record) for record in listed if record.run_id in ids}
    return [
        record
        for record in listed
        if record.spec.kind != "continual"
        or record.run_id in ids
        or (_row(record) in asked and _row(record) not in exact)
    ]


def judged(claims: Sequence[Claim], entries: Sequence[Mapping[EntryName, Meant]], rows: Rows) -> list[Judged]:
    """Return claims with their verdicts.

    Args:
        claims: The claims.
        entries: What `resolved` returned of them.
        rows: What the records make of the study.

    Raises:
        ResultsError: If an entry has to be tuned, and the log of its tuning is missing.
    """
    return [
        judge(claim, {name: Asked(rows.group(each, claim.where), each.seeds) for name, each in named.items()})
        for claim, named in zip(claims, entries, strict=True)
    ]


def _followed(tables: Tables, chosen: Chosen) -> list[list[RunSpec]]:
    return [chosen.followed(table) for table in tables]


def _row(record: Record) -> tuple[str, str, int]:
    return record.protocol_id, record.recipe.entry_id, record.seed


def _rows(tables: Tables) -> set[tuple[str, str, int]]:
    return {(spec.protocol_id, spec.entry_id, spec.seed) for table in tables for spec in table}


def _methods(text: str, where: str) -> tuple[ComponentSpec, ...]:
    try:
        return parse_methods(text)
    except LopbenchError as error:
        raise UsageError(f"{where}: {error}") from error


def _optimizer(text: str, where: str) -> ComponentSpec:
    try:
        return ComponentSpec.parse("optimizers", text)
    except LopbenchError as error:
        raise UsageError(f"{where}: {error}") from error


def _check(found: Sequence[RunSpec], kind: str, wanted: str, labels: Iterable[str], where: str) -> None:
    """Refuse a name that none of the runs has."""
    if not found:
        known = [*dict.fromkeys(labels)]
        raise UsageError(
            f"{where}: no run of the study has the {kind} {wanted!r}.{suggest(wanted, known)} "
            f"Its {kind}s: {', '.join(known)}."
        )


def _several(name: EntryName, found: Sequence[RunSpec], tables: Tables) -> str:
    """Say which entries a name means, and what tells them apart."""
    numbers = {id(spec): number for number, table in enumerate(tables, start=1) for spec in table}
    listing = [f"{spec.method_label} with {spec.optimizer_label} of runs {numbers[id(spec)]}" for spec in found]
    more = f" and {len(listing) - 4} more" if len(listing) > 4 else ""
    told_apart = {
        "method": len({spec.method_label for spec in found}),
        "optimizer": len({spec.optimizer_label for spec in found}),
        "runs": len({numbers[id(spec)] for spec in found}),
    }
    missing = [key for key, count in told_apart.items() if count > 1 and getattr(name, key) is None]
    return f"{', '.join(listing[:4])}{more}; add {' or '.join(missing)} to its name"


def _measured(spec: RunSpec) -> list[str]:
    """Return the names of what is measured of a run. What methods tell of themselves is not among them."""
    scenario = spec.scenario.build()
    assert isinstance(scenario, Scenario)
    score = scenario.score
    stops_early = any(map(scenario.validate_every, range(scenario.tasks)))
    validated = [f"validation_{score}", "kept_step"] if stops_early else []
    labels = [metric.label() for metric in spec.metrics]
    return [f"online_{score}", "online_loss", f"heldout_{score}", *validated, *labels]
