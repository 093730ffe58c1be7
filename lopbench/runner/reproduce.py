"""Runs a recorded run again, and says whether its numbers come out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from lopbench.core.errors import DataError, GivenValueError, InvalidInputError, PluginError, ResultsError, UsageError
from lopbench.core.interfaces import Samples, Scenario
from lopbench.core.manager import UNPUBLISHED
from lopbench.core.spec import NUMBERS, ComponentSpec, RunSpec
from lopbench.data import load_data
from lopbench.results.compare import protocol_differences
from lopbench.results.record import Record, read_record
from lopbench.runner.run import Run

if TYPE_CHECKING:
    import os

    import pandas as pd

    from lopbench.runner.report import Reporter

#: By how much, relatively, the mean of a score over the tasks may differ on another platform: rounding differs there in
#: the last digit, training makes that grow, and this is about what another seed would change.
TOLERANCE = 0.05

Verdict = Literal["identical", "within tolerance", "different"]

#: What is absent from older environments, and what that means.
_ABSENT = {"replicas": "1", "steps": '"one by one"'}

#: What records of the first schema say in their specs.
_LATER = ("code", "origins")

#: What cannot change a number.
_HARMLESS = ("cpu_count",)


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What came out.

    Args:
        run: The directory of the record.
        verdict: "identical", bit by bit; "within tolerance", where code or environment differ and the scores are close;
            or "different".
        reason: Why not "identical", in words; empty if it is.
        code: What differs in the code: field of the spec to recorded and present value.
        environment: What differs in the environment, likewise.
        outcomes: How the run ended, as recorded and now.
        metrics: For each metric the number of ``rows``, how many are ``identical``, the ``largest`` difference, and the
            means of what is finite, ``recorded`` and ``reproduced``.
    """

    run: Path
    verdict: Verdict
    reason: str
    code: Mapping[str, tuple[str, str]]
    environment: Mapping[str, tuple[str, str]]
    outcomes: tuple[str, str]
    metrics: pd.DataFrame


def reproduce(
    run: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    tolerance: float = TOLERANCE,
    reporter: Reporter | None = None,
) -> Reproduction:
    """Run a recorded run again, alone and in a temporary folder, and compare all measurements.

    With the same code, versions and hardware the numbers must be bit-identical. Elsewhere, and for a run that was
    trained beside others as a replica of one program, rounding differs in the last digits: then each score's mean over
    the tasks must agree within ``tolerance``. torch uses as many threads as the record says.

    Args:
        run: Directory of the record.
        data_dir: Folder with the data set, looked in first.
        device: Where to train, as torch writes it; None for the kind of device of the record, if it is there.
        tolerance: Largest relative difference of means that is put up with, at least 0.
        reporter: Is told how it goes.

    Raises:
        ResultsError: If the record is damaged, or of components that are not installed here.
        DataError: If its data set is not here, or has other content.
        UsageError: If the device does not exist.
        GivenValueError: If the tolerance is negative.
    """
    if not tolerance >= 0:
        raise GivenValueError(f"the tolerance must be at least 0, got {tolerance}")
    record = read_record(run)
    spec = _as_installed(record)
    scenario = spec.scenario.build()
    assert isinstance(scenario, Scenario)
    data = _data(spec, scenario, data_dir)
    with tempfile.TemporaryDirectory(prefix="lopbench-reproduce-") as folder, _threads(record):
        made = Run(
            [spec], results=Path(folder), data=data, device=torch.device(device or _device(record)), reporter=reporter
        )
        ((_, path),) = made.execute()
        again = read_record(path)
        return _compared(record, again, tolerance)


def _as_installed(record: Record) -> RunSpec:
    """Return the spec with the versions and origins of what is installed here."""

    def here(spec: ComponentSpec) -> ComponentSpec:
        try:
            return ComponentSpec.of(spec.kind, spec.build())
        except (UsageError, InvalidInputError, PluginError) as error:
            hint = " Name its file with --plugin." if spec.origin.startswith(UNPUBLISHED) else ""
            raise ResultsError(
                f"{record.path} cannot be run again here: {error} It was made with {spec.name} version {spec.version} "
                f"of {spec.origin}.{hint}"
            ) from error

    spec = record.spec
    return replace(
        spec,
        scenario=here(spec.scenario),
        architecture=here(spec.architecture),
        cloner=spec.cloner and here(spec.cloner),
        methods=tuple(map(here, spec.methods)),
        optimizer=here(spec.optimizer),
        reference_optimizer=here(spec.reference_optimizer),
        metrics=tuple(map(here, spec.metrics)),
        numbers=NUMBERS,
    )


