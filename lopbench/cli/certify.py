"""``lopbench certify``: do clones stay clones, and frozen units frozen?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import console, echo, format_option, tell, write_json
from lopbench.cli.plugins import plugin_option
from lopbench.core.errors import LopbenchError
from lopbench.core.grid import LEAST_NAME, Column, Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lopbench.cloning.certify import Certificate, Check, FrozenCertificate


def parse_shape(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the shape that ``3/32/32`` means.

    Raises:
        BadParameter: If a part is not a whole number of at least 1.
    """
    parts = [part.strip() for part in text.split("/")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text[:40]!r} is no shape; write it as in 3/32/32", ctx, param)
    return tuple(map(int, parts))


@click.command("certify")
@click.option("--architecture", required=True, help="Architecture: NAME or NAME:FIELD=VALUE,...")
@click.option("--cloner", default="interleave", show_default=True, help="Cloner: NAME or NAME:FIELD=VALUE,...")
@click.option("--factor", type=click.IntRange(min=1), default=2, show_default=True, help="Clones of each unit.")
@click.option("--optimizer", default="sgd:lr=1e-2", show_default=True, help="Optimizer of the training steps.")
@click.option("--steps", type=click.IntRange(min=0), default=5, show_default=True, help="Training steps.")
@click.option("--frozen", is_flag=True, help="Test frozen units instead of clones.")
@click.option("--input-shape", callback=parse_shape, default="3/32/32", show_default=True, help="Shape of one sample.")
@click.option("--outputs", type=click.IntRange(min=1), default=10, show_default=True, help="Outputs of the head.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the network and of the test's inputs.")
@plugin_option
@format_option
def command(
    architecture: str,
    cloner: str,
    factor: int,
    optimizer: str,
    steps: int,
    frozen: bool,
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int,
    output_format: str,
) -> None:
    """Clone a network and test in float64, module by module, whether clones stay equal to each other.

    It tests the base's function, equality forward (MC1) and backward (MC2), constant gradients on blocks of clones
    (MC3), the match of profiles at interfaces, and persistence in training. Each number is the largest relative
    deviation. If a test fails, the module is named and the exit code is 1.
    """
    import torch

    from lopbench.cloning.certify import certify, certify_frozen
    from lopbench.core import rng
    from lopbench.core.interfaces import Architecture, Cloner
    from lopbench.core.spec import ComponentSpec

    built = ComponentSpec.parse("architectures", architecture).build()
    assert isinstance(built, Architecture)
    widener = ComponentSpec.parse("cloners", cloner).build()
    assert isinstance(widener, Cloner)
    rule = ComponentSpec.parse("optimizers", optimizer)
    network = built.build(input_shape, outputs, generator=rng.derive(seed, "certify", "network"))
    example = torch.zeros(2, *input_shape)
    certificate: Certificate | FrozenCertificate
    err = console(stderr=True)
    if not err.is_terminal:
        echo(f"certifying {architecture} ...", err=True)
    with err.status("certifying"):
        if frozen:
            certificate = certify_frozen(network, example=example, optimizer=rule, steps=steps, seed=seed)
        else:
            certificate = certify(network, widener, factor, example=example, optimizer=rule, steps=steps, seed=seed)
    if output_format == "json":
        write_json(certificate.to_json())
    else:
        _print(certificate)
    if not certificate.passed:
        raise LopbenchError(certificate.verdict)


def _print(certificate: Certificate | FrozenCertificate) -> None:

    from lopbench.cloning.certify import Certificate

    out = console()
    if isinstance(certificate, Certificate):
        reports = certificate.modules
        columns = [
            Column("module", [each.module or "(network)" for each in reports], least=LEAST_NAME),
            Column("kind", [each.kind for each in reports], style="dim"),
            _checked("function", [each.function for each in reports]),
            _checked("MC1", [each.forward for each in reports]),
            _checked("MC2", [each.backward for each in reports]),
            _checked("MC3", [each.gradient for each in reports]),
            _checked("interface", [each.interface for each in reports]),
            _checked("persistence", [each.persistence for each in reports]),
        ]
    else:
        layers = certificate.layers
        columns = [
            Column("module", [each.module for each in layers], least=LEAST_NAME),
            Column("units", [str(each.units) for each in layers], right=True),
            Column("frozen", [str(each.frozen) for each in layers], right=True),
            _numbers("gradient", [(each.gradient, each.gradient == 0) for each in layers]),
            _numbers("drift", [(each.drift, each.drift == 0) for each in layers]),
        ]
    out.print(Grid(columns, out.width).rows())
    out.print()
    if certificate.passed:
        tell(out, certificate.verdict)


def _checked(heading: str, checks: Sequence[Check]) -> Column:
    """Return a column of what checks found."""
    return _numbers(heading, [(each.deviation, each.passed) for each in checks])


def _numbers(heading: str, found: Sequence[tuple[float | None, bool]]) -> Column:
    """Return a column of numbers, those that did not pass in red; None is empty."""
    cells = ["" if value is None else "0" if value == 0 else f"{value:.1e}" for value, _ in found]
    return Column(heading, cells, right=True, styles=["" if passed else "bold red" for _, passed in found])
