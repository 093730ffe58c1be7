"""Tables of two factors, worked by hand, and what is said of those that cannot be."""

from dataclasses import replace

import pytest

from lopbench.core.errors import ResultsError, UsageError
from lopbench.results.factors import cross, crossing_tables, frame
from lopbench.results.leaderboard import board


@pytest.fixture
def shown(results):
    """Return a function that gives titles, headings and rows of the tables of two factors."""

    def show(rows, columns, wide=False):
        tables = cross(board(results.root).entries, rows, columns)
        return list(crossing_tables(tables, wide=wide))

    return show


def test_methods_by_learning_rate(many_seeds, results, shown):
    method = results.component("methods", "m", track="boundary-free", strength=0.5)
    many_seeds([0.8, 0.8], lr=1e-2)
    many_seeds([0.5, 0.5], lr=1e-3)
    many_seeds([0.7, 0.5], method, lr=1e-3)
    (table,) = shown("method", "optimizer.lr")
    assert table.headings == ("method", "0.001", "0.01")
    assert sorted(table.rows) == [("m:strength=0.5", "0.67", "-"), ("none", "0.50", "1.00")]  # (.6 - .2) / (.8 - .2)
    assert "1 of 4 cells have no runs." in table.notes
    (wide,) = shown("method", "optimizer.lr", wide=True)
    assert ("none", "0.50 [0.50, 0.50]", "1.00 [1.00, 1.00]") in wide.rows
    assert frame(cross(board(results.root).entries, "method", "optimizer.lr"))["retention"].notna().sum() == 3


def test_a_method_by_its_own_field_is_one_row(many_seeds, results, shown):
    for strength, value in ((0.5, 0.8), (10.0, 0.5), (2.0, 0.6)):
        many_seeds([value], results.component("methods", "m", strength=strength, other=1))
    many_seeds([0.5])
    (table,) = shown("method", "m.strength")
    assert table.headings == ("method", "0.5", "2", "10")  # numbers by size
    assert table.rows == [("m:other=1", "1.00", "0.67", "0.50")]


def test_protocols_that_differ_in_a_factor_stand_together(many_seeds, results, shown):
    for name, value in (("net", 0.8), ("wide", 0.5)):
        many_seeds([value], architecture=results.component("architectures", name, activation="relu"))
    many_seeds([0.65], architecture=results.component("architectures", "net", activation="tanh"))
    (table,) = shown("method", "architecture")
    assert table.headings == ("method", "net:activation=relu", "net:activation=tanh", "wide:activation=relu")
    (by_field,) = shown("method", "architecture.activation")
    assert by_field.headings == ("method", "relu", "tanh")
    assert by_field.rows == [("none", "1.00", "0.75")]


def test_scenarios_and_their_own_networks_stand_together(many_seeds, results, shown):
    many_seeds([0.8])
    toy = results.component("scenarios", "other", tasks=10, steps_per_task=100, profile="lite")
    many_seeds([0.5], scenario=toy, architecture=results.component("architectures", "big"), data=None)
    (table,) = shown("method", "scenario")
    assert dict(zip(table.headings, table.rows[0], strict=True)) == {"method": "none", "toy": "1.00", "other": "0.50"}


def test_a_cell_of_several_rows_is_refused_and_says_in_what_they_differ(many_seeds, results, shown):
    many_seeds([0.8], lr=1e-2)
    many_seeds([0.5], lr=1e-3)
    with pytest.raises(ResultsError) as raised:
        shown("method", "architecture")
    assert "Several rows have method none and architecture net:width=8, and a cell holds one." in str(raised.value)
    assert "They differ in optimizer (adam:lr=0.01 and adam:lr=0.001). Name a folder" in str(raised.value)


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        ("method", "optimizer.rate", "No run has 'optimizer.rate'."),
        ("methods", "optimizer.lr", "No run has 'methods'. Did you mean 'method'?"),
        ("method", "method", "the rows and the columns are both by method; name two factors"),
        ("method", "l2.strength", "No run has 'l2.strength'."),
    ],
)
def test_a_factor_that_no_run_has_is_one_sentence(many_seeds, results, shown, rows, columns, told):
    many_seeds([0.8])
    with pytest.raises(UsageError) as raised:
        shown(rows, columns)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_runs_of_other_numerics_do_not_share_a_table(many_seeds, results, shown):
    many_seeds([0.8], lr=1e-2)
    many_seeds([0.7], lr=1e-3)
    for lr, value in ((1e-2, 0.5), (1e-3, 0.6)):
        spec = results.spec(lr=lr)
        spec = replace(spec, numerics=replace(spec.numerics, dtype="float64"))
        results.add(spec, value)
        results.add(spec.reference(), 0.8)
    first, other = shown("method", "optimizer.lr")
    assert first.rows != other.rows


def test_protocols_with_one_column_each_are_shown_where_no_other_has_more(many_seeds, results, shown):
    for depth in (1, 2):
        many_seeds([0.8], architecture=results.component("architectures", "net", depth=depth), lr=1e-3)
    assert [table.headings for table in shown("method", "optimizer.lr")] == [("method", "0.001")] * 2
    many_seeds([0.5], architecture=results.component("architectures", "net", depth=2), lr=1e-2)
    assert [table.headings for table in shown("method", "optimizer.lr")] == [("method", "0.001", "0.01")]


def test_factors_that_no_row_has_both_are_a_sentence(many_seeds, results, shown):
    for name in ("m", "other"):
        many_seeds([0.5], results.component("methods", name, strength=0.5))
    with pytest.raises(
        ResultsError, match=r"No row has both m\.strength and other\.strength; name factors that one row"
    ):
        shown("m.strength", "other.strength")
