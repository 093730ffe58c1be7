"""Specs of components and of runs: how users write them, how records hold them, and the ids made from them.

A component is written ``name`` or ``name:field=value,field=value``. Several methods are joined by ``+``. A run spec
holds everything that changes the numbers of a run. The hash of its canonical JSON is the run id. The *protocol* of a
spec is what is asked. Its *entry* is the answer: methods, their start, the optimizer. Code enters a spec by versions
only, those of the components and that of the core's numbers. A record holds two more things, which are not hashed: the
release that made it, and what tables show of it (`Shown`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from lopbench.core.errors import (
    GivenValueError,
    InvalidInputError,
    LopbenchError,
    PluginError,
    ResultsError,
    UsageError,
)
from lopbench.core.faces import Face, face
from lopbench.core.fields import recorded, types_of
from lopbench.core.guard import Interrupts, left_alone
from lopbench.core.interfaces import Component, Headline, Optimizer, Perturbation, Scenario
from lopbench.core.manager import plugins
from lopbench.core.registry import OWN, Registry, suggest
from lopbench.core.text import told
from lopbench.core.tuning import TuningLog, configured, untuned

SCHEMA_VERSION = 2

#: Version of the core's numbers: of what a learner computes from a spec, besides what its components do. Records of the
#: first schema have version 1. Golden runs (``tests/locks``) fail if numbers move and no version was raised.
NUMBERS = 2

#: Version of the score that tables compute from measurements. Since version 2 there is one formula for accuracies and
#: errors, and a clone is measured against its base.
SCORE = 2


def canonical_json(value: object) -> str:
    """Return the canonical JSON text of ``value``: sorted keys, no blanks, ASCII.

    Raises:
        ValueError: If a number is not finite.
        TypeError: If JSON has no text for a value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: object, length: int) -> str:
    """Return the first ``length`` hex digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def _convert(text: str, annotation: object) -> Any:
    """Return ``text`` as a value of the type ``annotation``.

    Raises:
        ValueError: If it is none; the message says what was expected, as in "a whole number".
    """
    origin = typing.get_origin(annotation)
    if origin is Literal:
        choices = typing.get_args(annotation)
        for choice in choices:
            if text == str(choice):
                return choice
        raise ValueError("one of " + ", ".join(map(str, choices)))
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(annotation)
        if type(None) in options and text.lower() == "none":
            return None
        expected = []
        for option in options:
            if option is type(None):
                continue
            try:
                return _convert(text, option)
            except ValueError as error:
                expected.append(str(error))
        raise ValueError(" or ".join([*expected, "none"] if type(None) in options else expected))
    if origin is tuple:
        inner = typing.get_args(annotation)[0]
        return tuple(_convert(part, inner) for part in text.split("/"))
    if annotation is bool:
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise ValueError("true or false")
    if annotation is int:
        try:
            number = float(text)
        except ValueError:
            raise ValueError("a whole number") from None
        if number != number or number in (float("inf"), float("-inf")) or number != int(number):
            raise ValueError("a whole number")
        return int(text) if text.lstrip("+-").isdigit() else int(number)
    if annotation is float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("a number") from None
        if not math.isfinite(value):  # canonical JSON has no text for it
            raise ValueError("a finite number")
        return value
    return text


def make(cls: type[Component], arguments: Mapping[str, str | Any]) -> Component:
    """Return a component of class ``cls``, with texts among ``arguments`` converted to the types of its fields.

    Raises:
        UsageError: If a field is unknown or missing, or its value is of the wrong type.
        InvalidInputError: If the component refuses a value.
        PluginError: If the class raises any other error.
    """
    known = types_of(cls)
    values: dict[str, Any] = {}
    for key, raw in arguments.items():
        if key not in known:
            listing = ", ".join(known) or "none"
            raise UsageError(f"{cls.name} has no field {key!r}.{suggest(key, list(known))} Its fields: {listing}.")
        try:
            values[key] = _convert(raw, known[key]) if isinstance(raw, str) else raw
        except ValueError as error:
            raise UsageError(f"{cls.name}: {key}={raw} is not {error}.") from None
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.init
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and f.name not in values
    ]
    if missing:
        value = "1e-3" if missing[0] == "lr" else "..."
        raise UsageError(f"{cls.name} needs {', '.join(missing)}, as in {cls.name}:{missing[0]}={value}")
    interrupts = Interrupts()
    try:
        made = cls(**values)
    except LopbenchError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and interrupts.may_be_theirs:
            raise
        raise PluginError(f"{cls.name} cannot be made of {values}: {told(error)}") from error
    finally:
        interrupts.close()
    if interrupts.is_due:
        raise KeyboardInterrupt
    return made


def split(text: str, positional: str | None = None) -> tuple[str, dict[str, str]]:
    """Split ``name:field=value,...`` into the name and the texts of the fields.

    Args:
        text: What the user has written.
        positional: The field that the first value is for if it is written without a field; None if it must have one.

    Raises:
        UsageError: If the text is malformed.
    """
    name, colon, rest = text.strip().partition(":")
    name = name.strip()
    if not name or (colon and not rest.strip()):
        raise UsageError(f"{text!r} is not a component; write name or name:field=value,field=value")
    if "," in name:
        raise UsageError(f"{text!r} is not one component: commas separate fields; give each component by itself")
    arguments: dict[str, str] = {}
    for index, part in enumerate(filter(None, (p.strip() for p in rest.split(",")))):
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals:
            if index or positional is None:
                raise UsageError(f"{text!r}: {part!r} has no value; write {name}:{part}=...")
            key, value = positional, part
        if not key or not value:
            raise UsageError(f"{text!r}: {part!r} is not field=value")
        if key in arguments:
            raise UsageError(f"{text!r} gives {key!r} twice")
        arguments[key] = value
    return name, arguments


def make_given(cls: type[Component], arguments: Mapping[str, Any]) -> Component:
    """Return a component with the fields that a user gave.

    Raises:
        GivenValueError: If a value is out of range.
        LopbenchError: As `make`.
    """
    try:
        return make(cls, arguments)
    except InvalidInputError as error:
        raise GivenValueError(str(error)) from error


def _default_registry() -> Registry:
    return plugins().registry


@dataclass(frozen=True)
class ComponentSpec:
    """A component by value.

    Args:
        kind: What it is, as in "methods".
        name: Name that it is registered under.
        version: Its version, which is raised when its numbers change.
        origin: Name of the distribution that registers it. The code of a plugin that is installed editable, or read
            from a file, can change unnoticed. Its origin also has the version and a hash of the component's file.
        fields: Its hyperparameters, as JSON values.
        track: The track of the leaderboard in which a method competes; None for other components.
    """

    kind: str
    name: str
    version: int
    origin: str
    fields: Mapping[str, Any]
    track: str | None = None

    @classmethod
    def of(cls, kind: str, component: Component, registry: Registry | None = None) -> ComponentSpec:
        """Return the spec of a component that is registered.

        Raises:
            PluginError: If its version is no whole number, or JSON has no text for a field.
            UnknownError: If it is not registered.
        """
        registry = registry or _default_registry()
        if type(component.version) is not int:
            raise PluginError(f"{component.name} has the version {component.version!r}; a version is a whole number")
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in recorded(component).items()}
        for key, value in fields.items():
            try:
                canonical_json(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise PluginError(
                    f"{component.name}: no record can hold the value of {key} ({told(error)}); fields are numbers, "
                    "texts, true or false, none, and tuples of them"
                ) from error
        track = component.track if isinstance(component, Perturbation) else None
        origin = _whose(registry.get(kind, component.name).origin)
        return cls(kind, component.name, component.version, origin, fields, track)

    @classmethod
    def parse(cls, kind: str, text: str, registry: Registry | None = None, **overrides: Any) -> ComponentSpec:
        """Return the spec that ``text`` names. The component is built once, to check its values.

        Args:
            kind: What it is, as in "methods".
            text: What the user has written.
            registry: Where the name is looked up; None for all plugins.
            **overrides: Values of fields that ``text`` does not give.

        Raises:
            UsageError: If the name, a field or a value's type is wrong.
            GivenValueError: If a value is out of range.
            PluginError: If the class cannot be imported, or is at fault when the component is built.
        """
        registry = registry or _default_registry()
        name, colon, rest = text.partition(":")  # of the fields the first: what is wrong with others is told below
        entry = registry.get(kind, split(name + colon + rest.partition(",")[0], "_")[0])
        component_class = entry.load()
        _, arguments = split(text, component_class.positional)
        with left_alone(f"{component_class.name} cannot be made: "):
            try:
                return cls.of(kind, make_given(component_class, {**overrides, **arguments}), registry)
            except InvalidInputError as error:
                if overrides or arguments:
                    raise
                raise PluginError(f"{component_class.name} cannot be made as it is: {error}") from error

    def build(self, registry: Registry | None = None) -> Component:
        """Return the component that the spec describes.

        Raises:
            LopbenchError: As `make`, or if the name is not registered.
        """
        registry = registry or _default_registry()
        return make(registry.get(self.kind, self.name).load(), _tuples(self.fields))

    def changed(self, field: str, value: str) -> ComponentSpec:
        """Return the spec with another value of ``field``; ``value`` is a text as users write it.

        Raises:
            LopbenchError: As `parse`.
        """
        cls = _default_registry().get(self.kind, self.name).load()
        return ComponentSpec.of(self.kind, make_given(cls, {**_tuples(self.fields), field: value}))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        value = {"name": self.name, "version": self.version, "origin": self.origin, "fields": dict(self.fields)}
        return value if self.track is None else {**value, "track": self.track}

    @classmethod
    def from_json(cls, kind: str, value: Mapping[str, Any]) -> ComponentSpec:
        """Return the spec that a record holds. Nothing is imported or looked up.

        In the first schema optimizers were part of the core. Their specs had neither version nor origin.
        """
        version, origin = value.get("version", 1), _whose(value.get("origin", OWN))
        return cls(kind, value["name"], version, origin, value["fields"], value.get("track"))

    def face(self, registry: Registry | None = None) -> Face | None:
        """Return what labels and tables need of the class; None if it is not installed or cannot be imported."""
        try:
            return face((registry or _default_registry()).get(self.kind, self.name))
        except Exception:  # a record of a plugin that is not installed here is still readable
            return None

    def label(self, registry: Registry | None = None) -> str:
        """Return the shortest text for this spec: ``name``, and the fields that do not have their defaults."""
        shown = self.face(registry) or Face({}, None)
        parts: list[str] = []
        # In a fixed order, since the fields of a record are sorted. Fields without default come first.
        for key in sorted(self.fields, key=lambda key: (key in shown.defaults, key)):
            value = self.fields[key]
            if key in shown.defaults and value == shown.defaults[key]:
                continue
            text = "/".join(map(str, value)) if isinstance(value, list) else format_value(value)
            parts.insert(0, text) if key == shown.positional else parts.append(f"{key}={text}")
        return self.name + (":" + ",".join(parts) if parts else "")


def _whose(origin: str) -> str:
    """Return the part of an origin (`Registration.origin`) that runs must share to stand in one table.

    It is the name of the distribution alone if its code cannot change without its version.
    """
    name = origin.partition(" ")[0]
    return name if name == OWN or "+" not in origin else origin


def format_value(value: object) -> str:
    """Return a hyperparameter as users write it on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "none" if value is None else str(value)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with tuples in the place of lists, which JSON has instead."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


