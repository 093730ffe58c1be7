"""Certificates: does every module keep clones clones, and do frozen units stay frozen?

Joudaki et al. 2025, "Barriers for Learning in an Evolving World", Definition A.1 and Theorem A.3: a network of modules
with matching profiles stays on its cloning manifold if each module by itself keeps equal what is equal, forward (MC1)
and backward (MC2), and has gradients constant on the blocks (MC3). Each condition is tested module by module, on inputs
and adjoints that are made equal within blocks first, so that a module answers for itself alone. Theorem 2.1(1) for
frozen units is tested by freezing half of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lopbench.cloning.layers import Axes, follows, reads
from lopbench.cloning.tags import BaseRun, Matches, Tagged, deviation, expand, first_tensor, without_fast_paths
from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Cloner
from lopbench.core.profile import Partition, Profile
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.learner.discovery import discover
from lopbench.learner.fused import StackOptimizer
from lopbench.learner.groups import UnitGroup
from lopbench.learner.optimizers import hidden_matrices

#: Relative deviation, in float64, up to which a condition holds.
TOLERANCE = 1e-9
#: Pre-activation at which the flat parts of activation functions are exactly flat in float64.
_SATURATED = 1e3
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
_WORDS = {
    "function": "the base's function",
    "forward": "MC1 (forward preservation)",
    "backward": "MC2 (backward preservation)",
    "gradient": "MC3 (gradients constant on blocks)",
    "interface": "the match of profiles",
    "persistence": "persistence in training",
}


@dataclass(frozen=True)
class Check:
    """One condition on one module.

    Args:
        deviation: Largest deviation from equality within blocks as a share of the largest magnitude; infinity where
            shapes do not fit, None where there is nothing to compare.
        passed: Whether the condition holds.
    """

    deviation: float | None = None
    passed: bool = True

    @classmethod
    def of(cls, deviation: float) -> Check:
        """Return the check of a measured deviation."""
        return cls(deviation, deviation <= TOLERANCE)


@dataclass(frozen=True)
class ModuleReport:
    """What was found of one module of the clone.

    Args:
        module: Dotted name; "" is the network itself.
        kind: Name of its class.
        function: In evaluation mode, on the clones of what the base's module takes, it returns clones of what that
            returns.
        forward: MC1: equal inputs give equal outputs.
        backward: MC2: equal output adjoints give equal input adjoints.
        gradient: MC3: gradients of its parameters are constant on product blocks.
        interface: What it reads are the clones that the profile says, given the profile of what others make.
        persistence: After training, row and column sums of its own parameters are equal within blocks.
    """

    module: str
    kind: str
    function: Check = Check()
    forward: Check = Check()
    backward: Check = Check()
    gradient: Check = Check()
    interface: Check = Check()
    persistence: Check = Check()

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the conditions that do not hold."""
        return tuple(name for name in _WORDS if not getattr(self, name).passed)


