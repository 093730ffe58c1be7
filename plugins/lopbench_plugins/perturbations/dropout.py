"""Dropout: Srivastava et al. 2014, JMLR 15:1929-1958.

Studied against loss of plasticity by Joudaki et al. 2025, "Barriers for Learning in an Evolving World" (it breaks the
symmetry between clones) and by Dohare et al. 2021, arXiv:2108.06325.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Family, Perturbation, UnsupportedError, activation_layers, number
from lopbench_plugins.perturbations._layers import replace


@dataclass(frozen=True, kw_only=True)
class Dropout(Perturbation):
    """Zeroes each hidden activation with probability ``p`` in training and scales the others by ``1 / (1 - p)``.

    Acts behind every activation function that is a module of its own. Draws from torch's global generator, which the
    learner replaces by one of its own, so that seeds run one after another.

    Args:
        p: Probability, in [0, 1); the default is the rate of Joudaki et al.
    """

    name: ClassVar[str] = "dropout"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.4, "memory": 1.0}
    version: ClassVar[int] = 2  # since 2 it is off where the online score is taken
    equation: ClassVar[str] = "h = h * Bernoulli(1 - p) / (1 - p) in training"
    validated: ClassVar[tuple[str, ...]] = (
        "property: none in evaluation; each activation function has one layer behind it",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"p": (0.01, 0.1)}
    p: float = number(0.1, least=0, below=1, zero=0)

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Put a dropout layer behind each activation function, in place.

        An activation function called ``act`` becomes a sequence ``act`` of ``act.function`` and ``act.dropout``.

        Raises:
            UnsupportedError: If the network drops already, or has no activation function that is a module.
        """
        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
                raise UnsupportedError(
                    f"{self.name}: the network has dropout already ({name}, p={layer.p}); "
                    "build it without, or leave the method away"
                )
        functions = [module.get_submodule(name) for name in activation_layers(module)]
        if not functions:
            raise UnsupportedError(
                f"{self.name}: {type(module).__name__} has no activation function that is a module of its own; "
                "write them as modules, such as torch.nn.ReLU()"
            )
        replace(
            module,
            {f: nn.Sequential(OrderedDict(function=f, dropout=nn.Dropout(self.p))) for f in functions},
        )
        return module
