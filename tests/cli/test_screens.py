"""What tables and lists look like on terminals of four widths and in a pipe.

``python tests/cli/test_screens.py`` writes them anew; what changed is to be read before it is committed.
"""

import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest import mock

import pandas as pd
import pytest

from lopbench.cli import figure, heading, show, status, theory
from lopbench.cli import list as listing
from lopbench.cli.leaderboard import _print_tables
from lopbench.cli.output import console
from lopbench.core.fields import number
from lopbench.core.interfaces import Perturbation
from lopbench.core.registry import Distribution, Registration
from lopbench.results import compare, figures, judged, leaderboard, suite, tables
from lopbench.results.claims import Claim, EntryName, Link
from lopbench.results.judging import Finding
from lopbench.results.layout import Table
from lopbench.results.per_seed import Quantity
from lopbench.runner.status import RunStatus
from lopbench.runner.worker import Report
from lopbench.runner.workers import WorkerStatus

FOLDER = Path(__file__).with_name("screens")

#: What a terminal says of itself.
WIDTHS = {"40": {"COLUMNS": "40"}, "60": {"COLUMNS": "60"}, "80": {"COLUMNS": "80"}, "140": {"COLUMNS": "140"}}
PIPE = {"pipe": {}}
#: What is no width, and what asks for no colours.
ODD = {"0": {"COLUMNS": "0"}, "no colour": {"COLUMNS": "80", "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm"}}

LONG = "shrink_and_perturb:decay=0.9999,scale=0.01+cbp:replacement_rate=1e-05"
ADAMW = "adamw:betas=0.9/0.999,lr=0.003,weight_decay=0.01"
NOTE = "A note that is said of the table, and is longer than the narrowest terminal is wide."


def frame(columns, *rows):
    return pd.DataFrame([{**dict.fromkeys(columns, nan), **row} for row in rows], columns=list(columns))


def board_screen():
    shared = {
        "protocol_id": "tinyimagenet40@3+0123456789ab",
        "scenario": "tinyimagenet40",
        "profile": "lite",
        "architecture": "resnet18:width=128",
        "data": "",
        "tuning": "",
        "score": "accuracy",
        "headline": "trainability",
        "seeds": 5,
        "trend_word": "",
        "verdict": "",
    }
    known = {"generalisation": 0.97, "lifetime_online": 0.4, "late_early": 0.9, "memory": 2.0, "speed": 0.71}
    first = {
        **{"method": LONG, "optimizer": ADAMW, "track": "boundary-free", "verdict": "better"},
        **{"rank_low": 1, "rank_high": 3, "retention": 1.05, "retention_low": 0.96, "retention_high": 1.16},
        **{"trend": -0.14, "trend_low": -0.2, "trend_high": -0.08, "trend_word": "losing"},
        **{"fresh_retention": 1.31, "self_retention": 0.8},
    }
    plain = {"method": "none", "optimizer": "adam:lr=0.001", "track": "control", "retention": 0.22, "speed": 1.0}
    rows = frame(leaderboard.COLUMNS, {**shared, **known, **first}, {**shared, **known, **plain})
    with mock.patch.object(tables, "_notes", return_value=[NOTE]):
        tables.render(rows, console())


def crossed_screen():
    headings = ("method", "0.0005", "0.001", "0.002", "0.003", "0.005")
    rows = [(LONG, "1.35", "1.46", "1.50", "1.51", "1.54"), ("none", "0.99", "1.41", "1.35", "0.22", "-0.00")]
    made = [Table("tinyimagenet40 lite: retention by method and optimizer.lr", headings, rows, [NOTE])]
    _print_tables(made, lambda: None, "table")


def suite_screen():
    asked = suite.Suite("cpu", (suite.Cell("slowly_changing_regression", "lite", frozenset({0})),) * 8, "k=0.1")
    shares = {f"at_least_{tau:g}{end}": 0.875 for tau in suite.SHOWN for end in ("", "_low", "_high")}
    mean = {"mean": 0.91, "mean_low": 0.88, "mean_high": 0.94}
    worst = {"worst": 0.42, "worst_scenario": "slowly_changing_regression"}
    rows = frame(
        ["method", "track", "rank_low", "rank_high", *mean, *worst, *shares, "scenarios"],
        {"method": LONG, "track": "boundary-aware", "rank_low": 1, "rank_high": 12, **mean, **worst, **shares},
        {"method": "none", "track": "boundary-free", "worst": 0.2, "worst_scenario": "bitflip"},
    ).assign(scenarios=[8, 3])
    with mock.patch.object(suite, "_notes", return_value=[NOTE]):
        _print_tables([suite.suite_table(asked, rows, wide=False)], lambda: rows, "table")


