"""Figures of the theory: how bias and gain bend the kernel, and freeze units, as in section A.1.1 of the paper.

They are made without pyplot's state and without a display; seaborn and matplotlib are imported when one is drawn.
"""

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING, Literal

import numpy as np

from lopbench.core.errors import InvalidInputError
from lopbench.theory.activations import Activation, label
from lopbench.theory.kernels import CorrelationKernel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Where kernels are drawn, and between which values kappa and the frozen share are.
_SHOWN = {"bias": (-2.0, -1.0, 0.0, 1.0, 2.0), "gain": (0.3, 1.0, 3.0, 10.0, 30.0)}
_SWEPT = {"bias": np.linspace(-3, 3, 25), "gain": np.geomspace(0.1, 30, 25)}


def operating_regimes(activations: Sequence[Activation], *, bias: float = 0.0, gain: float = 1.0) -> "Figure":
    """Return a figure of what bias and gain do, with a row for each activation function.

    For the bias and for the gain it shows the kernel ``K(r)`` at a few values, below the identity; and over all values
    ``kappa`` and the share of frozen pre-activations (`CorrelationKernel.frozen_share`), both in [0, 1]. Where a
    function is constant in float64 there is nothing to draw.

    Args:
        activations: At least one; see `CorrelationKernel`.
        bias: Mean of the pre-activations where the gain varies.
        gain: Standard deviation of the pre-activations where the bias varies, above 0.

    Raises:
        InvalidInputError: If there is no activation function, or bias or gain is out of range.
        LopbenchError: If an activation function cannot be used, as in `CorrelationKernel`.
    """
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure

    if not activations:
        raise InvalidInputError("a figure needs at least one activation function, got none")
    style = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), "axes.grid": True, "grid.alpha": 0.3}
    with mpl.rc_context(style):
        figure = Figure(figsize=(10.0, 0.6 + 1.9 * len(activations)), layout="constrained")
        grid = figure.subplots(len(activations), 4, squeeze=False, sharey=True)
        for row, activation in zip(grid, activations, strict=True):
            row[0].set_ylabel(label(activation))
            _regime(row[0], row[1], activation, "bias", bias, gain)
            _regime(row[2], row[3], activation, "gain", bias, gain)
        for axes, title in zip(
            grid[0], (f"gain {gain:g}", f"gain {gain:g}", f"bias {bias:g}", f"bias {bias:g}"), strict=True
        ):
            axes.set_title(title, fontsize="small")
        for axes, text in zip(grid[-1], ("r", "bias", "r", "gain"), strict=True):
            axes.set_xlabel(text)
        for axes in grid[:, (0, 2)].flat:
            axes.set(xlim=(0, 1), ylim=(-0.03, 1.03))
        for axes, legend in zip(grid[0], ("K(r) at bias", None, "K(r) at gain", None), strict=True):
            axes.legend(title=legend, fontsize="x-small", title_fontsize="x-small", frameon=False)
        sns.despine(figure)
    return figure


def _regime(
    kernels: "Axes",
    strengths: "Axes",
    activation: Activation,
    varied: Literal["bias", "gain"],
    bias: float,
    gain: float,
) -> None:
    import seaborn as sns

    def at(value: float) -> CorrelationKernel | None:
        try:
            return CorrelationKernel(activation, **{"bias": bias, "gain": gain, varied: value})
        except InvalidInputError:  # constant there
            return None

    CorrelationKernel(activation, bias, gain)  # what is wrong with it everywhere is no gap in the figure
    correlations = np.linspace(0, 1, 101)
    kernels.plot(correlations, correlations, color="0.35", linestyle="--", linewidth=1.2)
    for value, colour in zip(_SHOWN[varied], sns.color_palette("viridis", len(_SHOWN[varied])), strict=True):
        kernel = at(value)
        if kernel is not None:
            kernels.plot(correlations, kernel(correlations), color=colour, label=f"{value:g}")
    swept = [at(value) for value in _SWEPT[varied]]
    blue, orange = sns.color_palette("colorblind", 2)
    for name, colour, dashes, numbers in (
        ("kappa", blue, "-", [nan if kernel is None else kernel.decorrelation_strength for kernel in swept]),
        ("frozen share", orange, "--", [nan if kernel is None else kernel.frozen_share() for kernel in swept]),
    ):
        strengths.plot(_SWEPT[varied], numbers, color=colour, linestyle=dashes, label=name)
    if varied == "gain":
        strengths.set_xscale("log")
