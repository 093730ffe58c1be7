"""Methods that changed nothing in a run: their row is plain learning under another name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from lopbench.core.spec import RunSpec
from lopbench.core.text import counted
from lopbench.results.record import Record

#: Why a method changed nothing.
Idle = Literal["zero", "off", "boundary", "nothing"]

_WHY: Mapping[Idle, str] = {
    "zero": "it is at strength zero",
    "off": "it never turned on",
    "boundary": "its boundary never came",
    "nothing": "it found nothing to change",
}


def idle_sentences(spec: RunSpec, idle: Sequence[Idle | None]) -> Iterator[str]:
    """Yield a sentence for each method of a run that changed nothing.

    Args:
        spec: What was run.
        idle: Why each of its methods changed nothing, None where it changed something.
    """
    for method, why in zip(spec.methods, idle, strict=True):
        if why is not None:
            yield f"{method.label()} changed nothing: {_WHY[why]}"


def idle_notes(runs: Sequence[Record]) -> Iterator[str]:
    """Yield a sentence for each method of a row that changed nothing in some of its runs, with their number.

    Runs that stopped are not counted, since the method might have acted later. Nor are records older than this.

    Args:
        runs: The runs of one row, at least one.
    """
    methods = runs[0].spec.methods
    found = [record.status["idle"] for record in runs if record.status.get("idle") is not None]
    for place, method in enumerate(methods):
        reasons: list[Idle] = [idle[place] for idle in found if idle[place] is not None]
        if reasons:
            who = f"{method.label()} " if len(methods) > 1 else ""
            why = " or ".join(_WHY[each] for each in dict.fromkeys(reasons))
            yield f"{who}changed nothing in {len(reasons)} of {counted(len(found), 'run')}: {why}"
