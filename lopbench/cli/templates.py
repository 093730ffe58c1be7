"""What ``lopbench plugins new`` writes: a whole package with one component, which passes its own tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from lopbench.core.errors import UsageError
from lopbench.core.interfaces import KINDS

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "A lopbench $kind"
requires-python = ">=3.11"
dependencies = ["lopbench"]

[project.optional-dependencies]
test = ["pytest"]

# This makes it known: lopbench imports the module and calls its hook.
[project.entry-points.lopbench]
$identifier = "$module"

[tool.setuptools]
py-modules = ["$module"]
"""

_README = """\
# $distribution

A $kind for lopbench.

```sh
pip install -e .
lopbench plugins check $name
python -m pytest
```
"""

_WORKFLOW = """\
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install '.[test]'
      - run: python -m pytest
"""

_TESTS = """\
\"\"\"The conformance checks of lopbench, and room for tests of your own.\"\"\"

from lopbench.testing import examples, parametrize_with_checks

from $module import $class_name


@parametrize_with_checks(examples($class_name))
def test_conformance(component, check):
    check(component)
"""

_METHOD = '''\
"""$class_name: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it pulls every parameter a little towards where it started, as L2 Init does (Kumar et al. 2023,
arXiv:2308.11958, in the form of its gradient).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Learner, Perturbation, Register, State, hookimpl, number

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(Perturbation):
    """Adds ``strength * (theta - theta_0)`` to the gradient.

    Args:
        strength: Coefficient of the pull, at least 0.
    """

    # The fields below are hyperparameters: `lopbench run --method $name:strength=0.1`. All else is a ClassVar.
    name: ClassVar[str] = "$name"
    # What `lopbench show $name` prints.
    equation: ClassVar[str] = "g = g + strength * (theta - theta_0)"
    validated: ClassVar[tuple[str, ...]] = ()
    # Where the checks see it act within some 25 steps.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    # At `zero` no hook is called. Add `swept=True` where the hooks take a tensor (R,) too, one number for each replica:
    # runs with several values of the field can then be one compiled program.
    strength: float = number(1e-3, least=0, zero=0)

    # Hooks, all optional, in the order in which they act:
    #   configure(module)      change the network as it is built
    #   begin                  put what you remember into `state`: it is saved with the run, and restored to the bit
    #   on_task_start          at task boundaries; without it, the method cannot see them
    #   batch                  other inputs and targets to train on
    #   loss                   another loss (R,)
    #   penalty                a term (R,) of the loss
    #   after_backward         change learner.gradients in place
    #   update                 change learner.updates in place: what the optimizer is about to add
    #   after_step             change learner.parameters in place, or learner.units[...].reset(mask)
    #   evaluated              the parameters to evaluate, where they are not the trained ones
    #   report                 numbers of the method's own, recorded beside the metrics
    # Every tensor leads with an axis R of independent networks that train side by side. Random numbers come from
    # state.normal(like) and state.uniform(like).

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the pull to the gradients in place."""
        for parameter, gradient in learner.gradients.items():
            gradient.add_(learner.parameters[parameter] - learner.initial[parameter], alpha=self.strength)


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("$name", $class_name, "pulls parameters towards where they started")
'''

_METRIC = '''\
"""$class_name: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Invariance, Known, LayerMetric, LayerProbe, Register, hookimpl, number

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(LayerMetric):
    """Share of the activations of a layer that are above a threshold.

    Args:
        threshold: The threshold, in units of the activation, at least 0.
    """

    name: ClassVar[str] = "$name"
    # Values worked out by hand, and what must not change them; the checks hold you to both.
    known: ClassVar[Known] = ((((1.0, 0.0), (2.0, 3.0)), 0.75),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"units", "rows", "duplication"})
    threshold: float = number(0.0, least=0)

    def compute(self, probe: LayerProbe) -> float:
        """Return the share, in [0, 1]."""
        return (probe.activation > self.threshold).double().mean().item()  # activation is (N, D)


@hookimpl
def lopbench_metrics(register: Register) -> None:
    """Make the metric known."""
    register("$name", $class_name, "share of activations above a threshold")
'''