def _data(spec: RunSpec, scenario: Scenario, data_dir: str | os.PathLike[str] | None) -> Samples | None:
    if spec.data is None or scenario.data is None:
        return None
    name, wanted = spec.data["name"], spec.data["content_hash"]
    images = load_data(name, wanted=scenario.data, data_dir=None if data_dir is None else Path(data_dir))
    if images.content_hash != wanted:
        raise DataError(
            f"The run was made with {name} of content {wanted[:12]}, and here it has content "
            f"{images.content_hash[:12]}; name a folder that has the same with --data-dir."
        )
    return images


def _device(record: Record) -> str:
    on_cpu = str(record.environment.get("device", "cpu")).startswith("cpu")
    return "cpu" if on_cpu or not torch.cuda.is_available() else "cuda"


@contextmanager
def _threads(record: Record) -> Iterator[None]:
    """Let torch use as many threads as the record says."""
    usual = torch.get_num_threads()
    torch.set_num_threads(record.environment.get("threads", usual))
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _compared(record: Record, again: Record, tolerance: float) -> Reproduction:
    code = protocol_differences(record.spec.to_json(), again.spec.to_json())
    environment = {
        key: (before, now)
        for key, (before, now) in protocol_differences(record.environment, again.environment).items()
        if key not in _HARMLESS
        and now != (_ABSENT.get(key) if before == "(none)" else before)
        and not (before == "(none)" and key.partition(".")[0] in _LATER)
    }
    metrics = _metrics(record, again)
    outcomes = record.outcome, again.outcome
    ends = record.status["diverged_at"], again.status["diverged_at"]
    verdict: Verdict = "different"
    if record.table.equals(again.table) and outcomes[0] == outcomes[1] and ends[0] == ends[1]:
        verdict, reason = "identical", ""
    elif outcomes[0] != outcomes[1]:
        reason = f"the run {outcomes[0]} then and {outcomes[1]} now"
    elif not (code or environment):
        reason = "code, versions and hardware are the same, so all numbers should be"
    else:
        scores = metrics[metrics["metric"].str.fullmatch(r"(online|heldout)_(accuracy|error)")]
        size = scores[["recorded", "reproduced"]].abs().max(axis=1)
        apart = ~((scores["recorded"] - scores["reproduced"]).abs() <= tolerance * size)
        if apart.any():
            reason = f"{', '.join(scores.loc[apart, 'metric'])}: the means differ by more than {tolerance:.0%}"
        else:
            verdict, reason = "within tolerance", f"the means of the scores agree within {tolerance:.0%}"
            if record.environment.get("replicas", 1) > 1:
                reason += "; it was trained beside others in one program, and alone now"
    return Reproduction(record.path, verdict, reason, code, environment, outcomes, metrics)


def _metrics(record: Record, again: Record) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    both = record.measurements.merge(
        again.measurements, on=["step", "task", "layer", "metric"], how="outer", suffixes=("_then", "_now")
    )
    then, now = both["value_then"], both["value_now"]
    known = both[["step", "task", "layer", "metric"]].assign(
        identical=(then == now) | (then.isna() & now.isna()),
        apart=(then - now).abs(),
        recorded=then,
        reproduced=now,
    )
    rows: list[dict[str, Any]] = []
    for metric, group in known.groupby("metric", sort=True):
        rows.append(
            {
                "metric": metric,
                "rows": len(group),
                "identical": int(group["identical"].sum()),
                "largest": float(np.nanmax(group["apart"].fillna(0.0))),
                "recorded": float(group["recorded"].mean()),
                "reproduced": float(group["reproduced"].mean()),
            }
        )
    return pd.DataFrame(rows, columns=["metric", "rows", "identical", "largest", "recorded", "reproduced"])
