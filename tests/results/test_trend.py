import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.results.statistics import t_interval
from lopbench.results.trend import WARM_UP, trend, trend_word, why_no_trend


def positions(tasks):
    return (np.arange(tasks) + 0.5) / tasks


def by_hand(learner, fresh, chance, position):
    """Return the slope by weighted least squares of S/F with weights w F, whose normal equations are the sums."""
    rows = sorted(zip(position, learner, fresh, strict=True))
    rows = [row for row in rows if row[0] >= WARM_UP]
    design, ratios, weights = [], [], []
    for index, (x, s, f) in enumerate(rows):
        low = WARM_UP if index == 0 else (rows[index - 1][0] + x) / 2
        high = 1.0 if index == len(rows) - 1 else (rows[index + 1][0] + x) / 2
        design.append([1.0, 10 * x])
        ratios.append((s - chance) / (f - chance))
        weights.append((high - low) * (f - chance))
    root = np.sqrt(weights)
    return np.linalg.lstsq(root[:, None] * np.array(design), root * np.array(ratios), rcond=None)[0][1]


@given(st.integers(0, 2**32 - 1), st.integers(8, 40))
def test_trend_is_the_weighted_least_squares_of_the_ratio(seed, tasks):
    rng = np.random.default_rng(seed)
    where = np.sort(rng.choice(400, tasks, replace=False)) / 400
    where[:3] = [0.25, 0.5, 0.95]  # whatever is drawn, they reach far enough
    where = rng.permutation(np.unique(where))
    fresh, learner = 0.5 + 0.2 * rng.random((2, where.size))
    assert trend(learner, fresh, 0.2, where) == pytest.approx(by_hand(learner, fresh, 0.2, where), rel=1e-6, abs=1e-9)


