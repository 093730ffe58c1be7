"""``lopbench list``: what is installed."""

import rich_click as click

from lopbench.cli.output import console, format_option, write_json
from lopbench.core.interfaces import KINDS


@click.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)), required=False)
@format_option
def command(kind: str | None, output_format: str) -> None:
    """List the installed components, all of them or one KIND.

    Plugins that could not be loaded stand at the end, with the reason. 'lopbench show NAME' tells more of one.
    """
    from lopbench.core.manager import plugins

    loaded = plugins()
    listed: dict[str, list[dict[str, str]]] = {}
    for each in [kind] if kind else KINDS:
        listed[each] = [
            {
                "name": entry.name,
                "summary": entry.summary,
                "distribution": f"{entry.distribution.name} {entry.distribution.version}",
            }
            for entry in loaded.registry.entries(each)
        ]
    skipped = [
        {"plugin": each.plugin, "distribution": each.distribution, "reason": each.reason}
        for each in sorted(loaded.skipped, key=lambda each: (each.distribution, each.plugin))
    ]
    if output_format == "json":
        write_json({**listed, "skipped": skipped})
    else:
        _print(listed, skipped)


def _print(listed: dict[str, list[dict[str, str]]], skipped: list[dict[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    # One width for all tables, so that the columns of the kinds stand under each other.
    width = max((len(entry["name"]) for entries in listed.values() for entry in entries), default=0)
    for kind, entries in listed.items():
        out.print(Text(kind, style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=width + 2, no_wrap=True)
        table.add_column()
        table.add_column(style="dim", no_wrap=True)
        for entry in entries:
            table.add_row(Text(f"  {entry['name']}"), Text(entry["summary"]), Text(entry["distribution"]))
        out.print(table if entries else Text("  none", style="dim"))
        out.print()
    if skipped:
        out.print(Text("plugins that were skipped", style="bold yellow"))
    for entry in skipped:
        out.print(Text(f"  {entry['plugin']} of {entry['distribution']}: {entry['reason']}"))
