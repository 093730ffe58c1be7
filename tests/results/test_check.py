import pandas as pd
import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.check import check
from lopbench.results.leaderboard import board, to_csv


@pytest.fixture
def made(many_seeds, results):
    many_seeds([0.51, 0.63, 0.57])
    many_seeds([0.3], results.component("methods", "@m", track="boundary-free"))
    return board(results.root)


@pytest.fixture
def path(made, tmp_path):
    to_csv(made.rows, tmp_path / "board.csv")
    return tmp_path / "board.csv"


def test_a_table_of_the_records_differs_in_nothing(made, path):
    assert check(path, made) == []


def test_files_that_were_joined_with_their_headers_are_one(made, path):
    path.write_text(path.read_text() * 2)
    assert check(path, made) == []


def test_the_last_digits_and_the_order_of_rows_do_not_count(made, path):
    frame = pd.read_csv(path).iloc[::-1]
    frame["retention_low"] *= 1 + 1e-9
    frame.to_csv(path, index=False)
    assert check(path, made) == []


def test_a_changed_number_is_named_with_both_values(made, path):
    frame = pd.read_csv(path)
    frame.loc[frame["method"] == "none", "retention"] = 0.75
    frame.to_csv(path, index=False)
    (said,) = check(path, made)
    assert said.startswith("none, adam:lr=0.003 under toy@1+")
    assert "retention is 0.75 in the file, 0.61" in said


@pytest.mark.parametrize("column", ["track", "coverage", "inputs_digest", "rank_low", "notes"])
def test_every_column_is_looked_at(made, path, column):
    frame = pd.read_csv(path, dtype=str)
    frame.loc[0, column] = "7"
    frame.to_csv(path, index=False)
    (said,) = check(path, made)
    assert f"{column} is 7 in the file" in said


def test_rows_on_one_side_only_are_named(made, path, many_seeds, results):
    frame = pd.read_csv(path)
    frame[frame["method"] == "none"].to_csv(path, index=False)
    (said,) = check(path, made)
    assert said.startswith("@m, adam:lr=0.003 under toy@1+")
    assert said.endswith("the file has no such row")
    many_seeds([0.4], results.component("methods", "later", track="boundary-free"))
    to_csv(board(results.root).rows, path)
    assert [said.partition(",")[0] for said in check(path, made)] == ["later"]


def test_a_row_that_stands_twice_with_different_numbers_is_named(made, path):
    frame = pd.read_csv(path, dtype=str)
    pd.concat([frame, frame.iloc[:1].assign(retention="0.1")]).to_csv(path, index=False)
    (said,) = check(path, made)
    assert "stands twice" in said


def test_columns_on_one_side_only_are_named(made, path):
    pd.read_csv(path).drop(columns="speed").assign(mine=1).to_csv(path, index=False)
    assert check(path, made) == ["speed: the file has no such column", "mine: no column of a leaderboard"]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00"])
def test_what_is_no_leaderboard_is_refused(made, path, content):
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"is no leaderboard|cannot be read as a CSV"):
        check(path, made)


def test_a_table_of_an_earlier_edition_is_refused_in_a_sentence(made, path):
    pd.read_csv(path).rename(columns={"entry_id": "family"}).to_csv(path, index=False)
    with pytest.raises(ResultsError, match=f"^{path} is a leaderboard of an earlier edition, .* makes it anew.$"):
        check(path, made)


def test_rows_of_several_optimizers_are_told_apart(many_seeds, results, path):
    many_seeds([0.5, 0.6], lr=1e-3)
    two = board(results.root)
    to_csv(two.rows, path)
    assert check(path, two) == []
    frame = pd.read_csv(path)
    frame.loc[frame["lr"] == 1e-3, "retention"] = 0.75
    frame.to_csv(path, index=False)
    (said,) = check(path, two)
    assert said.startswith("none, adam:lr=0.001 under toy@1+")


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_lines_may_end_as_they_do_elsewhere(made, path, end):
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    assert check(path, made) == []


def test_a_line_that_is_none_is_a_sentence(made, path):
    path.write_bytes(path.read_bytes() + b"x" * 200_000)
    with pytest.raises(ResultsError, match="cannot be read as a CSV file: field larger than field limit"):
        check(path, made)
