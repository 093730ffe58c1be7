"""Many runs: what a request expands to, what of it is done, and doing the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.interfaces import Samples, Scenario, Sink
from lopbench.core.reading import real_path
from lopbench.core.spec import RunSpec
from lopbench.data import Progress, load_data
from lopbench.results.record import check_recordable, is_recorded
from lopbench.runner.aside import Aside
from lopbench.runner.references import has_reference, with_references
from lopbench.runner.report import Reporter
from lopbench.runner.request import Request
from lopbench.runner.schedule import Schedule
from lopbench.runner.tuning import Candidates

if TYPE_CHECKING:
    from lopbench.runner.holder import Locks

#: Free space below which a study is not started: room for a checkpoint, its successor and the record.
MIN_FREE_BYTES = 200 * 2**20


@dataclass(frozen=True, eq=False)
class Study:
    """A request, expanded.

    Args:
        results: Results folder.
        asked: The continual runs as they were asked for; of entries that are tuned, with an empty log.
        specs: The same, with what tuning chose where that is known.
        pending: The runs still to be done, fresh references included, in the order in which they are done; those that
            follow a choice that is still to be made are not among them.
        steps: Training steps of each pending run.
        finished: Number of runs, references included, that have a record already.
        images: The data set, None if the scenario generates its samples.
        device: Where the runs train, as torch writes it.
        aside: What was asked for and plugins could not make, each with the reason; it is in none of these runs.
        later: Entries that are still to be tuned, of which development runs are pending.
    """

    results: Path
    asked: tuple[RunSpec, ...]
    specs: tuple[RunSpec, ...]
    pending: tuple[RunSpec, ...]
    steps: tuple[int, ...]
    finished: int
    images: Samples | None
    device: str
    aside: tuple[tuple[str, str], ...] = ()
    later: tuple[Candidates, ...] = ()

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        built = self.specs[0].scenario.build()
        assert isinstance(built, Scenario)
        return built

    @cached_property
    def groups(self) -> list[list[RunSpec]]:
        """The pending runs as they train together; found out once, since that traces a step of each kind of run."""
        return self._grouped(self.pending)

    @cached_property
    def groups_following(self) -> list[list[RunSpec]]:
        """The runs of `following` as they will train together."""
        return self._grouped(self.following) if self.following else []

    def _grouped(self, specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
        import torch

        from lopbench.runner.groups import groups

        return groups(specs, data=self.images, device=torch.device(self.device))

    @cached_property
    def following(self) -> tuple[RunSpec, ...]:
        """The runs that follow choices that are still to be made, as if nothing were chosen: to count and foretell."""
        known = {spec.run_id for spec in self.pending}
        runs = with_references([spec for each in self.later for spec in each.unsettled], shared=False)
        return tuple(spec for spec in runs if spec.run_id not in known)

    @property
    def runs(self) -> int:
        """Number of runs to do, those that follow included."""
        return len(self.pending) + len(self.following)

    @property
    def all_steps(self) -> int:
        """Steps of these runs."""
        return sum(self.steps_by_id.values())

    @cached_property
    def steps_by_id(self) -> dict[str, int]:
        """The steps of each of them, by run id."""
        scenario = self.scenario
        following = {spec.run_id: Schedule.of(scenario, spec).steps for spec in self.following}
        return {spec.run_id: steps for spec, steps in zip(self.pending, self.steps, strict=True)} | following

    def settled(self) -> Study:
        """Return the study with the runs that records choose by now in the place of those that were still unknown.

        Entries that are not tuned, because something of their tuning could not be done, are left out.
        """
        chosen: list[RunSpec] = []
        for each in self.later:
            with suppress(ResultsError):  # who worked has told
                chosen += each.settle(self.results) or ()
        specs = [spec for spec in self.specs if spec.tuning is None or spec.tuning.configurations]
        return replace(self, specs=(*specs, *chosen), later=())


def plan(
    *,
    data: str = "auto",
    data_dir: Path | None = None,
    device: str = "auto",
    results: Path | str = "results",
    progress: Progress | None = None,
    **request: Any,
) -> Study:
    """Expand a request to runs and find out which of them are done; trains nothing.

    Args:
        data: "auto", the scenario's data set where it is found and else its stand-in, if it has one; the name of that
            data set, whose absence is then an error; or "procedural", the stand-in.
        data_dir: Where to look for the data set first.
        device: "auto", "cpu", "cuda" or "cuda:1".
        results: Results folder.
        progress: Is told of decoding.
        request: What is to be run: the fields of `Request`.

    Raises:
        UsageError: If a name, field or value is wrong, the scenario has no data set and ``data`` names one, or the
            device does not exist.
        InvalidInputError: If a value is out of range, or no record could hold it.
        DataError: If the data set is absent or damaged, or cannot feed the scenario.
        UnsupportedError: If the architecture cannot read the stream, or a method cannot serve the network.
    """
    results = Path(results).absolute()  # a plugin may go to another folder
    asked = Request(**request).asked()
    device = device_of(device)
    images = _samples(asked.scenario, data, data_dir, progress)
    specs = asked.specs(None if images is None else {"name": images.name, "content_hash": images.content_hash})
    if asked.tuning is None:
        entries = _Entries(specs, specs, runs=with_references(specs))
    else:
        entries = _tuned(Candidates.of(asked.tuning, specs), results)
    wanted = list({run.run_id: run for run in entries.runs}.values())
    for run in (*wanted, *(spec for each in entries.later for spec in each.unsettled)):
        check_recordable(run)
    pending = tuple(spec for spec in wanted if not is_recorded(results, spec))
    if pending:
        from lopbench.runner.rehearsal import rehearse

        rehearse(pending, data=images)
    return Study(
        results=results,
        asked=tuple(entries.asked),
        specs=tuple(entries.specs),
        pending=pending,
        steps=tuple(Schedule.of(asked.scenario, spec).steps for spec in pending),
        finished=len(wanted) - len(pending),
        images=images,
        device=device,
        aside=(*asked.aside, *entries.aside),
        later=tuple(entries.later),
    )


def _samples(scenario: Scenario, data: str, data_dir: Path | None, progress: Progress | None) -> Samples | None:
    """Return what a scenario streams, None if it makes its samples itself; arguments as for `plan`.

    Raises:
        UsageError: If it makes them itself, and ``data`` asks for others.
    """
    if scenario.data is not None:
        return load_data(data, wanted=scenario.data, data_dir=data_dir, progress=progress)
    if data != "auto":
        raise UsageError(f"The scenario {scenario.name} makes its samples itself, and data is {data!r}; leave data out")
    return None


@dataclass
class _Entries:
    """The runs of what was asked for.

    Args:
        asked: The continual ones as they were asked for; of entries that are tuned, with an empty log.
        specs: The same, with what tuning chose where that is known.
        runs: All that are known, those of tuning and references included, in the order in which they are done.
        later: Entries that are still to be tuned.
        aside: Entries that cannot be tuned, each with the reason.
    """

    asked: Sequence[RunSpec]
    specs: Sequence[RunSpec]
    runs: Sequence[RunSpec]
    later: Sequence[Candidates] = ()
    aside: Sequence[tuple[str, str]] = ()


def _tuned(candidates: Sequence[Candidates], results: Path) -> _Entries:
    """Return the runs of entries that are tuned: development runs, references that depend on no choice, and the rest.

    Raises:
        ResultsError: If none of them can be tuned.
    """
    specs: list[RunSpec] = []
    chosen: list[RunSpec] = []
    later, aside = [], []
    for each in candidates:
        try:
            settled = each.settle(results)
        except ResultsError as error:
            aside.append((each.label, str(error)))
            continue
        specs += settled or each.unsettled
        chosen += settled or ()
        if settled is None:
            later.append(each)
    if not specs:
        raise ResultsError("; ".join(f"{label}: {reason}" for label, reason in aside))
    asked = [spec for each in candidates for spec in each.unsettled]
    runs = [spec for each in candidates for spec in each.runs]
    if has_reference(candidates[0].base):
        runs += [spec.reference() for spec in specs]
    return _Entries(asked, specs, [*runs, *with_references(chosen, shared=False)], later, aside)


def plan_all(requests: Iterable[Mapping[str, Any]], **options: Any) -> tuple[Study, ...]:
    """Return the study of each request, as `plan` does; a run that several mean is pending in the first alone.

    A request of which a plugin leaves nothing is left out, unless there is no other.

    Args:
        requests: The keywords of each request: the fields of `Request`, and ``data``.
        options: What holds for all of them: the other keywords of `plan`.

    Raises:
        LopbenchError: As `plan`.
    """
    planned: set[str] = set()
    studies: list[Study] = []
    aside = Aside()
    for study in aside.each(requests, lambda request: plan(**request, **options), _called):
        left = [at for at, spec in enumerate(study.pending) if spec.run_id not in planned]
        pending, steps = tuple(study.pending[at] for at in left), tuple(study.steps[at] for at in left)
        planned.update(spec.run_id for spec in pending)
        studies.append(replace(study, pending=pending, steps=steps))
    first = studies[0]
    return (replace(first, aside=(*aside.told, *first.aside)), *studies[1:])


def _called(request: Mapping[str, Any]) -> str:
    """Return what a request is called that is left out as a whole."""
    scenario, methods = request.get("scenario", "the scenario"), request.get("methods", ())
    return f"{scenario} with {', '.join(map(str, methods)) or 'no method'}"


def execute(
    study: Study,
    reporter: Reporter | None = None,
    *,
    checkpoint_s: float = 10.0,
    sinks: Sequence[Sink] = (),
    locks: Locks = "flock",
) -> list[tuple[RunSpec, str]]:
    """Do what is pending of one study, as `execute_all` does."""
    return execute_all([study], reporter, checkpoint_s=checkpoint_s, sinks=sinks, locks=locks)


def execute_all(
    studies: Sequence[Study],
    reporter: Reporter | None = None,
    *,
    checkpoint_s: float = 10.0,
    sinks: Sequence[Sink] = (),
    locks: Locks = "flock",
) -> list[tuple[RunSpec, str]]:
    """Do what is pending in studies of one results folder and one device, and remove what killed processes left.

    Returns:
        The specs that could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to or is nearly full.
    """
    import torch

    from lopbench.runner.groups import work_off

    results = studies[0].results
    if not any(study.pending for study in studies):
        clear(results)
        return []
    prepare(results)
    return work_off(
        [(group, study.images) for study in studies for group in study.groups],
        later=[(each, study.images) for study in studies for each in study.later],
        results=results,
        device=torch.device(studies[0].device),
        reporter=reporter,
        checkpoint_s=checkpoint_s,
        sinks=sinks,
        locks=locks,
    )


def clear(results: Path) -> None:
    """Remove from a results folder what killed processes left behind; what was set aside may be tried again."""
    from lopbench.runner import unfinished, worklist
    from lopbench.runner.attempts import forget

    worklist.tidy(results)
    unfinished.tidy(results)
    forget(results)


def prepare(results: Path) -> None:
    """Make a results folder ready for a study: `clear`, and with room.

    Raises:
        ResultsError: If it is nearly full.
    """
    clear(results)
    existing = next(folder for folder in (results, *real_path(results).parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        raise ResultsError(
            f"The results folder {results} has {free / 2**20:.0f} MiB free and needs {MIN_FREE_BYTES >> 20}; "
            "make room or choose another with --results."
        )


def device_of(name: str) -> str:
    """Return the device of a name, as torch writes it; "auto" is a GPU where there is one.

    Raises:
        UsageError: If it cannot be used.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {reason}; try --device cpu") from None
    return str(torch.device(name))
