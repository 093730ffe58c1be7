"""What is published under results/ is what its run records give."""

import importlib.util
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from lopbench.results.check import check
from lopbench.results.leaderboard import board, leaderboard
from lopbench.results.record import find_records

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish", ROOT / "results" / "publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_records(publish):
    assert publish.SHOWN in [each.path for each in publish.sets()]
    for each in publish.sets():
        assert check(each.path / "leaderboard.csv", board(each.path)) == []


def test_the_figures_are_those_that_the_records_can_draw(publish):
    for each in publish.sets():
        drawn = each.drawn(leaderboard(each.path), find_records(each.path))
        assert {f"{name}.svg" for name in drawn} == {path.name for path in each.path.glob("*.svg")}
        plt.close("all")


def test_the_readme_shows_them(publish):
    text = publish.README.read_text()
    assert publish.with_results(text) == text
    assert publish.with_results(text.replace("| `none` |", "| `nine` |", 1)) == text


def test_the_overview_shows_all_sets(publish):
    text = (publish.HERE / "README.md").read_text()
    assert publish.overview() == text
    for each in publish.sets():
        assert (each.path / publish.RUNS).is_file()
        assert f"## {each.title}" in text


def test_the_overview_says_what_the_sets_tell_of_claims(publish):
    text = (publish.HERE / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    words = {word for word in ("agrees", "disagrees", "cannot tell") if any(f"**{word}**" in row for row in rows)}
    assert words == {"agrees", "disagrees", "cannot tell"}
    assert {f"`{name}`" for name in ("B.2", "D2", "D7", "D13", "D19")} <= {row.split(" | ")[0][2:] for row in rows}


def test_the_main_table_has_five_seeds_of_every_method(publish):
    rows = publish.main_rows(leaderboard(publish.SHOWN))
    assert set(rows["method"]) == {
        *("none", "cbp", "layernorm", "l2", "shrink_and_perturb", "noisy_sgd", "dropout", "reset", "head_reset"),
    }
    assert (rows["seeds"] == 5).all()
    assert rows["data"].str.startswith("tiny-imagenet-200@").all()
    assert rows.loc[rows["method"] == "reset", "retention"].item() == 1.0
