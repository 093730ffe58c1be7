"""The command line: thin commands over the Python API, each imported when it is asked for.

Data go to stdout, progress and notes to stderr. Users' mistakes become one sentence and an exit code here, and
nowhere else.
"""

import atexit
import errno
import importlib
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import rich_click as click

from lopbench.cli.output import echo
from lopbench.core.errors import LopbenchError, UnknownError
from lopbench.core.text import plain

_COMMANDS = (
    "run",
    "list",
    "show",
    "status",
    "leaderboard",
    "compare",
    "verify",
    "figure",
    "reproduce",
    "report",
    "plot",
    "pack",
    "unpack",
    "submit",
    "verify-entry",
    "snapshot",
    "certify",
    "plugins",
    "data",
    "theory",
    "work",
)

#: Commands that do runs.
_RUNNING = ("run", "verify", "figure")

#: Headings of the help, and the commands under each; any other stands under "Commands".
_HELP = {
    "Measure": ["run", "status", "reproduce"],
    "Read results": ["leaderboard", "compare", "report", "plot"],
    "Check publications": ["verify", "figure"],
    "Keep and publish": ["pack", "unpack", "submit", "verify-entry", "snapshot"],
    "Look around": ["list", "show", "data"],
    "Write plugins": ["plugins", "certify", "theory"],
    "Called by workers": ["work"],
}

#: What ``lopbench`` alone says.
_FIRST_STEP = """\
Measure how much plasticity a network keeps while it learns task after task.

See that it works, in half a minute:
  {call} run --profile smoke
Measure plain learning beside a method, in a minute or two:
  {call} run --method none --method cbp
Write a method of your own:
  {call} plugins new my-method --like reset
See what methods and scenarios there are:
  {call} list

All commands: {call} --help"""


#: What a system says of a path that leads nowhere: too long, round in circles, or through what may not be entered.
_NOWHERE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENOTDIR)

#: What a system says of output that cannot be written. That its reader has left, click knows.
_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


#: Libraries that take a part of a second to be taken apart, with what a command has read.
_LARGE = frozenset(("torch", "pandas"))

#: Most characters of a path in a message.
_MOST_PATH = 300


class Commands(click.RichGroup):
    """Imports a command on demand; turns errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which they are needed."""
        return [*_COMMANDS]  # `list` is a module here once that command is imported

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, None if there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"lopbench.cli.{cmd_name.replace('-', '_')}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called, with what is left of ``args``; the nearest ones are named if none is."""
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            from lopbench.core.registry import suggest

            raise click.UsageError(f"There is no command {args[0]!r}.{suggest(args[0], [*_COMMANDS])}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit with the error's code on a user's mistake, with 130 when interrupted."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()  # a full disk shows only now
            return found
        except click.UsageError as error:
            raise click.UsageError(plain(error.format_message()), error.ctx) from None
        except OSError as error:
            if error.filename is not None and error.errno in _NOWHERE:
                echo(f"Error: {os.fsdecode(error.filename)[:_MOST_PATH]} cannot be used: {error.strerror}.", err=True)
                ctx.exit(1)
            if not _is_lost(error):
                raise
            _tell_lost(error)
            ctx.exit(1)
        except LopbenchError as error:
            if ctx.params["debug"]:
                raise
            echo(f"Error: {error}{_of_broken_plugin(error)}", err=True, items=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as error:
            kept = "What was done is checkpointed; the same command resumes it."
            told = str(error) or (kept if ctx.invoked_subcommand in _RUNNING else "")
            echo(f"\nInterrupted. {told}".rstrip(), err=True)
            ctx.exit(130)


_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "rich_help_config": {
        "command_groups": {"lopbench": [{"name": name, "commands": commands} for name, commands in _HELP.items()]}
    },
}


@click.group(cls=Commands, context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(package_name="lopbench", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.RichContext, debug: bool) -> None:
    """Measure how much plasticity a network keeps while it learns task after task."""
    if context.invoked_subcommand is None:
        from lopbench.cli.shell import here

        echo(_FIRST_STEP.format(call=here()))


def main() -> None:
    """Run the command line and exit."""
    # Python has none where it was closed, and libraries count on it.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  (until the end)
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        cli(prog_name="lopbench")
    except SystemExit as end:
        if not _LARGE.isdisjoint(sys.modules) and isinstance(end.code, int | None):
            _leave(end.code or 0)
        raise
    except OSError as error:  # of what is printed before a command is called, as the version
        if not _is_lost(error):
            raise
        _tell_lost(error)
        sys.exit(1)


def _leave(code: int) -> None:
    """End the process without taking apart what it holds, which lasts longer than many a command.

    What was registered to happen at the end happens, and what was printed is written. Where threads are still at work,
    nothing is done, and Python waits for them.
    """
    if any(not each.daemon for each in threading.enumerate() if each is not threading.main_thread()):
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as Python itself
    os._exit(code)


def _of_broken_plugin(error: LopbenchError) -> str:
    """Return that a plugin could not be loaded, behind a name that is not known: it may be one of its own."""
    if not isinstance(error, UnknownError):
        return ""
    from lopbench.core.manager import plugins

    return f" {plugins().last_broken}".rstrip()


def _is_lost(error: OSError) -> bool:
    """Return whether an error says that output cannot be written."""
    return error.errno in _LOST and error.filename is None


def _tell_lost(error: OSError) -> None:
    """Say so, and discard what is left of the output: Python would try to write it at exit, and complain."""
    echo(f"Error: what is printed cannot be written: {error.strerror}.", err=True)
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
