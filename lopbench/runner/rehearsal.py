"""Rehearses the runs of a request before any of them is trained, so that what cannot be run is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from lopbench.core.errors import LopbenchError, UnsupportedError
from lopbench.core.guard import kept
from lopbench.core.spec import RunSpec, canonical_json
from lopbench.runner.environment import numerics
from lopbench.runner.setting import Setting
from lopbench.runner.shape import shape
from lopbench.runner.survival import is_own, outlives

#: What of a shape makes no difference to what a run starts from.
_ALIKE = ("kind", "stop", "tuning")


def rehearse(specs: Iterable[RunSpec], *, data: object) -> None:
    """Make what the runs of one request start from, on the CPU and once for runs that differ in numbers alone.

    This is the stream of the first seed with its first and last task, and the learner with its methods. A component
    that fails in another way than by saying what it cannot serve is passed over: its own run tells when its turn comes,
    and the others go on. So is a plugin that would end this process.

    Args:
        specs: The runs. Those of fresh networks start from what the others start from, and are passed over.
        data: The data set of the scenario, loaded.

    Raises:
        LopbenchError: If the scenario cannot stream the data, or the architecture cannot read the stream.
        UnsupportedError: If the architecture or a method cannot serve.
    """
    kinds = _kinds(specs)
    for spec in kinds[:1]:
        error = _fault(replace(spec, methods=()), data, LopbenchError, learns=False)
        if error is not None:
            raise error
    faults = [(spec, _fault(spec, data, UnsupportedError, learns=True)) for spec in kinds]
    refused = [(spec, str(error)) for spec, error in faults if error is not None]
    if refused:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in refused))
        going = [spec for spec, error in faults if error is None]
        advice = f"; leave out {_called([spec for spec, _ in refused], going)}" if going else ""
        raise UnsupportedError(f"{reasons}{advice}")


def _kinds(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return one run of each kind."""
    found: dict[str, RunSpec] = {}
    for spec in specs:
        if spec.kind == "fresh":
            continue
        try:
            value = shape(spec)
        except KeyboardInterrupt:
            raise
        except BaseException:  # what is wrong with a spec is told when its turn comes
            continue
        found.setdefault(canonical_json({k: v for k, v in value.items() if k not in _ALIKE}), spec)
    return list(found.values())


def _fault(spec: RunSpec, data: object, kind: type[LopbenchError], *, learns: bool) -> LopbenchError | None:
    """Return the error of this kind with which a run is refused; None if there is none.

    Args:
        spec: The run.
        data: Its data.
        kind: The errors that refuse it.
        learns: Whether its learner is made as well.
    """

    def make() -> None:
        with kept(code=not is_own(spec)):
            _make(spec, data, learns=learns)

    if not (is_own(spec) or outlives(make)):
        return None
    try:
        make()
    except KeyboardInterrupt:
        raise
    except kind as error:
        return error
    except BaseException:  # whatever else a component raises is told when its turn comes
        return None
    return None


def _make(spec: RunSpec, data: object, *, learns: bool) -> None:
    device = torch.device("cpu")
    with numerics(spec.numerics, device):
        setting = Setting.of([spec], data=data, device=device)
        place = setting.schedule.places[0]
        if not learns:
            next(setting.stream.task(place.task).batches())
            setting.stream.task(setting.scenario.tasks - 1)
            return
        learner = setting.new_learner(place)
        if setting.cloner is not None:
            setting.rehearse(learner, place)
        elif not learner.hooks.acting:
            learner.turn_on()


def _called(refused: Sequence[RunSpec], going: Sequence[RunSpec]) -> str:
    """Return what the methods of refused runs are called, with their optimizers where they go with others."""
    others = {spec.method_label for spec in going}
    names = [
        f"{spec.method_label} with {spec.optimizer_label}" if spec.method_label in others else spec.method_label
        for spec in refused
    ]
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} and {last}" if first else last
