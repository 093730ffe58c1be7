"""Terminals: what others wrote does not rule them, narrow ones lose nothing, and output that is lost is told of."""

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from lopbench.cli.bars import Row, Rows
from lopbench.cli.output import console, echo, tell, write_json
from lopbench.cli.progress import Bars, Work
from lopbench.core.grid import Column, Grid
from lopbench.core.interfaces import KINDS
from lopbench.core.text import line, plain
from lopbench.results.compare import compare
from lopbench.results.leaderboard import board
from lopbench.results.tables import latex, markdown, render

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
    out.print(Grid([Column("head", [text]), Column(text, [text])], out.width).rows())
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


@pytest.mark.parametrize("command", [["show", "efective_rank"], []])
def test_sentences_are_broken_between_words_on_a_narrow_terminal(command):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    called = [sys.executable, "-m", "lopbench", *command]
    with subprocess.Popen(called, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what a terminal says at its end
            while more := os.read(ours, 1000):
                shown += more
    os.close(ours)
    assert process.returncode == (2 if command else 0)
    lines = shown.decode().replace("\r", "").splitlines()
    broken = [each for each in lines if not each.startswith("  ")]  # commands stay whole, to be copied
    assert all(len(each) <= 40 or len(each.split()) == 1 for each in broken)  # and so do paths
    wide = subprocess.run(called, capture_output=True, text=True, env=environment, check=False)
    assert (wide.stdout + wide.stderr).split() == " ".join(lines).split()


def test_each_line_of_a_text_is_broken_by_itself(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    tell(console(), "first line\n  second line of the text")
    assert capsys.readouterr().out.splitlines() == ["first line", "  second line of the", "  text"]


def test_a_message_has_an_end(capsys):
    echo("x" * 10**6, err=True)
    assert len(capsys.readouterr().err) < 25_000


@pytest.mark.parametrize(
    ("columns", "width"),
    [("1", 20), ("40", 40), ("140", 140), *((odd, None) for odd in ("0", "9" * 30, "wide", "-5", ""))],
)
def test_a_pipe_is_as_wide_as_any_line_where_columns_is_no_width(monkeypatch, columns, width):
    with monkeypatch.context() as patch:  # what reports on tests reads the width as well, and must not see this one
        patch.setenv("COLUMNS", columns)
        found = console().width
        patch.delenv("COLUMNS")
        assert found == (width or console().width)
    assert found == width or found > 10_000


@pytest.mark.parametrize(("columns", "width"), [(None, 47), ("0", 47), ("wide", 47), ("33", 33)])
def test_a_terminal_is_as_wide_as_it_says(columns, width):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 47, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    code = "from lopbench.cli.output import console; print(console().width, console(stderr=True).width > 10_000)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**environment, **({} if columns is None else {"COLUMNS": columns})},
    ):
        os.close(theirs)
        shown = b""
        while b"\n" not in shown:
            shown += os.read(ours, 100)
    assert shown.split() == [str(width).encode(), str(columns != "33").encode()]
    os.close(ours)


@pytest.mark.parametrize("command", [["theory", "--activation=relu"], ["show", "cbp"], ["show", "tinyimagenet40"]])
def test_no_word_is_cut_at_80_columns(lopbench, monkeypatch, command):
    wide = lopbench(*command).stdout
    monkeypatch.setenv("COLUMNS", "80")
    narrow = lopbench(*command).stdout
    assert "…" not in narrow
    assert set(wide.split()) <= set(narrow.split())


def column(lines, heading, filled):
    """Return the cells of the column under ``heading`` of a table, without blanks, what was folded joined.

    A row begins where something stands under the heading ``filled``, whose cells are never folded.
    """
    at, mark = lines[0].index(heading), lines[0].index(filled)
    end = next((place for place in range(at + len(heading), len(lines[0])) if lines[0][place] != " "), None)
    cells = []
    for each in lines[1:]:
        if each[mark : mark + len(filled)].strip():
            cells.append("")
        if cells:  # else it is the rest of the headings
            cells[-1] += each[at:end].replace(" ", "")
    return cells


def squeezed(text):
    return "".join(text.split())


@pytest.mark.parametrize("columns", ["0", "40", "60", "80", "140"])
def test_leaderboard_of_long_labels_has_every_method_at_any_width(lopbench, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = lopbench("leaderboard", PUBLISHED).stdout
    assert "…" not in shown
    lines = shown.splitlines()
    last = next(number for number, each in enumerate(lines) if each.startswith("Protocol "))
    wanted = sorted(board(PUBLISHED).rows["method"])
    if columns in ("40", "60"):
        table = squeezed("".join(lines[:last]))
        assert all(squeezed(method) in table for method in wanted)
        assert table.count("trainability:") == len(wanted)
    else:
        first = next(number for number, each in enumerate(lines) if " method " in each)
        assert sorted(column(lines[first:last], "method", "#")) == wanted
    assert columns == "0" or all(len(each) <= int(columns) for each in lines)


@pytest.mark.parametrize("columns", ["0", "40", "60", "80", "140"])
def test_compare_of_long_labels_has_every_method_at_any_width(lopbench, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = lopbench("compare", PUBLISHED).stdout
    assert "…" not in shown
    lines = shown.splitlines()
    rows = compare(PUBLISHED).rows
    wanted = [f"{row.method}with{row.optimizer}" for row in rows.itertuples()]
    if columns in ("40", "60"):
        assert all(each in squeezed(shown) for each in wanted)
        assert squeezed(shown).count("difference:") == len(wanted)
    elif columns == "80":  # names are folded, with the numbers beside them
        first = next(number for number, each in enumerate(lines) if each.startswith("method "))
        names = squeezed("".join(each[: lines[first].index("value")] for each in lines[first:]))
        assert all(each in names for each in wanted)
    else:
        first = next(number for number, each in enumerate(lines) if each.startswith("method "))
        methods = column(lines[first:], "method", "value")[: len(wanted) - 1]  # behind the last one come notes
        assert methods == wanted[:-1]
    assert columns == "0" or all(len(each) <= int(columns) for each in lines)


@pytest.mark.parametrize("columns", ["40", "60", "80", "140"])
@pytest.mark.parametrize("kind", [*KINDS, "claims", "figures", "suites"])
def test_lists_have_every_name_and_every_word_at_any_width(lopbench, monkeypatch, kind, columns):
    (rows,) = [
        value for key, value in json.loads(lopbench("list", kind, "--format=json").stdout).items() if key == kind
    ]
    monkeypatch.setenv("COLUMNS", columns)
    shown = lopbench("list", kind).stdout
    assert all(len(each) <= int(columns) for each in shown.splitlines())
    for row in rows:
        for name, summary in {row["name"]: row["summary"], **row.get("presets", {})}.items():
            assert name in shown.split()
            assert set(summary.split()) <= set(shown.split())


@pytest.mark.parametrize("columns", ["40", "60", "80", "140"])
@pytest.mark.parametrize(
    "command",
    [["show", "cbp"], ["show", "tinyimagenet40"], ["status", PUBLISHED], ["plugins", "list"], ["data", "list"]],
)
def test_no_text_is_cut_at_any_width(lopbench, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", "400")
    wide = lopbench(*command).stdout
    monkeypatch.setenv("COLUMNS", columns)
    narrow = lopbench(*command).stdout
    assert "…" not in narrow
    assert all(len(each) <= int(columns) for each in narrow.splitlines())
    long = int(columns) - 4
    assert {word for word in wide.split() if len(word) <= long} <= set(narrow.split())
    assert all(word in squeezed(narrow) for word in wide.split())


def test_a_leaderboard_without_rows_is_a_sentence(capsys):
    frame = board(PUBLISHED).rows
    render(frame.iloc[:0], console())
    assert capsys.readouterr().out == "There are no rows.\n"
    assert markdown(frame.iloc[:0]) == latex(frame.iloc[:0]) == "There are no rows.\n"


LABEL = "fresh reference of shrink_and_perturb:decay=0.9999,scale=0.01+cbp, resnet18:width=128, seed 12 and 29 more"

WHOLE = Row("all 12 runs", 3e6, 1e7, "3/12 finished", speed=12_345.6, left_s=4400.0)
ONE = Row(LABEL, 610, 1000, "task 40/40", "accuracy 0.123", speed=48.2, left_s=9900.0)

#: What the bars are, by width.
GOLDEN = {
    40: """\
all 12 runs
━━       12,346 steps/s  1 h 15 min left
fresh reference of
shrink_and_perturb:decay=0.9999,scale=0.
01+cbp, resnet18:width=128, seed 12 and
29 more
━━━╸    61%  48 steps/s  2 h 45 min left
""",
    80: """\
all 12 runs
━━━━━━━                   30%  3/12 finished  12,346 steps/s  1 h 15 min left
fresh reference of shrink_and_perturb:decay=0.9999,scale=0.01+cbp,
resnet18:width=128, seed 12 and 29 more
━━━━━━━━━━╸         61%  task 40/40  accuracy 0.123  48 steps/s  2 h 45 min left
""",
}


def drawn(rows, width):
    screen = io.StringIO()
    shown = Rows()
    shown.rows = rows
    Console(file=screen, width=width).print(shown)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.mark.parametrize("width", GOLDEN)
def test_bars_are_as_they_were(width):
    assert drawn([WHOLE, ONE], width) == GOLDEN[width].splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_bars_keep_label_speed_and_time_left_at_any_width(width):
    lines = drawn([WHOLE, ONE], width)
    assert all(len(each) <= width for each in lines)
    joined = "".join(each.replace(" ", "") for each in lines)
    assert "…" not in joined
    assert LABEL.replace(" ", "") in joined
    for parts in (("12,346 steps/s", "1 h 15 min left"), ("48 steps/s", "2 h 45 min left")):
        assert sum(all(part in each for part in parts) for each in lines) == 1
    assert len([each for each in lines if "━" in each]) == 2
    assert ("task40/40" in joined) == (width >= 60)
    assert ("accuracy0.123" in joined) == (width >= 80)
    assert (len(lines) == 2) == (width >= 200)


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_bars_show_the_time_left_on_terminals(width):
    screen, seconds = io.StringIO(), iter(range(10**6))
    on = Console(file=screen, force_terminal=True, width=width, color_system=None)
    with Bars(on, runs=12, steps=10**7, clock=lambda: float(next(seconds))) as bars:
        bars.started(LABEL, 10**6, 0)
        for _ in range(20):
            bars.advanced(1000, 39, 40, 0.123)
        bars._live.refresh()
    last = [each for each in screen.getvalue().splitlines() if "steps/s" in each][-1]
    assert "left" in last


@pytest.mark.parametrize("close", ["full", "closed"])
def test_output_that_cannot_be_written_gives_no_traceback(close):
    code = "import sys; sys.argv = ['lopbench', 'list']; from lopbench.cli import main; main()"
    redirection = ">/dev/full" if close == "full" else ">&-"
    command = f'{sys.executable} -c "{code}" {redirection}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    expected = "Error: what is printed cannot be written: No space left on device.\n" if close == "full" else ""
    assert (done.stderr, done.returncode) == (expected, int(close == "full"))
