"""Lets the networks of a learner act in streams that are made of what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from lopbench.core.interfaces import ActingBatches, Batches
from lopbench.learner.layout import shorten
from lopbench.learner.network import attention_for_vmap, evaluating

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner

#: Makes outputs ``(R, N, ...)`` of parameters and buffers ``(R, ...)``, in their order, and inputs ``(R, N, ...)``.
_Function = Callable[..., Tensor]


class Actor:
    """The networks of a learner as they are, in evaluation mode.

    An agent acts thousands of times between two updates, on a few inputs each. Mapping the network over replicas takes
    a millisecond each time, so that it is traced once for inputs of one shape.

    Args:
        learner: The learner, whose networks are called as they are at the time.
    """

    def __init__(self, learner: StackLearner) -> None:
        self.learner = learner
        self._traced: dict[tuple[torch.Size, torch.dtype], _Function] = {}

    @torch.no_grad()
    def act(self, streams: Sequence[Batches]) -> int | None:
        """Let the networks act if it is time.

        Args:
            streams: The stream of each replica, all of one class and at one place.

        Returns:
            Steps before they have to act again; None of streams in which they do not.
        """
        acting = [each for each in streams if isinstance(each, ActingBatches)]
        if not acting:
            return None
        if not acting[0].left:
            with evaluating(self.learner.network.module):
                type(acting[0]).act(acting, self._policy())
        return acting[0].left

    def _policy(self) -> Callable[[Tensor], Tensor]:
        """Return what runs the networks as they are now."""
        learner = self.learner
        module, tensors = learner.network.module, {**learner.view.parameters, **learner.view.buffers}
        if not learner.stacked:
            return lambda inputs: module(learner.cast(inputs[0])).unsqueeze(0)
        values = tuple(tensors.values())

        def policy(inputs: Tensor) -> Tensor:
            inputs = learner.cast(inputs)
            key = inputs.shape, inputs.dtype
            if key not in self._traced:
                self._traced[key] = self._trace(tuple(tensors), values, inputs)
            return self._traced[key](*values, inputs)

        return policy

    def _trace(self, names: Sequence[str], values: Sequence[Tensor], inputs: Tensor) -> _Function:
        """Return the networks as a function of their tensors and inputs, a graph if they can be one."""
        module = self.learner.network.module

        def one(tensors: Sequence[Tensor], x: Tensor) -> Tensor:
            outputs: Tensor = functional_call(module, dict(zip(names, tensors, strict=True)), (x,))
            return outputs

        def mapped(*arguments: Tensor) -> Tensor:
            with attention_for_vmap(inputs):
                return torch.vmap(one)(arguments[:-1], arguments[-1])

        try:
            graph = make_fx(functionalize(mapped), tracing_mode="fake")(*values, inputs)
        except Exception:  # in many ways, and what was to be traced computes the same
            return mapped
        shorten(graph)
        graph.recompile()
        function: _Function = graph.forward
        return function