_ARCHITECTURE = '''\
"""$class_name: say here where the network is from, and what you do otherwise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, nn

from lopbench import Architecture, InvalidInputError, Register, hookimpl, rng, whole

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(Architecture):
    """A fully connected network with one hidden layer.

    Args:
        width: Units of the hidden layer, at least 1.
    """

    name: ClassVar[str] = "$name"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"width": 16},)
    width: int = whole(128, least=1)

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network for samples of any shape.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1.
        """
        if min((*input_shape, outputs)) < 1:
            raise InvalidInputError(f"{self.name}: shape {tuple(input_shape)} with {outputs} outputs is no network")
        # Layers draw from torch's global generator as they are made; in here it is `generator`.
        with rng.isolated(generator):
            return nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(input_shape), self.width),
                nn.ReLU(),  # activation functions are modules, each used once: they are what is probed
                nn.Linear(self.width, outputs),
            )


@hookimpl
def lopbench_architectures(register: Register) -> None:
    """Make the architecture known."""
    register("$name", $class_name, "one hidden layer")
'''

_SCENARIO = '''\
"""$class_name: say here whose protocol it is, and what you do otherwise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lopbench import Batches, Recipe, Register, Scenario, Stream, Task, hookimpl, rng, whole

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(Scenario):
    """Classification of random points by a random linear teacher, another one in each task.

    Args:
        tasks: Number of tasks.
        steps_per_task: Steps of each task.
        inputs: Dimension of a point, at least 1.
        classes: Number of classes, at least 2; chance is one over it.
        batch_size: Samples of a step, at least 1.
        optimizer_policy: Whether the optimizer's state is carried over or cleared at a boundary.
        head_policy: Whether the head is set to zero at the start of every task.
        probe_every: Steps between diagnostics inside a task; 0 for its start and end only.
        profile: Name of the profile the fields were taken from.
    """

    # Raise `version` whenever the same fields give another stream. Every field is part of the protocol.
    name: ClassVar[str] = "$name"
    version: ClassVar[int] = 1
    default_architecture: ClassVar[str] = "mlp"
    default_profile: ClassVar[str] = "full"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {"full": {}, "smoke": {"tasks": 5, "steps_per_task": 20}}

    profile: str = "full"
    tasks: int = 50
    steps_per_task: int = 500
    inputs: int = whole(20, least=1)
    classes: int = whole(5, least=2)
    batch_size: int = whole(16, least=1)

    @property
    def data(self) -> None:
        """None: samples are drawn."""
        return

    def recipe(self, architecture: str) -> Recipe:
        """Return the optimizers of the learner and of its fresh reference."""
        return Recipe(optimizer="adam:lr=1e-3", reference="adam:lr=1e-3")

    def stream(self, seed: int, *, data: object, device: torch.device) -> "Teachers":
        """Return the stream of ``seed``."""
        return Teachers(self, seed, device)


class Teachers(Stream):
    """The tasks of one seed."""

    def __init__(self, scenario: $class_name, seed: int, device: torch.device) -> None:
        self.scenario, self.seed, self.device = scenario, seed, device
        self.input_shape = (scenario.inputs,)
        self.outputs = scenario.classes

    def task(self, index: int) -> "Teacher":
        """Return task ``index``."""
        return Teacher(self, index)


class Teacher(Task):
    """One teacher."""

    def __init__(self, stream: Teachers, index: int) -> None:
        self.stream, self.index = stream, index
        shape = (stream.scenario.inputs, stream.scenario.classes)
        self._teacher = torch.randn(shape, generator=self.generator("teacher"))

    @property
    def chance(self) -> float:
        """One over the number of classes."""
        return 1 / self.stream.scenario.classes

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a fresh generator of the task's, for one purpose: it depends on seed and names alone."""
        return rng.derive(self.stream.seed, "data", self.stream.scenario.name, self.index, *names)

    def samples(self, count: int, *names: str | int) -> tuple[Tensor, Tensor]:
        """Return points ``(N, inputs)`` and labels ``(N,)``."""
        points = torch.randn(count, self.stream.scenario.inputs, generator=self.generator(*names))
        labels = (points @ self._teacher).argmax(dim=1)
        return points.to(self.stream.device), labels.to(self.stream.device)

    def batches(self) -> "Points":
        """Return the training stream from its start."""
        return Points(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each sample is right, ``(N,)``."""
        return outputs.argmax(dim=1) == targets

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield held-out batches."""
        yield self.samples(512, "held_out")

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the fixed probe batch."""
        return self.samples(256, "probe")


class Points(Batches):
    """Fresh points at every step; its state is the number of batches taken."""

    def __init__(self, task: Teacher) -> None:
        self._task = task
        self._step = 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self._step += 1
        return self._task.samples(self._task.stream.scenario.batch_size, "train", self._step)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of batches taken."""
        return {"step": torch.tensor(self._step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._step = int(state["step"])


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    """Make the scenario known."""
    register("$name", $class_name, "random teachers, one after another")
'''

