"""The two engines that run and differentiate a stack: `Eager` for single steps, `Traced` for steps of a program."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import grad_and_value

from lopbench.learner.fused import StackOptimizer
from lopbench.learner.heap import keep_freed_memory
from lopbench.learner.hooks import Hooks
from lopbench.learner.network import Derived, ForwardPass, Tensors
from lopbench.learner.step import Made, Objective
from lopbench.learner.view import Named, View


class Eager:
    """Takes single steps, with autograd over the leaves and torch's fused optimizers.

    One network is called directly, several through `torch.vmap`.

    Args:
        leaves: The parameters in training, with replica axis if there are several networks.
        optimizer: Their optimizer.
        stacked: Whether there are several networks.
    """

    def __init__(self, leaves: Mapping[str, Tensor], optimizer: StackOptimizer, *, stacked: bool) -> None:
        keep_freed_memory()
        self._leaves = leaves
        self._optimizer = optimizer
        self._stacked = stacked

    def forward(self, view: View, inputs: Tensor) -> ForwardPass:
        """Run the networks on ``inputs`` ``(R, N, ...)``. This updates their buffers."""
        return view.network.mapped(self._leaves, view.buffers, inputs) if self._stacked else view.network.plain(inputs)

    def differentiate(self, view: View, objective: Objective) -> Made:
        """Make the gradients of ``objective`` the gradients of ``view``. Return what it made, outside autograd."""
        with torch.enable_grad():
            values, made = objective(Derived(self._leaves, self._stack))
            # Ones give the gradient of the sum, which need not be computed. A single number needs no such tensor, and
            # torch spends time on checking it.
            values.backward(torch.ones_like(values) if self._stacked else None)
        gradients = {name: found for name, leaf in self._leaves.items() if (found := leaf.grad) is not None}
        view.descended(lambda: Named({name: self._stack(gradient) for name, gradient in gradients.items()}))
        return Made(made.losses.detach(), made.scores, made.forward.detached(), made.targets)

    def descend(self, view: View, hooks: Hooks) -> None:
        """Take the optimizer's step, with the changes that the hooks ``update`` make to it."""
        if hooks.having("update"):
            _descend_under(view, hooks)
        else:
            self._optimizer.step()
        self._optimizer.zero_grad()

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor if self._stacked else tensor.unsqueeze(0)


class Traced:
    """Takes steps by pure functions of tensors, which can be traced.

    Args:
        trained: Names of the parameters that are trained.
    """

    def __init__(self, trained: tuple[str, ...]) -> None:
        self._trained = trained
        self._moved: Tensors = {}

    def forward(self, view: View, inputs: Tensor) -> ForwardPass:
        """Run the networks on ``inputs`` ``(R, N, ...)``. Their buffers are updated later, by `differentiate`."""
        # Copies, since a function that is differentiated must not change tensors that come from outside.
        self._moved = {name: buffer.clone() for name, buffer in view.buffers.items()}
        return view.network.mapped({**view.parameters, **view.differentiable}, self._moved, inputs)

    def differentiate(self, view: View, objective: Objective) -> Made:
        """Make the gradients of ``objective`` the gradients of ``view``. Return what it made, outside autograd."""
        head = view.network.head

        def function(parameters: dict[str, Tensor]) -> tuple[Tensor, tuple[object, ...]]:
            values, made = objective(parameters)
            forward = made.forward
            parts = (forward.outputs, dict(forward.read), dict(forward.activations))
            return values.sum(), (made.losses, made.scores, made.targets, self._moved, *parts)

        trained = {name: view.parameters[name] for name in self._trained}
        gradients, (_, parts) = grad_and_value(function, has_aux=True)(trained)
        losses, scores, targets, moved, outputs, read, activations = parts
        # Copies: parameters that are summed share one gradient tensor, and hooks may change each gradient in place.
        view.descended(lambda: Named({name: gradient.clone() for name, gradient in gradients.items()}))
        for name, buffer in view.buffers.items():
            buffer.copy_(moved[name])
        return Made(losses, scores, ForwardPass(outputs, read, activations, head), targets)

    def descend(self, view: View, hooks: Hooks) -> None:
        """Take the optimizer's step, with the changes that the hooks ``update`` make to it."""
        _descend_under(view, hooks)


def _descend_under(view: View, hooks: Hooks) -> None:
    """Take the optimizer's step in parts, so that the hooks ``update`` can change what it adds."""
    view.updates = Named(view.optimizer.updates(view.gradients))
    hooks.run("update", view)
    view.optimizer.apply(view.updates)
    view.updates = Named()
