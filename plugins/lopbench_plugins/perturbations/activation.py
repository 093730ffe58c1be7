"""Activation functions that keep a slope: leaky, smooth and periodic ones, in the place of a network's own.

- "leaky_relu": Maas, Hannun and Ng 2013; against loss of plasticity Lillo and Cheney 2026, arXiv:2509.22562.
- "smooth_leaky": Lillo and Cheney 2026, ``slope * z + (1 - slope) * z * sigmoid(c * z / p)`` with c = 5 and p = 3.
- "fourier": deep Fourier features, Lewandowski, Schuurmans and Machado 2025, arXiv:2410.20634, ``[sin z, cos z]``.
- "gelu", "silu", "tanh": torch's own, as they stand in comparisons such as those of Dohare et al. 2024, Nature
  632:768-774, and of Lillo and Cheney.

Deviations: the slope is one number, where Lillo and Cheney also draw it at random; layers keep the weights that the
architecture drew for its own function, whatever the gain of the new one. Of an odd number of units in front of
"fourier" the last has its sine alone.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from lopbench import Family, Perturbation, number
from lopbench_plugins.perturbations._layers import replace
from lopbench_plugins.perturbations._producers import (
    feature_axis,
    functions_of,
    narrow,
    refitting,
    refuse_sequences,
    run_aside,
)

#: The constants c and p of the smooth function.
SHARPNESS, WIDTH = 5.0, 3.0


@dataclass(frozen=True, kw_only=True)
class Activation(Perturbation):
    """Replaces every activation function that is a module of its own.

    With "fourier" the layers in front of them have half of their units, so that those behind see as many features as
    before; the others change no parameter.

    Args:
        kind: The function.
        slope: Slope far below zero of "leaky_relu" and "smooth_leaky", in [0, 1]; no other kind reads it. The default
            is that of Lillo and Cheney; torch's own for Leaky ReLU is 0.01.
    """

    name: ClassVar[str] = "activation"
    family: ClassVar[Family] = "activation"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0, "program": 1.0}
    positional: ClassVar[str | None] = "kind"
    presets: ClassVar[Mapping[str, str]] = {
        "activation:leaky_relu": "Leaky ReLU, the free baseline",
        "activation:fourier": "deep Fourier features",
    }
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"kind": "leaky_relu"},
        {"kind": "smooth_leaky"},
        {"kind": "fourier"},
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"slope": (0.01, 0.1, 0.3)}
    equation: ClassVar[str] = "h = max(z, slope * z), or another function"
    validated: ClassVar[tuple[str, ...]] = (
        "values and slopes against closed forms",
        "theorem: sin**2 + cos**2 = 1 of each pair, in activations and in slopes",
    )
    kind: Literal["leaky_relu", "smooth_leaky", "gelu", "silu", "tanh", "fourier"] = "leaky_relu"
    slope: float = number(0.1, least=0, most=1)

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Replace the activation functions in place; draws nothing.

        Raises:
            UnsupportedError: If there is none that is a module, or "fourier" finds one that does not read what a single
                layer makes.
        """
        functions = functions_of(module, self.name)
        if self.kind == "fourier":
            refuse_sequences(module, self.name)
            widths = narrow(module, example, lambda width: (width + 1) // 2, self.name)
            made: dict[str, nn.Module] = {name: Fourier(odd=any(w % 2 for w in widths[name])) for name in widths}
        else:
            made = {name: self._function() for name in functions}
        replace(module, {module.get_submodule(name): function for name, function in made.items()})
        with refitting(self.name, f"{self.kind} in it"):
            run_aside(copy.deepcopy(module).eval(), example)
        return module

    def _function(self) -> nn.Module:
        """Return the function as a module; "fourier" is none that leaves the width as it is."""
        if self.kind == "leaky_relu":
            return nn.LeakyReLU(self.slope)
        if self.kind == "smooth_leaky":
            return SmoothLeaky(self.slope)
        if self.kind == "gelu":
            return nn.GELU()
        return nn.SiLU() if self.kind == "silu" else nn.Tanh()


class SmoothLeaky(nn.LeakyReLU):
    """``slope * z + (1 - slope) * z * sigmoid(c * z / p)``: Leaky ReLU far from zero, smooth at it."""

    def forward(self, z: Tensor) -> Tensor:
        """Return the values, elementwise."""
        slope = self.negative_slope
        return slope * z + (1 - slope) * z * torch.sigmoid(z * (SHARPNESS / WIDTH))


class Fourier(nn.Tanh):
    """Sines and cosines side by side: twice the features, less one if ``odd``. A bounded function, as tanh is.

    Args:
        odd: Whether the last feature has its sine alone.
    """

    def __init__(self, *, odd: bool) -> None:
        super().__init__()
        self.odd = odd

    def forward(self, z: Tensor) -> Tensor:
        """Return the features of ``(N, ..., D)`` or of maps ``(N, D, height, width)``."""
        axis = feature_axis(z)
        waves = z.narrow(axis, 0, z.shape[axis] - 1) if self.odd else z
        return torch.cat([z.sin(), waves.cos()], dim=axis)