def compare_screen():
    shared = {
        **{"protocol_id": "tinyimagenet40@3+0123456789ab", "scenario": "tinyimagenet40", "profile": "lite"},
        **{"score": "retention", "baseline": "none", "baseline_optimizer": "adam:lr=0.001", "baseline_value": 0.22},
        **{"source": "results", "baseline_source": "results", "notes": "", "seeds": 5, "needed_seeds": None},
    }
    first = {
        **{"method": LONG, "optimizer": ADAMW, "value": 1.05, "verdict": "no evidence", "needed_seeds": 12},
        **{"difference": 0.83, "difference_low": 0.5, "difference_high": 1.1, "improvement": 0.9, "p_holm": 0.061},
    }
    second = {"method": "l2", "optimizer": "adam:lr=0.001", "value": 0.1, "verdict": "worse", "p_holm": 0.0001}
    rows = frame(compare.COLUMNS, {**shared, **first}, {**shared, **second}).astype({"needed_seeds": "Int64"})
    compare.render(compare.Comparison(rows, (), (), (), (NOTE,)), console())


def status_screen():
    label = f"{LONG}, resnet18:width=128, seed 12"
    report = Report("n1-7", 3, "node1", 7, "n1-7.json", "slurm 14_0", "running", label, 1, 1000, 610, 48.2, 11, 40)
    workers = [
        WorkerStatus(report, 3.0, is_silent=False),
        WorkerStatus(Report("n2-8", 0, "node2", 8, "n1-7.json"), 4400.0, is_silent=True),
    ]
    known = {"run_id": "0" * 16, "protocol_id": "", "scenario": "slowly_changing_regression", "profile": "lite"}
    runs = [
        RunStatus(
            state="running",
            run=label,
            reason="",
            path="results/.partial/0123456789abcdef",
            method=LONG,
            optimizer=ADAMW,
            seed=12,
            task=12,
            tasks=40,
            age_s=300.0,
            **known,
        ),
        RunStatus(
            state="to do", run="none", reason="", path="", method="none", optimizer="sgd:lr=0.01", seed=0, **known
        ),
    ]
    found = status._Found(Path("results"), workers, runs, "lopbench work results/.partial/studies/n1-7.json", 2)
    out = console()
    out.print(status._shown(found, out.width))


def verify_screen():
    names = EntryName("cbp", called="continual backprop"), EntryName("none", called="SGD")
    rank = Quantity("effective_rank:modules=hidden", "change")
    links = (
        Link((Quantity("trend"),), names[:1], -inf, 0),
        Link((rank,), names, 0.25, inf),
    )
    findings = (Finding(-0.5, 5, 0.001, 1, None, ""), Finding(0.6, 3, 0.3, 0.9, 12, ""))
    numbers = [
        judged.Number(link, finding, finding.value - 0.1, finding.value + 0.1)
        for link, finding in zip(links, findings, strict=True)
    ]
    text = "Continual backprop keeps the effective rank of the hidden layer up"
    claim = Claim(text, "Dohare et al. 2024, Nature 632", "number", links[:1])
    found = [judged.Judged(claim, (numbers[0],), "agrees"), judged.Judged(claim, (numbers[1],), "cannot tell")]
    with mock.patch.object(judged, "_notes", return_value=[NOTE]):
        judged.render(found, console())


def figure_screen():
    where = {"panel": "Effective rank of the hidden layer", "at": "network width 100", "seeds": 5}
    rows = frame(
        figures.COLUMNS,
        {**where, "series": "continual backprop from 0.5", "value": 9.351, "low": 8.73, "high": 9.88, "published": 9.5},
        {**where, "series": "SGD", "value": 2.0, "low": 2.0, "high": 2.0},
    ).assign(seeds=5)
    figure._print(rows, "table")


def methods_screen():
    cost = {"time": 1.25, "memory": 2.0}
    origin = {"distribution": "lopbench-a-plugin-of-others 0.1.0", "cost": cost, "family": "reset"}
    presets = {"shrink_and_perturb_step:decay=0.9999+layernorm": "with normalised layers"}
    rows = [
        {
            **{"name": "shrink_and_perturb_step", "track": "boundary-free", **origin, "presets": presets},
            "summary": "pulls weights to zero and adds noise after each step (Ash and Adams 2020)",
        },
        {"name": "cbp", "summary": "resets units of low utility", "track": "boundary-aware", **origin, "presets": {}},
    ]
    skipped = {"plugin": "foo", "distribution": "lopbench-foo", "reason": "ModuleNotFoundError: No module named 'bar'"}
    listing._print(listing._by_family(rows), [skipped])


