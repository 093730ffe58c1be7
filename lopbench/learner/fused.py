"""The optimizer of a stack of leaves: the update rule itself, or torch's fused optimizer where that does the same.

Torch's fused optimizer has one step count for each parameter. The rule counts the steps of each entry (Dohare et al.
2021, arXiv:2108.06325v3). So when some entries of a parameter are cleared, the parameter moves from the fused optimizer
to the rule, unless its entries are tensors of the fused optimizer. All parameters move if a method looks at updates
that depend on the values of parameters. Nothing moves otherwise, so a method of strength zero changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lopbench.core.optimizer import Optimizer
from lopbench.learner.optimizers import OptimizerStack
from lopbench.learner.unapplied import fused_updates, reads_parameters


class StackOptimizer(OptimizerStack):
    """Trains leaves from their ``.grad``, with torch's fused optimizer where that does the same as the rule.

    Args:
        rule: The update rule and its hyperparameters.
        leaves: The leaves to train, by name.
        stacked: Whether the leaves have the replica axis. Masks, gradients and updates always have it.
        rates: Learning rate: one number, or ``(R,)`` of float64 where replicas differ; None for the rule's.
        hidden: Names of weight matrices and kernels, see `hidden_matrices`.
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
        #: The factor of the learning rate, if it was given as one number for all replicas.
        self._number: float | None = None
        #: Torch's optimizer of the leaves that have no ``entries``; None if all have some.
        self._inner: torch.optim.Optimizer | None = None
        self._numbers: dict[str, dict[str, float] | None] = {}
        #: Whether the rule's updates depend on the values of parameters; None until it is asked.
        self._reads: bool | None = None
        self._begin(self.leaves)

    # -- stepping

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient and is not held."""
        if self._inner is not None:
            self._inner.step()
        for name in self.entries:
            if name not in self.held and (gradient := self.leaves[name].grad) is not None:
                self.parameters[name].add_(self._update(name, self._stack(gradient)))

    def updates(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return updates as `OptimizerStack.updates`. If the rule reads parameters, it takes over all of them."""
        if self._inner is not None and self._reads is None:
            self._reads = reads_parameters(self.rule)
        if self._reads:
            self._leave(self.leaves)
        leaves = {name: leaf for name, leaf in self.leaves.items() if name not in self.entries}
        made = {} if self._inner is None else fused_updates(self._inner, leaves, gradients, stacked=self.stacked)
        return {
            name: made[name] if name in made else self._update(name, gradient)
            for name, gradient in gradients.items()
            if name not in self.held
        }

    def apply(self, updates: Mapping[str, Tensor]) -> None:
        """Add ``updates`` to the parameters, all in one call."""
        if updates:
            torch._foreach_add_([self.parameters[name] for name in updates], list(updates.values()))

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for leaf in self.leaves.values():
            leaf.grad = None

    def scale(self, factor: float | Tensor) -> None:
        """Multiply the learning rate as `OptimizerStack.scale`; several factors end the fused optimizer."""
        super().scale(factor)
        self._number = None if isinstance(factor, Tensor) else float(factor)
        self._pass_rate()

    def hold(self, *names: str) -> None:
        """Leave these parameters out of the steps to come. They leave the fused optimizer for good."""
        super().hold(*names)
        self._leave(names)

    # -- forgetting

    @torch.no_grad()
    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget as `OptimizerStack.clear`. What the fused optimizer cannot forget by entry moves to the rule."""
        self._check_clear(name, mask)
        self.touched += 1
        if name is None:
            self._begin(name for name in self.leaves if name not in self.held)
            return
        entries = self.entries.get(name)
        if entries is None:
            state = self._fused_state(name)
            if not state:
                return  # never updated: there is nothing to forget
            entries = self.rule.unfused(self.parameters[name], state)
            if not _is_part(entries, state):
                self._adopt(name, entries)
        self._forget(name, entries, mask)

    def restart(self, rule: Optimizer) -> None:
        """Become a new optimizer of the same parameters, with ``rule`` and its rate. Held parameters stay held."""
        self.rule, self._numbers, self._reads, self.scaler = rule, {}, None, None
        self._run_rates, self.rates = rule.lr, rule.lr * self._scheduled
        if self.factor is not None:  # 1 and not None, since a traced step that scales the rate needs a tensor
            self.factor, self._number = torch.ones_like(self.factor), 1.0
        self.clear()

    def _starts(self, name: str) -> Mapping[str, Tensor | float]:
        """Return numbers if the start of entries does not depend on the parameter, which is tried once."""
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
        """Start without state, with the parameters ``names`` in a new fused optimizer if the rule has one."""
        fused = {} if isinstance(self.rates, Tensor) else {name: self.leaves[name] for name in names}
        self._inner = self.rule.fused(list(fused.values())) if fused else None
        if self._inner is None:
            fused = {}
        self.entries = {name: self._start(name) for name in self.leaves if name not in fused}
        self._pass_rate()

    def _pass_rate(self) -> None:
        """Set the rate of the fused optimizer; give that up if rates differ or setting one waits for the device."""
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
            rate = scaled.item() if scaled.is_cpu else scaled.float()  # the kernels of CUDA read single precision
        for group in self._inner.param_groups:
            group["lr"] = rate

    def _leave(self, names: Iterable[str]) -> None:
        """Move parameters from the fused optimizer to the rule, with their state."""
        if self._inner is None:
            return
        for name in names:
            if name not in self.entries:
                state = self._fused_state(name)
                self._adopt(name, self.rule.unfused(self.parameters[name], state) if state else self._start(name))

    def _adopt(self, name: str, entries: dict[str, Tensor]) -> None:
        """Let the rule train a parameter from now on, from ``entries``."""
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
        """Return a parameter's state in the fused optimizer, with the replica axis; empty before its first step."""
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
        """Return the entries of each parameter, which broadcast with it. They must not be changed in place."""
        states: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self.parameters.items():
            entries = self.entries.get(name)
            if entries is None:
                state = self._fused_state(name)
                entries = self.rule.unfused(parameter, state) if state else self._start(name)
            states[name] = dict(entries)
        return states

    def adopt(self, states: Mapping[str, Mapping[str, Tensor]], factor: Tensor | None = None) -> None:
        """Continue from entries that a program has made of those that `stacked_state` returned.

        Args:
            states: Entries of each parameter.
            factor: Factor of the learning rate, ``(R,)`` of float64; None if it is as before.
        """
        for name, entries in states.items():
            if entries or name in self.entries:  # a rule without entries stays fused
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
        entries: dict[str, dict[str, Tensor]] = {name: {} for name in _marked(self.leaves, tensors.get("unfused"))}
        for key, value in tensors.items():
            name, slash, field = key.partition("/")
            if field.startswith("entries/"):
                entries.setdefault(name, {})[field.removeprefix("entries/")] = value.clone()
            elif slash:
                fused.setdefault(name, {})[field] = value.clone()
        self.held = frozenset(_marked(self.leaves, tensors.get("held")))
        self.factor = self._number = None
        if "scale" in tensors:
            self.factor = self._each(tensors["scale"])
            self._number = None if tensors["scale"].ndim else float(tensors["scale"])
        self._begin(name for name in self.leaves if name not in entries)
        self.entries.update(entries)
        for name, state in fused.items():
            assert self._inner is not None  # only a fused optimizer saves such state
            self._inner.state[self.leaves[name]] = state


def _marked(names: Iterable[str], marks: Tensor | None) -> list[str]:
    """Return the names with a true mark, none if there are no marks."""
    return [] if marks is None else [name for name, mark in zip(names, marks.tolist(), strict=True) if mark]


def _is_part(entries: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Return whether all entries share the memory of ``state``, so that the fused optimizer sees changes."""
    memory = {value.untyped_storage().data_ptr() for value in state.values()}
    return all(entry.untyped_storage().data_ptr() in memory for entry in entries.values())
