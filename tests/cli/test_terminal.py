"""Terminals: what others wrote does not rule them, narrow ones lose nothing, and output that is lost is told of."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lopbench.cli.output import console, echo, print_whole, write_json
from lopbench.cli.progress import Bars, Work
from lopbench.core.text import line, plain

PUBLISHED = Path(__file__).parents[2] / "results" / "tinyimagenet40-lite-mlp" / "runs.lopbench"

#: Texts that a terminal would obey, or an encoding refuse.
EVIL = ["\x1b[2J", "\x9b31m", "\x07", "\r", "\x1b]0;title\x07", "\u202e", "\udcff", "\x00"]


@pytest.mark.parametrize("evil", EVIL)
def test_what_others_wrote_rules_no_terminal(evil, capsys):
    text = f"a{evil}b"
    echo(text)
    echo(text, err=True)
    out = console()
    out.print(text)
    out.print(Text(text))
    table = Table("head", text)
    table.add_row(Text(text), text)
    out.print(table)
    print_whole(out, table)
    write_json({text: [text]})
    shown = capsys.readouterr()
    for output in (shown.out, shown.err):
        assert all(character.isprintable() or character == "\n" for character in output)
        assert output.encode()
    assert json.loads(shown.out[shown.out.index("{") :]) == {text: [text]}


@pytest.mark.parametrize("evil", EVIL)
def test_bars_show_no_label_that_rules_the_terminal(evil):
    screen = io.StringIO()
    on = Console(file=screen, force_terminal=True, width=200, color_system=None)
    with Work(on) as work:
        work(f"reading{evil}", 1, 2)
    with Bars(on, runs=2, steps=10) as bars:
        bars.started(f"name{evil}", 10, 0)
        bars.advanced(5, 0, 2, 0.5)
    assert evil not in screen.getvalue().replace("\r", "" if evil != "\r" else "\r") or evil == "\r"


def test_lines_and_what_can_be_printed_stay():
    assert plain("line\nä 漢 🙂") == "line\nä 漢 🙂"
    assert line(" first\x1b\nsecond") == "first?"
    assert line("") == ""


def test_a_message_has_an_end(capsys):
    echo("x" * 10**6, err=True)
    assert len(capsys.readouterr().err) < 25_000


@pytest.mark.parametrize("columns", ["0", "1", "40", "80", "9" * 30, "wide", "-5"])
def test_no_column_is_lost_on_a_narrow_terminal(monkeypatch, capsys, columns):
    table = Table("#", "method", *(f"column{number}" for number in range(6)))
    table.add_row("1", "shrink_and_perturb", *["0.1234"] * 6)
    with monkeypatch.context() as patch:  # what reports on tests reads the width as well, and must not see this one
        patch.setenv("COLUMNS", columns)
        console().print(table)
    shown = capsys.readouterr().out
    assert "#" in shown
    assert "method" in shown


@pytest.mark.parametrize("command", [["theory", "--activation=relu"], ["show", "cbp"], ["show", "tinyimagenet40"]])
def test_no_word_is_cut_at_80_columns(lopbench, monkeypatch, command):
    wide = lopbench(*command).stdout
    monkeypatch.setenv("COLUMNS", "80")
    narrow = lopbench(*command).stdout
    assert "…" not in narrow
    assert set(wide.split()) <= set(narrow.split())


@pytest.mark.parametrize("columns", ["0", "40", "80", "140"])
@pytest.mark.parametrize("command", ["leaderboard", "compare", "status"])
def test_tables_of_long_labels_cut_no_name_and_keep_the_method(lopbench, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = lopbench(command, PUBLISHED)
    assert shown.exit_code == 0
    assert "…" not in shown.stdout
    if command != "status":  # long names are folded
        assert "method" in shown.stdout


@pytest.mark.parametrize("width", [80, 100, 160])
def test_bars_show_the_time_left_at_80_columns(width):
    screen = io.StringIO()
    on = Console(file=screen, force_terminal=True, width=width, color_system=None)
    with Bars(on, runs=12, steps=10**7) as bars:
        bars.started("shrink_and_perturb:decay=0.9999,scale=0.01, resnet18, seed 0", 10**6, 0)
        bars.advanced(1000, 39, 40, 0.123)
        bars._progress.refresh()
    last = [each for each in screen.getvalue().splitlines() if "task 40/40" in each][-1]
    assert "task 40/40  accuracy 0.123" in last
    assert last.rstrip("\x1b[0123456789;?lhAK\r ").endswith("-:--:-") or ":" in last.split("0.123")[1]


@pytest.mark.parametrize("close", ["full", "closed"])
def test_output_that_cannot_be_written_gives_no_traceback(close):
    code = "import sys; sys.argv = ['lopbench', 'list']; from lopbench.cli import main; main()"
    redirection = ">/dev/full" if close == "full" else ">&-"
    command = f'{sys.executable} -c "{code}" {redirection}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    expected = "Error: what is printed cannot be written: No space left on device.\n" if close == "full" else ""
    assert (done.stderr, done.returncode) == (expected, int(close == "full"))
