"""Tables of text on a terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from lopbench.results.layout import Table, in_html, in_latex, in_markdown, printed

TABLE = Table(
    title="a table",
    headings=("method", "trainability", "fresh", "speed"),
    rows=[("none", "0.22", "1.00", "1.00"), ("shrink_and_perturb", "0.71", "1.02", "0.98")],
    notes=["A note."],
    leaving=("speed", "fresh"),
)


def shown(width, table=TABLE):
    screen = io.StringIO()
    printed([table], Console(file=screen, width=width))
    return screen.getvalue().splitlines()


@pytest.mark.parametrize(("width", "gone"), [(60, []), (35, ["speed"]), (30, ["speed", "fresh"])])
def test_a_narrow_terminal_leaves_out_the_columns_that_may_leave_and_says_so(width, gone):
    lines = shown(width)
    assert lines[1].split() == [heading for heading in TABLE.headings if heading not in gone]
    told = f"No room for {', '.join(gone)}: a wider terminal shows more."
    assert " ".join("\n".join(lines).split()).count(told) == bool(gone)


def test_blocks_have_all_columns():
    text = "\n".join(shown(22))
    assert "No room" not in text
    for heading in TABLE.headings[1:]:
        assert f"{heading}: " in text


def test_what_words_mean_is_said_once_after_all_tables():
    first = replace(TABLE, title="first", legend=["Speed is relative."], meanings={"fresh": "new", "speed": "how fast"})
    second = replace(first, title="second", notes=["Another."], legend=["Speed is relative.", "Signs."])
    third = replace(second, meanings={"speed": "how slow"})
    screen = io.StringIO()
    printed([first, second, third], Console(file=screen, width=80))
    for text in (screen.getvalue(), in_markdown([first, second, third]), in_html([first, second, third])):
        assert (text.count("A note."), text.count("Another.")) == (1, 2)
        assert text.count("Fresh: new; speed: how fast; speed: how slow.") == 1
        assert text.count("Speed is relative.") == text.count("Signs.") == 1
        assert text.index("Another.") < text.index("Fresh: new")
    assert in_latex([first, second, third]).count("Speed is relative.") == 3  # where each may stand by itself
    assert "Signs." not in in_markdown([second], explained=False)
