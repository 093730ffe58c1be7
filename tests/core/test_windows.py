import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.core.windows import before_window, late_window, reference_tasks, scored_tasks


def test_late_window_is_the_last_fifth_but_at_least_five_tasks():
    assert late_window(40) == range(32, 40)
    assert late_window(31) == range(24, 31)  # 6.2 tasks round up
    assert late_window(10) == range(5, 10)
    assert late_window(3) == range(0, 3)
    with pytest.raises(InvalidInputError, match="at least one task"):
        late_window(0)


def test_before_window_is_the_late_window_of_the_tasks_before_the_method():
    assert before_window(100, 0.5) == range(40, 50)
    assert before_window(20, 0.5) == range(5, 10)  # 20% of 10 are 2: at least 5
    assert before_window(10, 0.35) == range(0, 3)  # the task in which it turns on is not over
    assert before_window(10, 0.05) == before_window(10, 0.0) == range(0)
    assert before_window(40, 1.0) == late_window(40)


@given(st.integers(1, 10_000), st.data())
def test_task_over_at_the_start_is_before_it(tasks, data):
    done = data.draw(st.integers(1, tasks))
    assert before_window(tasks, done / tasks).stop == done  # whatever the rounding of the quotient


@pytest.mark.parametrize(("tasks", "start"), [(0, 0.5), (10, -0.1), (10, 1.1), (10, math.nan)])
def test_before_window_refuses_what_is_no_stream(tasks, start):
    with pytest.raises(InvalidInputError, match="window needs"):
        before_window(tasks, start)


def test_the_reference_is_spread_over_the_stream_at_no_more_than_as_many_tasks_again():
    assert reference_tasks(40) == [*range(0, 32, 4), *range(32, 40)]
    assert reference_tasks(10) == [*range(10)]
    assert reference_tasks(12) == [0, 2, 4, 6, 7, 8, 9, 10, 11]
    assert reference_tasks(5) == [0, 1, 2, 3, 4]
    assert reference_tasks(40, 0.5) == [0, 4, 8, 12, 15, 16, 17, 18, 19, 20, 24, 28, *range(32, 40)]


@given(st.integers(1, 700), st.floats(0, 1))
def test_the_reference_covers_what_is_scored_and_half_of_it_is_needed(tasks, start):
    covered = reference_tasks(tasks, start)
    assert {*scored_tasks(tasks, start)} <= {*covered} <= {*range(tasks)}
    assert covered == sorted({*covered})
    assert len(covered) <= len(scored_tasks(tasks, start)) + len(late_window(tasks))
    assert min(covered) == 0


def test_a_protocol_may_say_how_many_tasks_are_late():
    assert late_window(10, 9) == range(1, 10)
    assert late_window(3, 9) == range(3)
    assert scored_tasks(10, late=9) == list(range(1, 10))
    assert scored_tasks(10, 0.5, late=2) == [*range(5), 8, 9]
    assert reference_tasks(10, late=3) == [0, 3, 6, 7, 8, 9]


def test_references_cover_both_windows_once():
    assert scored_tasks(40) == list(range(32, 40))
    assert scored_tasks(40, 0.5) == [15, 16, 17, 18, 19, *range(32, 40)]  # 20% of 20 are 4: at least 5
    assert scored_tasks(40, 0.9) == list(range(28, 40))
    assert scored_tasks(3, 0.5) == [0, 1, 2]
