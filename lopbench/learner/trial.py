"""Runs networks on trial without side effects: on copies, with a few samples and random numbers of their own."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lopbench.core import rng

#: Errors that say nothing about the network.
OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
#: How many numbers the samples of a trial may have together, and the least and the most samples.
_NUMBERS, _FEWEST, _MOST = 2**13, 2, 16


def some_samples(batch: Tensor) -> Tensor:
    """Return 2 to 16 samples for a trial, the fewer the larger they are.

    Args:
        batch: A batch of the stream, ``(N, *input_shape)``, N at least 1. A single sample is repeated. Normal noise
            replaces a batch of floating-point zeros. Tokens stay as they are.
    """
    count = min(max(_NUMBERS // max(1, batch[0].numel()), _FEWEST), _MOST)
    if batch.is_floating_point() and not batch.any():
        noise = torch.randn((count, *batch.shape[1:]), generator=rng.derive(0, "trial", "inputs"))
        return noise.to(batch)
    some = batch[:count].detach()
    return some.clone() if len(some) > 1 else torch.cat([some, some])


def noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal noise of the shape of ``like``. It repeats after 4,099 numbers, to be quick for large networks."""
    length = min(like.numel(), 4099)
    drawn = torch.randn(length, generator=generator).to(like)
    return drawn.repeat(-(-like.numel() // max(1, length)))[: like.numel()].view(like.shape)


def noisy_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a network in which every parameter is changed a little, so that none is zero.

    A zeroed head, or a branch that starts at zero, lets nothing through. A trial could not see what it reads.
    """
    module = copy.deepcopy(module)
    generator = rng.derive(0, "trial", "parameters")
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                drawn = noise(parameter, generator).mul_(0.1)
                fan_in = parameter[0].numel() if parameter.ndim > 1 and len(parameter) else 1
                zero = parameter == 0
                parameter.addcmul_(parameter, drawn)
                if zero.any():
                    parameter.copy_(torch.where(zero, drawn / fan_in**0.5, parameter))
    return module


class Trial:
    """A network that runs any number of times, each time from the same state.

    Args:
        module: The network, which has not run yet. Its buffers and attributes, and tensors that a run replaces, are
            put back after each run.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._modules = list(module.modules())
        self._parts = {id(part): part for part in (*self._modules, *module.parameters(), *module.buffers())}
        self._attributes = self._copy([_attributes(m) for m in self._modules])

    def run(self, batch: Tensor, *, training: bool, replaced: Mapping[Tensor, Tensor] | None = None) -> Tensor:
        """Return the output of a run. Gradients are on, as in training, since a network may ask for that.

        Args:
            batch: The inputs.
            training: Whether to run in training mode.
            replaced: Values for the run in the place of those of some parameters and buffers; None for none.

        Raises:
            TypeError: If the network does not return one tensor.
        """
        values = dict(replaced or {})
        # A run may update buffers.
        values |= {buffer: values.get(buffer, buffer).clone() for buffer in self.module.buffers()}
        before = {tensor: tensor.data for tensor in values}
        buffers = [dict(m._buffers) for m in self._modules]
        for tensor, value in values.items():
            tensor.data = value
        try:
            with torch.enable_grad(), own_randomness(batch.device):
                output = self.module.train(training)(batch.clone())
                if not isinstance(output, Tensor):
                    raise TypeError(f"it returns {type(output).__name__} and not one tensor")
                return output.detach()
        finally:
            for tensor, value in before.items():
                tensor.data = value
            for m, kept, attributes in zip(self._modules, buffers, self._copy(self._attributes), strict=True):
                m._buffers.clear()
                m._buffers.update(kept)
                for name in _attributes(m):
                    del m.__dict__[name]
                m.__dict__.update(attributes)

    def _copy(self, attributes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return copy.deepcopy(attributes, dict(self._parts))


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return what a module keeps besides its parameters, buffers, children and hooks."""
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Set all global generators to the same fixed state for the duration. Afterwards they are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.enter_context(rng.isolated(rng.derive(0, "trial", "layers")))
        if device.type == "cuda":
            stack.enter_context(rng.isolated(rng.derive(0, "trial", "layers", device=device)))
        random.seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def is_random(module: nn.Module, batch: Tensor) -> bool:
    """Return whether the output of a network in training mode is random.

    It is random if a run draws from a global generator, even if the output rarely shows it, as with a small rate of
    dropout. It is also random if two runs differ, as with a generator of the network's own. Only a copy runs. If the
    copy fails, the answer is False, and training will report the error.

    Args:
        module: The network, which has not run yet.
        batch: A batch of the stream, ``(N, *input_shape)``, on the module's device, as `some_samples` takes it.
    """
    network, some = noisy_copy(module).train(), some_samples(batch)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def run() -> Tensor:
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        made: Tensor = network(some.clone())
        return made

    with torch.no_grad(), own_randomness(batch.device):
        before = _drawn(batch.device)
        try:
            same = torch.allclose(run(), run(), rtol=1e-3, atol=1e-3, equal_nan=True)
        except OUT_OF_MEMORY:
            raise
        except Exception:
            return False
        return not same or _drawn(batch.device) != before


def _drawn(device: torch.device) -> tuple[object, ...]:
    """Return the states of all global generators."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return *states_on_host(), *(state.numpy().tobytes() for state in states)


def states_on_host() -> tuple[object, ...]:
    """Return the states of the global generators of Python and numpy, to be compared."""
    _, keys, *rest = np.random.get_state()
    return random.getstate(), np.asarray(keys).tobytes(), *rest


def on_input(layer: nn.Module, act: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call ``act`` with the input of ``layer`` at each call. If it returns a tensor, the layer reads that instead."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        given = args[0] if args else kwargs["input"]
        changed = act(given)
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "input": changed})

    return layer.register_forward_pre_hook(hook, with_kwargs=True)
