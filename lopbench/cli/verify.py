"""``lopbench verify``: whether claims about methods hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import check_all_used, console, format_choice, tell_left_out, write_json
from lopbench.core.errors import UsageError
from lopbench.core.executor import MOST_THREADS
from lopbench.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lopbench.core.errors import ResultsError
    from lopbench.results.judged import Judged
    from lopbench.results.record import Record
    from lopbench.runner.claimed import Rows, Tables
    from lopbench.runner.study import Study
    from lopbench.runner.study_file import StudyFile

    #: Records, and why others cannot be used.
    Found = tuple[Sequence[Record], Sequence[ResultsError]]


@dataclass(frozen=True)
class How:
    """Where and how missing runs are done: the options of `run_options`, or, where none is given, a study file.

    Args:
        data_dir: Folder with the data, looked in first.
        device: Where to train; "auto" chooses.
        threads: CPU threads of torch; None for the usual number.
        jobs: Workers that share the runs; None for one.
    """

    data_dir: Path | None
    device: str
    threads: int | None
    jobs: int | None

    def completed(self, file: StudyFile) -> How:
        """Return the same with what a study file says in the place of what no option says."""
        return How(
            self.data_dir or file.options.get("data_dir"),
            self.device if self.device != "auto" else file.options.get("device", "auto"),
            self.threads or file.options.get("threads"),
            self.jobs or file.options.get("jobs"),
        )


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `How` has to a command."""
    for option in (
        click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with the data, looked in first."),
        click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, cuda:1."),
        click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads of torch."),
        click.option("--jobs", type=click.IntRange(min=1), help="Workers that share the runs.  [1]"),
    ):
        command = option(command)
    return command


@click.command("verify")
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--no-run", is_flag=True, help="Train nothing, and judge by the runs that are there.")
@run_options
@format_choice("table", "csv", "json")
def command(study: Path, results: tuple[Path, ...], no_run: bool, output_format: str, **how: Any) -> None:
    """Say of each claim whether the runs agree with it, disagree with it, or cannot tell.

    STUDY is a study file with claims, or the name of an installed one ('lopbench list claims'). RESULTS are folders or
    packed sets with its runs. If RESULTS is one folder, missing runs are done in it first. Packed sets and several
    folders take no new runs. With --no-run nothing is trained, and claims are judged by the runs that are there.
    Records that cannot be used are left out and named, and the exit code is then 1.

    \b
      lopbench verify D7
      lopbench verify D7 results/slowly-changing-regression --no-run
      lopbench verify D8 results/*/ --no-run
      lopbench verify mine.toml

    A claim is a table [[claim]] of the study file, with its text, its source, and a test on the tables of the study:

    \b
      [[claim]]
      text = "Continual backprop keeps more plasticity than plain SGD"
      source = "Dohare et al. 2024, Nature 632"
      test = "difference"
      column = "retention"
      entry = "cbp"
      than = "none"
      at_least = 0

    \b
    number       each entry's number lies in a range, or near a number
    difference   an entry's number minus that of another, than, lies in a range
    order        the entries stand from the highest to the lowest number
    trend        the metric of each entry, or else its retention, is "falling",
                 "level" or "rising" over the stream
    correlation  the rank correlation of two columns lies in a range

    A range is at_least, at_most or both; a number has a tolerance. In an order each is by (0) above the next. The
    number is a column of the leaderboard, or a metric; a trend takes no column. Of a metric, of = "late", "early",
    "change", "trend", "end" or "mean" says over which part of the stream, and layer = 2 means the second layer of the
    network.

    An entry is a method, or a table with some of these keys: method, optimizer, runs (which of the tables of runs,
    counted from 1) and called (its name in the output). In a study with a table [tune], an entry is named as it is
    before its tuning. The configuration that tuning chose is judged.
    """  # noqa: D301  (click reads the backspace)
    from lopbench.core.shipped import study_path
    from lopbench.runner.claimed import judged, resolved
    from lopbench.runner.study_file import read_study

    file = read_study(study_path(study, "claims"))
    if not file.claims:
        raise UsageError(f"{file.path} has no claims: add a table [[claim]], as 'lopbench verify --help' shows")
    runs = Runs.of(file, results, How(**how), no_run=no_run)
    entries = resolved(file.claims, runs.tables)
    rows = runs.rows()
    found = judged(file.claims, entries, rows)
    _print(found, file.title or str(file.path), output_format)
    check_all_used(rows.problems, "the claims are judged by the others")


def _print(found: Sequence[Judged], study: str, output_format: str) -> None:
    from lopbench.results.cells import csv_text
    from lopbench.results.judged import frame, render, to_json

    if output_format == "json":
        write_json({"study": study, "claims": to_json(found)})
    elif output_format == "csv":
        click.echo(csv_text(frame(found)), nl=False)
    else:
        render(found, console())


