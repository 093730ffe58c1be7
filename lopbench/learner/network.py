"""The network of a stack as a function of its tensors, with what is read inside it on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.learner.reuse import Reuse

Tensors = dict[str, Tensor]

#: Layers whose input is kept, for they may read units.
_READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_activation(module: nn.Module) -> bool:
    """Return whether ``module`` is an activation function: torch's own, one of timm's, or derived from such."""
    is_one = any("activation" in base.__module__ for base in type(module).__mro__)
    return is_one and not isinstance(module, nn.MultiheadAttention | nn.Softmax)


def activation_layers(module: nn.Module) -> list[str]:
    """Return the names of all activation functions of the network, in order of definition."""
    return [name for name, child in module.named_modules() if is_activation(child)]


def no_tensor(layer: str, output: object) -> UnsupportedError:
    """Return what to raise of a probed layer whose output is no tensor."""
    return UnsupportedError(
        f"the probed layer {layer!r} returns a {type(output).__name__}, not a tensor; name other layers in the "
        "architecture's 'layers'"
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode for the duration."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def attention_for_vmap(inputs: Tensor) -> AbstractContextManager[None]:
    """Return a context in which ``torch.vmap`` maps attention over ``inputs``."""
    # On the CPU `vmap` has no rule for fused attention, and would take one replica after another.
    return sdpa_kernel(SDPBackend.MATH) if inputs.is_cpu else nullcontext()


class Derived(Mapping[str, Tensor]):
    """Tensors by name, each made of another one when somebody asks for it: most methods read few of them, or none.

    Args:
        tensors: The others.
        make: Makes one of the other.
    """

    def __init__(self, tensors: Mapping[str, Tensor], make: Callable[[Tensor], Tensor]) -> None:
        self._tensors, self._make = tensors, make

    def __getitem__(self, name: str) -> Tensor:
        return self._make(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """What one forward pass of all replicas made; implements the protocol ``Pass``.

    Args:
        outputs: Outputs of the network, ``(R, N, ...)``.
        read: What modules read, ``(R, N, ...)`` by name: the head, and all layers that may read units.
        activations: Outputs of the probed layers, ``(R, N, ...)``.
        head: Name of the head.
        alone: The outputs of one network as it made them, ``(N, ...)``: a loss of them spares autograd the way there
            and back over the replica axis. None where there are several networks, or nobody needs it.
    """

    outputs: Tensor
    read: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]
    head: str
    alone: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """Input of the head, ``(R, N, ...)``."""
        return self.read[self.head]

    def detached(self) -> ForwardPass:
        """Return the same outside autograd."""
        read, activations = (Derived(each, Tensor.detach) for each in (self.read, self.activations))
        return ForwardPass(self.outputs.detach(), read, activations, self.head)


class Network:
    """One module that stands for R networks: its tensors are replaced by each replica's when it is called.

    With one replica the module is called as it is.

    Args:
        module: The module, in training mode.
        head: Name of the head.
        layers: Names of the probed layers.
        stacked: Whether there are several replicas.
        generator: What dropout inside the network draws from.
        stochastic: Whether what the network makes in training is random.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: str,
        layers: Sequence[str],
        stacked: bool,
        generator: Generator,
        stochastic: bool,
    ) -> None:
        self.module = module
        self.head = head
        self.layers = tuple(layers)
        self.stacked = stacked
        self.generator = generator
        self.stochastic = stochastic
        self._norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        if stochastic and stacked:
            raise UnsupportedError("dropout draws from one global stream: its seeds run one after another")
        #: Whether no module does something of its own where its mode changes.
        self._has_plain_modes = all(
            (type(m).train, type(m).eval) == (nn.Module.train, nn.Module.eval) for m in module.modules()
        )
        #: Whether a parameter or buffer has a second name, under which nobody gives it.
        self._is_tied = any(
            len(list(named())) < len(list(named(remove_duplicate=False)))
            for named in (module.named_parameters, module.named_buffers)
        )
        self._has_buffers = any(True for _ in module.buffers())
        self._kept: tuple[Tensors, Tensors] | None = None
        self._reuse = Reuse()
        self._watched = False

    def watch(self) -> None:
        """Keep from now on what layers read and the probed ones make; it costs microseconds a layer."""
        if self._watched:
            return
        self._watched = True
        for name, module in self.module.named_modules():
            if name == self.head or isinstance(module, _READERS):
                module.register_forward_pre_hook(self._keep_input(name))
            if name in self.layers:
                module.register_forward_hook(self._keep_output(name))

    def _keep_input(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if self._kept is not None and inputs:
                self._kept[0][name] = inputs[0]

        return keep

    def _keep_output(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if self._kept is None:
                return
            if not isinstance(output, Tensor):
                raise no_tensor(name, output)
            self._kept[1][name] = output

        return keep

    @contextmanager
    def _keeping(self) -> Iterator[tuple[Tensors, Tensors]]:
        before, self._kept = self._kept, ({}, {})
        try:
            yield self._kept
        finally:
            self._kept = before

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Turn off what is random for the duration, as in evaluation.

        Batch normalisation goes on with the statistics of the batch, as in networks in which nothing is random.
        """
        if not self._has_plain_modes:
            with evaluating(self.module):
                for norm in self._norms:
                    norm.train()
                yield
            return
        norms = set(self._norms)
        others = [module for module in self.module.modules() if module not in norms]
        try:
            for module in others:  # as `eval`, which takes a sixth of a small network's step
                object.__setattr__(module, "training", False)
            yield
        finally:
            for module in others:
                object.__setattr__(module, "training", True)

    # -- calling

    def plain(self, inputs: Tensor) -> ForwardPass:
        """Call the module as it is on ``inputs`` ``(1, N, ...)``; its buffers move, and dropout draws."""
        if not (self._watched or self.stochastic):  # the usual case, without what costs microseconds for nothing
            return self._unstacked_pass(self.module(inputs[0]), {}, {})
        with self._keeping() as kept, self._layer_randomness(), self._reuse.using():
            outputs = self.module(inputs[0])
        return self._unstacked_pass(outputs, *kept)

    def steadily(self, inputs: Tensor, *, ahead: bool = False) -> ForwardPass:
        """Return what the one module as it is makes of ``inputs`` ``(1, N, ...)``, with all that is random off.

        Buffers and the stream of dropout stay where they are.

        Args:
            inputs: The inputs.
            ahead: Whether `plain` comes next, so that it finds what both passes have in common.
        """
        before = [(buffer, buffer.clone()) for buffer in self.module.buffers()] if self._has_buffers else []
        keeping = self._reuse.keeping(inputs) if ahead else nullcontext()
        with self.steady(), rng.isolated(self.generator.clone_state()), keeping:
            outputs: Tensor = self.module(inputs[0])
        for buffer, value in before:
            buffer.copy_(value)
        return self._unstacked_pass(outputs, {}, {})

    def mapped(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> ForwardPass:
        """Call the module on each replica's tensors ``(R, ...)`` and inputs ``(R, N, ...)``; ``buffers`` move."""

        def one(parameters: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors, Tensors]:
            with self._keeping() as (read, made):
                outputs = self._call((parameters, buffers), x)
            return outputs, read, made

        with attention_for_vmap(inputs):
            return self._pass(*torch.vmap(one)(dict(parameters), dict(buffers), inputs))

    def aside(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> ForwardPass:
        """Call the module likewise without side effects: buffers and the stream of dropout stay where they are."""
        self.watch()
        copies = {name: buffer.clone() for name, buffer in buffers.items()}
        if self.stacked:
            return self.mapped(parameters, copies, inputs)
        random = rng.isolated(self.generator.clone_state()) if self.stochastic else nullcontext()
        with attention_for_vmap(inputs), random, self._keeping() as kept:
            tensors = ({k: v.squeeze(0) for k, v in each.items()} for each in (parameters, copies))
            outputs = self._call(tuple(tensors), inputs.squeeze(0))
        return self._unstacked_pass(outputs, *kept)

    def _call(self, tensors: tuple[Tensors, ...], inputs: Tensor) -> Tensor:
        """Return what the module makes of ``inputs`` with these tensors in the place of its own."""
        # Looking for others in the module that are one with these takes a twentieth of a small network's step.
        outputs: Tensor = functional_call(self.module, tensors, (inputs,), tie_weights=self._is_tied)
        return outputs

    def beside(self, inputs: Tensor) -> ForwardPass | None:
        """Call the one module as it is likewise, which spares putting tensors in the place of its own.

        Returns:
            What it made; None where there are several networks, buffers that would move, or anything random.
        """
        if self.stacked or self.stochastic or self._has_buffers:
            return None
        self.watch()
        with attention_for_vmap(inputs), self._keeping() as kept:
            outputs = self.module(inputs[0])
        return self._unstacked_pass(outputs, *kept)

    def _pass(self, outputs: Tensor, read: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> ForwardPass:
        return ForwardPass(outputs, read, made, self.head)

    def _unstacked_pass(self, outputs: Tensor, read: Tensors, made: Tensors) -> ForwardPass:
        """Return the pass of one network with the replica axis."""
        stacked = outputs.unsqueeze(0)
        return ForwardPass(stacked, Derived(read, _stack), Derived(made, _stack), self.head, outputs)

    @contextmanager
    def _layer_randomness(self) -> Iterator[None]:
        with rng.isolated(self.generator) if self.stochastic else nullcontext():
            yield


def _stack(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0)
