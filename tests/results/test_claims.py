"""What a claim says, and what is said of one that says nothing that could be judged."""

import math

import pytest

from lopbench.core.errors import UsageError
from lopbench.results.claims import EntryName, read_claims
from lopbench.results.per_seed import COLUMNS, Quantity

SAYS = {"text": "It is better", "source": "Somebody 2024"}


def read(**table):
    [claim] = read_claims([{**SAYS, **table}], "study.toml")
    return claim


def links(**table):
    return [(link.entries, link.quantities, link.low, link.high) for link in read(**table).links]


NONE, L2 = EntryName("none"), EntryName("l2")
RETENTION = (Quantity("retention"),)


def test_a_number_lies_between_two_others_or_about_one():
    assert links(test="number", entry="l2", column="retention", at_least=0.5) == [((L2,), RETENTION, 0.5, math.inf)]
    both = links(test="number", entries=["l2", "none"], column="retention", at_most=1)
    assert both == [((L2,), RETENTION, -math.inf, 1.0), ((NONE,), RETENTION, -math.inf, 1.0)]
    metric = links(test="number", entry="l2", metric="dead_fraction", of="end", number=0.5, tolerance=0.25)
    assert metric == [((L2,), (Quantity("dead_fraction", "end"),), 0.25, 0.75)]


def test_a_difference_is_of_each_entry_to_one():
    name = {"method": "none", "optimizer": "sgd:lr=0.1", "runs": 2}
    found = links(test="difference", entries=["l2", "cbp"], than=name, metric="online_error", at_most=0)
    other, error = EntryName("none", "sgd:lr=0.1", 2), (Quantity("online_error", "late"),)
    assert found == [((L2, other), error, -math.inf, 0.0), ((EntryName("cbp"), other), error, -math.inf, 0.0)]
    assert str(other) == "none with sgd:lr=0.1 of runs 2"
    [(found, _, _, _)] = links(test="number", entry={"method": "l2", "called": "L2"}, column="retention", at_least=0)
    assert [str(name) for name in found] == ["L2"]


def test_an_order_is_a_difference_from_each_to_the_next():
    found = links(test="order", entries=["cbp", "l2", "none"], column="retention", by=0.1)
    pairs = [(EntryName("cbp"), L2), (L2, NONE)]
    assert found == [(pair, RETENTION, 0.1, math.inf) for pair in pairs]


def test_a_trend_is_a_slope_below_about_or_above_zero():
    assert links(test="trend", entry="none", **{"is": "falling"}) == [((NONE,), (Quantity("trend"),), -math.inf, 0.0)]
    slope = (Quantity("weight_norm", "trend"),)
    assert links(test="trend", entry="none", metric="weight_norm", **{"is": "rising"}) == [
        ((NONE,), slope, 0.0, math.inf)
    ]
    assert read(test="trend", entry="none", **{"is": "level"}).links[0].range == "-0.01 to 0.01"


def test_a_metric_can_be_of_one_layer():
    found = read(test="trend", entry="none", metric="dead_fraction", layer=4, **{"is": "rising"}).links[0]
    assert found.quantities == (Quantity("dead_fraction", "trend", 4),)
    assert found.what == "slope per tenth of the stream of dead_fraction in layer 4 of none"
    ends = links(test="number", entry="l2", metric="dead_fraction", of="end", layer=5, at_least=0.9)
    assert ends == [((L2,), (Quantity("dead_fraction", "end", 5),), 0.9, math.inf)]


