"""Golden runs: what the core and each built-in component compute, so that no number moves without a raised version.

Results of several releases stand together by ``version`` of each component and ``NUMBERS`` of the core, which is right
only if these are raised whenever the same fields give other numbers. So each built-in scenario, architecture, cloner,
method and optimizer has a short run in float64 on the CPU for each of its ``examples``, and so has the core, with
components of the tests (``ours.py``). ``values.json`` holds their numbers and the versions that gave them. After
raising a version, or for a new component,

    python tests/locks/locks.py

records what is new. Where numbers moved and no version was raised it refuses, and says which to raise.
"""

import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lopbench.core.interfaces import KINDS, Architecture, Component, Samples
from lopbench.core.manager import plugins
from lopbench.core.spec import Numerics, RunSpec
from lopbench.data.arrays import ArraySet, array_hash
from lopbench.data.images import ImageSet, content_hash
from lopbench.results.record import read_record
from lopbench.runner.request import Request
from lopbench.runner.run import Run

sys.path.insert(0, str(Path(__file__).parent))

from ours import Blobs, Pair, Plain

FILE = Path(__file__).with_name("values.json")

#: Numbers this close, relatively, are the same: in float64 rounding grows no further in so few steps.
TOLERANCE = 1e-6

#: The kinds of which no version is part of a protocol or an entry.
UNLOCKED = ("metrics", "data", "sinks", "executors")

#: A few tasks of a few steps; a scenario that is not here runs on its profile ``smoke``.
SMALL = {
    "tinyimagenet40": "tasks=3,steps_per_task=6,classes_per_task=3,images_per_class=8,resolution=16,batch_size=6",
    "bitflip": "samples=60,m=8,f=5,T=10,steps_per_task=10",
    "slowly_changing_regression": "samples=60,m=8,f=5,T=10,steps_per_task=10",
    "cloning": "base_epochs=1,epochs=5,images_per_class=2,batch_size=10",
    "permuted_mnist": "tasks=3,steps_per_task=6,batch_size=5",
    "random_labels": "tasks=3,steps_per_task=6,images=20,batch_size=5",
    "label_permuted": "tasks=3,steps_per_task=6,batch_size=5",
    "five_plus_one": "tasks=2,hard_classes=3,steps_per_task=12,images_per_class=8,batch_size=5",
    "warm_start": "tasks=3,images=24,epochs=2,batch_size=5,held_out_images=3",
    "continual_imagenet": "tasks=3,steps_per_task=6,images_per_class=5,batch_size=5",
    "incremental": "tasks=3,classes_per_task=2,images_per_class=6,epochs=2,batch_size=5,augment=true",
    "cartpole": "tasks=3,rollouts=2,environments=2,horizon=30,passes=2,batch_size=20",
    "permuted_text": "tasks=3,steps_per_task=6,passages=12,length=8,batch_size=4",
}

#: Fields of scenarios that have a second run: parts of a protocol that are off by default.
PARTS = {"incremental": "rate_drops=1,validation_images=2"}

#: What runs beside the component that a case is for.
SCENARIO, NETWORK, OPTIMIZER = "tinyimagenet40", "mlp:width=12,depth=2", "adam:lr=0.01"

#: What the names of numbers of a task begin with.
OF_TASKS = ("online", "heldout", "validation", "kept")

#: Streams of what architectures read that do not read images.
STREAMS = {"tokens": "permuted_text", "observations": "cartpole"}

#: Metrics into which every parameter and every hidden activation goes.
METRICS = ("weight_norm", "feature_norm")

RECORD = "record it with 'python tests/locks/locks.py'"


@dataclass(frozen=True)
class Case:
    """A golden run.

    Args:
        key: What it is called: kind and name of the component that it is for, and which of its examples it runs.
        spec: What runs.
    """

    key: str
    spec: RunSpec = field(compare=False)

    @property
    def versions(self) -> dict[str, int]:
        """The versions of all that its numbers come from."""
        spec = self.spec
        parts = (spec.scenario, spec.architecture, *filter(None, [spec.cloner]), *spec.methods, spec.optimizer)
        return {"core": spec.numbers, **{f"{part.kind} {part.name}": part.version for part in parts}}