@dataclass(frozen=True)
class Certificate:
    """Whether the clones of a network stay clones.

    Args:
        modules: One report per module, in the order of their first calls.
        function: Deviation of the clone's output from the base's, in evaluation mode, relative to its magnitude.
        optimizer: The optimizer of the training steps.
        steps: Number of training steps.
    """

    modules: tuple[ModuleReport, ...]
    function: Check
    optimizer: str
    steps: int

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return self.function.passed and not any(report.broken for report in self.modules)

    @property
    def culprits(self) -> tuple[ModuleReport, ...]:
        """The innermost modules that break a condition of their own.

        Persistence is a condition of the whole network, so modules that merely fail to persist are named only if all
        others hold everywhere.
        """
        local = [r for r in self.modules if set(r.broken) - {"persistence"}] or [r for r in self.modules if r.broken]
        names = [report.module for report in local]
        return tuple(
            report
            for report in local
            if not any(n != report.module and (not report.module or n.startswith(f"{report.module}.")) for n in names)
        )

    @property
    def verdict(self) -> str:
        """One sentence for each culprit, or one that says that all holds."""
        if self.passed:
            return (
                f"Certified: every module keeps clones equal, and they stay equal over {self.steps} steps of "
                f"{self.optimizer}."
            )
        sentences = []
        for report in self.culprits:
            broken = [_WORDS[name] for name in report.broken if name != "persistence"] or [_WORDS["persistence"]]
            why = "" if "ropout" not in report.kind else ": it draws a mask for each clone"
            sentences.append(f"{report.module or 'the network'} ({report.kind}) breaks {', '.join(broken)}{why}.")
        if not self.function.passed:
            sentences.append("The clone does not compute the base's function.")
        return " ".join(sentences)

    def to_json(self) -> dict[str, Any]:
        """Return the certificate as JSON values; infinite deviations are null."""
        value = asdict(self)
        value.update(passed=self.passed, verdict=self.verdict, culprits=[r.module for r in self.culprits])
        return _finite(value)  # type: ignore[no-any-return]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def certify(
    module: nn.Module,
    cloner: Cloner,
    factor: int,
    *,
    example: Tensor,
    optimizer: ComponentSpec | None = None,
    steps: int = 5,
    seed: int = 0,
) -> Certificate:
    """Clone ``module`` and test, in float64 and training mode, whether its clones stay clones.

    Args:
        module: The base network; left as it is.
        cloner: What clones it.
        factor: Clones of each unit, at least 1.
        example: A batch of zeros that the network takes, ``(2, *input_shape)``.
        optimizer: Trains the clone on random inputs and targets; SGD of learning rate 0.01 if None. Weight decay may
            break persistence (Remark A.4).
        steps: Training steps, at least 0.
        seed: Seed of inputs, adjoints, targets and of the cloner.

    Raises:
        InvalidInputError: If ``factor`` or ``steps`` is out of range, or the clone lacks what the profile names.
        UnsupportedError: If the network cannot be cloned.
    """
    base = copy.deepcopy(module).double()
    wide, profile = cloner.clone(
        base, factor, example=_double(example), generator=rng.derive(seed, "certify", "cloner")
    )
    return _certify(base, wide, profile, example, optimizer, steps, seed)


def certify_clone(
    base: nn.Module,
    wide: nn.Module,
    profile: Profile,
    *,
    example: Tensor,
    optimizer: ComponentSpec | None = None,
    steps: int = 5,
    seed: int = 0,
) -> Certificate:
    """Test a clone that was made before; arguments as in `certify`, neither network is changed.

    Raises:
        InvalidInputError: If ``steps`` is negative, or the profile is not of the clone.
        UnsupportedError: If the base network cannot be followed from layer to layer.
    """
    base, wide = copy.deepcopy(base).double(), copy.deepcopy(wide).double()
    return _certify(base, wide, profile, example, optimizer, steps, seed)


def _certify(
    base: nn.Module,
    wide: nn.Module,
    profile: Profile,
    example: Tensor,
    optimizer: ComponentSpec | None,
    steps: int,
    seed: int,
) -> Certificate:
    """Return the certificate of two float64 networks, which are changed."""
    if steps < 0:
        raise InvalidInputError(f"a certificate takes at least 0 training steps, got {steps}")
    spec = optimizer or ComponentSpec.parse("optimizers", "sgd:lr=0.01")
    profile.residual(dict(wide.named_parameters()))  # refuses a profile of another network
    x = example
    if x.is_floating_point():
        noise = torch.randn(x.shape, generator=rng.derive(seed, "certify", "input"), dtype=torch.float64)
        x = noise.to(x.device)
    with without_fast_paths(), torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(rng.derive_seed(seed, "certify", "dropout"))  # of the copy of the global state
        function = _function(base, wide, x)
        interfaces, matches = _interfaces(base, wide, profile, example)
        reports = {
            name: replace(report, interface=matches.get(name, Check()))
            for name, report in _locally(base, wide, profile, interfaces, x, seed).items()
        }
        for name, check in matches.items():  # a clone that does not run has no other reports
            kind = type(wide.get_submodule(name)).__name__
            reports.setdefault(name, ModuleReport(name, kind, interface=check))
        for name, check in _persistence(wide, profile, x, spec, steps, seed).items():
            kind = type(wide.get_submodule(name)).__name__
            reports[name] = replace(reports.get(name, ModuleReport(name, kind)), persistence=check)
    return Certificate(tuple(reports.values()), function, spec.label(), steps)


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _function(base: nn.Module, wide: nn.Module, x: Tensor) -> Check:
    with torch.no_grad():
        try:
            return Check.of(deviation(base.eval()(x), wide.eval()(x)))
        except (RuntimeError, ValueError, IndexError):
            return Check.of(float("inf"))


