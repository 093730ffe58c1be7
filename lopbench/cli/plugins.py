"""``lopbench plugins``: write one, see what is installed, check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import choice_option, console, echo, format_option, tell, write_json
from lopbench.core.errors import LopbenchError, UsageError
from lopbench.core.grid import Column, Grid
from lopbench.core.interfaces import KINDS
from lopbench.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from lopbench.core.interfaces import Component
    from lopbench.testing import Outcome

#: The kinds of component in the singular, as the user names one.
_KINDS = {kind.removesuffix("s"): kind for kind in KINDS}

_STYLES = {"failed": "bold red", "exempt": "yellow", "not applicable": "dim", "passed": "green", "measured": "cyan"}

#: Checks whose times the last line tells.
_SLOWEST = 5


def plugin_option(command: Any) -> Any:
    """Add ``--plugin FILE``, repeatable, to a command; the files are loaded before it runs."""
    return _plugin_option(load_files)(command)


def tried_plugin_option(command: Any) -> Any:
    """Add ``--plugin FILE`` to a command that goes on without a plugin that cannot be loaded; `broken_files` tells."""
    return _plugin_option(try_files)(command)


def _plugin_option(load: Callable[[tuple[Path, ...]], None]) -> Callable[[Any], Any]:
    return click.option(
        "--plugin",
        "plugin_files",
        type=click.Path(path_type=Path),
        multiple=True,
        expose_value=False,
        is_eager=True,
        callback=lambda context, parameter, files: load(files),
        help="Python file with a plugin that is not installed. Repeat it for more.",
    )


def load_files(files: tuple[Path, ...]) -> None:
    """Load plugins from single files, for this process and those it starts.

    Raises:
        PluginError: If a file cannot be imported or registers nothing.
    """
    if files:
        from lopbench.core.manager import use_file

        for file in files:
            use_file(file)


def try_files(files: tuple[Path, ...]) -> None:
    """Load plugins from single files as `load_files` does; `broken_files` are those that could not be loaded.

    Raises:
        PluginError: If one does not exist.
    """
    if files:
        from lopbench.core.manager import try_file

        for file in files:
            try_file(file)


def broken_files() -> list[tuple[str, str]]:
    """Return the files that could not be loaded, each with the reason."""
    from lopbench.core.manager import UNPUBLISHED, plugins

    return [(each.plugin, each.reason) for each in plugins().skipped if each.distribution == UNPUBLISHED]


@click.group("plugins")
def command() -> None:
    """Write a plugin, list those that are installed, or check one."""


@command.command("list")
@click.option("--verbose", is_flag=True, help="Show the traceback of what could not be loaded.")
@format_option
def list_(verbose: bool, output_format: str) -> None:
    """List the installed plugins, what each registers, and what was skipped and why."""
    from lopbench.core.manager import plugins

    loaded = plugins()
    found: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        for entry in loaded.registry.entries(kind):
            origin = entry.distribution
            row = found.setdefault(
                origin.name,
                {"distribution": origin.name, "version": origin.version, "mutable": origin.mutable, "registers": {}},
            )
            row["registers"].setdefault(kind, []).append(entry.name)
    skipped = [
        {"plugin": s.plugin, "distribution": s.distribution, "reason": s.reason, "details": s.details}
        for s in sorted(loaded.skipped, key=lambda s: (s.distribution, s.plugin))
    ]
    if output_format == "json":
        write_json({"plugins": list(found.values()), "skipped": skipped})
        return
    from rich.text import Text

    out = console()
    for row in found.values():
        mutable = ", editable or not installed" if row["mutable"] else ""
        out.print(Text.assemble((row["distribution"], "bold"), (f" {row['version']}{mutable}", "dim")))
        registers = row["registers"]
        columns = [
            Column("kind", list(registers)),
            Column("names", list(map(", ".join, registers.values())), least=20, is_prose=True),
        ]
        out.print(Grid(columns, out.width, indent=2).rows(headed=False))
        out.print()
    if skipped:
        out.print(Text("skipped", style="bold yellow"))
    for each in skipped:
        last = (each["reason"].strip().splitlines() or ["no reason was given"])[-1]
        tell(out, f"  {each['plugin']} of {each['distribution']}: {last}")
        if verbose and each["details"]:
            out.print(Text(each["details"], style="dim"), soft_wrap=True)


@command.command("check")
@click.argument("name")
@choice_option("--kind", choices=list(_KINDS), text="Kind of component, where several have the name")
@click.option("--quick", is_flag=True, help="Check only the first of the settings.")
@plugin_option
@format_option
def check(name: str, kind: str | None, quick: bool, output_format: str) -> None:
    """Run the conformance checks on component NAME, or on NAME:FIELD=VALUE,... in that setting.

    A method is checked in the settings that its class names as examples. Exits with 1 if a check fails.
    """
    from lopbench.testing import checks, run_checks

    components = _components(name, kind)[: 1 if quick else None]
    err = console(stderr=True)
    wanted = checks(components[0])
    with err.status("checking") as status:
        outcomes = run_checks(components, wanted, started=lambda each: status.update(each.name))
    if output_format == "json":
        write_json([_json(outcome) for outcome in outcomes])
    else:
        _print(components, outcomes)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if failed:
        raise LopbenchError(f"{failed} of {counted(len(outcomes), 'check')} of {name} failed")


def _components(text: str, kind: str | None) -> list[Component]:
    """Return the component that ``text`` names: in its setting, or else in those of its class's examples."""
    from lopbench.core.manager import plugins
    from lopbench.core.spec import ComponentSpec, parse_scenario, split
    from lopbench.testing import examples

    registry = plugins().registry
    name = split(text, "_")[0]
    kinds = registry.kinds(name) if kind is None else [registry.get(_KINDS[kind], name).kind]
    if len(kinds) > 1:
        raise UsageError(f"{name!r} is {' and '.join(kinds)}; say which with --kind {kinds[0].removesuffix('s')}")
    if ":" not in text:
        return examples(registry.get(kinds[0], name).load())
    spec = parse_scenario(text) if kinds == ["scenarios"] else ComponentSpec.parse(kinds[0], text)
    return [spec.build()]


