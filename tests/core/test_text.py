"""Texts in lines that fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.text import broken

NAME = "cbp:accumulate=false,utility=adaptable_contribution from 0.5"


def lines(text, width):
    return broken(text, lambda part: len(part) <= width)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (60, [NAME]),
        (56, ["cbp:accumulate=false,utility=adaptable_contribution from", "0.5"]),
        (40, ["cbp:accumulate=false,", "utility=adaptable_contribution from 0.5"]),
        (24, ["cbp:accumulate=false,", "utility=adaptable_", "contribution from 0.5"]),
        (18, ["cbp:", "accumulate=false,", "utility=adaptable_", "contribution from", "0.5"]),
        (5, ["cbp:", "accumulate=", "false,", "utility=", "adaptable_", "contribution ", "from", "0.5"]),
    ],
)
def test_names_are_broken_between_words_then_in_lists_and_last_inside(width, expected):
    assert lines(NAME, width) == [each.rstrip() for each in expected]


@given(st.text("ab _:,=+", max_size=40), st.integers(1, 40))
def test_nothing_is_lost_but_blanks(text, width):
    assert "".join(lines(text, width)).replace(" ", "") == text.replace(" ", "")


def test_nothing_is_one_empty_line():
    assert lines("", 10) == [""]
