"""SGD with momentum, Adam and AdamW over named parameters, with entries that can be made to start afresh.

torch's fused optimizers do the work. A parameter of which entries were cleared under Adam leaves them for an update
with a step count of its own for each entry (Dohare et al. 2021, arXiv:2108.06325v3; METHODS 0.5): with one common
count, a cleared entry would first move by ``(1 - beta1) / sqrt(1 - beta2)``, 3.2 learning rates, instead of one.
As long as nothing is cleared nothing is counted, so a method of strength zero changes no bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lopbench.core.replicas import add_scaled, per_replica
from lopbench.core.spec import OptimizerSpec


def update(
    spec: OptimizerSpec, lr: float | Tensor, weight: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
) -> None:
    """Take a step of one parameter in place, its state included: the rules that torch's fused optimizers apply.

    Args:
        spec: The rule and its hyperparameters, but for the learning rate.
        lr: Learning rate, one for all replicas or ``(R,)``.
        weight: The parameter, ``(R, ...)``.
        gradient: Its gradient, ``(R, ...)``; left as it is.
        state: "momentum_buffer" for SGD with momentum, none without; the fields of `Counted` for Adam and AdamW.
    """
    if spec.weight_decay and spec.kind != "adamw":
        gradient = gradient.add(weight, alpha=spec.weight_decay)
    elif spec.weight_decay:
        weight.mul_(1 - per_replica(lr, weight) * spec.weight_decay)
    if spec.kind == "sgd":
        if spec.momentum:
            gradient = state["momentum_buffer"].mul_(spec.momentum).add_(gradient)
        add_scaled(weight, gradient, -lr)
        return
    beta1, beta2 = spec.betas
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    correction1 = 1 - state["decay1"].mul_(beta1)
    correction2 = 1 - state["decay2"].mul_(beta2)
    # m / c1 / (sqrt(v / c2) + eps), with both corrections moved into the denominator. In place and in two
    # passes: one `addcmul` over corrections that broadcast takes seven times as long as all the rest.
    denominator = state["exp_avg_sq"].sqrt().mul_(correction1 * correction2.rsqrt()).add_(spec.eps * correction1)
    if isinstance(lr, Tensor):
        add_scaled(weight, state["exp_avg"] / denominator, -lr)
    else:
        weight.addcdiv_(state["exp_avg"], denominator, value=-lr)


@dataclass(eq=False)
class Counted:
    """Adam's state of one parameter with a step count for each entry.

    ``decay1`` and ``decay2`` are ``beta ** steps``, of the smallest shape that tells cleared entries apart: rows are
    cleared for incoming weights and columns for outgoing ones, so most parameters need one of the two only.
    """

    exp_avg: Tensor
    exp_avg_sq: Tensor
    decay1: Tensor
    decay2: Tensor


class StackOptimizer:
    """Updates named parameters in place from their ``.grad``.

    Args:
        spec: The rule and its hyperparameters.
        parameters: The leaves to train, by name.
        stacked: Whether the leaves carry the replica axis themselves; masks and views always do.
    """

    def __init__(self, spec: OptimizerSpec, parameters: Mapping[str, nn.Parameter], *, stacked: bool) -> None:
        self.spec = spec
        self.parameters = dict(parameters)
        self.stacked = stacked
        self._counted: dict[str, Counted] = {}
        self._inner = self._make(list(self.parameters.values()))

    def _make(self, leaves: list[nn.Parameter]) -> torch.optim.Optimizer | None:
        if not leaves:
            return None
        spec = self.spec
        fused = leaves[0].device.type in ("cpu", "cuda")
        if spec.kind == "sgd":
            return torch.optim.SGD(
                leaves, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=fused
            )
        rule = torch.optim.Adam if spec.kind == "adam" else torch.optim.AdamW
        return rule(leaves, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=fused)

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self.spec.lr

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        if self._inner is not None:
            self._inner.step()
        if self._counted:
            self._step_counted()

    @torch.no_grad()
    def _step_counted(self) -> None:
        for name, state in self._counted.items():
            parameter = self.parameters[name]
            if parameter.grad is not None:
                update(self.spec, self.spec.lr, self._stack(parameter.data), self._stack(parameter.grad), vars(state))

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor if self.stacked else tensor.unsqueeze(0)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget the state of everything, of parameter ``name``, or of its entries where ``mask`` is true.

        Args:
            name: Parameter, None for all.
            mask: Boolean, broadcasts to ``(R, ...)``; None for every entry. Cleared entries restart their step count.
        """
        if name is None:
            self._counted.clear()
            self._inner = self._make(list(self.parameters.values()))
            return
        if mask is None:
            mask = torch.ones((1,) * self._stack(self.parameters[name]).ndim, dtype=torch.bool)
            mask = mask.to(self.parameters[name].device)
        if self.spec.kind == "sgd":
            state = self._inner.state.get(self.parameters[name], {}) if self._inner is not None else {}
            buffer = state.get("momentum_buffer")
            if buffer is not None:
                self._stack(buffer).masked_fill_(mask, 0.0)
            return
        counted = self._counted.get(name) or self._count(name, mask)
        if counted is None:
            return
        counted.exp_avg.masked_fill_(mask, 0.0)
        counted.exp_avg_sq.masked_fill_(mask, 0.0)
        shape = torch.broadcast_tensors(counted.decay1, mask)[0].shape
        if shape != counted.decay1.shape:
            counted.decay1 = counted.decay1.expand(shape).clone()
            counted.decay2 = counted.decay2.expand(shape).clone()
        counted.decay1.masked_fill_(mask, 1.0)
        counted.decay2.masked_fill_(mask, 1.0)

    def _count(self, name: str, mask: Tensor) -> Counted | None:
        """Move a parameter from the fused update to the counted one; None if it was never updated."""
        parameter = self.parameters[name]
        assert self._inner is not None  # a parameter that is not counted is one of the fused optimizer's
        state = self._inner.state.pop(parameter, None)
        if not state:
            return None
        rest = [p for p in self._inner.param_groups[0]["params"] if p is not parameter]
        if rest:
            self._inner.param_groups[0]["params"] = rest
        else:
            self._inner = None
        steps = state["step"].to(torch.float64)
        ones = torch.ones(mask.shape, dtype=parameter.dtype, device=parameter.device)
        beta1, beta2 = self.spec.betas
        counted = Counted(
            self._stack(state["exp_avg"]),
            self._stack(state["exp_avg_sq"]),
            ones * (beta1**steps).to(ones),
            ones * (beta2**steps).to(ones),
        )
        self._counted[name] = counted
        return counted

    def stacked_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the state that `update` takes for each parameter, each tensor of the parameter's ``(R, ...)``."""
        states: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self.parameters.items():
            weight, zeros = self._stack(parameter.detach()), torch.zeros_like(self._stack(parameter.detach()))
            inner = self._inner.state.get(parameter, {}) if self._inner is not None else {}
            if self.spec.kind == "sgd":
                buffer = inner.get("momentum_buffer")
                full = {"momentum_buffer": zeros if buffer is None else self._stack(buffer)}
                states[name] = full if self.spec.momentum else {}
            elif name in self._counted:
                states[name] = {key: value.expand(weight.shape) for key, value in vars(self._counted[name]).items()}
            else:
                steps = inner["step"].to(torch.float64) if inner else 0.0
                decay1, decay2 = (torch.full_like(weight, float(beta**steps)) for beta in self.spec.betas)
                mean, square = (self._stack(inner[key]) if inner else zeros for key in ("exp_avg", "exp_avg_sq"))
                states[name] = vars(Counted(mean, square, decay1, decay2))
        return states

    def adopt(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from the states that `stacked_state` returned and `update` has changed since."""
        if self.spec.kind != "sgd":
            self._counted = {name: Counted(**state) for name, state in states.items()}
            self._inner = None
        elif self.spec.momentum:
            assert self._inner is not None  # SGD counts nothing
            for name, state in states.items():
                buffer = state["momentum_buffer"]
                self._inner.state[self.parameters[name]]["momentum_buffer"] = buffer if self.stacked else buffer[0]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            if name in self._counted:
                tensors.update({f"{name}/counted/{key}": value for key, value in vars(self._counted[name]).items()})
            elif self._inner is not None:
                state = self._inner.state.get(parameter, {})
                tensors.update({f"{name}/{key}": value for key, value in state.items() if value is not None})
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned."""
        grouped: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, entry = key.partition("/")
            grouped.setdefault(name, {})[entry] = value.clone()
        self._counted = {
            name: Counted(**{k.removeprefix("counted/"): v for k, v in entries.items()})
            for name, entries in grouped.items()
            if any(k.startswith("counted/") for k in entries)
        }
        fused = [name for name in self.parameters if name not in self._counted]
        self._inner = self._make([self.parameters[name] for name in fused])
        for name in fused:
            if name in grouped:
                assert self._inner is not None  # made above, for the parameters in ``fused``
                self._inner.state[self.parameters[name]] = dict(grouped[name])
