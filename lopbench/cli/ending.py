"""How ``lopbench run`` ends: the table, what it comes to in words, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lopbench.cli.output import console, tell
from lopbench.core.reading import real_path
from lopbench.core.text import counted

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from lopbench.runner.study import Study


def conclude(
    studies: Sequence[Study],
    refused: Sequence[tuple[str, str]] | None,
    aside: Sequence[tuple[str, str]],
    err: Console,
) -> None:
    """Print the table, what it comes to and what to do next, if the runs have ended; raise if some are missing from it.

    Args:
        studies: What was done.
        refused: What could not be run, each with the reason; None where workers go on by themselves.
        aside: What plugins spoiled before anything was trained, each with the reason.
        err: Where all but the table goes.

    Raises:
        LopbenchError: If runs are missing, or failed.
    """
    from lopbench.api import study_leaderboard
    from lopbench.results.conclusion import in_words
    from lopbench.results.leaderboard import render

    paths = [] if refused is None else _recorded(studies)
    if paths:
        rows, out = study_leaderboard(*studies), console()
        render(rows, out, told=out.is_terminal and err.is_terminal)  # the heading has told that data are not real
        err.print()
        for sentence in in_words(rows):
            tell(err, sentence, "bold")
        for step in next_steps(studies, rows):
            tell(err, step)
    check_complete(studies, refused or [], aside)
    _check_outcomes(paths, sum(len(study.specs) for study in studies))


def next_steps(studies: Sequence[Study], rows: pd.DataFrame) -> list[str]:
    """Return where the records are, and commands that go on from here."""
    from lopbench.cli.shell import here, quoted

    folder, call = quoted(studies[0].results), here()
    lines = [f"Records: {real_path(studies[0].results) / 'runs'}"]
    if (rows["failed"] == rows["seeds"]).any():
        return lines  # the error says what to look at
    if not rows["ranked"].all():
        return [*lines, "Next: the same command without --profile smoke measures."]
    lines.append(f"Next: '{call} report {folder}' makes a page of it, with curves and diagnostics.")
    if (rows["seeds"] > 1).any() and len(rows) > 1:
        lines.append(f"'{call} compare {folder}' has the differences with their intervals.")
    return lines


def check_complete(
    studies: Sequence[Study], refused: Sequence[tuple[str, str]], aside: Sequence[tuple[str, str]]
) -> None:
    """Raise with the first of what is missing; a line before has told of each.

    Raises:
        LopbenchError: If something is.
    """
    from lopbench.runner.aside import check_complete as check

    check(refused, sum(len(study.pending) for study in studies), aside, most=1)


def _check_outcomes(paths: Sequence[Path], count: int) -> None:
    """Raise if some of ``count`` runs failed, whose records are ``paths``, with what the first one failed of."""
    from lopbench.cli.shell import quoted
    from lopbench.core.errors import LopbenchError
    from lopbench.core.text import line
    from lopbench.results.record import read_record

    failed = [record for record in map(read_record, paths) if record.outcome == "failed"]
    if failed:
        counts = "counts" if len(failed) == 1 else "count"
        raise LopbenchError(
            f"{len(failed)} of {counted(count, 'run')} failed, and {counts} at chance. "
            f"{line(str(failed[0].status['error']))}; the traceback is in {quoted(failed[0].path / 'log.txt')}"
        )


def _recorded(studies: Sequence[Study]) -> list[Path]:
    """Return the records of what was asked for."""
    from lopbench.results.record import is_recorded, record_path

    results = studies[0].results
    return [record_path(results, spec) for study in studies for spec in study.specs if is_recorded(results, spec)]
