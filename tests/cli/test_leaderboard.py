import io
import json

import pandas as pd
import pytest


@pytest.fixture
def results(recorded):
    return recorded("--method=none", "--method=reset")


def test_it_prints_the_table_of_a_folder(lopbench, results):
    shown = lopbench("leaderboard", results)
    assert shown.exit_code == 0
    assert shown.stdout.index("none ") < shown.stdout.index("reset")
    assert shown.stderr == ""


def test_json_has_every_column_and_no_nan(lopbench, results):
    value = json.loads(lopbench("leaderboard", results, "--format=json").stdout)
    assert (value["overall"], value["left_out"]) == ([], [])
    rows = value["rows"]
    assert [row["method"] for row in rows] == ["none", "reset"]
    assert {"protocol_id", "retention", "track", "inputs_digest"} <= set(rows[0])


def test_the_csv_holds_the_same_rows(lopbench, results):
    shown = lopbench("leaderboard", results, "--output=board.csv")
    assert "Written to board.csv." in shown.stderr
    assert list(pd.read_csv("board.csv")["method"]) == ["none", "reset"]


@pytest.mark.parametrize("folder", ["nothing", "."])
def test_a_folder_without_runs_is_one_sentence(lopbench, folder):
    shown = lopbench("leaderboard", folder)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: ")
    assert shown.stdout == ""


def test_markdown_is_a_table_to_paste(lopbench, results):
    shown = lopbench("leaderboard", results, "--format=markdown")
    assert shown.exit_code == 0
    assert "| `reset` |" in shown.stdout
    assert shown.stdout.endswith("\n")
    assert not shown.stdout.endswith("\n\n")


def test_csv_and_latex_go_to_stdout(lopbench, results):
    shown = lopbench("leaderboard", results, "--format=csv")
    assert list(pd.read_csv(io.StringIO(shown.stdout))["method"]) == ["none", "reset"]
    assert lopbench("leaderboard", results, "--format=latex").stdout.startswith(r"\begin{table}")


def test_check_says_that_a_table_is_right(lopbench, results):
    lopbench("leaderboard", results, "--output=board.csv")
    shown = lopbench("leaderboard", results, "--check=board.csv")
    assert shown.exit_code == 0
    assert shown.stdout == "board.csv agrees with the records: 2 rows.\n"


def test_check_says_what_differs_and_exits_with_3(lopbench, results):
    lopbench("leaderboard", results, "--output=board.csv")
    frame = pd.read_csv("board.csv")
    frame.loc[0, "seeds"] = 5
    frame.to_csv("board.csv", index=False)
    shown = lopbench("leaderboard", "--check=board.csv", results)
    assert shown.exit_code == 3
    assert "seeds is 5 in the file, 1 by the records" in shown.stdout
    assert "board.csv differs from the records" in shown.stderr


def test_damaged_records_are_named_and_the_good_rows_are_shown(lopbench, results):
    damaged = next((results / "runs").glob("*-mlp-none-*"))
    (damaged / "measurements.parquet").write_bytes(b"PAR1")
    shown = lopbench("leaderboard", results)
    assert shown.exit_code == 1
    assert "reset" in shown.stdout
    assert damaged.name in shown.stderr
    assert shown.stderr.endswith("Error: 1 record could not be used; the table shows the others.\n")


def test_of_many_damaged_records_the_first_are_named(lopbench, results):
    for number in range(30):
        (results / "runs" / f"x{number:02}").mkdir()
    shown = lopbench("leaderboard", results)
    assert shown.exit_code == 1
    assert shown.stderr.count("is damaged") == 20
    assert "Left out: 10 more records." in shown.stderr
