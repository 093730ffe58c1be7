"""What methods may do on the CPU where steps are taken one by one, and not in a program: look at values."""

from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode


def can_look(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be read at once: no device is waited for, and no program traced."""
    return tensor.is_cpu and get_proxy_mode() is None


def surely_none(mask: Tensor) -> bool:
    """Return whether it is known that nothing in a boolean tensor is true; False where it cannot be read at once."""
    return can_look(mask) and not bool(mask.any())