def _json(outcome: Outcome) -> dict[str, Any]:
    return {
        "check": outcome.check.name,
        "claim": outcome.check.claim,
        "status": outcome.status,
        "detail": outcome.detail,
        "expected": outcome.expected,
        "found": outcome.found,
        "lesson": outcome.check.lesson,
        "component": repr(outcome.component),
        "seconds": round(outcome.seconds, 3),
    }


def _print(components: list[Component], outcomes: list[Outcome]) -> None:
    from rich.text import Text

    out = console()
    for component in components:
        out.print(Text(repr(component), style="bold"))
    told = [each.detail or (each.found if each.status == "failed" else each.check.claim) for each in outcomes]
    columns = [
        Column("check", [each.check.name for each in outcomes]),
        Column("status", [each.status for each in outcomes], styles=[_STYLES[each.status] for each in outcomes]),
        Column("time", [f"{each.seconds:.1f} s" for each in outcomes], right=True, style="dim"),
        Column("claim", told, least=24, is_prose=True),
    ]
    out.print(Grid(columns, out.width).rows(headed=False))
    for outcome in outcomes:
        if outcome.status == "failed":
            out.print()
            tell(out, outcome.message)
    counts = {status: sum(o.status == status for o in outcomes) for status in _STYLES}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    out.print(Text(f"{summary}; {sum(o.seconds for o in outcomes):.0f} s", style="bold"))
    slowest = sorted(outcomes, key=lambda outcome: -outcome.seconds)[:_SLOWEST]
    tell(out, f"slowest: {', '.join(f'{o.check.name} {o.seconds:.1f} s' for o in slowest)}")


@command.command("new")
@click.argument("name")
@choice_option("--kind", choices=list(_KINDS), text="What it adds", default="method")
@click.option(
    "--like",
    type=click.Choice(["reset", "penalty", "optimizer"]),
    help="What a method starts from: a reset of units, a penalty of the loss, or a change of the optimizer's step.",
)
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), default=".", show_default=True, help="Parent folder."
)
def new(name: str, kind: str, like: str | None, into: Path) -> None:
    """Write an installable package with one component NAME: the code, its tests, and a workflow that runs them."""
    from lopbench.cli.shell import here, install
    from lopbench.cli.templates import LIKE, write

    folder = write(name, kind, into, like=like)
    (code,) = folder.glob("lopbench_*.py")
    echo(f"Wrote {folder}: a {kind} that works as it stands. Change {code.name} into yours.")
    if like is not None:
        echo(f"The built-in that is nearest to it: {here()} show {LIKE[like][1]}")
    echo(f"Install it, then check it:\n  {install(folder)}\n  {here()} plugins check {name}")
    if kind == "method":
        echo(f"Then run it beside plain learning:\n  {here()} run --profile smoke --method none --method {name}")
