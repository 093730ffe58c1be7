import json
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def results(tiny):
    assert tiny("--method=none", "--method=reset").exit_code == 0
    return Path("results")


def test_it_prints_the_table_of_a_folder(lopbench, results):
    shown = lopbench("leaderboard", results)
    assert shown.exit_code == 0
    assert shown.stdout.index("reset") < shown.stdout.index("none ")
    assert shown.stderr == ""


def test_json_has_every_column_and_no_nan(lopbench, results):
    rows = json.loads(lopbench("leaderboard", results, "--format=json").stdout)
    assert [row["method"] for row in rows] == ["reset", "none"]
    assert {"protocol_id", "retention", "track", "inputs_digest"} <= set(rows[0])


def test_the_csv_holds_the_same_rows(lopbench, results):
    shown = lopbench("leaderboard", results, "--output=board.csv")
    assert "Written to board.csv." in shown.stderr
    assert list(pd.read_csv("board.csv")["method"]) == ["reset", "none"]


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
