"""Lets the networks of a learner act in streams whose batches come from their own actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from lopbench.core.interfaces import ActingBatches, Batches
from lopbench.learner.compiling import trace_graph
from lopbench.learner.layout import shorten
from lopbench.learner.network import attention_for_vmap, evaluating

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner

#: Takes parameters and buffers ``(R, ...)``, in the learner's order, and inputs ``(R, N, ...)`` last. Returns outputs
#: ``(R, N, ...)``.
_Function = Callable[..., Tensor]


class Actor:
    """Runs the networks of a learner in evaluation mode, as the policies of agents.

    An agent acts thousands of times between two updates, on a few inputs each. `torch.vmap` over the replicas takes
    about a millisecond each time. So the networks are traced once for each shape of inputs, and the graph is run.

    Args:
        learner: The learner. Each call uses the values that its tensors have at that time.
    """

    def __init__(self, learner: StackLearner) -> None:
        self.learner = learner
        self._traced: dict[tuple[torch.Size, torch.dtype], _Function] = {}

    @torch.no_grad()
    def act(self, streams: Sequence[Batches]) -> int | None:
        """Let the networks act if their streams have no batch left.

        Args:
            streams: The stream of each replica, all of one class and at the same position.

        Returns:
            Number of steps before the networks have to act again; None if they never act in these streams.
        """
        acting = [each for each in streams if isinstance(each, ActingBatches)]
        if not acting:
            return None
        if not acting[0].left:
            with evaluating(self.learner.network.module):
                type(acting[0]).act(acting, self._policy())
        return acting[0].left

    def _policy(self) -> Callable[[Tensor], Tensor]:
        """Return a function from inputs ``(R, N, ...)`` to outputs ``(R, N, ...)`` of the current networks."""
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
        """Return the networks as a function of their tensors and inputs; it is a graph if tracing succeeds."""
        module = self.learner.network.module

        def one(tensors: Sequence[Tensor], x: Tensor) -> Tensor:
            outputs: Tensor = functional_call(module, dict(zip(names, tensors, strict=True)), (x,))
            return outputs

        def mapped(*arguments: Tensor) -> Tensor:
            with attention_for_vmap(inputs):
                return torch.vmap(one)(arguments[:-1], arguments[-1])

        try:
            graph = trace_graph(mapped, *values, inputs)
        except Exception:  # tracing fails in many ways, and the untraced function computes the same
            return mapped
        shorten(graph)
        graph.recompile()
        function: _Function = graph.forward
        return function
