"""How entries are tuned: what is asked of the tuning of each, and the log of what came of it.

Every entry has the same number of configurations: the settings of its method's own grid, crossed with learning rates.
Each configuration trains on the first part of the streams of development seeds, which no result is made of. The one
with the best mean online score is chosen. It trains on a part of the stream, because tuning on all of it would use the
answer (G. Mesbahi et al., 2024, arXiv:2404.02113). The log is a part of the entry and of its hash. It can be derived
again from the records of the development runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.registry import suggest
from lopbench.core.text import counted

if TYPE_CHECKING:
    from lopbench.core.spec import ComponentSpec

#: The first development seed; the others follow it.
FIRST_SEED = 1000

#: Most configurations of an entry, and most development seeds.
MOST_BUDGET, MOST_SEEDS = 1000, 100

#: Prefix of the optimizer's fields in a configuration. Fields of a method have its name as their prefix.
OPTIMIZER = "optimizer"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is asked of the tuning of every entry of a table.

    Args:
        k: Share of the stream, in (0, 1], on whose tasks configurations are compared.
        budget: Number of configurations of each entry, at least 1.
        seeds: Number of development seeds, at least 1.

    Raises:
        UsageError: If a value is out of range.
    """

    k: float = 0.1
    budget: int = 16
    seeds: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1:  # also refuses NaN
            raise UsageError(f"tune: k is the share of the stream, above 0 and at most 1, got {self.k:g}")
        for name, value, most in (("budget", self.budget, MOST_BUDGET), ("seeds", self.seeds, MOST_SEEDS)):
            if not 1 <= value <= most:
                raise UsageError(f"tune: {name} is a whole number from 1 to {most}, got {value}")
        object.__setattr__(self, "k", float(self.k))  # 1 and 1.0 would have other texts

    @classmethod
    def of(cls, given: str | Mapping[str, Any] | Tuning) -> Tuning:
        """Return the tuning that ``k=0.1,budget=16,seeds=3`` or a table of these asks for; the rest has its defaults.

        Raises:
            UsageError: If it is malformed, or a value is out of range.
        """
        if isinstance(given, Tuning):
            return given
        pairs = list(given.items()) if isinstance(given, Mapping) else [_pair(part) for part in given.split(",")]
        values: dict[str, Any] = {}
        for name, value in pairs:
            if name not in cls.__dataclass_fields__:
                known = list(cls.__dataclass_fields__)
                raise UsageError(f"tune: unknown {name!r}.{suggest(name, known)} Known are: {', '.join(known)}.")
            if name in values:
                raise UsageError(f"tune: {name} is given twice")
            values[name] = _number(name, value)
        return cls(**values)

    @property
    def label(self) -> str:
        """The tuning as a text that the command line takes."""
        return f"k={self.k:g},budget={self.budget},seeds={self.seeds}"

    @property
    def development_seeds(self) -> tuple[int, ...]:
        """The seeds on which configurations are compared, and nothing else is run."""
        return tuple(range(FIRST_SEED, FIRST_SEED + self.seeds))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"k": self.k, "budget": self.budget, "seeds": self.seeds}


def _pair(part: str) -> tuple[str, str]:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if not equals or not name or not value:
        raise UsageError(f"tune: {part.strip()!r} is not name=value; write k=0.1,budget=16,seeds=3")
    return name, value


def _number(name: str, value: Any) -> float | int:
    """Return a value as a number, given as text or as one."""
    kind, wanted = (float, "a number") if name == "k" else (int, "a whole number")
    if isinstance(value, str) or (not isinstance(value, bool) and isinstance(value, int | kind)):
        with suppress(ValueError, OverflowError):  # no number, or one beyond all floats
            return kind(value)
    raise UsageError(f"tune: {name} must be {wanted}, got {str(value)[:40]!r}")


@dataclass(frozen=True)
class Configuration:
    """One of the configurations of an entry.

    Args:
        values: Values of the tuned fields, as specs have them, by ``optimizer.FIELD`` or ``METHOD.FIELD``.
        scores: Mean online score of each development run, in the order of seeds; None if it did not complete.
    """

    values: Mapping[str, Any]
    scores: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Mean over the development seeds; None if a run did not complete."""
        known = [score for score in self.scores if score is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(self.scores) else None

    @property
    def label(self) -> str:
        """Its values, as ``optimizer.lr=0.001, l2.strength=0.01``."""
        return ", ".join(f"{name}={self.values[name]}" for name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields, those of the optimizer first."""
        return tuple(sorted(self.values, key=lambda name: (not name.startswith(f"{OPTIMIZER}."), name)))