class _Stopped(Exception):  # noqa: N818 (raised and caught here: the clone does not run as the base does)
    """The clone's run on tags cannot go on."""


def _interfaces(
    base: nn.Module, wide: nn.Module, profile: Profile, example: Tensor
) -> tuple[dict[str, tuple[Axes | None, Axes | None]], dict[str, Check]]:
    """Return the clones in what each module takes and returns, and whether they are those of the profile.

    Both networks run on tags: each layer makes the clones that the profile gives it, whatever it reads.
    """
    run = BaseRun(base, example, rng.derive(0, "certify", "tags"))
    tagged = Tagged(wide, [name for name in run.layers if name in dict(wide.named_modules())])
    parameters = dict(tagged.module.named_parameters())
    for name, tags in run.bare.items():
        if (
            name in profile.parameters
            and parameters[name].shape == (wanted := expand(tags, profile.parameters[name])).shape
        ):
            parameters[name].data.copy_(wanted)
    interfaces: dict[str, tuple[Axes | None, Axes | None]] = {}
    checks: dict[str, Check] = {}
    calls, seen, matches = iter(run.calls), iter(run.seen), Matches()

    def emit(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call = next(calls, None)
        if call is None or call.name != name:
            raise _Stopped(name)
        layer = wide.get_submodule(name)
        declared = profile.inputs.get(name)
        worst = 0.0
        outer: Axes = (None,) * call.made.ndim
        for expected, actual in zip(call.read, reads(layer, arguments, keywords), strict=True):
            axes = matches(expected, actual)
            if axes is None or _or_identity(axes[call.axes[0]], expected, call.axes[0]) != declared:
                wanted = _along(call.axes[0], declared, expected.ndim)
                worst = max(worst, _mismatch(expected, wanted, actual))
            if axes is not None and len(axes) == call.made.ndim:
                outer = axes
        checks[name] = Check.of(max(worst, checks[name].deviation or 0.0) if name in checks else worst)
        made = list(outer)
        made[call.axes[1]] = profile.outputs.get(name)
        if follows(layer) and name not in profile.outputs:
            made[call.axes[1]] = declared
        tags = expand(call.made, made)
        return (tags, None) if isinstance(layer, nn.MultiheadAttention) else tags

    def look(name: str, inputs: Any, output: Any) -> None:
        before = next(seen)
        if before.name != name:
            raise _Stopped(name)
        taken = _observed(matches, before.taken, first_tensor(inputs), profile.inputs.get(name))
        returned = _observed(matches, before.returned, first_tensor(output), profile.outputs.get(name))
        interfaces.setdefault(name, (taken, returned))

    tagged.layer, tagged.watch = emit, look
    try:
        tagged.run(run.example)
    except Exception:  # the clone runs into shapes that do not fit, in whichever way; the module is named
        where = next((name for name in reversed(tagged.inside) if name), "")
        checks[where] = Check.of(float("inf"))
    return interfaces, checks


def _or_identity(partition: Partition | None, tensor: Tensor, axis: int) -> Partition:
    return partition or Partition.identity(tensor.shape[axis])


def _along(axis: int, partition: Partition | None, ndim: int) -> Axes:
    return tuple(partition if a == axis % ndim else None for a in range(ndim))


def _mismatch(base: Tensor, axes: Axes, wide: Tensor) -> float:
    try:
        return deviation(expand(base, axes), wide)
    except InvalidInputError:
        return float("inf")


def _observed(matches: Matches, base: Tensor | None, wide: Tensor | None, declared: Partition | None) -> Axes | None:
    """Return the clones in a tensor: as its tags show, or where they show none as the profile says."""
    if base is None or wide is None:
        return None
    axes = matches(base, wide)
    if axes is not None or declared is None:
        return axes
    grown = [axis for axis in range(wide.ndim) if wide.shape[axis] == len(declared)]
    conventional = 1 if wide.ndim == 4 else wide.ndim - 1
    axis = conventional if conventional in grown or not grown else grown[0]
    return _along(axis, declared, wide.ndim)


def _project(tensor: Tensor, axes: Sequence[Partition | None]) -> Tensor:
    """Return the tensor with equal values within blocks: the mean of each."""
    for axis, partition in enumerate(axes):
        if partition is not None:
            tensor = partition.project(tensor, axis)
    return tensor


_Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def _locally(
    base: nn.Module,
    wide: nn.Module,
    profile: Profile,
    interfaces: Mapping[str, tuple[Axes | None, Axes | None]],
    x: Tensor,
    seed: int,
) -> dict[str, ModuleReport]:
    """Return the reports of function and MC1 to MC3, each module being called by itself."""
    functions = _functions(base, wide, interfaces, x)
    _, inputs = _record(wide.train(), x)
    generator = rng.derive(seed, "certify", "adjoints")
    modules = dict(wide.named_modules())
    reports = {}
    for name, (taken, returned) in interfaces.items():
        if name not in functions or taken is None or returned is None:
            continue  # a container, or no tensors of channels
        report = ModuleReport(name, type(modules[name]).__name__)
        if name in inputs:
            report = _test(name, modules[name], profile, (taken, returned), inputs[name], generator)
        reports[name] = replace(report, function=functions[name])
    return reports


def _functions(
    base: nn.Module, wide: nn.Module, interfaces: Mapping[str, tuple[Axes | None, Axes | None]], x: Tensor
) -> dict[str, Check]:
    """Return whether each module makes of clones what the base's makes of their originals, in evaluation mode."""
    expected, inputs = _record(base.eval(), x)
    checks = {}
    with torch.no_grad():
        for name, module in wide.eval().named_modules():
            taken, returned = interfaces.get(name, (None, None))
            if name in inputs and taken is not None and returned is not None:
                try:
                    made = first_tensor(_call(module, inputs[name], partial(expand, axes=taken)))
                except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
                    made = None
                checks[name] = Check.of(float("inf") if made is None else _mismatch(expected[name], returned, made))
    return checks


def _record(network: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], dict[str, _Inputs]]:
    """Return what each module but containers returned and took at its first call; nothing if the network fails."""
    returned: dict[str, Tensor] = {}
    taken: dict[str, _Inputs] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            tensor = first_tensor(output)
            if name not in taken and tensor is not None:
                taken[name], returned[name] = (arguments, keywords), tensor

        return hook

    tested = [(n, m) for n, m in network.named_modules() if not isinstance(m, _CONTAINERS)]
    handles = [m.register_forward_hook(keep(n), with_kwargs=True) for n, m in tested]
    try:
        with torch.no_grad():
            network(x)
    except (RuntimeError, ValueError, IndexError):
        return {}, {}  # no module is to blame but the one whose interface does not match
    finally:
        for handle in handles:
            handle.remove()
    return returned, taken


