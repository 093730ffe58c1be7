"""Which runs one figure may hold, what its legend calls them, and what its title says of them."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from lopbench.core.errors import ResultsError
from lopbench.core.spec import canonical_json, format_value
from lopbench.core.text import counted
from lopbench.results.drawing import Line, curve
from lopbench.results.record import Record, one_of_each
from lopbench.results.statistics import INTERVAL_METHOD
from lopbench.results.tasks import task_count, task_edges, task_means

REFERENCE = "fresh network"


def learners(records: Iterable[Record]) -> list[Record]:
    """Return the runs of learners, each once.

    Raises:
        ResultsError: If there are none.
    """
    runs = one_of_each(record for record in records if record.spec.kind == "continual")
    if not runs:
        raise ResultsError("There is no run of a learner to draw.")
    return runs


def check_alike(runs: Iterable[Record], but: Literal["", "width", "lr and architecture", "optimizer"] = "") -> None:
    """Refuse runs whose protocols differ in anything ``but`` what is named.

    Raises:
        ResultsError: If they do, naming the parts that differ and the protocols to choose from.
    """
    found: dict[str, set[str]] = defaultdict(set)
    listed = list(runs)
    for record in listed:
        asked = {**record.spec.protocol(), "optimizer": record.spec.entry()["optimizer"]}
        protocol = json.loads(canonical_json(asked))  # a copy, to cut up
        if but == "width":
            protocol["architecture"]["fields"].pop("width", None)
        elif but == "optimizer":
            del protocol["optimizer"]
        elif but == "lr and architecture":
            del protocol["optimizer"]["fields"]["lr"]
            del protocol["reference_optimizer"]  # depends on the architecture
            found[f"the code of {record.spec.architecture_label}"].add(canonical_json(protocol.pop("architecture")))
        for part, value in protocol.items():
            found[part].add(canonical_json(value))
    differing = [part for part, values in found.items() if len(values) > 1]
    if differing:
        if differing == ["optimizer"]:
            what, choice = "optimizer", {record.spec.optimizer_label for record in listed}
        else:
            what, choice = "protocol", {record.spec.protocol_id for record in listed}
        raise ResultsError(
            f"One figure cannot hold these runs: they differ in {', '.join(differing)}. Select one {what}: "
            f"{', '.join(sorted(choice))}."
        )


def check_measured(runs: Iterable[Record], metric: str) -> None:
    """Refuse runs of which none measured a metric.

    Raises:
        ResultsError: If none did.
    """
    if not any(task_means(record, metric) for record in runs):
        raise ResultsError(f"No run measured {metric!r}; 'lopbench list metrics' shows what can be measured.")


def check_errors(runs: Iterable[Record]) -> None:
    """Refuse runs that are not scored by errors.

    Raises:
        ResultsError: If none is.
    """
    if not any(task_means(record, "online_error") for record in runs):
        raise ResultsError(
            "These runs are scored by accuracy, and this figure is of errors; 'lopbench plot curves' draws the others."
        )


def width_of(record: Record) -> int:
    """Return the field ``width`` of a run's architecture.

    Raises:
        ResultsError: If it has none.
    """
    width = record.spec.architecture.fields.get("width")
    if not isinstance(width, int):
        raise ResultsError(
            f"{record.spec.architecture_label} has no width; select runs of an architecture that has one."
        )
    return width


def labels_of(runs: Sequence[Record]) -> dict[str, str]:
    """Return the legend of each set of methods; what only the code tells apart carries its origin."""
    labels = {record.spec.method_id: record.spec.method_label for record in runs}
    origins = {
        record.spec.method_id: ", ".join(f"{m.origin} v{m.version}" for m in record.spec.methods) for record in runs
    }
    count = Counter(labels.values())
    return {key: label if count[label] == 1 else f"{label} ({origins[key]})" for key, label in labels.items()}


def grouped(runs: Sequence[Record], *, optimizer: bool = False, architecture: bool = False) -> dict[str, list[Record]]:
    """Return the runs by what the legend calls them."""
    labels = labels_of(runs)
    found: dict[str, list[Record]] = defaultdict(list)
    for record in runs:
        beside = [record.spec.architecture_label] * architecture + [record.spec.optimizer_label] * optimizer
        found[", ".join((labels[record.spec.method_id], *beside))].append(record)
    return found


def references_of(records: Iterable[Record], runs: Iterable[Record]) -> list[Record]:
    """Return those of the records that are the fresh networks of the runs, and were completed."""
    wanted = {record.spec.reference().run_id for record in runs}
    return [each for each in records if each.run_id in wanted and each.outcome == "completed"]


def placed(record: Record, by_task: Mapping[int, float]) -> dict[float, float]:
    """Return what is known by task at the steps at which the tasks end."""
    edges = task_edges(record)
    return {float(edges[task + 1]): value for task, value in by_task.items()}


def line_of(name: str, group: Sequence[Record], known: Sequence[Mapping[float, float]], offset: float | None) -> Line:
    """Return the line of some runs, which differ in seed.

    Args:
        name: Its name.
        group: The runs.
        known: What is drawn of them, by place.
        offset: What is added to the number of a task for its place; None where places are steps.
    """
    start = group[0].spec.start
    points = curve(known) if known else np.empty((0, 4))
    if not start:
        return Line(name, points)
    place = start * task_count(group[0])
    if offset is None:
        edges = task_edges(group[0])
        place = float(np.interp(place, range(len(edges)), edges))
    return Line(name, points, place + (offset or 0.0), f"none until {format_value(start)}")


def constant(runs: Sequence[Record], *, by_step: bool) -> tuple[list[float], list[float]]:
    """Return places in the stream, and there the mean over seeds of the error of the best constant."""
    by_seed: dict[int, dict[float, float]] = {}
    for record in runs:
        chance = record.per_task("chance")
        known = placed(record, chance) if by_step else {float(task): value for task, value in chance.items()}
        by_seed[record.seed] = max(by_seed.get(record.seed, {}), known, key=len)
    longest = max(map(len, by_seed.values()))  # all runs of a seed may have stopped
    found = curve([each for each in by_seed.values() if len(each) == longest])
    return found[:, 0].tolist(), found[:, 1].tolist()


def heading(metric: str) -> str:
    """Return a metric in words, its fields on a line of their own."""
    name, _, fields = metric.partition(":")
    return name.replace("_", " ") + (f"\n{fields.replace(',', ', ')}" if fields else "")


def spread(fewest: int, most: int) -> str:
    """Return what a figure shows, in words: the mean, of how many seeds, and which interval."""
    seeds = counted(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    return f"mean of {seeds}" if most == 1 else f"mean of {seeds}, {INTERVAL_METHOD}"


def title(runs: Sequence[Record]) -> str:
    """Return the title of a figure: the setting, seeds and interval, and how many runs stopped."""
    spec = runs[0].spec
    setting = [f"{spec.scenario.name} {spec.profile}", spec.architecture_label, spec.optimizer_label]
    for index, labels in (
        (1, {record.spec.architecture_label for record in runs}),
        (2, {record.spec.optimizer_label for record in runs}),
    ):
        if len(labels) > 1:  # the panels or the legend tell them apart
            setting[index] = " and ".join(sorted({label.partition(":")[0] for label in labels}))
    lines: dict[tuple[str, str], set[int]] = defaultdict(set)
    for record in runs:
        lines[record.spec.protocol_id, record.spec.entry_id].add(record.seed)
    counts = [len(seeds) for seeds in lines.values()]
    stopped = sum(record.outcome != "completed" for record in runs)
    notes = [spread(min(counts), max(counts))]
    if stopped:
        notes.append(f"{stopped} of {counted(len(runs), 'run')} stopped early")
    return f"{', '.join(setting)}\n{'; '.join(notes)}"
