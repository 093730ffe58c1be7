"""Tables for any width: columns go in order, and what is in the others is whole."""

import io

import pytest
from rich.console import Console

from lopbench.cli.columns import Column, fitting

NAME = "shrink_and_perturb:decay=0.9999,scale=0.01+cbp"
COLUMNS = [
    Column("state", ["running", "to do"]),
    Column("method", [NAME, "none"], least=14),
    Column("seed", ["0", "12"], right=True),
    Column("empty", ["", ""]),
    Column("folder", [".partial/0123456789abcdef", "x"], least=12),
]


def shown(width):
    screen = io.StringIO()
    table, gone = fitting(COLUMNS, ["folder", "empty", "seed", "state"], width)
    Console(file=screen, width=width).print(table)
    return [line.rstrip() for line in screen.getvalue().splitlines()], gone


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
