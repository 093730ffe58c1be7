"""Activation functions by name, as modules or as callables, made into one kind of thing: a function of a vector."""

import ast
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules import activation as _modules

from lopbench.core.errors import UnsupportedError, UsageError
from lopbench.core.registry import suggest
from lopbench.core.spec import split
from lopbench.core.text import told

Array = NDArray[np.float64]

#: What can stand for an activation function: a name, a module, or any function of a float64 tensor ``(N,)``.
Activation = str | nn.Module | Callable[[torch.Tensor], Any]

#: Modules of torch's activation file that mix units or need other inputs.
_NOT_ELEMENTWISE = {"GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin"}

#: Functions that torch has no module for; the theory's closed forms are of these.
_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    name: getattr(torch, name) for name in ("abs", "cos", "erf", "sign", "sin", "square")
}


def names() -> list[str]:
    """Return the names that `elementwise` knows: torch's activation modules in lower case, and a few functions."""
    return sorted({*_FUNCTIONS, *(name.lower() for name in _modules.__all__ if name not in _NOT_ELEMENTWISE)})


def label(activation: Activation) -> str:
    """Return what to call an activation function: the name it was given by, else its own."""
    return activation if isinstance(activation, str) else str(getattr(activation, "__name__", activation))


def elementwise(activation: Activation) -> Callable[[Array], Array]:
    """Return ``activation`` as a function of float64 vectors ``(N,)``.

    Args:
        activation: A name such as "relu" or "leaky_relu:negative_slope=0.1" (torch's classes, arguments and defaults);
            a module, which is copied, put in evaluation mode and made float64; or a callable, which is given a float64
            tensor ``(N,)`` and returns as many numbers.

    Raises:
        UsageError: If the name or one of its arguments is unknown.
        UnsupportedError: If the function is not elementwise, depends on chance, or cannot be applied to a vector.
    """
    name = label(activation)
    if isinstance(activation, str):
        activation = _by_name(activation)
    function = copy.deepcopy(activation).double().eval() if isinstance(activation, nn.Module) else activation

    def apply(points: Array) -> Array:
        with torch.no_grad():
            # A copy goes in: the function may work in place.
            values: Array = torch.as_tensor(function(torch.tensor(points))).detach().double().cpu().numpy()
        return values

    probe = np.linspace(-3.0, 3.0, 7)
    try:
        together = apply(probe)
        alone = np.concatenate([apply(probe[i : i + 1]).reshape(1) for i in range(len(probe))])
    except Exception as error:
        raise UnsupportedError(
            f"{name} cannot be applied to a float64 vector ({told(error)}); give a function of one number at a time"
        ) from error
    if together.shape != probe.shape or not np.allclose(together, alone, rtol=1e-12, atol=1e-12, equal_nan=True):
        raise UnsupportedError(
            f"{name} is not elementwise, or it depends on chance: a value alone and in a vector give different results"
        )
    return apply


def _by_name(text: str) -> nn.Module | Callable[[torch.Tensor], torch.Tensor]:
    name, texts = split(text)
    plain = name.lower().replace("_", "")
    if plain in _FUNCTIONS and not texts:
        return _FUNCTIONS[plain]
    for known in _modules.__all__:
        if known.lower() == plain and known not in _NOT_ELEMENTWISE:
            try:
                module: nn.Module = getattr(_modules, known)(**{key: _value(value) for key, value in texts.items()})
            except TypeError as error:
                raise UsageError(f"{text!r}: {error}; the arguments are those of torch.nn.{known}") from error
            return module
    if plain in _FUNCTIONS:
        raise UsageError(f"{text!r}: {name} takes no arguments")
    raise UsageError(f"Unknown activation {name!r}.{suggest(plain, names())} There are: {', '.join(names())}.")


def _value(text: str) -> object:
    """Return a number or truth value as itself and any other text, such as gelu's "tanh", as text."""
    try:
        return ast.literal_eval(text.capitalize() if text in ("true", "false") else text)
    except (ValueError, SyntaxError):
        return text