@dataclass(frozen=True)
class Runs:
    """The runs of a study file, of which some may be missing.

    Args:
        file: The study file.
        results: The results folder in which missing ones are done.
        how: Where and how they are done.
        found: The records that there are, and why others cannot be used.
        tables: The runs, one sequence for each table of runs.
        studies: The studies that do missing runs; None if nothing is run.
    """

    file: StudyFile
    results: Path
    how: How
    found: Found
    tables: Tables
    studies: Sequence[Study] | None

    @classmethod
    def of(cls, file: StudyFile, results: Sequence[Path], how: How, *, no_run: bool = False) -> Runs:
        """Return the runs of a study file; nothing is trained yet.

        Args:
            file: The study file.
            results: Folders and packed sets with its runs; if empty, the folder that the file names.
            how: Where and how missing runs are done.
            no_run: Whether missing runs are left out.

        Raises:
            UsageError: If a folder does not exist in which nothing is to be run, or if runs are missing that can be
                done nowhere, since there is a packed set or several folders.
            LopbenchError: If a part of the study cannot be made.
        """
        from lopbench.cli.plugins import try_files
        from lopbench.results.record import is_packed
        from lopbench.runner.claimed import missing, recorded_tables

        places = results or (file.options.get("results") or Path("results"),)
        folder = places[0]
        try_files(file.plugins)
        how = how.completed(file)
        is_fixed = no_run or len(places) > 1 or is_packed(folder)
        absent = [place for place in results if not place.exists()]
        if is_fixed and absent:
            raise UsageError(f"{absent[0]} does not exist; name a results folder or a packed set")
        found = _found(places)
        if not is_fixed:
            studies = _planned(file, folder, how)
            return cls(file, folder, how, found, [study.asked for study in studies], studies)
        records, _ = found
        tables = recorded_tables(file.requests, records)
        lacks = 0 if no_run else missing(records, tables)
        if lacks:
            named = " and ".join(map(str, places))
            raise UsageError(
                f"{counted(lacks, 'run')} of {file.path} {'is' if lacks == 1 else 'are'} missing in {named}, and "
                "neither packed sets nor several folders take new runs. Name one folder to do them in, or judge by the "
                "runs that are there with --no-run"
            )
        return cls(file, folder, how, found, tables, None)

    def rows(self) -> Rows:
        """Do missing runs, unless nothing is run, and return the rows that all runs make.

        Raises:
            LopbenchError: If a run cannot be done.
        """
        from lopbench.runner.claimed import Rows, lacking

        records, problems = self.found
        if self.studies is not None and lacking(records, self.tables):
            _work_off(self.studies, self.how)
            records, problems = _found((self.results,))
        rows = Rows(records, self.tables, problems)
        tell_left_out(rows.problems[len(problems) :])
        return rows


def _found(places: Sequence[Path]) -> Found:
    """Return the records of folders and packed sets, and why others cannot be used; tell of those on stderr."""
    from lopbench.results.record import scan_records

    records, problems = scan_records(*(place for place in places if place.exists()))
    tell_left_out(problems)
    return records, problems


def _planned(file: StudyFile, results: Path, how: How) -> tuple[Study, ...]:
    """Return the studies of a file. Claims and figures may speak of any part of them, so none may be left out.

    Raises:
        LopbenchError: If a plugin cannot make a part of it, or as `plan_all`.
    """
    from lopbench.cli.progress import Work
    from lopbench.core.errors import LopbenchError
    from lopbench.runner.study import plan_all

    if how.threads is not None:
        import torch

        torch.set_num_threads(how.threads)
    with Work(console(stderr=True)) as work:
        studies = plan_all(
            file.requests,
            results=results,
            data_dir=how.data_dir,
            device=how.device,
            progress=work,
        )
    if len(studies) < len(file.requests) or any(study.aside for study in studies):
        what, reason = studies[0].aside[0]
        raise LopbenchError(f"{file.path} needs {what}, which cannot be made: {reason}")
    return studies


def _work_off(studies: Sequence[Study], how: How) -> None:
    """Do what is pending of some studies, and tell what that is.

    Raises:
        LopbenchError: If a run cannot be done.
    """
    from lopbench.cli.heading import summarise
    from lopbench.cli.run import do, foretold
    from lopbench.runner.aside import check_complete
    from lopbench.runner.pool import Staff, executor_of

    err = console(stderr=True)
    staff = Staff.of(executor_of("local"), jobs=how.jobs, device=studies[0].device, threads=how.threads)
    staff, forecasts = foretold(staff, studies, err, chooses=False)
    summarise(studies, forecasts, staff, err)
    refused = do(studies, staff, err, data_dir=how.data_dir, sinks=(), detach=False)
    check_complete(refused or [], sum(study.runs for study in studies), [], most=1)
