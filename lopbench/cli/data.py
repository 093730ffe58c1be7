"""``lopbench data``: data sets, and whether they are here and whole."""

from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, format_option, write_json

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
@format_option
def list_(data_dir: Path | None, output_format: str) -> None:
    """List the data sets, what they are for, where they lie, and their terms."""
    from lopbench.data.catalog import catalog
    from lopbench.data.load import locate

    rows = []
    for info in catalog():
        path = locate(info.name, data_dir)
        rows.append(
            {
                "name": info.name,
                "summary": info.summary,
                "scenarios": list(info.used_by),
                "path": None if path is None else str(path),
                "urls": [file.url for file in info.files],
                "terms": info.terms,
            }
        )
    if output_format == "json":
        write_json(rows)
        return
    from rich.padding import Padding
    from rich.text import Text

    out = console()
    for row in rows:
        missing = f"not here; 'lopbench data get {row['name']}' downloads it" if row["urls"] else "made when needed"
        out.print(Text(str(row["name"]), style="bold"))
        for line in (row["summary"], f"Found: {row['path'] or missing}", f"Terms: {row['terms']}"):
            out.print(Padding(Text(str(line)), (0, 0, 0, 2), expand=False))


@command.command("get")
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder to put it in; the cache by default.")
def get(name: str, data_dir: Path | None) -> None:
    """Download data set NAME; what was cut off goes on where it stopped."""
    from lopbench.cli.progress import Work
    from lopbench.data.catalog import catalog
    from lopbench.data.catalog import get as download

    for info in catalog():
        if info.name == name:
            click.echo(f"Terms: {info.terms}", err=True)
    with Work(console(stderr=True)) as work:
        path = download(name, data_dir, work)
    click.echo(path)


@command.command("verify")
@click.argument("name")
@_DATA_DIR
@click.pass_context
def verify(ctx: click.Context, name: str, data_dir: Path | None) -> None:
    """Read every image of data set NAME, and compare with what was decoded; exit with 1 if they differ."""
    from lopbench.cli.progress import Work
    from lopbench.data.catalog import verify as check

    with Work(console(stderr=True)) as work:
        report = check(name, data_dir, work)
    click.echo(report.message)
    click.echo(f"Content hash: {report.content_hash}")
    if not report.ok:
        ctx.exit(1)