@given(st.floats(-0.1, 0.1), st.integers(4, 60), st.integers(0, 2**32 - 1))
def test_a_line_is_found_whatever_the_reference_and_the_tasks(slope, tasks, seed):
    rng = np.random.default_rng(seed)
    fresh = 0.3 + 0.6 * rng.random(tasks)
    x = positions(tasks)
    learner = 0.2 + (fresh - 0.2) * (1.2 + slope * 10 * x)
    for kept in (np.sort(rng.permutation(tasks)[: max(4, tasks // 2)]), slice(None)):
        if why_no_trend(fresh[kept], 0.2, x[kept]) is None:
            assert trend(learner[kept], fresh[kept], 0.2, x[kept]) == pytest.approx(slope, abs=1e-9)


def test_golden_trend():
    # x = .3, .5, .7, .9; w = .2, .2, .2, .2; F = .5, so m = .6; S/F falls by .2 from task to task: -.1 per tenth
    assert trend([0.7, 0.6, 0.5, 0.4], [0.7] * 4, 0.2, [0.3, 0.5, 0.7, 0.9]) == pytest.approx(-0.1)


def test_golden_trend_of_tasks_of_unequal_shares():
    # x = .2, .6, 1; w = .2, .4, .2; F = 1, m = .6; S = 1, 0, 0: b = .2 (-.4) 1 / (.2 .16 + .2 .16) = -1.25
    assert trend([1.0, 0.0, 0.0], [1.0, 1.0, 1.0], 0.0, [0.2, 0.6, 1.0]) == pytest.approx(-0.125)


def test_references_only_here_and_there_give_nearly_the_same_trend():
    # A fall in the last fifth, not a line: late tasks with a reference each must not outweigh the rest.
    x = positions(40)
    ratio = np.where(x < 0.8, 1.0, 1.0 - 3 * (x - 0.8))
    few = np.array([*range(0, 32, 4), *range(32, 40)])
    whole = trend(0.6 * ratio, np.full(40, 0.6), 0.0, x)
    assert trend(0.6 * ratio[few], np.full(few.size, 0.6), 0.0, x[few]) == pytest.approx(whole, rel=0.02)
    late = x[few] >= WARM_UP
    assert abs(np.polyfit(x[few][late], ratio[few][late], 1)[0] / 10 / whole - 1) > 0.2  # without weights


def test_the_warm_up_counts_for_nothing():
    x = positions(20)
    learner, fresh = np.full(20, 0.6), np.full(20, 0.7)
    learner[:4], fresh[:4] = 0.2, 0.9
    assert trend(learner, fresh, 0.2, x) == pytest.approx(0.0, abs=1e-12)


def test_trend_of_errors_is_that_of_what_they_gain_on_the_best_constant():
    x = positions(10)
    chance = np.linspace(1.0, 2.0, 10)
    learner, fresh = chance - 0.4 * (1 - 0.5 * x), chance - 0.4
    assert trend(learner, fresh, chance, x, "error") == pytest.approx(-0.05)
    worse = np.where(x > 0.8, 9.0, learner)  # worse than the best constant counts as at chance
    at_chance = np.where(x > 0.8, chance, learner)
    assert trend(worse, fresh, chance, x, "error") == pytest.approx(trend(at_chance, fresh, chance, x, "error"))


@pytest.mark.parametrize(
    ("fresh", "position", "reason"),
    [
        ([0.7, 0.7], [0.3, 0.9], "references on 3 tasks"),
        ([0.7, 0.7, 0.7], [0.1, 0.3, 0.9], "references on 3 tasks"),
        ([0.7] * 4, [0.6, 0.7, 0.8, 0.9], "over 50% of it"),
        ([], [], "references on 3 tasks"),
        ([0.2] * 4, [0.3, 0.5, 0.7, 0.9], "too near chance"),
        ([0.7, 0.1, 0.1, 0.1], [0.3, 0.5, 0.7, 0.9], "too near chance"),
        ([0.2, 0.7, 0.7, 0.2], [0.3, 0.5, 0.7, 0.9], "too near chance"),
    ],
)
def test_no_trend_without_references_and_the_reason_why(fresh, position, reason):
    if fresh:
        assert math.isnan(trend([0.5] * len(fresh), fresh, 0.2, position))
        assert reason in why_no_trend(fresh, 0.2, position)


def test_late_tasks_alone_have_no_trend():
    assert "over 50%" in why_no_trend([0.7] * 8, 0.2, positions(40)[32:])
    assert why_no_trend([0.7] * 40, 0.2, positions(40)) is None


@pytest.mark.parametrize(
    ("learner", "fresh", "position"),
    [
        ([0.5] * 4, [0.7] * 4, [0.3, 0.5, 0.5, 0.9]),
        ([0.5] * 4, [0.7] * 4, [0.3, 0.5, 0.7, 1.1]),
        ([0.5] * 4, [0.7] * 3, [0.3, 0.5, 0.7, 0.9]),
        ([0.5] * 3, [0.7] * 4, [0.3, 0.5, 0.7, 0.9]),
        ([math.nan] * 4, [0.7] * 4, [0.3, 0.5, 0.7, 0.9]),
    ],
)
def test_trend_refuses_bad_input(learner, fresh, position):
    with pytest.raises(InvalidInputError):
        trend(learner, fresh, 0.2, position)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.05, -0.01, "losing"),
        (0.001, 0.3, "gaining"),
        (-0.01, 0.01, "level"),
        (-0.001, 0.002, "level"),
        (-0.011, 0.001, "unclear"),
        (-0.2, 0.3, "unclear"),
        (math.nan, math.nan, "unclear"),
    ],
)
def test_the_word_says_what_the_interval_shows(low, high, word):
    assert trend_word(low, high) == word


@pytest.mark.parametrize("name", [".6", ".2 to .05", ".08"])
def test_a_level_learner_is_seldom_said_to_lose_and_noise_near_chance_blows_nothing_up(simulate, name):
    rng = np.random.default_rng(0)
    x = simulate.POSITION[simulate.REFERENCES["every 4th and late"]]
    drawn = [simulate.stream(rng, simulate.LEVELS[name], x, 5) for _ in range(400)]
    slopes = [[trend(s, f, 0.0, x) for s, f in zip(*scores, strict=True)] for scores in drawn]
    words = [trend_word(*t_interval(row)) for row in slopes]
    assert np.mean([word in ("losing", "gaining") for word in words]) <= 0.08
    assert np.std(slopes) < {".6": 0.007, ".2 to .05": 0.045, ".08": 0.065}[name]
    assert abs(np.mean(slopes)) < 4 * np.std(slopes) / math.sqrt(2000) + 0.003


def test_a_loss_is_seen(simulate):
    rng = np.random.default_rng(0)
    s, f = simulate.stream(rng, simulate.LEVELS[".6"], simulate.POSITION, 5, slope=-0.03)
    slopes = [trend(a, b, 0.0, simulate.POSITION) for a, b in zip(s, f, strict=True)]
    assert np.mean(slopes) == pytest.approx(-0.03, abs=0.006)
    assert trend_word(*t_interval(slopes)) == "losing"
