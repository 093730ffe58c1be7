"""The command that makes the runs behind a row."""

import shlex
from collections.abc import Mapping
from typing import Any

from lopbench.core.errors import LopbenchError
from lopbench.core.spec import ComponentSpec, Numerics, RunSpec, format_value, parse_scenario


def command(spec: RunSpec, seeds: str) -> str:
    """Return the line of the shell that runs ``spec`` with each of ``seeds``, given the same code and data.

    Every option that has a default is written out, since defaults change.

    Args:
        spec: The run of a learner.
        seeds: As ``--seeds`` reads them: "0-4,7".
    """
    scenario = spec.scenario
    profile = spec.profile.partition("+")[0]
    changed = _changed(scenario, profile)
    fields = ",".join(f"{key}={_text(value)}" for key, value in sorted(changed.items()))
    words = {
        "--scenario": scenario.name + (f":{fields}" if fields else ""),
        "--profile": profile,
        "--architecture": spec.architecture_label,
        "--optimizer": spec.optimizer_label,
        "--method": "+".join(method.label() for method in spec.methods) or "none",
        "--seeds": seeds,
        "--metrics": ",".join(metric.label() for metric in spec.metrics),
    }
    if spec.cloner is not None:
        words["--cloner"] = spec.cloner.label()
    if spec.start:
        words["--from"] = format_value(spec.start)
    if spec.data is not None:
        words["--data"] = str(spec.data.get("name"))
    return " ".join(["lopbench run", *(f"{option} {shlex.quote(value)}" for option, value in words.items())])


def beyond(spec: RunSpec) -> list[str]:
    """Return what is particular about a run and no option of the command line sets, in words."""
    return [] if spec.numerics == Numerics() else [str(spec.numerics)]


def _changed(scenario: ComponentSpec, profile: str) -> Mapping[str, Any]:
    """Return the fields of a scenario that its profile does not set; all of them if it is not installed here."""
    fields = {key: value for key, value in scenario.fields.items() if key != "profile"}
    if scenario.fields["profile"] == profile:
        return {}
    try:
        usual = parse_scenario(scenario.name, profile).fields
    except LopbenchError:
        return fields
    return {key: value for key, value in fields.items() if key not in usual or usual[key] != value}


def _text(value: object) -> str:
    return "/".join(map(format_value, value)) if isinstance(value, list) else format_value(value)
