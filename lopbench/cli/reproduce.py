"""``lopbench reproduce``: run a recorded run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import Finite, console, format_option, write_json
from lopbench.cli.plugins import plugin_option
from lopbench.core.grid import Column, Grid

if TYPE_CHECKING:
    from lopbench.runner.reproduce import Reproduction

#: Exit code where the numbers do not come out; errors have 1, usage errors 2.
FOUND = 3


@click.command("reproduce")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with the data, looked in first.")
@click.option("--device", help="Where to train; by default the kind of device in the record, if there is one here.")
@click.option(
    "--tolerance",
    type=Finite(min=0),
    default=0.05,
    show_default=True,
    help="Largest relative difference of a score's mean over the tasks, where code or environment differ.",
)
@plugin_option
@format_option
@click.pass_context
def command(
    ctx: click.Context, run: Path, data_dir: Path | None, device: str | None, tolerance: float, output_format: str
) -> None:
    """Run the recorded run in the directory RUN again, in a temporary folder, and say whether its numbers come out.

    For a run in a packed set, write the file and the name of the record: SET.lopbench/NAME.

    With the same code, versions and hardware the numbers must be bit-identical. Elsewhere, or if the run was trained
    beside others, they must agree within a tolerance. Differences in code and environment are listed. The exit code is
    3 if the numbers do not come out.
    """
    from lopbench.cli.progress import study_reporter
    from lopbench.core.errors import UsageError
    from lopbench.results.record import read_record
    from lopbench.runner.reproduce import reproduce

    if not (run.exists() or run.parent.is_file()):
        raise UsageError(f"{run} does not exist; give a run directory, or SET.lopbench/NAME for one of a packed set.")
    record = read_record(run)
    with study_reporter(console(stderr=True), runs=1, steps=record.status["steps"]) as reporter:
        found = reproduce(run, data_dir=data_dir, device=device, tolerance=tolerance, reporter=reporter)
    if output_format == "json":
        write_json(_as_json(found))
    else:
        _print(found)
    if found.verdict == "different":
        ctx.exit(FOUND)


def _as_json(found: Reproduction) -> dict[str, object]:
    return {
        "run": str(found.run),
        "verdict": found.verdict,
        "reason": found.reason,
        "code": found.code,
        "environment": found.environment,
        "outcomes": found.outcomes,
        "metrics": json.loads(found.metrics.to_json(orient="records", double_precision=15)),
    }


def _print(found: Reproduction) -> None:
    from rich.text import Text

    out = console()
    reason = f": {found.reason}" if found.reason else ", bit by bit"
    style = "bold red" if found.verdict == "different" else "bold green"
    out.print(Text.assemble((found.verdict, style), reason))
    for what, differences in (("code", found.code), ("environment", found.environment)):
        for key, (then, now) in differences.items():
            out.print(Text(f"Differs in {what}: {key} was {then}, is {now}"))
    if found.verdict == "identical":
        return
    rows = found.metrics.to_dict("records")
    numbers = {"largest difference": "largest", "mean then": "recorded", "mean now": "reproduced"}
    columns = [
        Column("metric", [row["metric"] for row in rows], least=20),
        *(Column(key, [str(row[key]) for row in rows], right=True) for key in ("rows", "identical")),
        *(
            Column(heading, [f"{row[key]:.6g}" for row in rows], right=True, broken=heading.replace(" ", "\n"))
            for heading, key in numbers.items()
        ),
    ]
    out.print(Grid(columns, out.width).rows())
