"""The head of a network: the linear layer whose output is the network's output."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lopbench.core.errors import UnsupportedError
from lopbench.core.rng import derive
from lopbench.learner.trial import OUT_OF_MEMORY, noisy_copy, own_randomness, some_samples


def find_head(module: nn.Module, outputs: int, batch: Tensor, *, named: str | None = None) -> str:
    """Return the name of the head, the layer whose outputs `Task.classes` selects from.

    It is the layer that the architecture names, if it names one. Otherwise a copy of the network runs. The head is the
    linear layer whose output is the network's output, or from which that output follows without further weights (by a
    temperature, a softmax, a choice among tokens).

    Args:
        module: The network; left as it is.
        outputs: Number of the network's outputs.
        batch: A batch of the stream, ``(N, *input_shape)``, on the module's device, as `discover` takes it.
        named: What ``Architecture.head`` says.

    Raises:
        UnsupportedError: If there is no such layer, or the network does not run.
    """
    network = type(module).__name__
    if named is not None:
        if not named or named not in dict(module.named_modules()):
            raise UnsupportedError(f"the architecture names '{named}' as its head, but {network} has no such layer")
        return named
    linear = [n for n, m in module.named_modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not linear:
        raise UnsupportedError(
            f"the network has no linear layer with {outputs} outputs to serve as its head; an architecture with "
            "another kind of head must name it ('head')"
        )
    with torch.enable_grad():
        head = _making_the_output(lambda: noisy_copy(module).eval().requires_grad_(True), some_samples(batch), linear)
    if head is None:
        raise UnsupportedError(
            f"no linear layer of {network} with {outputs} outputs makes the network's output (there are "
            f"{', '.join(linear)}); an architecture with another kind of head must name it ('head')"
        )
    return head


def head_of(module: nn.Module, example: Tensor) -> str:
    """Return the name of the layer that makes the outputs of a network, for `Perturbation.configure`.

    Args:
        module: The network; left as it is.
        example: A batch such as the network takes, ``(N, *input_shape)``.

    Raises:
        UnsupportedError: If no linear layer makes them, or the network does not run.
    """
    with torch.no_grad():
        outputs = _run(noisy_copy(module).eval(), example)
    return find_head(module, outputs.shape[-1], example)


def _making_the_output(copied: Callable[[], nn.Module], batch: Tensor, linear: list[str]) -> str | None:
    """Return which of the layers ``linear`` makes the output: the last one called if several do, None if none does."""
    module = copied()
    made: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        made.pop(name, None)  # the last call of a layer counts
        made[name] = output

    for name in linear:
        module.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: keep(name, output))
    result = _run(module, batch)
    order = list(reversed(made))
    for name in order:
        if made[name] is result:
            return name
    return next((name for name in order if _is_last(copied(), batch, name)), None)


def _is_last(module: nn.Module, batch: Tensor, name: str) -> bool:
    """Return whether the output depends on the layer ``name``, and on other matrices of weights only through it."""
    made: list[Tensor] = []

    def cut(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
        made.append(output.detach().requires_grad_())
        return made[-1].clone()  # later layers may change it in place

    module.get_submodule(name).register_forward_hook(cut)
    result = _run(module, batch)
    if not result.requires_grad:
        return False
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    cotangent = torch.randn(result.shape, generator=derive(0, "trial", "head")).to(result)
    slopes = torch.autograd.grad(result, [*made, *weights], cotangent, allow_unused=True)
    through, beside = slopes[: len(made)], slopes[len(made) :]
    return any(s is not None and bool(s.any()) for s in through) and all(s is None for s in beside)


def _run(module: nn.Module, batch: Tensor) -> Tensor:
    try:
        with own_randomness(batch.device):
            return module(batch)  # type: ignore[no-any-return]
    except OUT_OF_MEMORY:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"the head of {type(module).__name__} cannot be found, because its forward pass fails "
            f"({type(error).__name__}: {error})"
        ) from error