@dataclass(frozen=True)
class Lock:
    """What the file says of a case: its numbers by name, None for what is not finite, and the versions behind them."""

    versions: Mapping[str, int]
    values: Mapping[str, float | None]


Locks = Mapping[str, Lock]


def cases() -> dict[str, Case]:
    """Return the case of the core, and those of all examples of all built-in components, by key."""
    own = Request(
        scenario=Blobs(profile="full", tasks=3, steps_per_task=6),
        architecture=Pair(),
        optimizers=[Plain(lr=0.1)],
    )
    found = [Case("core", _spec(own))]
    registry = plugins().registry
    for kind in sorted(KINDS.keys() - set(UNLOCKED)):
        entries = (registry.get(kind, name) for name in registry.names(kind))
        for entry in (entry for entry in entries if entry.distribution.name == "lopbench"):
            found += _cases_of(kind, entry.load())
    return {case.key: case for case in found}


def _cases_of(kind: str, component: type[Component]) -> Iterator[Case]:
    name = component.name
    if kind == "scenarios":
        yield Case(f"{kind} {name}", _spec(Request(scenario=_small(name))))
        if name in PARTS:
            yield Case(f"{kind} {name}:{PARTS[name]}", _spec(Request(scenario=f"{_small(name)},{PARTS[name]}")))
        return
    for fields in component.examples:
        part = component(**dict(fields))
        request = Request(scenario=_small(SCENARIO), architecture=NETWORK, optimizers=[OPTIMIZER])
        if kind == "cloners":
            request = replace(request, scenario=_small("cloning"), cloner=part)
        elif kind == "architectures":
            # Adam makes steps of gradients that are zero but for rounding, as of a bias in front of a normalisation,
            # and these differ between processors.
            request = replace(request, architecture=part, optimizers=["sgd:lr=0.01"])
            assert isinstance(part, Architecture)
            request = replace(request, scenario=_small(STREAMS.get(part.reads, SCENARIO)))
        elif kind == "methods":
            request = replace(request, methods=[part])
        else:
            request = replace(request, optimizers=[part])
        spec = _spec(request)
        labels = {
            "architectures": spec.architecture_label,
            "cloners": name,
            "methods": spec.method_label,
            "optimizers": spec.optimizer_label,
        }
        yield Case(f"{kind} {labels[kind]}", spec)


def _small(scenario: str) -> str:
    return f"{scenario}:{SMALL[scenario]}" if scenario in SMALL else scenario


def _spec(request: Request) -> RunSpec:
    """Return the run of a request in float64."""
    name = request.scenario if isinstance(request.scenario, str) else ""
    profile = "smoke" if name and name.partition(":")[0] not in SMALL else None
    asked = replace(request, metrics=METRICS, profile=profile).asked()
    data = None if asked.scenario.data is None else samples(asked.scenario.data)
    (spec,) = asked.specs(None if data is None else {"name": data.name, "content_hash": data.content_hash})
    return replace(spec, numerics=Numerics(dtype="float64"))


@cache
def samples(name: str) -> Samples:
    """Return samples of the form of a data set, made of whole numbers: they are the same anywhere."""
    return text(name) if name == "tiny-shakespeare" else images(name)


