"""Tables of text on a terminal."""

import io

import pytest
from rich.console import Console

from lopbench.results.layout import Table, printed

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