_CLONER = '''\
"""$class_name: say here whose idea it is, and what you do otherwise."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Cloner, Profile, Register, hookimpl, widen_network

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(Cloner):
    """Puts every unit beside its clones, all of equal weights."""

    name: ClassVar[str] = "$name"

    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return the network ``factor`` times as wide, and what is a clone of what."""
        # Change the weights of what this returns in place; the checks say whether the function survives.
        return widen_network(module, factor, example=example, layout="interleave")


@hookimpl
def lopbench_cloners(register: Register) -> None:
    """Make the cloner known."""
    register("$name", $class_name, "every unit beside its clones")
'''

_DATA = '''\
"""$class_name: say here whose data these are (authors, year), and where they are published.

A scenario streams it by its name, `data = "$name"`, and may stand in this file as well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lopbench import DataSet, Register, RemoteFile, hookimpl

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(DataSet):
    """A table of numbers: all columns but the last are inputs."""

    name: ClassVar[str] = "$name"
    title: ClassVar[str] = "$class_name"
    # Who holds the rights, and what is allowed: it is shown before anything is downloaded.
    terms: ClassVar[str] = "Say here who holds the rights."
    # `lopbench data get $name` downloads them. Give size and hash, so that a damaged copy is refused.
    files: ClassVar[tuple[RemoteFile, ...]] = (RemoteFile(url="https://example.org/table.csv"),)

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """Return inputs ``(N, D)`` and targets ``(N,)``, which a scenario is given as ``data["inputs"]``.

        Arrays of numbers are hashed by their content, which is part of the protocol, and kept in the cache.
        """
        table = np.loadtxt(path / "table.csv", delimiter=",", dtype=np.float32, ndmin=2)
        return {"inputs": table[:, :-1], "targets": table[:, -1]}

    def example(self) -> dict[str, np.ndarray]:
        """Return made samples of the same form, on which the checks of scenarios run."""
        inputs = np.linspace(-1, 1, 200, dtype=np.float32).reshape(50, 4)
        return {"inputs": inputs, "targets": inputs.sum(axis=1)}


@hookimpl
def lopbench_data(register: Register) -> None:
    """Make the data set known."""
    register("$name", $class_name, "a table of numbers")
'''

_OPTIMIZER = '''\
"""$class_name: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it is Lion without weight decay: Chen et al. 2023, arXiv:2302.06675v4, Algorithm 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Optimizer, Register, hookimpl, number, per_replica

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(Optimizer):
    """Moves every entry by one learning rate, in the direction of momentum and gradient.

    Args:
        momentum: Share of the running mean in the direction, in [0, 1).
        decay: Decay rate of the running mean, in [0, 1).
    """

    # The fields below are hyperparameters beside `lr`: `lopbench run --optimizer $name:lr=1e-4,momentum=0.8`.
    name: ClassVar[str] = "$name"
    # What `lopbench show $name` prints.
    equation: ClassVar[str] = "theta = theta - lr * sign(momentum * m + (1 - momentum) * g)"
    # Where the checks see it.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"lr": 1e-3},)
    momentum: float = number(0.9, least=0, below=1)
    decay: float = number(0.99, least=0, below=1)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return what is remembered of a parameter `(R, ...)`: tensors of its shape, or that broadcast to it."""
        return {"mean": parameter.new_zeros(parameter.shape)}

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return what is added to the parameter, a new tensor, and change `entries` in place."""
        direction = gradient.lerp(entries["mean"], self.momentum).sign_()
        entries["mean"].lerp_(gradient, 1 - self.decay)
        return direction * per_replica(-lr, direction)  # `lr` is one number, or (R,)


@hookimpl
def lopbench_optimizers(register: Register) -> None:
    """Make the optimizer known."""
    register("$name", $class_name, "steps of one size for all entries")
'''

