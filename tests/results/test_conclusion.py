"""What a table comes to in words."""

import pytest

from lopbench.results.conclusion import in_words
from lopbench.results.leaderboard import leaderboard

FIVE = (0.0, 0.01, -0.01, 0.005, -0.005)


@pytest.fixture
def method(results):
    return lambda name="mine", track="boundary-free": results.component("methods", name, track=track)


def around(value):
    return [value + change for change in FIVE]


def said(results):
    return in_words(leaderboard(results.root))


def test_one_seed_may_be_chance_and_the_sentence_says_what_to_repeat(many_seeds, results, method):
    many_seeds([0.5])
    many_seeds([0.6], method())
    assert said(results) == [
        "mine keeps more than none: 0.67 against 0.50; one seed, may be chance; repeat with --seeds 0-4."
    ]


def test_three_seeds_are_still_too_few(many_seeds, results, method):
    many_seeds([0.6] * 3)
    many_seeds([0.5] * 3, method())
    assert said(results) == [
        "mine keeps less than none: 0.50 against 0.67; 3 seeds, may be chance; repeat with --seeds 0-4."
    ]


def test_numbers_that_are_the_same_as_shown_are_no_difference(many_seeds, results, method):
    many_seeds([0.2])
    many_seeds([0.2 - 1e-6], method())
    assert said(results) == ["mine keeps as much as none: 0.00; one seed, may be chance; repeat with --seeds 0-4."]


def test_five_seeds_give_a_verdict(many_seeds, results, method):
    many_seeds(around(0.5))
    many_seeds(around(0.6), method("up"))
    many_seeds(around(0.4), method("down"))
    many_seeds(around(0.5)[::-1], method("same"))
    assert said(results) == [
        "up keeps more than none: 0.67 against 0.50, shown over 5 seeds.",
        "same and none cannot be told apart: 0.50 against 0.50 over 5 seeds.",
        "down keeps less than none: 0.33 against 0.50, shown over 5 seeds.",
    ]


def test_many_methods_are_told_together(many_seeds, results, method):
    many_seeds(around(0.5))
    for number in range(5):
        many_seeds(around(0.6 + 0.02 * number), method(f"up{number}"))
    many_seeds(around(0.4), method("down"))
    assert said(results) == [
        "Shown to keep more than none (0.50): up4 0.80, up3 0.77, up2 0.73, up1 0.70, up0 0.67.",
        "Shown to keep less than none (0.50): down 0.33.",
    ]


def test_a_row_alone_is_told_alone(many_seeds, results, method):
    many_seeds(around(0.5))
    assert said(results) == ["none keeps 0.50 of what a fresh network learns (1 is a fresh network, 0 is chance)."]


def test_without_plain_learning_the_sentence_asks_for_it(many_seeds, results, method):
    many_seeds([0.5], method())
    assert said(results) == [
        "mine keeps 0.50 of what a fresh network learns (1 is a fresh network, 0 is chance); one seed, may be chance; "
        "repeat with --seeds 0-4.",
        "Whether that is more than plain learning keeps is not known: add --method none.",
    ]


def test_numbers_of_smoke_mean_nothing(many_seeds, results, method):
    many_seeds([0.5], profile="smoke+custom")
    (sentence,) = said(results)
    assert sentence.startswith("These numbers mean nothing: the profile smoke is so short")


def test_the_control_is_not_judged_and_a_row_without_a_retention_says_why(many_seeds, results, method):
    many_seeds([0.5])
    many_seeds([0.8], method("reset", "boundary-aware"))
    results.add(results.spec(method("alone"), seed=7), 0.5)
    sentences = said(results)
    assert len(sentences) == 2
    assert sentences[0].startswith("alone has no retention: ")
    assert sentences[1].startswith("none keeps 0.50")


def test_optimizers_are_named_where_they_tell_rows_apart(many_seeds, results, method):
    many_seeds(around(0.5))
    many_seeds(around(0.6), lr=1e-3)
    assert said(results) == [
        "none with adam:lr=0.003 keeps less than none with adam:lr=0.001: 0.50 against 0.67, shown over 5 seeds."
    ]