def studies_screen(folder):
    rows = [
        {"name": "B.2-paper", "summary": "Joudaki et al. 2025, Fig. B.2: duplicates and ranks over four widths"},
        {"name": "D7", "summary": ""},
    ]
    listing._print({folder: rows}, [])


@dataclass(frozen=True, kw_only=True)
class Toy(Perturbation):
    """Does a thing that takes a sentence of more than forty characters to be told.

    Args:
        replacement_rate: Share of the units that are replaced after each step, of those that are old enough.
    """

    name: ClassVar[str] = "toy"
    equation: ClassVar[str] = "theta = lambda theta + sigma epsilon"
    presets: ClassVar[dict[str, str]] = {"toy:replacement_rate=0.1": "faster"}
    replacement_rate: float = number(1e-4, least=0, most=1, zero=0, swept=True)


def show_screen():
    entry = Registration("methods", "toy", Toy, "a method that is one of many", Distribution("lopbench-toy", "1.0"))
    profiles = {"lite": {"steps_per_task": 250, "images_per_class": 500}, "smoke": {"tasks": 2}}
    with mock.patch.dict(show.describe(entry), source="", profiles=profiles, default_profile="lite") as described:
        show._print(described)


def theory_screen():
    keys = ("activation", "bias", "gain", "kappa", "at", "alpha", "printed", "c1", "c2", "c3", "frozen")
    values = ("leaky_relu:negative_slope=0.1", -1.0, 1.0, 0.1234, 0.5, inf, 0.0, 1.25, 1.5, 10.123, 0.84134)
    theory._print([dict(zip(keys, values, strict=True)), dict(zip(keys, ("relu", *values[1:]), strict=True))])


def plan_screen():
    rows = {
        "Scenario": "slowly_changing_regression, profile lite",
        "Methods": f"none, {LONG}",
        "Data": "NOT REAL DATA: procedural ones stand in for tiny-imagenet-200; 'lopbench data get' gets the real ones",
        "Time": "about 38 h of work, 1 h 15 min on 32 workers",
    }
    made = SimpleNamespace(images=SimpleNamespace(real=False))
    with mock.patch.object(heading, "_rows", return_value=rows):
        heading.summarise([made], [None], None, console(stderr=True))


SCREENS = {
    "leaderboard": board_screen,
    "leaderboard-crossed": crossed_screen,
    "leaderboard-suite": suite_screen,
    "compare": compare_screen,
    "status": status_screen,
    "verify": verify_screen,
    "figure": figure_screen,
    "list-methods": methods_screen,
    "list-claims": lambda: studies_screen("claims"),
    "list-figures": lambda: studies_screen("figures"),
    "list-suites": lambda: studies_screen("suites"),
    "show": show_screen,
    "theory": theory_screen,
    "run-dry-run": plan_screen,
}


def drawn(name, environment):
    """Return what a screen prints where the environment says so of the terminal."""
    kept = {key: os.environ[key] for key in os.environ.keys() - {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}}
    shown = io.StringIO()
    changed = mock.patch.dict(os.environ, {**kept, **environment}, clear=True)
    with changed, redirect_stdout(shown), redirect_stderr(shown):
        SCREENS[name]()
    return shown.getvalue()


def whole(shown):
    """Return what is seen of what was printed; rich leaves blanks at the end of lines that it breaks."""
    return re.sub(" +\n", "\n", re.sub("\x1b\\[[0-9;]+m", "", shown))


def stored(name):
    """Return what a screen is to print, by width."""
    parts = re.split(r"^==== (.+)\n", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE)
    return {each: text for names, text in zip(parts[1::2], parts[2::2], strict=True) for each in names.split(", ")}


@pytest.mark.parametrize("environment", [*WIDTHS, *PIPE, *ODD])
@pytest.mark.parametrize("name", SCREENS)
def test_screens_are_as_they_were(name, environment):
    shown = drawn(name, {**WIDTHS, **PIPE, **ODD}[environment])
    if environment == "no colour":
        codes = [int(code) for codes in re.findall("\x1b\\[([0-9;]+)m", shown) for code in codes.split(";")]
        assert all(code < 30 for code in codes)  # bold, dim and italic are no colours
    asked = {"0": "pipe", "no colour": "80"}.get(environment, environment)
    shown = whole(shown)
    assert shown == stored(name)[asked]
    assert "…" not in shown
    if asked in WIDTHS:
        assert all(len(line) <= int(asked) for line in shown.splitlines())


def main():
    """Write all screens anew."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCREENS:
        shown = {}
        for width, environment in {**WIDTHS, **PIPE}.items():
            shown.setdefault(whole(drawn(name, environment)), []).append(width)
        text = "".join(f"==== {', '.join(widths)}\n{screen}" for screen, widths in shown.items())
        (FOLDER / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
