"""The columns of a leaderboard: what each is called, what it means, and what it is of the runs of a row.

Leaderboards, comparisons, reports, the README and its check read this declaration, so that a number has one name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lopbench.core.spec import SCHEMA_VERSION
from lopbench.results.pairs import COLLAPSED, Entrant
from lopbench.results.ranks import RANK_METHOD
from lopbench.results.score import NEAR_CEILING
from lopbench.results.seed_scores import AXES, Axis
from lopbench.results.trend import FLAT
from lopbench.results.verdicts import VERDICT_METHOD

if TYPE_CHECKING:
    from lopbench.results.group import Group


@dataclass(frozen=True)
class Column:
    """A column of a leaderboard.

    Args:
        name: What it is called in frames and CSV files.
        meaning: What it holds, a sentence.
        value: What it is of the runs of a row; None where that is only known when the whole table is.
        heading: What tables call it; empty for the name, or where no table shows it.
        brief: What stands under a table that has it, a few words; empty where a note of its own tells.
        of_errors: Heading and meaning where the score is an error, if they are others.
    """

    name: str
    meaning: str
    value: Callable[[Group], Any]
    heading: str = ""
    of_errors: tuple[str, str] | None = None
    brief: str = ""

    def shown(self, score: str) -> tuple[str, str]:
        """Return heading and meaning for a kind of score."""
        if score == "error" and self.of_errors is not None:
            return self.of_errors
        return self.heading or self.name, self.meaning


def _tuning(group: Group) -> str:
    log = group.spec.tuning
    return "" if log is None else log.tuning.label


def _unplaced(_: Group) -> None:
    """Return None: `standings.place` fills the column in later, and leaves None in rows that it does not place."""


#: What each axis measures, as tables say it.
AXIS_MEANINGS: dict[Axis, str] = {
    "trainability": "Plasticity retention of the online score: how well the late tasks are learned. Each batch is "
    "scored before it is trained on, as the network would be used; where samples come again this is training accuracy. "
    "1 is a fresh network, 0 is chance.",
    "generalisation": "Plasticity retention of the held-out score at the end of each late task. 1 is a fresh network, "
    "0 is chance.",
}

_AXIS_BRIEFS: dict[Axis, str] = {
    "trainability": "how well late tasks are learned, by the online score",
    "generalisation": "how well what is learned of them holds on samples not seen",
}


def _ends(name: str, interval: Callable[[Group], tuple[float, float]], more: str = "") -> tuple[Column, Column]:
    """Return the columns of both ends of the interval of a column; ``more`` ends what is said of the low one."""
    return (
        Column(f"{name}_low", f"The low end of its 95% interval over seeds{more}.", lambda g: interval(g)[0]),
        Column(f"{name}_high", "The high end of its 95% interval over seeds.", lambda g: interval(g)[1]),
    )


def _of_axis(axis: Axis) -> Iterator[Column]:
    yield Column(axis, AXIS_MEANINGS[axis], lambda g: g.retention(axis), axis, brief=_AXIS_BRIEFS[axis])
    yield from _ends(axis, lambda g: g.intervals[axis])
    yield Column(f"{axis}_rank_low", "The best rank that is possible on this axis.", _unplaced)
    yield Column(f"{axis}_rank_high", "The worst rank that is possible on this axis.", _unplaced)


COLUMNS: tuple[Column, ...] = (
    Column("protocol_id", "What is asked: rows of different protocols do not compare.", lambda g: g.protocol_id),
    Column("entry_id", "What is answered: hash of methods, their start and the optimizer.", lambda g: g.spec.entry_id),
    Column("scenario", "Name of the scenario.", lambda g: g.spec.scenario.name),
    Column("profile", "Profile of the scenario.", lambda g: g.spec.profile),
    Column("architecture", "The network.", lambda g: g.spec.architecture_label),
    Column("optimizer", "The learner's optimizer.", lambda g: g.spec.optimizer_label, "optimizer"),
    Column("lr", "Its learning rate.", lambda g: g.spec.optimizer.fields["lr"]),
    Column("method", "The methods.", lambda g: g.spec.method_label, "method"),
    Column(
        "method_id",
        "Hash of the methods with their versions, origins and start. Rows with one label may differ in it.",
        lambda g: g.spec.method_id,
    ),
    Column(
        "track",
        "Whether the method is told of task boundaries (aware) or not (free), or replays data; the control, which "
        "scores 1 by construction, competes in none.",
        lambda g: g.track,
        "track",
    ),
    Column("headline", "The axis that the scenario goes by: `retention` is of it.", lambda g: g.headline),
    Column("rank_low", f"Ranks that are possible within the track: {RANK_METHOD}.", _unplaced, "#"),
    Column("rank_high", "The worst rank that is possible.", _unplaced),
    Column("verdict", f"Shown to be better or worse than none: {VERDICT_METHOD}.", lambda _: "", "to none"),
    Column(
        "seeds",
        "Number of runs; those that diverged or failed count, at chance.",
        lambda g: len(g.runs),
        "seeds",
    ),
    Column(
        "collapsed",
        f"Number of seeds whose retention is below {COLLAPSED:g}. If there are any, the interval does not hold.",
        lambda g: Entrant(g.retentions).collapsed,
    ),
    Column("coverage", "The seeds of the runs.", lambda g: g.coverage),
    Column("score", "What the scenario measures a learner by: accuracy or error.", lambda g: g.score),
    Column(
        "reference",
        "What a retention of 1 stands for: a fresh network, or, of clones, the base that was cloned.",
        lambda g: g.reference,
    ),
    Column(
        "retention",
        "Plasticity retention on the headline's axis: what a learner has above chance on the late tasks over what "
        "fresh networks have; of clones, over what their bases have. Mean over seeds.",
        lambda g: g.retention(g.headline),
        "retention",
    ),
    *_ends("retention", lambda g: g.intervals[g.headline]),
    *(column for axis in AXES for column in _of_axis(axis)),
    Column(
        "trend",
        "Change of the headline's S/F, learner over fresh network, per tenth of the stream, the first fifth left out.",
        lambda g: g.trend,
        "trend",
    ),
    *_ends("trend", lambda g: g.trend_interval),
    Column(
        "trend_word",
        f"What the interval of the trend shows: losing, gaining, level (no change above {FLAT:g} is left possible), or "
        "unclear; empty without a trend.",
        lambda g: g.trend_word,
    ),
    Column(
        "ceiling",
        "The retention of a learner that is always right, mean over seeds.",
        lambda g: g.mean(s.ceilings[g.headline] for s in g.scores),
        "",
    ),
    Column(
        "at_ceiling",
        f"Whether the row is above {NEAR_CEILING:.0%} of it: such rows are not told apart.",
        lambda g: g.at_ceiling(g.headline),
    ),
    Column(
        "retention_before",
        "The retention in the last tasks before the method turned on.",
        lambda g: g.mean(s.retention_before for s in g.scores),
        "before",
    ),
    Column(
        "fresh_retention",
        "A fresh network with this method and this optimizer, over the reference: how good the recipe is at first.",
        lambda g: g.mean(s.fresh for s in g.scores),
        "fresh",
        brief="a fresh network with this method, over the reference",
    ),
    Column(
        "self_retention",
        "The learner over a fresh network with this method and this optimizer: whether this recipe has lost anything.",
        lambda g: g.mean(s.self_retention for s in g.scores),
        "self",
        brief="the learner over a fresh network with this method",
    ),
    Column(
        "wide_retention",
        "Of clones: the clone over a fresh network as wide, trained on the whole stream.",
        lambda g: g.mean(s.wide for s in g.scores),
        "wide",
        brief="the clone over a fresh network as wide",
    ),
    Column(
        "error_above_fresh",
        "Where the score is an error: that of the learner on the late tasks minus that of fresh networks on the same, "
        "in its unit (nats of text); mean over seeds, infinite if a run stopped, below 0 if the learner does better.",
        lambda g: g.mean(s.error_above_fresh for s in g.scores),
        "above fresh",
        brief="the error on late tasks minus that of fresh networks, in its unit; lower is better",
    ),
    *_ends("error_above_fresh", lambda g: g.intervals["error_above_fresh"], "; empty if a run stopped"),
    Column(
        "forgetting",
        "Held-out score of a task at its own end minus that at the end of the next, mean over late tasks; of errors "
        "the other way round. Measured with `--metrics former_score`, in streams whose "
        "tasks change what images mean.",
        lambda g: g.mean(s.forgetting for s in g.scores),
        "forgetting",
        brief="how much worse a task is done at the end of the next one, on held-out samples",
    ),
    *_ends("forgetting", lambda g: g.intervals["forgetting"]),
    Column(
        "lifetime_online",
        "Online accuracy, mean over all tasks.",
        lambda g: g.mean(s.lifetime_online for s in g.scores),
        "online",
        of_errors=("error", "Online error, mean over all tasks, infinite if a run stopped; lower is better."),
        brief="the online score, mean over all tasks",
    ),
    Column(
        "late_early",
        "Online accuracy on the late tasks over that on as many first ones; the tasks' difficulty is in it too.",
        lambda g: g.mean(s.late_early for s in g.scores),
        "late/early",
        of_errors=("early/late", "Online error on the first tasks over that on as many late ones."),
        brief="the online score on late tasks against the first ones",
    ),
    Column(
        "speed",
        "Training steps a second, as a multiple of those of none with the same optimizer and hardware.",
        lambda g: g.speed,
        "speed",
    ),
    Column(
        "memory",
        "Bytes of parameters, buffers, optimizer and method, as a multiple likewise.",
        lambda g: g.memory,
        "mem.",
    ),
    Column("tuning", "How the entry was tuned, as --tune takes it; empty if it was not.", _tuning),
    Column(
        "tuning_steps",
        "Training steps of its development runs.",
        lambda g: None if g.spec.tuning is None else g.spec.tuning.steps,
    ),
    Column(
        "fragility",
        "What tuning on a part of the stream loses: the retention of the same method tuned on the whole stream, minus "
        "this one.",
        lambda _: math.nan,
        "fragility",
    ),
    Column("diverged", "Number of runs that diverged.", lambda g: g.count("diverged")),
    Column("failed", "Number of runs that failed.", lambda g: g.count("failed")),
    Column(
        "unpaired",
        "Number of runs without a retention, because their reference is missing.",
        lambda g: len(g.runs) - len(g.retentions),
    ),
    Column("data", "Name and start of the content hash of the data set.", lambda g: g.data),
    Column("ranked", "Whether the profile is ranked.", lambda g: g.spec.is_ranked),
    Column("rank_note", "Why the row has no rank, or what to know about its verdict.", lambda _: ""),
    Column("notes", "What to know before using the row.", lambda g: "; ".join(g.notes)),
    Column("schema_version", "Version of this table.", lambda _: SCHEMA_VERSION),
    Column(
        "inputs_digest",
        "SHA-256 over the ids of all runs behind the row, references included, and their measurements.",
        lambda g: g.inputs_digest,
    ),
)

#: The same by name.
BY_NAME = {column.name: column for column in COLUMNS}

#: Those beside which columns of their own have the ends of a 95% interval.
WITH_INTERVAL = frozenset(name for name in BY_NAME if f"{name}_low" in BY_NAME)

#: What tables show of a row besides its names, its rank, its retention and its seeds, in this order.
SECONDARY = (
    "verdict",
    "trend",
    "retention_before",
    "generalisation",
    "fresh_retention",
    "self_retention",
    "wide_retention",
    "fragility",
    "error_above_fresh",
    "forgetting",
    "lifetime_online",
    "late_early",
    "speed",
    "memory",
)


#: Of these, errors where the score is one, or differences of errors: numbers of any size.
ERRORS = frozenset({"error_above_fresh", "forgetting", "lifetime_online"})


def secondary(headline: str, cells: Callable[[str], Iterable[Any]]) -> list[str]:
    """Return the columns that a table shows beside its headline, those of which something is known, in their order.

    Args:
        headline: The axis that leads the table; the other one stands where `SECONDARY` has one.
        cells: Returns the cells of a column, of this table or of its CSV read again.
    """
    other = next(axis for axis in AXES if axis != headline)
    names = [other if name in AXES else name for name in SECONDARY]
    return [name for name in names if any(map(_is_known, cells(name)))]


def _is_known(value: Any) -> bool:
    """Tell what is there from an empty text and from NaN."""
    return value != "" if isinstance(value, str) else not math.isnan(value)
