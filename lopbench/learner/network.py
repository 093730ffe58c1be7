"""The network of a stack as a function of its tensors. A pass also returns what chosen layers read and made."""

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

#: Layers whose input is kept, since they may read units.
_READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_activation(module: nn.Module) -> bool:
    """Return whether ``module`` is an activation function: one of torch's or timm's, or of a subclass of these."""
    is_one = any("activation" in base.__module__ for base in type(module).__mro__)
    return is_one and not isinstance(module, nn.MultiheadAttention | nn.Softmax)


def activation_layers(module: nn.Module) -> list[str]:
    """Return the names of all activation functions of the network, in order of definition."""
    return [name for name, child in module.named_modules() if is_activation(child)]


def no_tensor(layer: str, output: object) -> UnsupportedError:
    """Return the error for a probed layer whose output is no tensor."""
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
    # On the CPU `vmap` has no rule for fused attention, and would run the replicas one by one.
    return sdpa_kernel(SDPBackend.MATH) if inputs.is_cpu else nullcontext()


class Derived(Mapping[str, Tensor]):
    """Tensors by name, each computed from another tensor when it is read. Most methods read few of them, or none.

    Args:
        tensors: The tensors to compute from, by the same names.
        make: Computes one tensor from the other.
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
    """What one forward pass of all replicas made. Implements the protocol ``Pass``.

    Args:
        outputs: Outputs of the network, ``(R, N, ...)``.
        read: Inputs ``(R, N, ...)`` of the head and of all layers that may read units, by name of the layer.
        activations: Outputs ``(R, N, ...)`` of the probed layers, by name.
        head: Name of the head.
        alone: The outputs of a single network without replica axis, ``(N, ...)``. A loss of these needs no autograd
            through that axis. None with several networks, and outside autograd.
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
        """Return the same pass outside autograd."""
        read, activations = (Derived(each, Tensor.detach) for each in (self.read, self.activations))
        return ForwardPass(self.outputs.detach(), read, activations, self.head)


class Network:
    """One module that stands for R networks. A call replaces its tensors with those of each replica.

    With one replica the module can be called directly, with its own tensors.

    Args:
        module: The module, in training mode.
        head: Name of the head.
        layers: Names of the probed layers.
        stacked: Whether there are several replicas.
        generator: What dropout inside the network draws from.
        stochastic: Whether the network's output in training mode is random, as under dropout.

    Raises:
        UnsupportedError: If there are several replicas and the output is random.
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
        #: Whether no module overrides ``train`` or ``eval``.
        self._has_plain_modes = all(
            (type(m).train, type(m).eval) == (nn.Module.train, nn.Module.eval) for m in module.modules()
        )
        #: Whether a parameter or buffer has two names in the module; calls are given it by one of them.
        self._is_tied = any(
            len(list(named())) < len(list(named(remove_duplicate=False)))
            for named in (module.named_parameters, module.named_buffers)
        )
        self._has_buffers = any(True for _ in module.buffers())
        self._kept: tuple[Tensors, Tensors] | None = None
        self._reuse = Reuse()
        self._watched = False

    def watch(self) -> None:
        """Keep what layers read and what probed layers make, from now on. This costs microseconds for each layer."""
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
        """Turn off randomness such as dropout for the duration, by evaluation mode.

        Batch normalisation stays in training mode. It uses the statistics of the batch, as it does in the training
        passes of networks without randomness.
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
            for module in others:  # does what `eval` does, which takes a sixth of a small network's step
                object.__setattr__(module, "training", False)
            yield
        finally:
            for module in others:
                object.__setattr__(module, "training", True)

    # -- calling

    def plain(self, inputs: Tensor) -> ForwardPass:
        """Call the module directly on ``inputs`` ``(1, N, ...)``. This updates its buffers, and dropout draws."""
        if not (self._watched or self.stochastic):  # the usual case, in which nothing else is needed
            return self._unstacked_pass(self.module(inputs[0]), {}, {})
        with self._keeping() as kept, self._layer_randomness(), self._reuse.using():
            outputs = self.module(inputs[0])
        return self._unstacked_pass(outputs, *kept)

    def steadily(self, inputs: Tensor, *, ahead: bool = False) -> ForwardPass:
        """Call the module directly on ``inputs`` ``(1, N, ...)``, with all randomness off and without side effects.

        Buffers and the random stream of dropout stay as they are.

        Args:
            inputs: The inputs.
            ahead: Whether `plain` is called next on the same inputs. Results that it can reuse are kept then.
        """
        before = [(buffer, buffer.clone()) for buffer in self.module.buffers()] if self._has_buffers else []
        keeping = self._reuse.keeping(inputs) if ahead else nullcontext()
        with self.steady(), rng.isolated(self.generator.clone_state()), keeping:
            outputs: Tensor = self.module(inputs[0])
        for buffer, value in before:
            buffer.copy_(value)
        return self._unstacked_pass(outputs, {}, {})

    def mapped(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> ForwardPass:
        """Call the module on each replica's tensors ``(R, ...)`` and inputs ``(R, N, ...)``. Updates ``buffers``."""

        def one(parameters: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors, Tensors]:
            with self._keeping() as (read, made):
                outputs = self._call((parameters, buffers), x)
            return outputs, read, made

        with attention_for_vmap(inputs):
            return self._pass(*torch.vmap(one)(dict(parameters), dict(buffers), inputs))

    def aside(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> ForwardPass:
        """Call the module as `mapped`, without side effects: buffers and the stream of dropout stay as they are."""
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
        """Return the outputs of the module on ``inputs``, with these tensors in the place of its own."""
        # The search for tied tensors takes a twentieth of a small network's step, so it is done only if there are any.
        outputs: Tensor = functional_call(self.module, tensors, (inputs,), tie_weights=self._is_tied)
        return outputs

    def beside(self, inputs: Tensor) -> ForwardPass | None:
        """Call the module directly, without side effects, which is faster than `aside`.

        Returns:
            The pass; None if there are several networks, buffers that a pass would update, or randomness.
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
        """Return the pass of one network, with the replica axis added."""
        stacked = outputs.unsqueeze(0)
        return ForwardPass(stacked, Derived(read, _stack), Derived(made, _stack), self.head, outputs)

    @contextmanager
    def _layer_randomness(self) -> Iterator[None]:
        with rng.isolated(self.generator) if self.stochastic else nullcontext():
            yield


def _stack(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0)