_SINK = '''\
"""$class_name: say here to what it tells the measurements of runs, and what that needs.

As written it appends them to a table of text, one file a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lopbench import Register, Sink, SinkRun, SinkWriter, hookimpl

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class $class_name(Sink):
    """Writes lines of step, task, name and value.

    Args:
        folder: Folder of the files, in the results folder.
    """

    # The fields below are options: `lopbench run --sink $name:folder=tables`.
    name: ClassVar[str] = "$name"
    folder: str = "$name"

    # Where it needs a package, `check(self)` raises UnsupportedError with what to install, before anything is run.

    def open(self, run: SinkRun) -> SinkWriter:
        """Return what takes the measurements of a run; a run that was killed goes on from `run.step`."""
        folder = run.results / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return Table(folder / f"{run.name}.{run.step}.txt")


class Table(SinkWriter):
    """The file of one run; what is told from its step on replaces what was told before."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def write(self, step: int, task: int, values: Mapping[str, float]) -> None:
        """Append what was measured at one time."""
        for name, value in values.items():
            self._file.write(f"{step} {task} {name} {value}\\n")
        self._file.flush()

    def close(self, outcome: str) -> None:
        """Close the file."""
        self._file.close()


@hookimpl
def lopbench_sinks(register: Register) -> None:
    """Make the sink known."""
    register("$name", $class_name, "a table of text for each run")
'''

_EXECUTOR = '''\
"""$class_name: say here what it starts workers with.

As written it starts them on this machine, and lets other processes go first.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Executor, Handle, Register, RestartingHandle, Workers, hookimpl, threads_of, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class $class_name(Executor):
    """Starts processes that give way to others.

    Args:
        by: How far they give way, from 0 to 19.
    """

    name: ClassVar[str] = "$name"
    is_here: ClassVar[bool] = True  # workers use the devices of this machine
    by: int = whole(10, least=0, most=19)

    def start(self, workers: Workers) -> Handle:
        """Start workers and return a hold on them; raise UnsupportedError where that cannot be done."""
        handle = _Hold(workers, self.by)
        handle.start()
        return handle


class _Hold(RestartingHandle):
    """Workers, each of which is launched again where it died. A `Handle` alone has poll, stop and kill."""

    def __init__(self, workers: Workers, by: int) -> None:
        super().__init__(workers)
        self.by = by
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, slot: int) -> None:
        """Start the worker of a slot."""
        with self.workers.log(slot).open("wb") as log:
            self.processes[slot] = subprocess.Popen(
                ["nice", "-n", str(self.by), *self.workers.command(slot)],
                env={**os.environ, **self.workers.environment, **threads_of(self.workers.threads or 1)},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def code(self, slot: int) -> int | None:
        """Return how a worker ended, None while it is at work."""
        return self.processes[slot].poll()

    def stop(self) -> None:
        """Ask all to save and leave."""
        super().stop()
        for process in self.processes.values():
            process.terminate()

    def kill(self) -> None:
        """End all at once."""
        self.is_stopping = True
        for process in self.processes.values():
            process.kill()
            process.wait()


@hookimpl
def lopbench_executors(register: Register) -> None:
    """Make the executor known."""
    register("$name", $class_name, "processes of this machine that give way to others")
'''

_CODE: Mapping[str, str] = {
    "method": _METHOD,
    "metric": _METRIC,
    "architecture": _ARCHITECTURE,
    "scenario": _SCENARIO,
    "cloner": _CLONER,
    "data": _DATA,
    "optimizer": _OPTIMIZER,
    "sink": _SINK,
    "executor": _EXECUTOR,
}


def write(name: str, kind: str, into: Path) -> Path:
    """Write a package with one component, and return its folder.

    Args:
        name: Name of the component: lower-case words joined by hyphens or underscores.
        kind: Its kind, in the singular.
        into: Parent folder.

    Raises:
        UsageError: If the name is of another form or taken, or the folder exists.
    """
    from lopbench.core.manager import plugins

    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no name for a {kind}; write lower-case words joined by hyphens, as my-{kind}")
    registry = plugins().registry
    plural = next(each for each in KINDS if each.removesuffix("s") == kind)
    if name in registry.names(plural):
        taken = registry.get(plural, name).distribution.name
        raise UsageError(f"There is a {kind} {name!r} already, of {taken}; choose another name")
    words = re.split(r"[-_]", name)
    identifier = "_".join(words)
    values = {
        "name": name,
        "kind": kind,
        "identifier": identifier,
        "module": f"lopbench_{identifier}",
        "distribution": f"lopbench-{'-'.join(words)}",
        "class_name": "".join(word.capitalize() for word in words),
    }
    folder = into / values["distribution"]
    if folder.exists():
        raise UsageError(f"{folder} exists; remove it, or choose another name or --into another folder")
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"{values['module']}.py": _CODE[kind],
        f"tests/test_{identifier}.py": _TESTS,
        ".github/workflows/test.yml": _WORKFLOW,
    }
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute(values))
    return folder
