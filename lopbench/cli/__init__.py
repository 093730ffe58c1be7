"""The command line: thin commands over the Python API, each imported when it is asked for.

Data go to stdout, progress and notes to stderr. Users' mistakes become one sentence and an exit code here, and
nowhere else.
"""

import importlib
from typing import Any

import rich_click as click

from lopbench.core.errors import LopbenchError

_COMMANDS = (
    "run",
    "list",
    "show",
    "status",
    "leaderboard",
    "compare",
    "reproduce",
    "report",
    "plot",
    "pack",
    "unpack",
    "certify",
    "plugins",
    "data",
    "theory",
)


class Commands(click.RichGroup):
    """Imports a command on demand; turns errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which they are needed."""
        return [*_COMMANDS]  # `list` is a module here once that command is imported

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, None if there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"lopbench.cli.{cmd_name}").command
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit with the error's code on a user's mistake, with 130 when interrupted."""
        try:
            return super().invoke(ctx)
        except LopbenchError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            kept = (
                " What was done is checkpointed; the same command resumes it."
                if ctx.invoked_subcommand == "run"
                else ""
            )
            click.echo(f"\nInterrupted.{kept}", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lopbench", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Measure how much plasticity a network keeps while it learns task after task."""


def main() -> None:
    """Run the command line and exit."""
    cli(prog_name="lopbench")
