"""``lopbench data``: data sets, and whether they are here and whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import console, echo, format_option, write_json
from lopbench.cli.plugins import plugin_option
from lopbench.core.errors import PluginError
from lopbench.core.grid import indented

if TYPE_CHECKING:
    from lopbench.core.registry import Registration

_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder to look in first, before $LOPBENCH_DATA and the cache.",
)


@click.group("data")
def command() -> None:
    """List the data sets, download one, or check one."""


@command.command("list")
@_DATA_DIR
@plugin_option
@format_option
def list_(data_dir: Path | None, output_format: str) -> None:
    """List the data sets, what they hold, where they lie, and their terms."""
    from lopbench.core.manager import plugins

    rows = [_row(entry, data_dir) for entry in plugins().registry.entries("data")]
    if output_format == "json":
        write_json(rows)
        return
    from rich.text import Text

    out = console()
    for row in rows:
        out.print(Text(str(row["name"]), style="bold"))
        lines = [row["summary"]]
        if row["problem"] is None:
            get = f"'lopbench data get {row['name']}' downloads it" if row["urls"] else "got by hand"
            missing = f"not here; {get}" if row["real"] else "made when needed"
            lines += [f"Found: {row['path'] or missing}", f"Terms: {row['terms']}"]
        else:
            lines += [f"Cannot be used: {row['problem']}"]
        out.print(indented(list(map(str, lines)), out.width))


def _row(entry: Registration, data_dir: Path | None) -> dict[str, Any]:
    """Return what is known of a data set; a plugin that fails has a problem, and does not take the list with it."""
    from lopbench.data import data_set, locate

    row: dict[str, Any] = {
        "name": entry.name,
        "summary": entry.summary,
        "distribution": f"{entry.distribution.name} {entry.distribution.version}",
        "real": None,
        "path": None,
        "urls": [],
        "terms": None,
        "problem": None,
    }
    try:
        found = data_set(entry.name)
        row |= {"real": found.real, "urls": [file.url for file in found.files], "terms": found.terms}
        path = locate(entry.name, data_dir)
        row["path"] = None if path is None else str(path)
    except PluginError as error:
        row["problem"] = str(error)
    return row


@command.command("get")
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder to put it in; the cache by default.")
@plugin_option
def get(name: str, data_dir: Path | None) -> None:
    """Download data set NAME. A download that was cut off continues where it stopped."""
    from lopbench import data
    from lopbench.cli.progress import Work

    echo(f"Terms: {data.data_set(name).terms}", err=True)
    with Work(console(stderr=True)) as work:
        path = data.get(name, data_dir, work)
    echo(f"{path}\n", nl=False)


@command.command("verify")
@click.argument("name")
@_DATA_DIR
@plugin_option
@click.pass_context
def verify(ctx: click.Context, name: str, data_dir: Path | None) -> None:
    """Read all of data set NAME and compare it with the cache. The exit code is 1 if they differ."""
    from lopbench import data
    from lopbench.cli.progress import Work

    with Work(console(stderr=True)) as work:
        report = data.verify(name, data_dir, work)
    echo(report.message)
    echo(f"Content hash: {report.content_hash}")
    if not report.ok:
        ctx.exit(1)
