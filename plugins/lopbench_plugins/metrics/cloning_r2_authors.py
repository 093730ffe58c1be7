"""Cloning R2 as the code of Joudaki et al. 2025 logs it: ajoudaki/loss-of-plasticity, 52fdf81, src/utils/metrics.py.

It is the number of their figures, and not that of their text: it takes standard deviations in place of variances, so
that a small difference between clones counts with its size and not with its square, and averages in a further entry
"mean" that is worth 0.5 for a perfect clone. A perfect clone of the MLP with 5 normalised hidden layers has 30.5 / 31 =
0.984. `cloning_r2_forward` and `cloning_r2_backward` follow the text.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import NetworkMetric, NetworkProbe, Partition, UnsupportedError, row_chunks
from lopbench_plugins.metrics.base import profile_of

_EPSILON = 1e-10  # of the authors' code, in units of the activation


@dataclass(frozen=True, kw_only=True)
class CloningR2Authors(NetworkMetric):
    """Mean over modules, forward and backward, of one less the clones' spread as a share of that of all units.

    The modules are the probed blocks in networks made of blocks (residual networks, transformers), and otherwise all
    that contain no other; those whose width did not change are left out, as the authors do. Deviation: clones may lie
    anyhow, not only side by side, and other networks than the authors' are measured by the same rule.
    """

    name: ClassVar[str] = "cloning_r2_authors"
    needs_clones: ClassVar[bool] = True

    def compute(self, probe: NetworkProbe) -> float:
        """Return the logged number, at most ``(K + 0.5) / (K + 1)`` for K modules and directions; it may be negative.

        Raises:
            UnsupportedError: If the network was not cloned.
            InvalidInputError: If the probe was made without its network.
        """
        profile = profile_of(self.name, probe)
        widths = profile.outputs
        leaves = [n for n in widths if n and not any(other.startswith(f"{n}.") for other in widths)]
        probed = [layer.name for layer in probe.layers]
        names = leaves if set(probed) <= set(leaves) else probed
        forward, backward = [], []
        for layer in probe.modules([name for name in names if name in widths and not widths[name].trivial]):
            if layer.clones is not None and layer.gradient is not None:
                forward.append(_agreement(layer.activation, layer.clones))
                backward.append(_agreement(layer.gradient, layer.clones))
        if not forward:
            raise UnsupportedError(
                f"{self.name} compares clones, and no module of this network has any; clone it by a factor above 1"
            )
        count = len(forward) + len(backward)
        extra = sum(forward) / count  # their entry "mean": the sum of one direction over the count of both
        return (sum(forward) + sum(backward) + extra) / (count + 1)


def _agreement(values: Tensor, clones: Partition) -> float:
    """Return one less the mean ratio of two standard deviations: of a block's units, and of all units of the row."""
    ratios = 0.0
    degrees = values.new_tensor(clones.sizes).double().clamp(min=2) - 1  # a unit that was not cloned deviates by zero
    for chunk in row_chunks(values):
        wide = chunk.double()
        squares = (wide - clones.project(wide, 1)).square()
        variance = clones.means(squares, 1) * values.new_tensor(clones.sizes) / degrees  # (N, blocks), unbiased
        spread = wide.std(dim=1, keepdim=True)
        ratios += (variance.sqrt() / (spread + _EPSILON)).sum().item()
    return 1 - ratios / (len(values) * clones.count)
