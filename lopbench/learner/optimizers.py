"""The optimizer of a stack of replicas in terms of tensors: an update rule, and its state of each parameter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lopbench.core.errors import InvalidInputError, PluginError, UnsupportedError
from lopbench.core.optimizer import Optimizer


def hidden_matrices(module: nn.Module, head: Collection[str]) -> frozenset[str]:
    """Return the names of all weight matrices and kernels, except those of embeddings and of the head.

    The first layer's weight is included. Tables of positions and tokens are not, as their names have no ``weight``.

    Args:
        module: The network, one replica.
        head: Names of the parameters of the head.
    """
    return frozenset(
        f"{path}.{name}" if path else name
        for path, child in module.named_modules()
        if not isinstance(child, nn.Embedding | nn.EmbeddingBag)
        for name, parameter in child.named_parameters(recurse=False)
        if parameter.ndim > 1 and "weight" in name and (f"{path}.{name}" if path else name) not in head
    )


class Caller(NamedTuple):
    """The method whose hook is being called."""

    place: int  #: Its index among the methods that are on.
    name: str
    aware: bool  #: Whether it acts at boundaries (hook ``on_task_start``).


class OptimizerStack:
    """An optimizer in terms of tensors only. It runs in single steps and inside a traced program.

    Args:
        rule: The update rule.
        parameters: The parameters ``(R, ...)`` by name, changed in place by `apply`.
        entries: The rule's state of each parameter, by name; changed in place. Its tensors broadcast to the parameter.
        rates: Learning rate: one number, or ``(R,)`` of float64 where replicas differ.
        scale: Factor of the learning rate, ``(R,)`` of float64; None if nobody scales it.
        held: Names of the parameters that steps leave out.
        hidden: Names of weight matrices and kernels, see `hidden_matrices`.
    """

    def __init__(
        self,
        rule: Optimizer,
        parameters: Mapping[str, Tensor],
        entries: dict[str, dict[str, Tensor]],
        rates: float | Tensor,
        *,
        scale: Tensor | None = None,
        held: frozenset[str] = frozenset(),
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.rule = rule
        self.parameters = dict(parameters)
        self.entries = entries
        #: Learning rate without a method's scale: that of the run, times the factor of the protocol's schedule.
        self.rates = rates
        self._run_rates, self._scheduled = rates, 1.0
        #: Factor of the learning rate, ``(R,)`` of float64; None as long as nobody has scaled it.
        self.factor = scale
        self.held = held
        self.hidden = hidden
        #: How often `scale`, `hold`, `release` and `clear` were called.
        self.touched = 0
        #: The method whose hook is being called, None where the protocol acts.
        self.caller: Caller | None = None
        #: The method that scales the learning rate, None if none does.
        self.scaler: Caller | None = None

    @property
    def base_rates(self) -> Tensor:
        """Learning rate of each replica, ``(R,)`` of float64, without a method's scale."""
        return self._each(self.rates)

    @property
    def lr(self) -> Tensor:
        """Learning rate of each replica at the next step, ``(R,)`` of float64, schedule and scale included."""
        rates = self.base_rates
        return rates if self.factor is None else rates * self.factor

    def scale(self, factor: float | Tensor) -> None:
        """Multiply the learning rate of the run by ``factor``, one number or ``(R,)``, from the next step on.

        A later call replaces an earlier one. The protocol's schedule is multiplied with it.

        Raises:
            UnsupportedError: If another method scales it already.
            InvalidInputError: If ``factor`` is a tensor of another shape.
        """
        if self.scaler not in (None, self.caller):
            assert self.scaler is not None
            raise UnsupportedError(f"{self.scaler.name} scales the learning rate already, and only one method may")
        self.scaler = self.caller
        self.factor = self._each(factor)
        self.touched += 1

    def follow(self, factor: float) -> None:
        """Multiply the learning rate of the run by the factor of the protocol's schedule, from the next step on."""
        if factor != self._scheduled:
            self._scheduled, self.rates = factor, self._run_rates * factor
            self._pass_rate()

    def _pass_rate(self) -> None:
        """Hand the learning rate on to what keeps a copy of it: nothing here."""

    def hold(self, *names: str) -> None:
        """Leave these parameters out of the steps to come; their state is kept."""
        self._check(names)
        self.held |= set(names)
        self.touched += 1

    def release(self, *names: str) -> None:
        """Let steps move these parameters again."""
        self._check(names)
        self.held -= set(names)
        self.touched += 1

    @torch.no_grad()
    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget the state of everything, of parameter ``name``, or of its entries where ``mask`` is true.

        Args:
            name: Parameter, None for all.
            mask: Boolean, broadcasts to ``(R, ...)``; None for every entry. Cleared entries restart their step count.

        Raises:
            UnsupportedError: If a method that does not act at boundaries clears everything.
            InvalidInputError: If there is no such parameter, or ``mask`` comes without a name.
        """
        self._check_clear(name, mask)
        self.touched += 1
        for each in self.parameters if name is None else (name,):
            self._forget(each, self.entries[each], mask)

    @torch.no_grad()
    def updates(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is to be added to the parameters ``(R, ...)``, and advance the rule's state.

        Args:
            gradients: The gradients ``(R, ...)`` by name. Those of held parameters are not used.
        """
        return {name: self._update(name, gradient) for name, gradient in gradients.items() if name not in self.held}

    @torch.no_grad()
    def apply(self, updates: Mapping[str, Tensor]) -> None:
        """Add ``updates`` to the parameters."""
        for name, update in updates.items():
            self.parameters[name].add_(update)

    def _update(self, name: str, gradient: Tensor) -> Tensor:
        """Return what the rule adds to one parameter.

        Raises:
            PluginError: If the rule returns no tensor of the parameter's shape.
        """
        rate = self.rates if self.factor is None else self.rates * self.factor
        parameter = self.parameters[name]
        update = self.rule.update(gradient, self.entries[name], parameter, rate)
        if not isinstance(update, Tensor) or update.shape != parameter.shape:
            got = tuple(update.shape) if isinstance(update, Tensor) else type(update).__name__
            raise PluginError(
                f"optimizer {self.rule.name}: update of {name!r} returned {got}, expected a tensor of shape "
                f"{tuple(parameter.shape)}"
            )
        return update

    def _start(self, name: str) -> dict[str, Tensor]:
        """Return the state of a parameter before its first step."""
        return self.rule.init(self.parameters[name], hidden=name in self.hidden)

    def _starts(self, name: str) -> Mapping[str, Tensor | float]:
        """Return the state that cleared entries of a parameter take, or one number where it is the same for all."""
        return self._start(name)

    def _forget(self, name: str, entries: dict[str, Tensor], mask: Tensor | None) -> None:
        """Reset ``entries`` where ``mask`` is true, without reading it on the host. Smaller entries are expanded."""
        for key, start in self._starts(name).items():
            value = entries[key]
            # `torch.broadcast_shapes` takes longer than everything else here.
            wanted = value.shape if mask is None else (1,) * (value.ndim - mask.ndim) + mask.shape
            shape = tuple(map(max, value.shape, wanted))
            if shape != value.shape:
                value = entries[key] = value.expand(shape).clone()
            if isinstance(start, Tensor):
                value.copy_(start) if mask is None else torch.where(mask, start, value, out=value)
            else:
                value.fill_(start) if mask is None else value.masked_fill_(mask, start)

    def _each(self, value: float | Tensor) -> Tensor:
        """Return ``value`` as a new tensor ``(R,)`` of float64."""
        like = next(iter(self.parameters.values()), torch.empty(1))
        if not isinstance(value, Tensor):
            return torch.full((len(like),), float(value), dtype=torch.float64, device=like.device)
        if value.shape not in ((), (len(like),)):
            raise InvalidInputError(
                f"the scale of the learning rate is one number or one for each of {len(like)} replicas, got a tensor "
                f"of shape {tuple(value.shape)}"
            )
        return value.detach().to(like.device, torch.float64).expand(len(like)).clone()

    def _check(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.parameters:
                raise InvalidInputError(f"the optimizer has no parameter {name!r}; see learner.parameters")

    def _check_clear(self, name: str | None, mask: Tensor | None) -> None:
        self._check(() if name is None else (name,))
        if name is None and mask is not None:
            raise InvalidInputError("a mask of entries to clear needs the name of its parameter")
        if name is None and self.caller is not None and not self.caller.aware:
            raise UnsupportedError(
                "clearing the whole optimizer is for methods that act at boundaries (hook on_task_start); clear the "
                "entries of what you reset, as in learner.optimizer.clear(name, mask)"
            )
