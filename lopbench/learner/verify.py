"""Tests by running a network whether anything but their own outgoing weights reads the units of a group.

The outputs of two networks are compared. In the first, the consumers of some units read zeros in their place, and all
else is unchanged. In the second, the outgoing weights of these units are zero, and all that makes the units has other
values. If nothing else reads the units, both compute the same as the network without them, and the outputs are equal.
The outputs differ if there is a reader that autograd does not see (a gate, a mask, an index, a layer that exists in
training only), or a layer that changes its weight inside ``forward``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.text import told
from lopbench.learner.groups import Consumer, UnitGroup
from lopbench.learner.held import held_statistics
from lopbench.learner.trial import OUT_OF_MEMORY, Trial, noise, on_input

#: Largest change of the output, relative to its largest entry, that counts as rounding.
_ROUNDING = 1e-9
#: The same for a network that does not run in float64.
_COARSE_ROUNDING = 1e-4
#: Groups with fewer units than this are tested in so many sets. Few units may all be silent, which hides what another
#: group does.
_FEW, _SETS = 8, 4

#: The units under test, boolean ``(D,)``, by name of their group.
_Chosen = Mapping[str, Tensor]


def verify(module: nn.Module, batch: Tensor, groups: Sequence[UnitGroup]) -> dict[str, str]:
    """Return why groups fail the test, by name of the group; groups that pass are left out.

    All groups are tested at once. If that fails, each half of them is tested, and so on. Each test takes one random
    half of the units and then the other, in training and in evaluation mode. Outputs that agree in all bits are equal.
    Others are computed again in float64, and may differ by rounding only.

    Args:
        module: A copy of the network, which has not run yet. No parameter may be zero, see `noisy_copy`. Its mode
            may change.
        batch: A few samples, at least 2.
        groups: The groups to test.

    Raises:
        UnsupportedError: If the network's forward pass fails in training or evaluation mode.
    """
    test = _Test(module, batch)
    few = [group for group in groups if group.size < _FEW]
    many = [group for group in groups if group.size >= _FEW]
    for some in (many, *(few[start::_SETS] for start in range(_SETS))):
        _halve(test, some)
    return {group.name: test.reasons[group.name] for group in groups if group.name in test.reasons}


def _halve(test: _Test, groups: Sequence[UnitGroup]) -> None:
    """Test groups at once, and each half of them if that fails."""
    if groups and test.fails(groups) and len(groups) > 1:
        middle = len(groups) // 2
        _halve(test, groups[:middle])
        _halve(test, groups[middle:])


class _Test:
    """The comparison of the two networks: in the precision of the network, and in float64 if the outputs differ."""

    def __init__(self, module: nn.Module, batch: Tensor) -> None:
        self._module = module
        self._pairs = _Pairs(module, batch)
        self._exact: _Pairs | None = None
        #: Why groups fail that were tested alone, by name.
        self.reasons: dict[str, str] = {}

    def fails(self, groups: Sequence[UnitGroup]) -> bool:
        """Return whether something else reads units of any of ``groups``."""
        for chosen in _choices(groups, self._pairs.batch.device):
            for training in (True, False):
                if self._differ(groups, chosen, training):
                    if len(groups) == 1:
                        self.reasons[groups[0].name] = self._pairs.explain(groups[0], chosen, training)
                    return True
        return False

    def _differ(self, groups: Sequence[UnitGroup], chosen: _Chosen, training: bool) -> bool:
        coarse = self._pairs.distance(groups, chosen, training)
        if coarse == 0:
            return False
        if self._exact is None:
            batch = self._pairs.batch
            self._exact = _Pairs(
                copy.deepcopy(self._module).double(), batch.double() if batch.is_floating_point() else batch
            )
        try:
            return self._exact.distance(groups, chosen, training) > _ROUNDING
        except UnsupportedError:  # it does not run in float64
            return coarse > _COARSE_ROUNDING


class _Pairs:
    """The two networks in one precision."""

    def __init__(self, module: nn.Module, batch: Tensor) -> None:
        self.batch = batch
        self._module = module
        self._trial = Trial(module)
        #: The last result of the function `_remade` and the units it was made for; it serves both modes.
        self._remade: tuple[_Chosen, dict[Tensor, Tensor]] | None = None

    def distance(self, groups: Sequence[UnitGroup], chosen: _Chosen, training: bool) -> float:
        """Return the largest difference of the outputs of the two networks, relative to the largest entry.

        Raises:
            UnsupportedError: If the network as it is does not run.
        """
        try:
            return _distance(*self._outputs(groups, chosen, training))
        except OUT_OF_MEMORY:
            raise
        except Exception:
            self._check(training)
            return float("inf")  # the unchanged network runs, so what fails has read a unit

    def _check(self, training: bool) -> None:
        try:
            self._trial.run(self.batch, training=training)
        except OUT_OF_MEMORY:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"the units of {type(self._module).__name__} cannot be tested, its forward pass fails in "
                f"{_mode(training)} mode ({told(error)}); use a method that resets no units, or "
                "another architecture"
            ) from error

    def explain(self, group: UnitGroup, chosen: _Chosen, training: bool) -> str:
        """Return why a group fails, with the first layer whose output differs, of those that do not make the group."""
        makers = {group.name, *(norm.module for norm in group.norms)}
        seen: list[tuple[str, object]] = []
        handles = [
            layer.register_forward_hook(lambda _, __, output, name=name: seen.append((name, output)))
            for name, layer in self._module.named_modules()
            if name not in makers and next(layer.parameters(recurse=False), None) is not None
        ]
        lengths: list[int] = []
        try:
            lengths.extend(len(seen) for _ in self._outputs([group], chosen, training))
        except _OtherCallsError as error:
            return f"'{error}' reads units of '{group.name}', and is not called exactly once in {_mode(training)} mode"
        except Exception:
            pass  # the layers that ran before the error may show it
        finally:
            for handle in handles:
                handle.remove()
        pairs = zip(seen, seen[lengths[0] :], strict=False) if lengths else ()
        differ = (name for (name, one), (_, other) in pairs if _differ(one, other))
        return _reason(group, next(differ, None), training)

    def _outputs(self, groups: Sequence[UnitGroup], chosen: _Chosen, training: bool) -> Iterator[Tensor]:
        """Yield the outputs of the two networks."""
        with held_statistics(self._module, groups):
            hidden = [_Hidden(self._module, group, c, chosen[group.name]) for group in groups for c in group.consumers]
            try:
                yield self._trial.run(self.batch, training=training)
            finally:
                for each in hidden:
                    each.handle.remove()
            for each in hidden:
                if each.calls != 1:
                    raise _OtherCallsError(each.name)
            if self._remade is None or self._remade[0] is not chosen:
                self._remade = (chosen, _remade(self._module, groups, chosen))
            yield self._trial.run(self.batch, training=training, replaced=self._remade[1])


class _OtherCallsError(Exception):
    """The consumer of this name is not called exactly once."""


class _Hidden:
    """Makes a consumer read zeros in the place of units."""

    def __init__(self, module: nn.Module, group: UnitGroup, consumer: Consumer, units: Tensor) -> None:
        layer = module.get_submodule(consumer.module)
        self.name = consumer.module
        self.calls = 0
        self.handle = on_input(layer, self._hide)
        self._axis = unit_axis(layer)
        self._columns = units.repeat_interleave(consumer.expansion)

    def _hide(self, read: Tensor) -> Tensor:
        self.calls += 1
        shape = [1] * read.ndim
        shape[self._axis] = -1
        # Keeps the layout in memory, and with it the order of sums.
        return read.masked_fill(self._columns.view(shape), 0)


def _remade(module: nn.Module, groups: Sequence[UnitGroup], chosen: _Chosen) -> dict[Tensor, Tensor]:
    """Return new values of all tensors that make the chosen units, and zeros for the units' outgoing weights."""
    values: dict[Tensor, Tensor] = {}
    generator = rng.derive(0, "trial", "units")
    for group in groups:
        units = chosen[group.name]
        names = (group.weight, group.bias, *(name for norm in group.norms for name in (norm.weight, norm.bias)))
        for name in filter(None, names):
            parameter = module.get_parameter(name)
            values[parameter] = _redrawn(parameter.data, units, generator)
        for norm in group.norms:
            for name in filter(None, (norm.running_mean, norm.running_var)):
                buffer = module.get_buffer(name)
                values[buffer] = _redrawn(buffer, units, generator, positive=name == norm.running_var)
    for group in groups:  # after all were redrawn, since the same weight may read one group and make another
        for consumer in group.consumers:
            parameter = module.get_parameter(consumer.weight)
            if parameter not in values:
                values[parameter] = parameter.detach().clone()
            units = chosen[group.name]
            torch.unflatten(values[parameter], 1, (group.size, consumer.expansion))[:, units] = 0
    return values


