"""Tables for any width: columns go in order, and what is in the others is whole."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from lopbench.core.grid import Column, Grid, indented

NAME = "shrink_and_perturb:decay=0.9999,scale=0.01+cbp"
COLUMNS = [
    Column("state", ["running", "to do"]),
    Column("method", [NAME, "none"], least=14),
    Column("seed", ["0", "12"], right=True),
    Column("empty", ["", ""]),
    Column("folder", [".partial/0123456789abcdef", "x"], least=12),
]


def printed(width, *renderables):
    screen = io.StringIO()
    Console(file=screen, width=width).print(*renderables, sep="\n")
    return screen.getvalue().splitlines()


def shown(width):
    table = Grid(COLUMNS, width, leaving=["folder", "empty", "seed", "state"])
    return printed(width, table.rows()), table.gone


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (100, []),
        (43, []),
        (42, ["folder"]),
        (29, ["folder"]),
        (28, ["folder", "seed"]),
        (22, ["folder", "seed", "state"]),
    ],
)
def test_columns_go_in_order_and_the_last_one_is_whole(width, gone):
    lines, left_out = shown(width)
    assert left_out == gone
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    at = lines[0].index("method")
    end = lines[0].find("seed") - 2 if "seed" in lines[0] else None
    cells = [line[at:end].strip() for line in lines[1:]]
    assert "".join(cells).startswith(NAME)
    assert cells[-1] == "none"


def test_a_wide_table_folds_nothing():
    lines, _ = shown(100)
    assert lines == [
        "state    method                                          seed  folder",
        f"running  {NAME}     0  .partial/0123456789abcdef",
        "to do    none                                              12  x",
    ]


def test_what_fits_nowhere_becomes_blocks():
    table = Grid(COLUMNS, 30, name="method", indent=1)
    assert table.has_blocks
    assert table.gone == []
    assert printed(30, table.rows()) == [
        " shrink_and_perturb:",
        " decay=0.9999,scale=0.01+cbp",
        "   state: running  seed: 0",
        "   folder:",
        "   .partial/0123456789abcdef",
        " none",
        "   state: to do  seed: 12",
        "   folder: x",
    ]


def test_a_name_that_a_narrow_column_would_fold_many_times_makes_blocks():
    long = [Column("method", [f"{NAME}+{NAME}", "none"], least=14), Column("seed", ["0" * 24, "1"])]
    assert Grid(long, 40).has_blocks
    assert not Grid(long, 50).has_blocks  # of 24 characters: few lines
    assert not Grid([Column("text", ["some words " * 9, ""], least=14, is_prose=True), long[1]], 40).has_blocks
    assert not Grid(long[:1], 30).has_blocks


def test_rows_without_headings_have_none_in_blocks_either():
    table = Grid(COLUMNS, 30, name="method")
    assert printed(30, table.rows(1, headed=False)) == ["none", "  to do  12  x"]


def test_parts_of_a_table_stand_under_each_other():
    table = Grid(COLUMNS, 100)
    whole = printed(100, table.rows())
    assert printed(100, table.rows(0, 1), table.rows(1, headed=False)) == whole


@pytest.mark.parametrize("width", [20, 33, 34, 50, 100])
def test_no_line_is_wider_and_nothing_is_lost(width):
    wide = Column("größe", ["漢字" * 20, "a\tb\nc"], least=10)
    lines = printed(width, Grid([*COLUMNS, wide], width, name="method").rows())
    assert all(cell_len(line) <= width for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert "".join(lines).count("漢") == 20


def test_a_table_without_rows_or_columns_is_nothing():
    assert printed(80, Grid([], 80).rows()) == []
    assert printed(80, Grid([Column("method", [])], 80).rows()) == []


def test_what_would_rule_the_terminal_takes_the_room_that_is_seen():
    assert printed(80, Grid([Column("", ["a\x1b[2Jb", "abc"]), Column("", ["x", "y"])], 80).rows()) == [
        "a?[2Jb  x",
        "abc     y",
    ]


def test_paragraphs_are_folded_behind_blanks_and_keep_their_lines():
    assert printed(12, indented(["one two three\n\n- four\n    x"], 12)) == [
        "  one two",
        "  three",
        "",
        "  - four",
        "      x",
    ]
