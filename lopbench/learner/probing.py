"""Takes the probe of one network: activations, gradients and functions of it, in evaluation mode.

The network's weights, buffers, ``.grad``, mode and random state stay as they were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lopbench.core.interfaces import Task
from lopbench.core.moments import Moments
from lopbench.core.probe import LayerProbe, NetworkProbe, as_units, is_blocked
from lopbench.core.profile import Partition, Profile
from lopbench.learner.network import evaluating, no_tensor


def counted(outputs: Tensor, task: Task) -> Tensor:
    """Return the outputs ``(..., K)`` that count in ``task``."""
    return outputs if task.classes is None else outputs.index_select(-1, task.classes)


class LastProbes:
    """Copies of the tensors of replicas at their last probes, for the replicas for which a metric asks."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, Tensor]] = {}

    def swap(self, replica: int, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Return what was kept of a replica, None the first time, and keep a copy of ``tensors`` instead."""
        last = self._kept.get(replica)
        self._kept[replica] = {name: value.detach().clone() for name, value in tensors.items()}
        return last

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is kept, as named tensors."""
        return {f"{replica}/{name}": value for replica, kept in self._kept.items() for name, value in kept.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Keep a copy of what `state_dict` returned, on ``device``."""
        self._kept = {}
        for key, value in tensors.items():
            replica, _, name = key.partition("/")
            self._kept.setdefault(int(replica), {})[name] = value.to(device, copy=True)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network as it is evaluated; in `together` several at once, whose tensors lead with the axis R.

    Args:
        module: The network. Its own values are not read.
        parameters: The parameters by name, outside autograd.
        buffers: The buffers by name.
        layers: Names of the layers to probe.
        profile: Which parts are clones of which; None if the network was not cloned.
        tokens: Whether inputs are whole numbers, which are never cast.
    """

    module: nn.Module
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    layers: Sequence[str]
    profile: Profile | None = None
    tokens: bool = False

    def call(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return all outputs in evaluation mode, in the type of ``parameters``, which may have buffers among them."""
        dtype = next(iter(parameters.values())).dtype
        values = {**self.buffers, **parameters}
        for name in self.buffers:
            if values[name].is_floating_point():
                values[name] = values[name].to(dtype)
        with evaluating(self.module):
            outputs: Tensor = functional_call(self.module, values, (inputs if self.tokens else inputs.to(dtype),))
            return outputs

    def look(
        self, parameters: Mapping[str, Tensor], inputs: Tensor, names: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return all outputs of the network, and those of the modules ``names`` that return a single tensor."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, object, object], Tensor | None]:
            def hook(module: nn.Module, arguments: object, output: object) -> Tensor | None:
                if not isinstance(output, Tensor):
                    if name in self.layers:
                        raise no_tensor(name, output)
                    return None
                found[name] = output
                return output.clone()  # later layers may change it in place

            return hook

        wanted = set(names)
        handles = [m.register_forward_hook(keep(n)) for n, m in self.module.named_modules() if n in wanted]
        try:
            outputs = self.call(parameters, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return outputs, {name: found[name] for name in names if name in found}

    def layer_probes(
        self, kept: Mapping[str, Tensor], gradients: Sequence[Tensor], *, blocked: bool
    ) -> tuple[LayerProbe, ...]:
        """Return the probes of layers.

        Args:
            kept: Outputs of the layers, by name.
            gradients: The gradients with respect to these outputs, in the same order.
            blocked: Whether the head passes no gradient on, as `is_blocked` finds.
        """
        return tuple(
            LayerProbe(tensor, gradient, name, self._clones(name, tensor), blocked and not gradient.any())
            for (name, tensor), gradient in zip(kept.items(), gradients, strict=True)
        )

    def _clones(self, name: str, output: Tensor) -> Partition | None:
        partition = None if self.profile is None else self.profile.outputs.get(name)
        # With channels last, `as_units` takes another axis for that of the units, and the partition does not fit.
        return partition if partition and len(partition) == as_units(output).shape[1] else None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a forward and a backward pass over the probe batch show of one network.

    Args:
        outputs: Outputs that count in the task, ``(N, ...)``.
        kept: Outputs of the probed layers, by name.
        kept_gradients: Gradients with respect to these outputs, in the same order.
        gradients: Gradients with respect to the parameters, by name.
        moments: Moments of the layers' outputs of all replicas, in the same order; empty for a network probed alone.
        place: Index of this network among the replicas of ``moments``.
    """

    outputs: Tensor
    kept: Mapping[str, Tensor]
    kept_gradients: Sequence[Tensor]
    gradients: Mapping[str, Tensor]
    moments: Sequence[Moments] = ()
    place: int = 0


def take(
    subject: Subject,
    task: Task,
    *,
    initial: Mapping[str, Tensor],
    head: Sequence[str],
    lr: float,
    recall: Callable[[], Mapping[str, Tensor] | None] = lambda: None,
    seen: Seen | None = None,
) -> NetworkProbe:
    """Return the probe of a network on the probe batch of ``task``.

    Args:
        subject: The network.
        task: The task.
        initial: Its parameters as built.
        head: Names of the parameters of its head.
        lr: Learning rate of the next step.
        recall: Returns parameters and buffers of the probe before, and keeps the current ones; see `LastProbes`.
        seen: What the passes over the probe batch show, if they were made already; see `together`.
    """
    inputs, targets = task.probe()
    parameters = {name: value.detach().requires_grad_() for name, value in subject.parameters.items()}

    def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        return counted(subject.call(parameters, inputs), task)

    def loss(parameters: Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        some, theirs = (inputs, targets) if rows is None else (inputs[rows], targets[rows])
        with torch.enable_grad():
            return task.loss(forward(parameters, some), theirs)

    def look(names: Sequence[str]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with torch.enable_grad():
            outputs, kept = subject.look(parameters, inputs, names)
            outputs = counted(outputs, task)
            return outputs, task.loss(outputs, targets), kept

    def modules(names: Sequence[str]) -> tuple[LayerProbe, ...]:
        _, mean, kept = look(names)
        return subject.layer_probes(kept, _gradients(mean, list(kept.values())), blocked=blocked)

    blocked = is_blocked(parameters, head)
    seen = seen or _see(look(subject.layers), parameters)
    return NetworkProbe(
        parameters={name: value.detach() for name, value in parameters.items()},
        initial=initial,
        gradients=seen.gradients,
        layers=_layers(subject, seen, blocked=blocked),
        head=tuple(head),
        inputs=inputs,
        targets=targets,
        outputs=seen.outputs,
        profile=subject.profile,
        lr=lr,
        loss=loss,
        forward=forward,
        modules=modules,
        recall=recall,
    )


def _see(looked: tuple[Tensor, Tensor, Mapping[str, Tensor]], parameters: Mapping[str, Tensor]) -> Seen:
    """Return what a pass shows, given its outputs, mean loss and layers inside autograd, and its parameters."""
    outputs, mean, kept = looked
    gradients = _gradients(mean, [*kept.values(), *parameters.values()])
    return Seen(
        outputs=outputs.detach(),
        kept=kept,
        kept_gradients=gradients[: len(kept)],
        gradients=dict(zip(parameters, gradients[len(kept) :], strict=True)),
    )


def _layers(subject: Subject, seen: Seen, *, blocked: bool) -> tuple[LayerProbe, ...]:
    """Return the probes of the layers. They share the moments of all replicas if there are some."""
    layers = subject.layer_probes(seen.kept, seen.kept_gradients, blocked=blocked)
    for layer, moments in zip(layers, seen.moments, strict=bool(seen.moments)):
        layer.share(moments, seen.place)
    return layers


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of ``loss`` with respect to each of ``tensors``; zeros where it does not depend on it."""
    live = [tensor for tensor in tensors if tensor.requires_grad]
    found = iter(torch.autograd.grad(loss, live, materialize_grads=True) if live else ())
    return [next(found) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in tensors]