def best(configurations: Sequence[Configuration], score: str) -> int | None:
    """Return the place of the chosen configuration: the one with the best mean score, and of equal ones the first.

    A configuration is never chosen if one of its development runs diverged or failed.

    Args:
        configurations: All configurations.
        score: What the scenario scores. The lowest "error" is best, and the highest of any other score.

    Returns:
        The place, counted from 0; None if no configuration completed.
    """
    sign = -1.0 if score == "error" else 1.0
    means = [each.mean for each in configurations]
    known = [(sign * mean, -place) for place, mean in enumerate(means) if mean is not None]
    return -max(known)[1] if known else None


@dataclass(frozen=True)
class TuningLog:
    """The log of the tuning of one entry.

    Args:
        tuning: What was asked.
        score: What the scenario scores, such as "accuracy", or "error", of which less is better.
        steps: Training steps of all development runs: the cost of the tuning.
        configurations: All configurations, with their scores.
        chosen: Place of the chosen one, counted from 0.
    """

    tuning: Tuning
    score: str
    steps: int
    configurations: tuple[Configuration, ...]
    chosen: int

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What two entries of one table have in common."""
        return self.tuning.to_json()

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that were tuned, those of the optimizer first."""
        return self.configurations[self.chosen].names

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        tried = [{"values": dict(each.values), "scores": list(each.scores)} for each in self.configurations]
        return {
            **self.asked,
            "score": self.score,
            "steps": self.steps,
            "chosen": self.chosen,
            "configurations": tried,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TuningLog:
        """Return the log of a record; `check` says whether it holds together.

        Raises:
            KeyError, TypeError, UsageError: If it is none.
        """
        tried = tuple(Configuration(each["values"], tuple(each["scores"])) for each in value["configurations"])
        tuning = Tuning(k=value["k"], budget=value["budget"], seeds=value["seeds"])
        return cls(tuning, value["score"], value["steps"], tried, value["chosen"])

    def check(self, methods: Sequence[ComponentSpec], optimizer: ComponentSpec) -> None:
        """Refuse a log that cannot be the one of an entry.

        Args:
            methods: The entry's methods.
            optimizer: Its optimizer.

        Raises:
            ResultsError: If it is empty, has more or fewer configurations than its budget, lacks a score, has fields
                that the entry does not have, or if its best configuration is not the chosen one, or not the entry's.
        """
        tried, budget = self.configurations, self.tuning.budget
        if not tried:
            raise ResultsError("the log of its tuning is empty")
        if len(tried) != budget:
            raise ResultsError(
                f"the log of its tuning has {counted(len(tried), 'configuration')}, and its budget is {budget}"
            )
        if any(len(each.scores) != self.tuning.seeds or each.values.keys() != tried[0].values.keys() for each in tried):
            raise ResultsError("the configurations in the log of its tuning differ in their fields or seeds")
        owners = {OPTIMIZER, *(part.name for part in methods)}
        foreign = [name for name in tried[0].names if name.rpartition(".")[0] not in owners]
        if foreign:
            raise ResultsError(f"the log of its tuning has values of {foreign[0]}, and what was run has no such field")
        if len({each.label for each in tried}) < budget:
            raise ResultsError("the log of its tuning has one configuration twice")
        place = best(tried, self.score)
        if place != self.chosen:
            by_scores = "none" if place is None else f"number {place} ({tried[place].label})"
            raise ResultsError(
                f"the log of its tuning was edited: it says that configuration {self.chosen} was chosen, and by its "
                f"scores {by_scores} is best"
            )
        if configured(methods, optimizer, tried[place].values) != (tuple(methods), optimizer):
            raise ResultsError(f"the log of its tuning chose {tried[place].label}, and something else was run")


def configured(
    methods: Sequence[ComponentSpec], optimizer: ComponentSpec, values: Mapping[str, Any]
) -> tuple[tuple[ComponentSpec, ...], ComponentSpec]:
    """Return methods and optimizer with the values of a configuration."""
    fields: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        owner, _, field = name.rpartition(".")
        fields.setdefault(owner, {})[field] = value
    made = tuple(replace(part, fields={**part.fields, **fields.get(part.name, {})}) for part in methods)
    return made, replace(optimizer, fields={**optimizer.fields, **fields.get(OPTIMIZER, {})})


def untuned(
    methods: Sequence[ComponentSpec], optimizer: ComponentSpec, names: Sequence[str]
) -> tuple[tuple[ComponentSpec, ...], ComponentSpec]:
    """Return methods and optimizer without the tuned fields: what they are whichever configuration is chosen."""
    tuned = set(names)

    def left(part: ComponentSpec, owner: str) -> ComponentSpec:
        return replace(part, fields={k: v for k, v in part.fields.items() if f"{owner}.{k}" not in tuned})

    return tuple(left(part, part.name) for part in methods), left(optimizer, OPTIMIZER)
