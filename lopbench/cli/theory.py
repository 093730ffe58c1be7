"""``lopbench theory``: what an activation function does to correlations, and what that costs."""

from __future__ import annotations

from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import rich_click as click

from lopbench.cli.output import console, format_option, tell_saved, write_json
from lopbench.core.grid import LEAST_NAME, Column, Grid

#: The activation functions that the field uses.
_FIELD = ("relu", "leaky_relu", "gelu", "silu", "elu", "selu", "tanh", "sigmoid")

#: The correlation matrices whose rank gain is shown: that many units, all pairs of the same correlation.
_UNITS = 100
_CORRELATIONS = (0.5, 0.9, 0.99)


@click.command("theory")
@click.option(
    "--activation",
    "activations",
    multiple=True,
    help="Activation function: a torch class in lower case, with its arguments if need be, as in "
    "leaky_relu:negative_slope=0.1. May be repeated. Default: those that the field uses.",
)
@click.option("--bias", "biases", type=float, multiple=True, help="Mean of the pre-activations; may be repeated. [0]")
@click.option(
    "--gain",
    "gains",
    type=float,
    multiple=True,
    help="Standard deviation of the pre-activations, above 0; may be repeated. [1]",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also draw kernel, kappa and frozen share over bias (at the first --gain) and over gain (at the first "
    "--bias), as .svg, .pdf or .png. Takes a few seconds per activation function.",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@format_option
def command(
    activations: tuple[str, ...],
    biases: tuple[float, ...],
    gains: tuple[float, ...],
    plot: Path | None,
    as_json: bool,
    output_format: str,
) -> None:
    """Show how strongly activation functions decorrelate units, and how many they freeze (arXiv:2510.00304).

    Two pre-activations of correlation r become two activations of correlation K(r), with |K(r)| < |r| unless the
    function is linear: a nonlinear layer pulls units apart and raises the rank of the representation. No gradient flows
    where the function is flat. The two go together: with a lower bias ReLU pulls harder and freezes more, and so does
    tanh with a higher gain. Try --activation relu --bias 0 --bias -1 --bias -2, or --activation tanh --gain 1 --gain 5.

    kappa: decorrelation strength, the maximum of r^2 - K(r)^2 over r in [0, 1], which is reached at the next column.

    alpha: local rate; near duplicates of correlation 1 - e come out at 1 - (1 + alpha) e. Infinite if the function
    jumps (null in JSON). "as printed" is the paper's formula, which does not subtract the mean: 0 for ReLU.

    rank gain: by how much the Renyi-2 effective rank grows in one layer of 100 units, all pairs of which have the
    correlation c (Theorem 3.1).

    frozen: share of pre-activations, normal with mean bias and standard deviation gain, where the function's slope is
    below 1e-4: dead or saturated.
    """
    from lopbench.results.plots import check_target
    from lopbench.theory.kernels import CorrelationKernel

    if plot is not None:
        check_target(plot)
    activations, biases, gains = activations or _FIELD, biases or (0.0,), gains or (1.0,)
    rows = [describe(CorrelationKernel(*each)) for each in product(activations, biases, gains)]
    if as_json or output_format == "json":
        write_json([{key: None if value == inf else value for key, value in row.items()} for row in rows])
    else:
        _print(rows)
    if plot is not None:
        from lopbench.results.plots import save
        from lopbench.theory.plots import operating_regimes

        tell_saved(plot, save(operating_regimes(activations, bias=biases[0], gain=gains[0]), plot))


def describe(kernel: Any) -> dict[str, Any]:
    """Return a row of the table, of a `lopbench.theory.kernels.CorrelationKernel`, as JSON values and infinities."""
    from lopbench.theory.activations import label
    from lopbench.theory.kernels import equicorrelated

    return {
        "activation": label(kernel.activation),
        "bias": kernel.bias,
        "gain": kernel.gain,
        "kappa": kernel.decorrelation_strength,
        "strongest_correlation": kernel.strongest_correlation,
        "alpha_centred": kernel.alpha_centred,
        "alpha_uncentred": kernel.alpha_uncentred,
        **{f"rank_gain_{c:g}": kernel.rank_gain(equicorrelated(_UNITS, c)) for c in _CORRELATIONS},
        "frozen_share": kernel.frozen_share(),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    headings = ("bias", "gain", "kappa", "at r", "alpha", "alpha as printed")
    gains = (f"rank gain c={c:g}" for c in _CORRELATIONS)
    names, biases, widths, *numbers = zip(*(row.values() for row in rows), strict=True)
    settings = ([f"{each:g}" for each in values] for values in (biases, widths))
    # Rounding must not print a minus sign before nothing.
    shown = ([f"{round(each, 4) + 0.0:.4f}" for each in values] for values in numbers)
    columns = [
        Column("activation", names, least=LEAST_NAME),
        *(
            Column(heading, cells, right=True, broken=heading.replace(" ", "\n"))
            for heading, cells in zip((*headings, *gains, "frozen"), (*settings, *shown), strict=True)
        ),
    ]
    out = console()
    out.print(Grid(columns, out.width, gap=1).rows())
    out.print("\nWhat the columns mean: lopbench theory --help", style="dim")
