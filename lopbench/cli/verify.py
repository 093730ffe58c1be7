"""``lopbench verify``: whether what is claimed of methods holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import console, format_choice, tell_left_out, write_json
from lopbench.core.errors import UsageError
from lopbench.core.executor import MOST_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lopbench.core.errors import ResultsError
    from lopbench.results.record import Record
    from lopbench.runner.claimed import Rows, Tables
    from lopbench.runner.study import Study
    from lopbench.runner.study_file import StudyFile

    #: Records, and why others cannot be used.
    Found = tuple[Sequence[Record], Sequence[ResultsError]]


@dataclass(frozen=True)
class How:
    """Where and how missing runs are done, as the options of `run_options` say."""

    data_dir: Path | None
    device: str
    threads: int | None
    jobs: int | None


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where and how missing runs are done."""
    for option in (
        click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with the data, looked in first."),
        click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, cuda:1."),
        click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads of torch."),
        click.option("--jobs", type=click.IntRange(min=1), help="Workers that share the runs; one by default."),
    ):
        command = option(command)
    return command


@click.command("verify")
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--no-run", is_flag=True, help="Train nothing: judge by the runs that are there.")
@run_options
@format_choice("table", "csv", "json")
def command(
    study: Path,
    results: tuple[Path, ...],
    no_run: bool,
    output_format: str,
    **how: Any,
) -> None:
    """Say whether what is claimed of methods agrees with runs, disagrees, or cannot be told yet.

    STUDY is a study file with claims, or the name of one that is installed ('lopbench list claims'). Missing runs are
    done first, in the folder RESULTS. With --no-run, or if RESULTS is a packed set or there are several, nothing is
    trained: claims are judged by the runs that are there, and their data need not be here.

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
    number       of an entry, or of each of the entries: at_least, at_most, or number with its tolerance
    difference   of an entry to another one, than: at_least, at_most
    order        entries from the highest to the lowest, each at least by more than the next
    trend        of entries, is = "falling", "level" or "rising"; of the column trend, or of a metric
    correlation  rank correlation of two columns over the entries: at_least, at_most

    A column is one of the leaderboard; a metric, with of = "late", "early", "change", "trend", "end" or "mean",
    is a diagnostic over a part of the stream, and with layer = 2 in the second layer of the network. An entry is a
    method, or a table of method, optimizer, runs (which of the tables of runs) and called (its name in the output). If
    the study has a table [tune], it is named as it is before its tuning, and means what that chose.
    """  # noqa: D301  (click reads the backspace)
    from lopbench.core.shipped import study_path
    from lopbench.results.cells import csv_text
    from lopbench.results.judged import frame, render, to_json
    from lopbench.runner.claimed import judged, resolved
    from lopbench.runner.study_file import read_study

    file = read_study(study_path(study, "claims"))
    if not file.claims:
        raise UsageError(f"{file.path} claims nothing: add a table [[claim]], as 'lopbench verify --help' shows")
    runs = Runs.of(file, results, How(**how), no_run=no_run)
    found = judged(file.claims, resolved(file.claims, runs.tables), runs.rows())
    if output_format == "json":
        write_json({"study": file.title or str(file.path), "claims": to_json(found)})
    elif output_format == "csv":
        click.echo(csv_text(frame(found)), nl=False)
    else:
        render(found, console())


@dataclass(frozen=True)
class Runs:
    """The runs of a study file, of which some may have to be done.

    Args:
        file: The study file.
        results: The results folder in which they are done.
        how: Where and how missing runs are done.
        found: The records in it, and why others cannot be used.
        tables: The runs, one sequence for each table of runs.
        studies: The same as they are done; None if nothing is run.
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
            results: Folders and packed sets in which its runs are; none for where it says.
            how: Where and how missing runs are done.
            no_run: Whether those that there are have to do.

        Raises:
            UsageError: If runs are missing of a packed set or of several folders, which take none, and they do not
                have to do.
            LopbenchError: If a part of the study cannot be made.
        """
        from lopbench.cli.plugins import try_files
        from lopbench.runner.claimed import missing, recorded_tables

        places = results or (file.options.get("results") or Path("results"),)
        folder = places[0]
        try_files(file.plugins)
        found = _found(places)
        if not (no_run or len(places) > 1 or folder.is_file()):
            studies = _planned(file, folder, how)
            return cls(file, folder, how, found, [study.asked for study in studies], studies)
        records, _ = found
        tables = recorded_tables(file.requests, records)
        lacks = 0 if no_run else missing(records, tables)
        if lacks:
            named = " and ".join(map(str, places))
            raise UsageError(
                f"{file.path} needs {lacks} runs that are not in {named}; name a folder for them to be done"
            )
        return cls(file, folder, how, found, tables, None)

    def rows(self) -> Rows:
        """Do the runs that are missing, unless nothing is run, and return what all of them come to.

        Raises:
            LopbenchError: If a run cannot be done.
        """
        from lopbench.runner.claimed import Rows, lacking

        records, problems = self.found
        if self.studies is not None and lacking(records, self.tables):
            _work_off(self.studies, self.file, self.how)
            records, problems = _found((self.results,))
        rows = Rows(records, self.tables, problems)
        tell_left_out(rows.problems)
        return rows


def _found(places: Sequence[Path]) -> Found:
    """Return the records of folders and packed sets, and why others cannot be used, which is told."""
    from lopbench.results.record import scan_records

    records, problems = scan_records(*(place for place in places if place.exists()))
    tell_left_out(problems)
    return records, problems


def _planned(file: StudyFile, results: Path, how: How) -> tuple[Study, ...]:
    """Return the runs of a study file, whole: what claims and figures speak of has to be there.

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
            data_dir=how.data_dir or file.options.get("data_dir"),
            device=how.device if how.device != "auto" else file.options.get("device", "auto"),
            progress=work,
        )
    if len(studies) < len(file.requests) or any(study.aside for study in studies):
        what, reason = studies[0].aside[0]
        raise LopbenchError(f"{file.path} cannot be judged, since {what} is left out: {reason}")
    return studies


def _work_off(studies: Sequence[Study], file: StudyFile, how: How) -> None:
    """Do what is pending of some studies, and tell what that is.

    Raises:
        LopbenchError: If a run cannot be done.
    """
    from lopbench.cli.heading import summarise
    from lopbench.cli.run import do, foretold
    from lopbench.runner.aside import check_complete
    from lopbench.runner.pool import Staff, executor_of

    err = console(stderr=True)
    jobs = how.jobs or file.options.get("jobs")
    staff = Staff.of(executor_of("local"), jobs=jobs, device=studies[0].device, threads=how.threads)
    staff, forecasts = foretold(staff, studies, err, chooses=False)
    summarise(studies, forecasts, staff, err)
    data_dir = how.data_dir or file.options.get("data_dir")
    refused = do(studies, staff, err, data_dir=data_dir, sinks=(), detach=False)
    check_complete(refused or [], sum(study.runs for study in studies), [], most=1)