def text(name: str) -> ArraySet:
    """Return a text of seven letters."""
    letters = (65 + np.arange(300, dtype=np.uint64) ** 2 // 3 % 7).astype(np.uint8)
    arrays = {"text": letters, "vocabulary": np.unique(letters)}
    return ArraySet(name=name, content_hash=array_hash(arrays), real=False, terms="none", arrays=arrays)


def images(name: str) -> ImageSet:
    """Return images that differ in colour, or brightness, by class, under noise."""
    classes, channels, side = {"tiny-imagenet-200": (12, 3, 64), "mnist": (10, 1, 28)}.get(name, (10, 3, 32))

    def made(count: int, first: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(classes), count)
        shape = (len(labels), channels, side, side)
        noise = (
            np.arange(first, first + math.prod(shape), dtype=np.uint64) * np.uint64(2654435761) >> np.uint64(13)
        ) % 97
        colours = 40 + 61 * labels[:, None] * np.arange(1, channels + 1) % 120
        return (noise.reshape(shape).astype(np.int64) + colours[:, :, None, None]).astype(np.uint8), labels

    names = tuple(f"c{label:02}" for label in range(classes))
    train, test = made(8, 0), made(3, 10**8)
    return ImageSet(
        name=name,
        content_hash=content_hash(names, train, test),
        subset=False,
        classes=names,
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
        real=False,
        notice="",
        terms="none",
    )


def locks() -> Locks:
    """Return what the file holds."""
    return {key: Lock(**value) for key, value in json.loads(FILE.read_text()).items()}


@cache
def values(case: Case) -> Mapping[str, float | None]:
    """Return the numbers of a case: its scores in each task, and each metric of each layer at the end.

    Those of the core and of scenarios are also those of the fresh reference.
    """
    found = _numbers(case.spec)
    if case.key == "core" or case.key.startswith("scenarios "):
        found |= {f"reference {name}": value for name, value in _numbers(case.spec.reference()).items()}
    return found


def _numbers(spec: RunSpec) -> dict[str, float | None]:
    data = None if spec.data is None else samples(spec.scenario.build().data)
    with tempfile.TemporaryDirectory() as folder:
        ((outcome, path),) = Run([spec], results=Path(folder), data=data, device=torch.device("cpu")).execute()
        assert outcome == "completed", (spec.directory_name, outcome)
        rows = read_record(path).table.to_pylist()
    last = {}
    for row in rows:
        at = f"task {row['task']}" if row["metric"].startswith(OF_TASKS) else row["layer"] or "end"
        value = row["value"]
        last[f"{row['metric']}, {at}"] = None if value is None else float(f"{value:.12g}")
    return last


def complaint(case: Case, known: Locks) -> str | None:
    """Return what is wrong with a case, and what to do; None if nothing is."""
    lock = known.get(case.key)
    if lock is None:
        return f"{case.key} has no lock: {RECORD}"
    raised = [part for part, version in case.versions.items() if lock.versions.get(part) != version]
    if raised:
        return f"{case.key} is locked under another version of {', '.join(raised)}: {RECORD}"
    names = moved(case, lock)
    if not names:
        return None
    then, now = lock.values.get(names[0]), values(case).get(names[0])
    return (
        f"{names[0]} of {case.key} was {then} and is {now}, and no version was raised: if that is meant, raise "
        f"{_blamed(known)}, and {RECORD}"
    )


def moved(case: Case, lock: Lock) -> list[str]:
    """Return which numbers of a case are no longer those of its lock."""
    now = values(case)
    return [name for name in sorted({*now, *lock.values}) if not _same(now.get(name), lock.values.get(name))]


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12))


def _blamed(known: Locks) -> str:
    """Return which version accounts for all that moved: of what is in the most cases, and in none that did not move."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for case in cases().values():
        has_moved = case.key in known and bool(moved(case, known[case.key]))
        if case.key == "core" and has_moved:
            return "NUMBERS in lopbench/core/spec.py"
        for part in case.versions:
            outcomes[part].append(has_moved)
    suspects = {part: len(found) for part, found in outcomes.items() if all(found)}
    if not suspects:
        return "NUMBERS in lopbench/core/spec.py, or the version of what these runs have in common"
    kind, name = max(suspects, key=lambda part: suspects[part]).split(" ")
    return f"version of {kind.removesuffix('s')} {name}"


def record() -> int:
    """Write the locks of all cases; return 1, having written nothing, where numbers moved and no version was raised."""
    known = locks() if FILE.exists() else {}
    found = cases()
    complaints = filter(None, (complaint(case, known) for case in found.values()))
    wrong = [text for text in complaints if "no version was raised" in text]
    print(*wrong, sep="\n", file=sys.stderr)
    if wrong:
        return 1
    new = {key: asdict(Lock(case.versions, dict(values(case)))) for key, case in sorted(found.items())}
    FILE.write_text(json.dumps(new, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(record())