def _call(module: nn.Module, inputs: _Inputs, change: Callable[[Tensor], Tensor]) -> Any:
    """Return what ``module`` makes of inputs of which the first tensor is changed, and with it all of its shape.

    Tensors of one shape, such as queries, keys and values, have the same clones.
    """
    first = first_tensor([*inputs[0], *inputs[1].values()])

    def changed(value: Any) -> Any:
        alike = first is not None and isinstance(value, Tensor) and value.shape == first.shape
        return change(value) if alike and value.is_floating_point() else value

    return module(*map(changed, inputs[0]), **{key: changed(value) for key, value in inputs[1].items()})


def _test(
    name: str,
    module: nn.Module,
    profile: Profile,
    axes: tuple[Axes, Axes],
    inputs: _Inputs,
    generator: torch.Generator,
) -> ModuleReport:
    """Return the report of one module, called on inputs and adjoints that are equal within blocks."""
    taken, returned = axes
    leaves: list[Tensor] = []

    def equal(value: Tensor) -> Tensor:
        leaves.append(_project(value.detach(), taken).requires_grad_())
        return leaves[-1].clone()  # the module may change what it takes in place

    with torch.enable_grad():
        made = first_tensor(_call(module, inputs, equal))
    assert made is not None  # it returned a tensor in the run on tags
    report = ModuleReport(name, type(module).__name__)
    report = replace(report, forward=Check.of(deviation(_project(made, returned), made)))
    if not made.requires_grad:
        return report
    adjoint = torch.randn(made.shape, generator=generator, dtype=torch.float64).to(made.device)
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        made, [*leaves, *parameters.values()], _project(adjoint, returned), allow_unused=True
    )
    backward = [deviation(_project(g, taken), g) for g in gradients[: len(leaves)] if g is not None]
    report = replace(report, backward=Check.of(max(backward)) if backward else Check())
    prefix = f"{name}." if name else ""
    own = {
        f"{prefix}{n}": g
        for n, g in zip(parameters, gradients[len(leaves) :], strict=True)
        if g is not None and f"{prefix}{n}" in profile.parameters
    }
    if own:
        largest = max(g.abs().max().item() for g in own.values())
        rest = max(g.abs().max().item() for g in profile.residual(own).values())
        report = replace(report, gradient=Check.of(rest / largest if largest else 0.0))
    return report