def test_a_correlation_is_of_two_columns_over_entries():
    found = read(test="correlation", columns=["trainability", "generalisation"], entries=[*"abcde"], at_most=0.5)
    assert found.links[0].what == "rank correlation of trainability and generalisation over 5 entries"
    assert found.links[0].range == "at most 0.5"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "'test' is missing"),
        ({"test": "numbre"}, "'test' is 'numbre'. Did you mean 'number'? It is one of number, difference, order,"),
        ({"test": ["number"]}, "'test' is ['number']."),
        ({"test": "number", "entyr": "l2"}, "unknown key 'entyr'. Did you mean 'entry'"),
        ({"test": "number", "column": "retention"}, "give the range of the number"),
        ({"test": "number", "column": "retention", "at_least": 0}, "'entries' is missing"),
        (
            {"test": "number", "column": "retentoin", "entry": "l2", "at_least": 0},
            "'retentoin' is no column with a number for each seed. Did you mean 'retention'",
        ),
        ({"test": "number", "entry": "l2", "at_least": 0}, "give the number that the claim is about: a 'column' of"),
        (
            {"test": "number", "column": "trend", "metric": "dead_fraction", "entry": "l2", "at_least": 0},
            "give a 'column' of the leaderboard or a 'metric', not both",
        ),
        ({"test": "number", "column": "trend", "of": "late", "entry": "l2", "at_least": 0}, "'of' is for a 'metric'"),
        ({"test": "number", "metric": "x", "layer": 0, "entry": "l2", "at_least": 0}, "'layer' must be a whole number"),
        (
            {"test": "number", "column": "trend", "layer": 1, "entry": "l2", "at_least": 0},
            "'layer' is for a 'metric'",
        ),
        ({"test": "trend", "layer": 1, "entry": "l2", "is": "falling"}, "'layer' is for a 'metric'"),
        ({"test": "number", "metric": "x", "of": "last", "entry": "l2", "at_least": 0}, "'of' is 'last'."),
        *(
            (
                {"test": "number", "column": "trend", "entry": "l2", "at_least": value},
                f"'at_least' must be a number from -1e+100 to 1e+100, got {str(value)[:60]!r}",
            )
            for value in ("0", True, math.nan, math.inf, -math.inf, 1e308, -1e101, 10**400)
        ),
        (
            {"test": "number", "column": "trend", "entry": "l2", "number": 1, "tolerance": math.nan},
            "'tolerance' must be a number from -1e+100 to 1e+100, got 'nan'",
        ),
        (
            {"test": "number", "column": "trend", "entry": "l2", "at_least": 2, "at_most": 1},
            "'at_least' is 2, which is above 'at_most', 1",
        ),
        ({"test": "number", "column": "trend", "entry": "l2", "number": 2}, "'tolerance' is missing"),
        (
            {"test": "number", "column": "trend", "entry": "l2", "number": 2, "tolerance": -1},
            "'tolerance' must be at least 0, got -1",
        ),
        (
            {"test": "number", "column": "trend", "entry": "l2", "number": 2, "tolerance": 1, "at_least": 0},
            "give 'number' with its 'tolerance', or 'at_least' and 'at_most', not both",
        ),
        ({"test": "number", "column": "trend", "entry": 3, "at_least": 0}, 'an entry is a method, as in "cbp"'),
        ({"test": "number", "column": "trend", "entry": {"run": 3}, "at_least": 0}, "unknown key 'run'. Did you mean"),
        ({"test": "number", "column": "trend", "entry": {"runs": 0}, "at_least": 0}, "'runs' must be a whole number"),
        ({"test": "number", "column": "trend", "entry": "a", "entries": ["b"], "at_least": 0}, "not both"),
        ({"test": "number", "column": "trend", "entries": ["a", "a"], "at_least": 0}, "stands in 'entries' twice"),
        ({"test": "difference", "column": "trend", "entry": "a", "at_least": 0}, "'than' is missing"),
        ({"test": "order", "column": "trend", "entries": ["a"]}, "'entries' must be a list of at least 2"),
        ({"test": "trend", "entry": "a", "is": "losing"}, "It is one of falling, level, rising"),
        ({"test": "difference", "column": "trend", "entry": "a", "than": "a", "at_least": 0}, "compared with itself"),
        (
            {"test": "difference", "column": "trend", "entries": [{"method": "a", "called": "b"}], "than": "a"}
            | {"at_least": 0},
            "a would be compared with itself; name another entry in 'than'",
        ),
        ({"test": "correlation", "columns": ["trend"], "entries": [*"abcde"]}, "'columns' must be two columns"),
        (
            {"test": "correlation", "columns": ["trend", ["x"]], "entries": [*"abcde"], "at_most": 0},
            "['x'] is no column",
        ),
        (
            {"test": "correlation", "columns": ["trend", "trend"], "entries": [*"abcde"], "at_most": 0},
            "'columns' are both trend, which correlates with itself",
        ),
        (
            {"test": "correlation", "columns": ["retention", "trend"], "entries": [*"abcd"], "at_most": 0},
            "'entries' must be a list of at least 5",
        ),
    ],
)
def test_what_is_wrong_with_a_claim_is_one_sentence(table, told):
    with pytest.raises(UsageError) as raised:
        read(**table)
    assert str(raised.value).startswith("study.toml, claim 1: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", SAYS)
def test_a_claim_has_a_text_and_a_source(missing):
    table = {**SAYS, "test": "number", "column": "trend", "entry": "a", "at_least": 0}
    for changed in ({key: value for key, value in table.items() if key != missing}, {**table, missing: 3}):
        with pytest.raises(UsageError, match=f"'{missing}'"):
            read_claims([changed], "study.toml")


@pytest.mark.parametrize("value", [{}, "claim", [3], 3])
def test_claims_are_tables(value):
    with pytest.raises(UsageError, match=r"each begun by a line \[\[claim\]\]"):
        read_claims(value, "study.toml")


def test_every_column_of_a_number_can_be_claimed():
    for name in COLUMNS:
        assert links(test="number", entry="l2", column=name, at_least=0)[0][1] == (Quantity(name),)
