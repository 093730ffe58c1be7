"""``lopbench work``: what starts where a study has several workers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import rich_click as click

from lopbench.cli.plugins import tried_plugin_option
from lopbench.core.errors import UsageError


def parse_slot(text: str) -> tuple[int, int]:
    """Return which worker of how many ``1/4`` is, from 0.

    Raises:
        UsageError: If it is none.
    """
    slot, slash, slots = text.partition("/")
    if not (slash and slot.isdecimal() and slots.isdecimal() and int(slot) < int(slots)):
        raise UsageError(f"--slot {text}: write 0/4 for the first of four workers, and 3/4 for the last")
    return int(slot), int(slots)


@click.command("work", hidden=True)
@click.argument("worklist", type=click.Path(path_type=Path))
@click.option("--slot", default="0/1", show_default=True, help="Number of this worker, from 0, and of all workers.")
@click.option("--device", default="auto", show_default=True, help="Where to train.")
@click.option("--follow", is_flag=True, help="Stop when standard input ends, as when the process that holds it ends.")
@tried_plugin_option
def command(worklist: Path, slot: str, device: str, follow: bool) -> None:
    """Do the runs of the file WORKLIST, which 'lopbench run' writes for several workers.

    A worker takes the next runs that have no record and that no other worker holds, until nothing is left. It needs
    only the results folder, and can be started by hand on any machine that sees that folder, with the --plugin options
    of the study.

    It exits with 0 when nothing is left, with 75 when SIGUSR2 says that its time is over, and with 130 when it is
    stopped otherwise. Another worker then resumes what it was doing.
    """
    from lopbench.runner.worker import Stop, work

    stop = Stop()
    if follow:
        stop.follow(sys.stdin.fileno())
    number, slots = parse_slot(slot)
    code = work(worklist, slot=number, slots=slots, device=device, stop=stop)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch down takes seconds, of which there are few before a time limit
