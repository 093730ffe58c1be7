"""The optimizer of a stack of replicas: a rule, what it remembers of each entry, and torch's fused update of the same.

torch's fused optimizers do the work as long as nothing of a parameter's state was cleared and nobody looks at an
update. A parameter of which entries were cleared leaves them for the rule itself, whose step counts are of each entry
(Dohare et al. 2021, arXiv:2108.06325v3). As long as nothing is cleared nothing is counted, so a method of strength
zero changes no bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from lopbench.core.errors import InvalidInputError, PluginError, UnsupportedError
from lopbench.core.optimizer import Optimizer


def hidden_matrices(module: nn.Module, head: Collection[str]) -> frozenset[str]:
    """Return the names of the weights that map units to units: matrices and kernels, no embedding, not the head's.

    The first layer's are among them; tables of positions and tokens, which are no layer's ``weight``, are not.

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


class OptimizerStack:
    """An optimizer made of tensors, which runs eagerly and inside a traced program alike.

    Args:
        rule: The update rule.
        parameters: The parameters ``(R, ...)`` by name, changed in place by `apply`.
        entries: What the rule remembers of each parameter, changed in place; inside a trace of the parameter's shape.
        rates: Learning rate: one number, or ``(R,)`` of float64 where replicas differ.
        scale: What multiplies it, ``(R,)`` of float64; None for nothing.
        held: Names of the parameters that are left out.
        hidden: Names of the matrices and kernels between hidden layers.
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
        self.rates = rates
        #: What multiplies the learning rate, ``(R,)`` of float64; None as long as nobody scaled it.
        self.factor = scale
        self.held = held
        self.hidden = hidden
        #: How often somebody has scaled, held, released or cleared something.
        self.touched = 0
        #: The method whose hook is being called, and the one that scales the learning rate: place and name.
        self.caller: tuple[int, str] | None = None
        self.scaler: tuple[int, str] | None = None

    @property
    def base_rates(self) -> Tensor:
        """Learning rate of each replica, ``(R,)`` of float64, without a scale."""
        return self._each(self.rates)

    @property
    def lr(self) -> Tensor:
        """Learning rate of each replica at the next step, ``(R,)`` of float64, the scale included."""
        rates = self.base_rates
        return rates if self.factor is None else rates * self.factor

    def scale(self, factor: float | Tensor) -> None:
        """Multiply the learning rate of the run by ``factor``, one number or ``(R,)``, from the next step on.

        A later call replaces an earlier one.

        Raises:
            UnsupportedError: If another method scales it already.
        """
        if self.scaler not in (None, self.caller):
            assert self.scaler is not None
            raise UnsupportedError(f"{self.scaler[1]} scales the learning rate already, and two scales do not add up")
        self.scaler = self.caller
        self.factor = self._each(factor)
        self.touched += 1

    def hold(self, *names: str) -> None:
        """Leave these parameters out of the steps to come; their state is kept."""
        self._check(names)
        self.held |= set(names)
        self.touched += 1

    def release(self, *names: str) -> None:
        """Move these parameters again."""
        self._check(names)
        self.held -= set(names)
        self.touched += 1

    @torch.no_grad()
    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget the state of everything, of parameter ``name``, or of its entries where ``mask`` is true.

        Args:
            name: Parameter, None for all.
            mask: Boolean, broadcasts to ``(R, ...)``; None for every entry. Cleared entries restart their step count.
        """
        self._check_clear(name, mask)
        self.touched += 1
        for each in self.parameters if name is None else (name,):
            self._forget(each, self.entries[each], mask)

    @torch.no_grad()
    def updates(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is to be added to the parameters ``(R, ...)`` and let the rule remember the gradients.

        Args:
            gradients: The gradients ``(R, ...)``; those of parameters that are held are left alone.
        """
        return {name: self._update(name, gradient) for name, gradient in gradients.items() if name not in self.held}

    @torch.no_grad()
    def apply(self, updates: Mapping[str, Tensor]) -> None:
        """Add ``updates`` to the parameters."""
        for name, update in updates.items():
            self.parameters[name].add_(update)

    def _update(self, name: str, gradient: Tensor) -> Tensor:
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
        return self.rule.init(self.parameters[name], hidden=name in self.hidden)

    def _starts(self, name: str) -> Mapping[str, Tensor | float]:
        """Return what the entries of a parameter start from; one number where all start from it."""
        return self._start(name)

    def _forget(self, name: str, entries: dict[str, Tensor], mask: Tensor | None) -> None:
        """Make entries new where ``mask`` is true, without a look at it; those that are too small for it grow."""
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


class StackOptimizer(OptimizerStack):
    """Trains leaves from their ``.grad``, by torch's fused optimizer where that does the same.

    Args:
        rule: The update rule and its hyperparameters.
        leaves: The leaves to train, by name.
        stacked: Whether the leaves carry the replica axis themselves; masks, gradients and updates always do.
        rates: Learning rate: one number, or ``(R,)`` of float64 where replicas differ; None for that of the rule.
        hidden: Names of the matrices and kernels between hidden layers.
    """

    def __init__(
        self,
        rule: Optimizer,
        leaves: Mapping[str, nn.Parameter],
        *,
        stacked: bool,
        rates: float | Tensor | None = None,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.leaves = dict(leaves)
        self.stacked = stacked
        views = {name: self._stack(leaf.detach()) for name, leaf in self.leaves.items()}
        super().__init__(rule, views, {}, rule.lr if rates is None else rates, hidden=hidden)
        #: The scale, where it was given as one number for all replicas.
        self._number: float | None = None
        #: torch's optimizer of the leaves that have no ``entries``.
        self._inner: torch.optim.Optimizer | None = None
        self._numbers: dict[str, dict[str, float] | None] = {}
        self._begin(self.leaves)

    # -- stepping

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient and is not held."""
        if self._inner is not None:
            self._inner.step()
        for name in self.entries:
            gradient = self.leaves[name].grad
            if gradient is not None and name not in self.held:
                self.parameters[name].add_(self._update(name, self._stack(gradient)))

    def updates(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is to be added; from now on no parameter is trained by the fused optimizer."""
        self._leave(self.leaves)
        return super().updates(gradients)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for leaf in self.leaves.values():
            leaf.grad = None

    def scale(self, factor: float | Tensor) -> None:
        """Multiply the learning rate as `OptimizerStack.scale`; several numbers end the fused update."""
        super().scale(factor)
        self._number = None if isinstance(factor, Tensor) else float(factor)
        self._pass_rate()

    def hold(self, *names: str) -> None:
        """Leave these parameters out of the steps to come, and out of the fused update for good."""
        super().hold(*names)
        self._leave(names)

    # -- forgetting

    @torch.no_grad()
    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget as `OptimizerStack.clear`; what the fused optimizer cannot forget by entry leaves it."""
        self._check_clear(name, mask)
        self.touched += 1
        if name is None:
            self._begin(name for name in self.leaves if name not in self.held)
            return
        entries = self.entries.get(name)
        if entries is None:
            state = self._fused_state(name)
            if not state:
                return  # it was never updated
            entries = self.rule.unfused(self.parameters[name], state)
            if not _is_part(entries, state):
                self._adopt(name, entries)
        self._forget(name, entries, mask)

    def restart(self, rule: Optimizer) -> None:
        """Become a new optimizer of the same parameters, with the rule's learning rate; what is held stays so."""
        self.rule, self.rates, self._numbers, self.scaler = rule, rule.lr, {}, None
        if self.factor is not None:  # one, and not none: who scales the rate step by step goes on
            self.factor, self._number = torch.ones_like(self.factor), 1.0
        self.clear()

    def _starts(self, name: str) -> Mapping[str, Tensor | float]:
        """Return numbers where entries start from one, whatever the parameter is; found out once."""
        if name not in self._numbers:
            samples = [
                self.rule.init(torch.full_like(self.parameters[name], value), hidden=name in self.hidden)
                for value in (0, 1)
            ]
            flat = {key: torch.cat([sample[key].flatten() for sample in samples]) for key in samples[0]}
            equal = all(bool((value == value[0]).all()) for value in flat.values())
            self._numbers[name] = {key: value[0].item() for key, value in flat.items()} if equal else None
        numbers = self._numbers[name]
        return super()._starts(name) if numbers is None else numbers

    # -- between the fused optimizer and the entries

    def _begin(self, names: Iterable[str]) -> None:
        """Start anew, with the parameters ``names`` in the fused optimizer if there is one."""
        fused = {} if isinstance(self.rates, Tensor) else {name: self.leaves[name] for name in names}
        self._inner = self.rule.fused(list(fused.values())) if fused else None
        if self._inner is None:
            fused = {}
        self.entries = {name: self._start(name) for name in self.leaves if name not in fused}
        self._pass_rate()

    def _pass_rate(self) -> None:
        """Tell the fused optimizer the learning rate without a wait for the device, or do without it."""
        if self._inner is None or isinstance(self.rates, Tensor):
            return
        rate: float | Tensor = self.rates
        if self._number is not None:
            rate = self.rates * self._number
        elif self.factor is not None:
            groups = self._inner.param_groups
            if len(self.factor) > 1 or not (self.factor.is_cpu or all(group.get("fused") for group in groups)):
                self._leave(self.leaves)
                return
            scaled = self.rates * self.factor[0]
            rate = scaled.item() if scaled.is_cpu else scaled.float()  # CUDA's kernels read single precision
        for group in self._inner.param_groups:
            group["lr"] = rate

    def _leave(self, names: Iterable[str]) -> None:
        """Move parameters from the fused optimizer to entries."""
        if self._inner is None:
            return
        for name in names:
            if name not in self.entries:
                state = self._fused_state(name)
                self._adopt(name, self.rule.unfused(self.parameters[name], state) if state else self._start(name))

    def _adopt(self, name: str, entries: dict[str, Tensor]) -> None:
        self.entries[name] = entries
        if self._inner is None:
            return
        leaf = self.leaves[name]
        self._inner.state.pop(leaf, None)
        for group in self._inner.param_groups:
            group["params"] = [each for each in group["params"] if each is not leaf]
        if not any(group["params"] for group in self._inner.param_groups):
            self._inner = None

    def _fused_state(self, name: str) -> dict[str, Tensor]:
        """Return the state of a parameter in the fused optimizer, with the replica axis; none before its first step."""
        leaf = self.leaves[name]
        state = {} if self._inner is None else self._inner.state.get(leaf, {})
        return {
            key: self._stack(value) if value.shape == leaf.shape and key != "step" else value
            for key, value in state.items()
            if value is not None
        }

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor if self.stacked else tensor.unsqueeze(0)

    # -- into a program and back

    @torch.no_grad()
    def stacked_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the entries of each parameter, tensors that broadcast with it; not to be written to."""
        states: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self.parameters.items():
            entries = self.entries.get(name)
            if entries is None:
                state = self._fused_state(name)
                entries = self.rule.unfused(parameter, state) if state else self._start(name)
            states[name] = dict(entries)
        return states

    def adopt(self, states: Mapping[str, Mapping[str, Tensor]], factor: Tensor | None = None) -> None:
        """Go on from the states that `stacked_state` returned and steps elsewhere have changed since.

        Args:
            states: Entries of each parameter.
            factor: What multiplies the learning rate now, ``(R,)``; None for what did before.
        """
        for name, entries in states.items():
            if entries or name in self.entries:  # where nothing is remembered the fused optimizer goes on
                self._adopt(name, dict(entries))
        if factor is not None:
            self.factor, self._number = factor, None
            self._pass_rate()

    # -- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        tensors: dict[str, Tensor] = {}
        for name, leaf in self.leaves.items():
            if name in self.entries:
                tensors.update({f"{name}/entries/{key}": value for key, value in self.entries[name].items()})
            elif self._inner is not None:
                state = self._inner.state.get(leaf, {})
                tensors.update({f"{name}/{key}": value for key, value in state.items() if value is not None})
        if not all(self.entries.values()):
            tensors["unfused"] = torch.tensor([name in self.entries for name in self.leaves])
        if self.held:
            tensors["held"] = torch.tensor([name in self.held for name in self.leaves])
        if self.factor is not None:
            tensors["scale"] = self.factor if self._number is None else self.factor[0]
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned."""
        fused: dict[str, dict[str, Tensor]] = {}
        entries: dict[str, dict[str, Tensor]] = {name: {} for name in self._marked(tensors.get("unfused"))}
        for key, value in tensors.items():
            name, slash, field = key.partition("/")
            if field.startswith("entries/"):
                entries.setdefault(name, {})[field.removeprefix("entries/")] = value.clone()
            elif slash:
                fused.setdefault(name, {})[field] = value.clone()
        self.held = frozenset(self._marked(tensors.get("held")))
        self.factor = self._number = None
        if "scale" in tensors:
            self.factor = self._each(tensors["scale"])
            self._number = None if tensors["scale"].ndim else float(tensors["scale"])
        self._begin(name for name in self.leaves if name not in entries)
        self.entries.update(entries)
        for name, state in fused.items():
            assert self._inner is not None  # it took these steps before
            self._inner.state[self.leaves[name]] = state

    def _marked(self, marks: Tensor | None) -> list[str]:
        return [] if marks is None else [n for n, mark in zip(self.leaves, marks.tolist(), strict=True) if mark]


def _is_part(entries: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Return whether all entries lie in the memory of the fused optimizer's state, so that it sees what they become."""
    memory = {value.untyped_storage().data_ptr() for value in state.values()}
    return all(entry.untyped_storage().data_ptr() in memory for entry in entries.values())
