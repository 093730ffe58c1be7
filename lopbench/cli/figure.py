"""``lopbench figure``: a published figure, by its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import Finite, check_all_used, console, echo, format_choice, roughly, tell_saved, write_frame
from lopbench.cli.verify import run_options
from lopbench.core.errors import UsageError
from lopbench.core.grid import Column, Grid
from lopbench.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from lopbench.results.figures import FigureData
    from lopbench.runner.study import Study

#: What names of figures at the papers' scale end with.
_PAPER = "-paper"


@click.command("figure")
@click.argument("name", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    type=click.Choice(["small", "paper"]),
    default="small",
    show_default=True,
    help="Which runs an installed figure is of: small ones, for two cores, or those of the paper.",
)
@click.option(
    "--results", type=click.Path(path_type=Path), help="Folder with the runs of the figure, or a packed set.  [results]"
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the figure goes: .svg, .pdf or .png.  [NAME.svg]",
)
@click.option(
    "--width", type=float, help="Width in inches, as of a column (3.3) or a page, with text of 8 points.  [6.8]"
)
@click.option(
    "--within",
    type=Finite(min=0),
    metavar="MINUTES",
    help="How long missing runs may take on this machine.  [what the figure allows]",
)
@run_options
@format_choice("table", "csv", "json", text="How the numbers of the figure are printed")
def command(
    name: Path,
    budget: str,
    results: Path | None,
    output: Path | None,
    width: float | None,
    within: float | None,
    output_format: str,
    **how: Any,
) -> None:
    """Draw a published figure again, from our own runs, and print its numbers beside the published ones.

    NAME is an installed figure ('lopbench list figures'), or a study file with a table [figure]. Missing runs are done
    first. If they would take longer than the figure allows, or than --within, nothing is run and nothing is drawn.

    \b
      lopbench figure B.2
      lopbench figure 4.1 --within 120 --output 4.1.pdf
    """  # noqa: D301  (click reads the backspace)
    from lopbench.cli.verify import How, Runs
    from lopbench.core.shipped import study_path
    from lopbench.results.figure_plot import draw
    from lopbench.results.figures import frame
    from lopbench.results.plots import check_target, save
    from lopbench.results.sheet import fit
    from lopbench.runner.figured import entries_of, panels_of
    from lopbench.runner.study_file import read_study

    is_file = name.is_file()
    if is_file and budget == "paper":
        raise UsageError(f"--budget paper is for installed figures, and {name} is a file; write its size into the file")
    chosen = Path(f"{name}{_PAPER}") if budget == "paper" else name
    target = output or Path(f"{name.stem if is_file else chosen.name}.svg")
    check_target(target, width)
    file = read_study(study_path(chosen, "figures"))
    data = file.figure
    if data is None:
        raise UsageError(f"{file.path} has no table [figure]: add one, or name a figure of 'lopbench list figures'")
    runs = Runs.of(file, () if results is None else (results,), How(**how))
    entries = entries_of(data, runs.tables)
    _check_time(str(name), data, runs.studies or (), within, runs.how.threads)
    rows = runs.rows()
    panels = panels_of(data, entries, rows)
    made = draw(data, panels)
    fit(made, width=width)
    missing = save(made, target)
    _print(frame(data, panels), output_format)
    echo(f"Published: {data.source}.", err=True)
    if data.note:
        echo(f"Different from the publication: {data.note}", err=True)
    tell_saved(target, missing)
    check_all_used(rows.problems, "the figure shows the others")


def _check_time(
    name: str, data: FigureData, studies: Sequence[Study], within: float | None, threads: int | None
) -> None:
    """Refuse to do missing runs that would take longer than they may.

    Raises:
        UsageError: If they would.
    """
    from lopbench.runner.forecast import Forecast, forecast

    found = Forecast.of_all([forecast(study, threads=threads) for study in studies if study.pending])
    most = 60 * (data.minutes if within is None else within)
    if found is not None and found.seconds > most:
        raise UsageError(
            f"figure {name} lacks {counted(sum(study.runs for study in studies), 'run')}. Here they would take "
            f"{roughly(found.seconds)}, and {roughly(most, '') if most else 'no time'} is allowed. Allow more with "
            "--within MINUTES, or name a folder that has the runs with --results, which may be those of --budget paper"
        )


def _print(rows: pd.DataFrame, output_format: str) -> None:
    from lopbench.results.cells import csv_text

    if output_format == "json":
        write_frame(rows)
    elif output_format == "csv":
        click.echo(csv_text(rows), nl=False)
    else:
        _print_table(rows)


def _print_table(rows: pd.DataFrame) -> None:
    import pandas as pd

    marks = rows.to_dict("records")
    columns = [
        *(Column(key, [str(mark[key]) for mark in marks], least=12) for key in ("panel", "at", "series")),
        Column("ours", [_with_interval(mark) for mark in marks]),
        # What is not published is NaN.
        Column("published", ["" if pd.isna(x) else f"{x:g}" for x in rows["published"]], right=True),
        Column("seeds", [str(mark["seeds"]) for mark in marks], right=True),
    ]
    out = console()
    out.print(Grid(columns, out.width, name="series").rows())


def _with_interval(mark: Mapping[Any, Any]) -> str:
    if math.isnan(mark["value"]):  # no run was completed
        return "-"
    interval = "" if mark["low"] == mark["high"] else f" [{mark['low']:.3g}, {mark['high']:.3g}]"
    return f"{mark['value']:.3g}{interval}"