def _redrawn(tensor: Tensor, units: Tensor, generator: torch.Generator, positive: bool = False) -> Tensor:
    """Return ``tensor`` with new random values in the rows ``units``, about three times as large as before."""
    size = 3 * tensor.square().mean().sqrt() if tensor.ndim > 1 else 1 + tensor.abs().mean()
    values = tensor.clone()
    fresh = noise(values[units], generator).mul_(size)
    values[units] = fresh.abs() + 0.1 if positive else fresh
    return values


def _choices(groups: Sequence[UnitGroup], device: torch.device) -> Iterator[_Chosen]:
    """Yield the units of each test: a random half of each group, then the other half; for a single group also all."""
    first = {}
    for group in groups:
        order = torch.randperm(group.size, generator=rng.derive(0, "trial", "half", group.name))
        first[group.name] = (order < (group.size + 1) // 2).to(device)
    yield first
    yield {name: ~mask for name, mask in first.items()}
    if len(groups) == 1:
        yield {name: torch.ones_like(mask) for name, mask in first.items()}


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest finite entry; infinity if the two cannot be compared."""
    if one.shape != other.shape or not one.isfinite().any():
        return float("inf")
    differ = ~((one == other) | (one.isnan() & other.isnan()))
    if not differ.any():
        return 0.0
    largest = one[one.isfinite()].abs().max().double()
    distance = ((one - other)[differ].abs().max().double() / largest).item()
    return distance if distance == distance else float("inf")


def _differ(one: object, other: object) -> bool:
    return isinstance(one, Tensor) and isinstance(other, Tensor) and _distance(one, other) > _COARSE_ROUNDING


def _reason(group: UnitGroup, first: str | None, training: bool) -> str:
    readers = " and ".join(f"'{consumer.module}'" for consumer in group.consumers)
    verb = "reads" if len(group.consumers) == 1 else "read"
    place = "" if first is None else f" first at '{first}'"
    return (
        f"the output still depends on units of '{group.name}' when {readers} no longer {verb} them (another reader, "
        f"such as a gate, or a layer that changes its weight inside forward); seen{place} in {_mode(training)} mode"
    )


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


def unit_axis(layer: nn.Module) -> int:
    """Return the axis of the units in the input and the output of ``layer``."""
    return -1 if isinstance(layer, nn.Linear) else 1