def _persistence(
    wide: nn.Module, profile: Profile, x: Tensor, spec: ComponentSpec, steps: int, seed: int
) -> dict[str, Check]:
    """Train the clone in place; return how far from equal sums each module's own parameters are then."""
    try:
        train(wide.train(), x, spec, steps, seed)
    except (RuntimeError, ValueError, IndexError):
        return {}  # it does not run; its interfaces say where
    checks = {}
    for name, module in wide.named_modules():
        prefix = f"{name}." if name else ""
        own = {f"{prefix}{n}": p.detach() for n, p in module.named_parameters(recurse=False)}
        own = {n: p for n, p in own.items() if n in profile.parameters}
        if own:
            # Relative to all of the module: a bias whose gradient is zero in theory holds nothing but rounding.
            largest = max(p.abs().max().item() for p in own.values())
            unequal = max(u.abs().max().item() for u in profile.equitable_residual(own).values())
            checks[name] = Check.of(unequal / largest if largest else 0.0)
    return checks


def train(module: nn.Module, x: Tensor, spec: ComponentSpec, steps: int, seed: int) -> None:
    """Train ``module``, in place, for ``steps`` steps on ``x`` and random targets.

    Outputs ``(N, K)`` are trained on random classes if K > 1, anything else on random numbers.
    """
    leaves = {n: p for n, p in module.named_parameters() if p.requires_grad}
    optimizer = StackOptimizer(build_optimizer(spec), leaves, stacked=False, hidden=hidden_matrices(module, ()))
    generator = rng.derive(seed, "certify", "targets")
    for _ in range(steps):
        outputs = module(x)
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            targets = torch.randint(outputs.shape[1], (len(outputs),), generator=generator)
            loss = functional.cross_entropy(outputs, targets.to(x.device))
        else:
            targets = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
            loss = functional.mse_loss(outputs, targets.to(outputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()


@dataclass(frozen=True)
class FrozenReport:
    """What was found of the frozen units of one layer.

    Args:
        module: Dotted name of the layer that makes the units.
        units: Number of units.
        frozen: How many of them were frozen; 0 where no parameter of the layer can freeze a unit.
        gradient: Largest magnitude, in their incoming parameters, of the gradient of a random function of what the
            next layer reads.
        drift: Largest change of these parameters over the training steps.
    """

    module: str
    units: int
    frozen: int
    gradient: float
    drift: float

    @property
    def passed(self) -> bool:
        """Whether gradient and drift are exactly zero."""
        return self.gradient == 0 and self.drift == 0


@dataclass(frozen=True)
class FrozenCertificate:
    """Whether frozen units stay frozen.

    Args:
        layers: One report per layer of hidden units.
        optimizer: The optimizer of the training steps.
        steps: Number of training steps.
    """

    layers: tuple[FrozenReport, ...]
    optimizer: str
    steps: int

    @property
    def passed(self) -> bool:
        """Whether every layer passed."""
        return all(report.passed for report in self.layers)

    @property
    def verdict(self) -> str:
        """One sentence for each layer that failed, or one that says that all holds."""
        if self.passed:
            return (
                f"Certified: the gradient into frozen units is exactly zero, and they stay frozen over {self.steps} "
                f"steps of {self.optimizer}."
            )
        sentences = []
        for report in self.layers:
            if report.gradient:
                sentences.append(
                    f"{report.module} breaks the frozen manifold: its activation function is not flat where they are, "
                    f"the gradient into frozen units is {report.gradient:.2g}."
                )
            elif report.drift:
                sentences.append(
                    f"{report.module} breaks persistence: the optimizer moves its frozen units by {report.drift:.2g} "
                    "although their gradient is zero."
                )
        return " ".join(sentences)

    def to_json(self) -> dict[str, Any]:
        """Return the certificate as JSON values."""
        layers = [{**asdict(report), "passed": report.passed} for report in self.layers]
        return {**asdict(self), "layers": layers, "passed": self.passed, "verdict": self.verdict}


def certify_frozen(
    module: nn.Module,
    *,
    example: Tensor,
    optimizer: ComponentSpec | None = None,
    steps: int = 5,
    seed: int = 0,
) -> FrozenCertificate:
    """Freeze half of the hidden units of each layer and test, in float64, that training leaves them alone.

    A unit is frozen through the last shift before its activation function, the bias of its layer or of the
    normalisation behind it (whose scale is set to 0): at -1000, or at +1000 if the former is not flat. Units that are
    added into a residual stream have no activation function of their own and are left out.

    Args:
        module: The network; left as it is.
        example: A batch of zeros that it takes, ``(2, *input_shape)``.
        optimizer: Trains on random inputs and targets; SGD of learning rate 0.01 if None. Weight decay moves frozen
            units.
        steps: Training steps, at least 0.
        seed: Seed of inputs and targets.

    Raises:
        InvalidInputError: If ``steps`` is negative.
        UnsupportedError: If the network has no hidden units that can be told apart.
    """
    if steps < 0:
        raise InvalidInputError(f"a certificate takes at least 0 training steps, got {steps}")
    spec = optimizer or ComponentSpec.parse("optimizers", "sgd:lr=0.01")
    network = copy.deepcopy(module).double().train()
    x = _double(example)
    if x.is_floating_point():
        x = torch.randn(x.shape, generator=rng.derive(seed, "certify", "input"), dtype=torch.float64).to(x.device)
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(rng.derive_seed(seed, "certify", "dropout"))  # of the copy of the global state
        groups = discover(network, _double(example)).groups
        if not groups:
            raise UnsupportedError(f"{type(module).__name__} has no hidden units whose weights are their own")
        parameters = dict(network.named_parameters())
        frozen = {group.name: _freeze(network, group, x, seed) for group in groups}
        gradients = {group.name: _slopes(network, group, x, seed) for group in groups}
        before = {name: p.detach().clone() for name, p in parameters.items()}
        train(network, x, spec, steps, seed)
        reports = []
        for group in groups:
            count = frozen[group.name]
            names = _incoming(network, group) if count else []
            reports.append(
                FrozenReport(
                    group.name,
                    group.size,
                    count,
                    max((g[:count].abs().max().item() for g in gradients[group.name] if count), default=0.0),
                    max(((parameters[n].detach() - before[n])[:count].abs().max().item() for n in names), default=0.0),
                )
            )
    return FrozenCertificate(tuple(reports), spec.label(), steps)


def _incoming(network: nn.Module, group: UnitGroup) -> list[str]:
    """Return the names of the parameters that act on the units of a group alone, one row each.

    Behind a normalisation that mixes channels, what comes before it acts on all of them.
    """
    names = [group.weight, group.bias]
    for norm in group.norms:
        if isinstance(network.get_submodule(norm.module), nn.LayerNorm | nn.GroupNorm):
            names.clear()
        names += [norm.weight, norm.bias]
    return [name for name in names if name is not None]


def _freeze(network: nn.Module, group: UnitGroup, x: Tensor, seed: int) -> int:
    """Freeze the first half of a group's units, in place; return their number, 0 if nothing can shift them."""
    last = group.norms[-1] if group.norms else None
    shift, scale = (group.bias, None) if last is None else (last.bias, last.weight)
    if shift is None:
        return 0
    count = max(1, group.size // 2)
    parameters = dict(network.named_parameters())
    for value in (-_SATURATED, _SATURATED):
        with torch.no_grad():
            parameters[shift][:count] = value
            if scale is not None:
                parameters[scale][:count] = 0.0
        if not any(gradient[:count].any() for gradient in _slopes(network, group, x, seed)):
            break
    return count


def _slopes(network: nn.Module, group: UnitGroup, x: Tensor, seed: int) -> list[Tensor]:
    """Return the gradients, by the parameters of a group, of a random function of what the next layer reads of it.

    What comes after does not matter: a unit is not frozen because those that read it are.
    """
    network = copy.deepcopy(network)  # a training pass changes running statistics
    parameters = dict(network.named_parameters())
    read: list[Tensor] = []
    network.get_submodule(group.read).register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    network(x)
    adjoint = torch.randn(read[0].shape, generator=rng.derive(seed, "certify", "adjoint"), dtype=torch.float64)
    wanted = [parameters[name] for name in _incoming(network, group)]
    found = torch.autograd.grad(read[0], wanted, adjoint.to(x.device), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]
