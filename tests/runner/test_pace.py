"""What is foretold runs down with the clock, follows what is measured, and does not jump."""

from itertools import pairwise

import pytest

from lopbench.runner.pace import Speed, TimeLeft


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_speed_is_that_of_the_last_minute():
    seconds = iter([0, 10, 20, 80, 90])
    speed = Speed(lambda: next(seconds))
    assert [speed.add(taken) for taken in (0, 0, 100, 400, 500)] == [None, None, 10, 5, 10]


def follow(speeds, left=1_000_000, look_s=0.5):
    """Return what is foretold at each look, with the steps left, at so many steps a second."""
    clock, taken, found = Clock(), 0.0, []
    foretold = TimeLeft(clock)
    for speed in speeds:
        taken += speed * look_s
        found.append((foretold.add(int(taken), int(left - taken)), (left - taken) / speed))
        clock.now += look_s
    return found


def test_at_an_even_speed_it_is_what_is_left():
    for foretold, true in follow([100] * 400)[7:]:
        assert foretold == pytest.approx(true, rel=0.01)


def test_nothing_is_foretold_of_the_first_seconds():
    assert [foretold for foretold, _ in follow([100] * 6)] == [None] * 6


@pytest.mark.parametrize("speeds", [(100, 10_000), (10_000, 100), (1000, 10)])
def test_it_does_not_jump_where_the_speed_does_and_follows_it_in_the_end(speeds):
    first, second = speeds
    found = [each for each in follow([first] * 100 + [second] * 900, left=10**8) if each[0] is not None]
    for (before, _), (after, _) in pairwise(found):
        assert 0.8 < after / before < 1.25
    foretold, true = found[-1]
    assert foretold == pytest.approx(true, rel=0.2)


def test_time_in_which_nothing_is_trained_is_no_slow_work():
    clock = Clock()
    foretold = TimeLeft(clock)
    for taken in range(100, 1100, 100):
        left = foretold.add(taken, 10_000 - taken)
        clock.now += 1.0
    foretold.rest()
    clock.now += 1000.0  # compiles
    assert foretold.add(1100, 8900) == left
    clock.now += 1.0
    assert foretold.add(1200, 8800) == pytest.approx(88, rel=0.05)
    assert foretold.speed == 100
    assert foretold.add(10_000, 0) == 0.0
