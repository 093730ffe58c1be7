"""What methods that add layers share: finding and wrapping activation functions, and telling normalisation layers."""

from collections.abc import Mapping

from torch import nn

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def is_norm(module: nn.Module) -> bool:
    """Whether ``module`` is a layer that normalises features: torch's, derived from torch's, or one so named.

    Parametrisations of weights, which torch names with a leading underscore, are not.
    """
    if isinstance(module, _NORMS):
        return True
    name = type(module).__name__
    is_leaf = next(module.children(), None) is None
    return is_leaf and "norm" in name.lower() and not name.startswith("_")


def replace(module: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put each value of ``replacements`` in place of its key, wherever it hangs inside ``module``, in place."""
    for parent in list(module.modules()):
        for name, child in parent._modules.items():  # `named_children` leaves out a second name of the same module
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
