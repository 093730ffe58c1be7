"""What the commands share: where they write, and how numbers look."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import rich_click as click

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from rich.console import Console

#: Width, in characters, of tables that go to a file or a pipe.
_PIPE_WIDTH = 140


def format_option(command: "Callable[..., Any]") -> "Callable[..., Any]":
    """Add ``--format table|json`` to a command, as the argument ``output_format``."""
    option = click.option(
        "--format",
        "output_format",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print it.",
    )
    return option(command)


def console(*, stderr: bool = False) -> "Console":
    """Return a rich console on stdout or stderr; tables in pipes are wide, so that nothing is cut."""
    from rich.console import Console

    file: TextIO = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def write_json(value: object) -> None:
    """Print ``value`` on stdout as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def duration(seconds: float) -> str:
    """Return a time in words: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def write_frame(frame: "pd.DataFrame") -> None:
    """Print the rows of ``frame`` on stdout as JSON; NaN is null."""
    write_json(json.loads(frame.to_json(orient="records", double_precision=15)))