@dataclass(frozen=True)
class Numerics:
    """Settings of the arithmetic that can change numbers.

    Args:
        dtype: Type of parameters and inputs.
        tf32: Whether a GPU may multiply matrices in TF32.
        deterministic: Whether torch must use deterministic algorithms.
    """

    dtype: Literal["float32", "float64"] = "float32"
    tf32: bool = False
    deterministic: bool = True


def build_optimizer(spec: ComponentSpec) -> Optimizer:
    """Return the optimizer that a spec describes."""
    rule = spec.build()
    assert isinstance(rule, Optimizer)
    return rule


def check_start(start: float) -> None:
    """Refuse a number that is no fraction of the stream.

    Raises:
        UsageError: If it is outside [0, 1].
    """
    if not 0 <= start <= 1:  # also refuses NaN
        raise UsageError(f"--from is the fraction of the stream before the method, in [0, 1], got {start}")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What tables show of a run, as its plugins said it when the run was made.

    A record keeps this, so that tables need no plugin and are the same everywhere. It changes no number, and no hash
    covers it.

    Args:
        method: `RunSpec.method_label`.
        architecture: `RunSpec.architecture_label`.
        optimizer: `RunSpec.optimizer_label`.
        ranked: `RunSpec.is_ranked`.
        control: `RunSpec.is_control`.
        headline: `RunSpec.headline`.
    """

    method: str
    architecture: str
    optimizer: str
    ranked: bool
    control: bool
    headline: Headline


@dataclass(frozen=True)
class RunSpec:
    """Everything that changes the numbers of one run of one seed.

    ``kind`` is "continual" for a learner, "fresh" for new networks at each scored task, and "development" for a learner
    that only serves to choose a configuration and makes no row. ``start`` is the fraction of the stream, in [0, 1],
    after which the methods are on. ``stop`` is the fraction of the stream, in (0, 1], after which a development run
    ends. ``tuning`` is the log of the tuning that chose the entry, None without one. A ``stop`` of 1 and no log are not
    in the JSON, so that older specs keep their ids. ``shown`` is what the record says of its row. It is None if there
    is no record, if the record has none, and in a spec that `replace` makes, since that is another run.

    Raises:
        UsageError: If ``start`` is outside [0, 1].
    """

    scenario: ComponentSpec
    architecture: ComponentSpec
    optimizer: ComponentSpec
    reference_optimizer: ComponentSpec
    methods: tuple[ComponentSpec, ...]
    seed: int
    metrics: tuple[ComponentSpec, ...]
    data: Mapping[str, Any] | None
    numbers: int = NUMBERS
    cloner: ComponentSpec | None = None
    numerics: Numerics = field(default_factory=Numerics)
    kind: Literal["continual", "fresh", "development"] = "continual"
    start: float = 0.0
    stop: float = 1.0
    tuning: TuningLog | None = None
    shown: Shown | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_start(self.start)
        object.__setattr__(self, "shown", None)  # since a field without `init` is not set yet
        object.__setattr__(self, "start", float(self.start) + 0.0)  # 1, 1.0 and -0.0 would have other texts

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value whose hash is the run id."""
        value = {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            **self._question(),
            **self.entry(),
            "seed": self.seed,
            "metrics": [metric.to_json() for metric in self.metrics],
        }
        if self.stop != 1.0:
            value["stop"] = self.stop
        return value

    def recorded(self) -> dict[str, Any]:
        """Return what a record holds: the value that is hashed, and in addition what tables show."""
        shown = Shown(
            method=self.method_label,
            architecture=self.architecture_label,
            optimizer=self.optimizer_label,
            ranked=self.is_ranked,
            control=self.is_control,
            headline=self.headline,
        )
        return {**self.to_json(), "shown": dataclasses.asdict(shown)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunSpec:
        """Return the spec of a record, of this schema or the first.

        Raises:
            ResultsError: If the record was written by a newer lopbench or is not a spec.
        """
        version = value.get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ResultsError(
                f"the record has schema version {version}, this lopbench reads up to {SCHEMA_VERSION}; upgrade lopbench"
            )
        try:
            made = cls(
                kind=value["kind"],
                scenario=ComponentSpec.from_json("scenarios", value["scenario"]),
                architecture=ComponentSpec.from_json("architectures", value["architecture"]),
                cloner=value["cloner"] and ComponentSpec.from_json("cloners", value["cloner"]),
                methods=tuple(ComponentSpec.from_json("methods", m) for m in value["methods"]),
                optimizer=ComponentSpec.from_json("optimizers", value["optimizer"]),
                reference_optimizer=ComponentSpec.from_json("optimizers", value["reference_optimizer"]),
                seed=value["seed"],
                metrics=tuple(ComponentSpec.from_json("metrics", m) for m in value["metrics"]),
                numerics=Numerics(**value["numerics"]),
                data=value["data"],
                numbers=1 if version == 1 else value["numbers"],
                start=value.get("start", 0.0),
                stop=value.get("stop", 1.0),
                tuning=TuningLog.from_json(value["tuning"]) if "tuning" in value else None,
            )
            if made.tuning is not None:
                made.tuning.check(made.methods, made.optimizer)
            if "shown" in value:
                object.__setattr__(made, "shown", Shown(**value["shown"]))
            return made
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            raise ResultsError(f"the record's spec is damaged: {type(error).__name__}: {error}") from error

    @cached_property
    def run_id(self) -> str:
        """Hash of the whole spec, 16 hex digits."""
        return digest(self.to_json(), 16)

    def with_seed(self, seed: int) -> RunSpec:
        """Return the same spec with another seed. Unlike `replace` it checks nothing, since thousands are made."""
        made = object.__new__(RunSpec)
        made.__dict__.update({name: self.__dict__[name] for name in self.__dataclass_fields__}, seed=seed)  # no run id
        return made

    def protocol(self) -> dict[str, Any]:
        """Return what is asked. Two rows stand in one table only if it is the same for both.

        It is: scenario, architecture and cloner with their versions, data by content, the reference, numerics, and the
        versions of the core's numbers and of the score. With tuned entries it is also how they had to be tuned.
        """
        tuned = {} if self.tuning is None else {"tuning": self.tuning.asked}
        return {**self._question(), "score": SCORE, **tuned}

    def entry(self) -> dict[str, Any]:
        """Return the answer: methods, their ``start``, optimizer, and the log of tuning if there is one."""
        tuned = {} if self.tuning is None else {"tuning": self.tuning.to_json()}
        methods = [method.to_json() for method in self.methods]
        return {"methods": methods, "start": self.start, "optimizer": self.optimizer.to_json(), **tuned}

    def _question(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.to_json(),
            "architecture": self.architecture.to_json(),
            "cloner": None if self.cloner is None else self.cloner.to_json(),
            "reference_optimizer": self.reference_optimizer.to_json(),
            "numerics": dict(vars(self.numerics)),
            "data": None if self.data is None else dict(self.data),
            "numbers": self.numbers,
        }

    @cached_property
    def protocol_id(self) -> str:
        """Name and version of the scenario, and the hash of `protocol`, 12 hex digits."""
        return f"{self.scenario.name}@{self.scenario.version}+{digest(self.protocol(), 12)}"

    @cached_property
    def entry_id(self) -> str:
        """Hash of `entry`, 12 hex digits."""
        return digest(self.entry(), 12)

    @cached_property
    def method_id(self) -> str:
        """Hash of `entry` without the optimizer, 12 hex digits. It tells methods apart that have the same label.

        The fields that were tuned are left out, so that a tuned entry is one method in all scenarios.
        """
        family = self if self.tuning is None else self.family
        return digest({key: family.entry()[key] for key in ("methods", "start")}, 12)

    @property
    def family(self) -> RunSpec:
        """The spec without tuning and the fields that were tuned; a spec that was not tuned is its own family."""
        if self.tuning is None:
            return self
        methods, optimizer = untuned(self.methods, self.optimizer, self.tuning.names)
        return replace(self, methods=methods, optimizer=optimizer, tuning=None)

    def development(self, k: float, values: Mapping[str, Any], seed: int) -> RunSpec:
        """Return the run of one configuration on the first fraction ``k`` of the stream of a development seed."""
        methods, optimizer = configured(self.methods, self.optimizer, values)
        return replace(
            self, kind="development", stop=k, tuning=None, metrics=(), methods=methods, optimizer=optimizer, seed=seed
        )

    @property
    def components(self) -> tuple[ComponentSpec, ...]:
        """All components that take part in the run. The reference's optimizer does not."""
        found = (self.scenario, self.architecture, self.optimizer, *self.methods, *self.metrics, self.cloner)
        return tuple(part for part in found if part is not None)

    def reference(self) -> RunSpec:
        """Return the run of the fresh reference: no method, and the reference optimizer of the protocol.

        It keeps ``start``, so that it also covers the tasks that are scored before the method turns on.
        """
        return replace(self, kind="fresh", metrics=(), methods=(), optimizer=self.reference_optimizer, tuning=None)

    def own_reference(self) -> RunSpec:
        """Return the run of this recipe (methods and optimizer) on new networks at each scored task, without metrics.

        For the control it is the reference: the control does nothing to new networks, and has the same optimizer.
        """
        methods = () if self.is_control else self.methods
        return replace(self, kind="fresh", metrics=(), methods=methods, tuning=None)

    @property
    def method_label(self) -> str:
        """The methods as users write them, "none" for no method; with "from 0.5" if they start later."""
        if self.shown is not None:
            return self.shown.method
        text = "+".join(method.label() for method in self.methods) or "none"
        return f"{text} from {format_value(self.start)}" if self.start else text

    @property
    def architecture_label(self) -> str:
        """The architecture as users write it."""
        return self.architecture.label() if self.shown is None else self.shown.architecture

    @property
    def optimizer_label(self) -> str:
        """The optimizer as users write it."""
        return self.optimizer.label() if self.shown is None else self.shown.optimizer

    @property
    def is_ranked(self) -> bool:
        """Whether the profile enters rankings. The scenario says so; if it is not installed, all but "smoke" do."""
        if self.shown is not None:
            return self.shown.ranked
        known = self.scenario.face()
        return self.profile.partition("+")[0] not in (("smoke",) if known is None else known.unranked)

    @property
    def is_control(self) -> bool:
        """Whether the method is the control, which becomes the reference at each task; if not installed, "reset" is."""
        if self.shown is not None:
            return self.shown.control
        if len(self.methods) != 1:  # the control composes with nothing
            return False
        known = self.methods[0].face()
        return self.methods[0].name == "reset" if known is None else known.control

    @property
    def headline(self) -> Headline:
        """The axis that leads the table. The scenario says so; if it is not installed, it is "trainability"."""
        if self.shown is not None:
            return self.shown.headline
        known = self.scenario.face()
        return "trainability" if known is None else known.headline

    @property
    def profile(self) -> str:
        """The scenario's profile, with "+custom" appended if fields were changed."""
        return str(self.scenario.fields["profile"])

    @property
    def directory_name(self) -> str:
        """Name of the run's directory: readable, and unique by its run id."""
        method = "+".join(m.name for m in self.methods) or "none"
        kind = {"continual": "", "fresh": "fresh-", "development": "dev-"}[self.kind]
        stem = f"{self.scenario.name}-{self.profile}-{self.architecture.name}-{kind}{method}-s{self.seed}"
        return f"{stem}-{self.run_id}"


def parse_scenario(text: str, profile: str | None = None, registry: Registry | None = None) -> ComponentSpec:
    """Return the scenario that ``text`` names, with the fields of ``profile`` (None for its default profile).

    Raises:
        UsageError: If the name, the profile or a field is unknown, or a value is of the wrong type.
        GivenValueError: If a value is out of range.
    """
    registry = registry or _default_registry()
    cls = registry.get("scenarios", split(text)[0]).load()
    assert issubclass(cls, Scenario)
    chosen = profile or cls.default_profile
    if not cls.profiles:
        raise UsageError(
            f"scenario {cls.name!r} declares no profiles; its class needs at least its default one, as in "
            f"profiles = {{{cls.default_profile!r}: {{}}}}"
        )
    if chosen not in cls.profiles:
        listing = ", ".join(cls.profiles)
        raise UsageError(
            f"{cls.name} has no profile {chosen!r}.{suggest(chosen, list(cls.profiles))} Its profiles: {listing}."
        )
    base = {**cls.profiles[chosen], "profile": chosen}
    arguments = split(text)[1]
    if "profile" in arguments:
        raise UsageError(f"{text!r}: choose the profile with --profile {arguments['profile']}")
    spec = ComponentSpec.of("scenarios", make_given(cls, {**base, **arguments}), registry)
    if spec == ComponentSpec.of("scenarios", make(cls, base), registry):
        return spec
    custom = make_given(cls, {**base, **arguments, "profile": f"{chosen}+custom"})
    return ComponentSpec.of("scenarios", custom, registry)


def parse_methods(text: str, registry: Registry | None = None) -> tuple[ComponentSpec, ...]:
    """Return the methods that ``text`` joins by ``+``, left to right; none for the text "none".

    Raises:
        UsageError: If a part is malformed or unknown, or "none" is joined with something.
    """
    parts = [part.strip() for part in split_plus(text)]
    if parts == ["none"]:
        return ()
    if "none" in parts:
        raise UsageError(f"{text!r}: 'none' is no method and composes with nothing")
    return tuple(ComponentSpec.parse("methods", part, registry) for part in parts)


def split_plus(text: str) -> Sequence[str]:
    """Return the parts of ``text`` between ``+``, which does not split a number such as 1e+3."""
    parts: list[str] = []
    for part in text.split("+"):
        if parts and parts[-1][-1:] in "eE" and parts[-1][-2:-1].isdigit() and part[:1].isdigit():
            parts[-1] += "+" + part
        else:
            parts.append(part)
    return parts
