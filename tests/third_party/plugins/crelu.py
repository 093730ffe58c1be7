"""CReLU: Shang et al. 2016, arXiv:1603.05201; against loss of plasticity Abbas et al. 2023, arXiv:2303.07507.

Deviation: hidden layers keep their units, so that the network has more parameters; Kumar et al. 2023 (arXiv:2308.11958)
remove some of the units to make up for it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from lopbench import Perturbation, Register, UnsupportedError, activation_layers, hookimpl, rng

_READERS = (nn.Linear, nn.Conv2d)

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class CReLU(Perturbation):
    """Puts ``[relu(z), relu(-z)]`` in place of every ReLU; layers that read it take twice as many inputs."""

    name: ClassVar[str] = "crelu"
    equation: ClassVar[str] = "h = [relu(z), relu(-z)]"

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Replace the activation functions, and redraw the layers that read them, in place.

        Raises:
            UnsupportedError: If the network has other activation functions, or none that is a module, or does not run
                with twice as many features.
        """
        names = activation_layers(module)
        others = {type(module.get_submodule(name)).__name__ for name in names} - {"ReLU"}
        if others or not names:
            raise UnsupportedError(f"{self.name}: needs a network of torch.nn.ReLU, got {', '.join(others) or 'none'}")
        for name in names:
            module.set_submodule(name, Doubled())
        handles = [m.register_forward_pre_hook(widen) for m in module.modules() if isinstance(m, _READERS)]
        try:
            with torch.no_grad(), rng.isolated(generator):
                module.eval()(example)
        except RuntimeError as error:
            raise UnsupportedError(f"{self.name}: the network does not take twice as many features: {error}") from error
        finally:
            module.train()
            for handle in handles:
                handle.remove()
        return module


class Doubled(nn.ReLU):
    """CReLU on vectors ``(N, ..., D)`` and on feature maps ``(N, D, height, width)``."""

    def forward(self, z: Tensor) -> Tensor:
        """Return the positive and the negative part, side by side."""
        return torch.cat([z.relu(), (-z).relu()], dim=1 if z.ndim == 4 else -1)


def widen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Make ``layer`` fit twice the features if it is given so many, with weights drawn by its own law."""
    assert isinstance(layer, _READERS)
    axis, key = (-1, "in_features") if isinstance(layer, nn.Linear) else (1, "in_channels")
    width = inputs[0].shape[axis]
    if width == 2 * getattr(layer, key):
        setattr(layer, key, width)
        layer.weight = nn.Parameter(torch.cat([layer.weight, layer.weight], dim=1))
        layer.reset_parameters()


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("crelu", CReLU, "positive and negative parts of each unit, side by side")
