"""``lopbench figure``: a published figure, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import console, echo, format_choice, roughly, write_frame
from lopbench.cli.verify import run_options
from lopbench.core.errors import LopbenchError, UsageError
from lopbench.core.grid import Column, Grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from lopbench.results.claims import EntryName
    from lopbench.results.figures import FigureData
    from lopbench.results.group import Group
    from lopbench.runner.claimed import Meant, Rows
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
    help="How large its runs are: for two cores, or as published.",
)
@click.option("--results", type=click.Path(path_type=Path), help="Folder of its runs, or a packed set.  [results]")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The figure: .svg, .pdf or .png.  [NAME.svg]"
)
@click.option(
    "--width", type=float, help="Width in inches, as of a column (3.3) or a page, with text of 8 points.  [6.8]"
)
@click.option("--within", type=click.FloatRange(min=0), metavar="MINUTES", help="Time that its runs may take here.")
@run_options
@format_choice("table", "csv", "json", text="How its numbers are printed.")
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
    """Draw a published figure from our own runs, beside what can be read off it, and print both as numbers.

    NAME is an installed figure ('lopbench list figures'), or a study file with a table [figure]. Missing runs are done
    first, if they take no longer than the figure allows, or than --within.

    \b
      lopbench figure B.2
      lopbench figure 4.1 --within 120 --output 4.1.pdf
    """  # noqa: D301  (click reads the backspace)
    from lopbench.cli.verify import How, Runs
    from lopbench.core.shipped import study_path
    from lopbench.results.figure_plot import draw
    from lopbench.results.figures import drawn, frame
    from lopbench.results.plots import save
    from lopbench.results.sheet import fit
    from lopbench.runner.claimed import check_measured, meant
    from lopbench.runner.study_file import read_study

    chosen = Path(f"{name}{_PAPER}") if budget == "paper" and not name.is_file() else name
    file = read_study(study_path(chosen, "figures"))
    data = file.figure
    if data is None:
        raise UsageError(f"{file.path} draws nothing: add a table [figure], or name one of 'lopbench list figures'")
    runs = Runs.of(file, () if results is None else (results,), How(**how))
    entries = {each: meant(each, runs.tables, data.where) for each in data.names}
    for panel in data.panels:
        for quantity in panel.quantities:
            check_measured(quantity, (entries[mark.entry] for mark in panel.marks), data.where)
    _check_time(str(name), data, runs.studies or (), within, how["threads"])
    groups = _groups(entries, runs.rows(), data)
    panels = [drawn(panel, groups, {key: list(each.seeds) for key, each in entries.items()}) for panel in data.panels]
    target = output or Path(f"{name.stem if name.is_file() else chosen.name}.svg")
    made = draw(data, panels)
    fit(made, width=width)
    save(made, target)
    _print(frame(data, panels), output_format)
    if data.note:
        echo(f"Otherwise than there: {data.note}", err=True)
    echo(f"{data.source}. Written to {target}.", err=True)


def _check_time(
    name: str, data: FigureData, studies: Sequence[Study], within: float | None, threads: int | None
) -> None:
    """Refuse runs that take longer than they may.

    Raises:
        UsageError: If they do.
    """
    from lopbench.runner.forecast import Forecast, forecast

    found = Forecast.of_all([forecast(study, threads=threads) for study in studies if study.pending])
    most = 60 * (data.minutes if within is None else within)
    if found is not None and found.seconds > most:
        raise UsageError(
            f"figure {name} lacks {sum(study.runs for study in studies)} runs, which take "
            f"{roughly(found.seconds)} on this machine, and may take {roughly(most, '')}; give them time with --within "
            "MINUTES, or name a folder that has them with --results, which may be those of --budget paper"
        )


def _groups(entries: Mapping[EntryName, Meant], rows: Rows, data: FigureData) -> dict[EntryName, Group]:
    """Return the runs of each entry.

    Raises:
        LopbenchError: If one has none, or the log of its tuning is not here: half a figure is none.
    """
    found = {}
    for name, each in entries.items():
        group = rows.group(each, data.where)
        if group is None:
            raise LopbenchError(f"{data.where}: no run of {name} can be used; the figure is not drawn")
        found[name] = group
    return found


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
    interval = "" if mark["low"] == mark["high"] else f" [{mark['low']:.3g}, {mark['high']:.3g}]"
    return f"{mark['value']:.3g}{interval}"
