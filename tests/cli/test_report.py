import re
import shlex
from html import unescape
from pathlib import Path

import pytest

CLONES = Path(__file__).parents[2] / "results" / "cloning-lite-mlp"


@pytest.fixture
def results(recorded):
    return recorded("--method=none", "--method=layernorm+l2:strength=1e-3", "--seeds=0,1")


def commands(page):
    return [unescape(re.sub("</?(wbr|span)>", "", text)) for text in re.findall(r"<pre><code>(.*?)</code></pre>", page)]


def test_the_page_is_one_file_beside_nothing(lopbench, results):
    before = set(Path().iterdir())
    shown = lopbench("report", results)
    assert shown.exit_code == 0
    assert shown.stdout == ""
    assert "4 runs under 1 protocol." in shown.stderr
    assert "Written to report.html." in shown.stderr
    assert set(Path().iterdir()) - before == {Path("report.html")}
    assert Path("report.html").read_text().startswith("<!doctype html>")


def test_the_command_of_a_row_names_its_very_runs(lopbench, tiny, results):
    lopbench("report", results, "--output=page.html")
    found = commands(Path("page.html").read_text())
    assert len(found) == 2
    for line in found:
        words = shlex.split(line)
        assert words[0] == "lopbench"
        done = lopbench(*words[1:], f"--results={results}", "--device=cpu", "--dry-run")
        assert done.exit_code == 0, done.stderr
        assert "nothing to do, all" in done.stderr
    assert any("--method layernorm+l2:strength=0.001 " in line for line in found)


def test_a_folder_without_runs_is_one_sentence(lopbench, tmp_path):
    shown = lopbench("report", tmp_path)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: ")
    assert not Path("report.html").exists()


# -- single figures


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [(["curves"], "svg"), (["curves", "--metric=dead_fraction", "--method=none"], "pdf"), (["learning-rate"], "png")],
    ids=" ".join,
)
def test_a_figure_is_written_in_the_format_of_its_suffix(lopbench, results, arguments, suffix):
    kind, *options = arguments
    shown = lopbench("plot", kind, results, f"--output=figure.{suffix}", *options)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stderr.endswith(f"Written to figure.{suffix}.\n")
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[suffix]
    assert Path(f"figure.{suffix}").read_bytes().startswith(start)


def test_curves_are_of_the_score_of_the_scenario(lopbench, one_thread):
    stream = "bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6"
    assert lopbench("run", f"--scenario={stream}", "--device=cpu").exit_code == 0
    shown = lopbench("plot", "curves", "results", "--output=curves.svg")
    assert shown.exit_code == 0, shown.stderr
    assert "online_error" in Path("curves.svg").read_text() or "online error" in Path("curves.svg").read_text()


@pytest.mark.parametrize("options", [[], ["--metric=cloning_r2_authors"]])
def test_clones_are_drawn_beside_their_bases(lopbench, options):
    shown = lopbench("plot", "cloning", CLONES, "--output=figure.svg", "--optimizer=sgd:lr=0.1", *options)
    assert shown.exit_code == 0, shown.stderr
    drawn = Path("figure.svg").read_text()
    assert "cloning R2" in drawn
    assert ">noisy_sgd:decay=0.999<" in drawn


def test_clones_are_drawn_by_optimizer(lopbench):
    shown = lopbench("plot", "cloning", CLONES, "--output=figure.svg", "--colours=optimizer", "--method=none")
    assert shown.exit_code == 0, shown.stderr
    drawn = Path("figure.svg").read_text()
    assert ">adam:lr=0.001<" in drawn
    assert ">sgd:lr=0.1<" in drawn


def test_a_method_that_is_not_chosen_is_not_drawn(lopbench, results):
    lopbench("plot", "curves", results, "--output=figure.svg", "--method=none", "--protocol=tinyimagenet40@")
    drawn = Path("figure.svg").read_text()
    assert "none" in drawn
    assert "layernorm" not in drawn


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["curves", "--metric=a", "--metric=b"], "curves draws one metric, got a, b"),
        (["learning-rate", "--metric=a"], "draws no other metric than its own"),
        (["recovery", "--panels=width"], "--panels is for error-curves"),
        (["curves", "--colours=method"], "--colours is for cloning"),
        (["curves", "--suite=cpu"], "--suite is for suite, not for curves"),
        (["suite"], "Say which suite with --suite; 'lopbench list suites' shows them"),
        (["suite", "--suite=cup"], "Did you mean 'cpu'?"),
        (["curves", "--method=nnoe"], "There is no method 'nnoe'. Did you mean 'none'?"),
        (["curves", "--protocol=bitflip"], "There is no protocol 'bitflip'."),
        (["curves", "--output=figure.jpg"], "A figure is saved as .svg, .pdf or .png, not as 'figure.jpg'"),
        (["curves", "--width=nan"], "--width is a width in inches from 1 to 40, got nan"),
        (["curves", "--label=nnoe=x"], "the figure has no 'nnoe'; it has none"),
        (["curves", "--label=none= "], "--label 'none= ' is not NAME=TEXT"),
        (["curves", "--label=none=x", "--label=none=y"], "--label gives 'none' two texts, 'x' and 'y'"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistaken_choice_is_a_usage_error(lopbench, results, options, sentence):
    kind, *rest = options
    shown = lopbench("plot", kind, results, "--output=figure.svg", *rest)
    assert shown.exit_code == 2
    assert sentence in shown.stderr
    assert not Path("figure.svg").exists()


def test_runs_that_do_not_belong_together_are_refused(lopbench, results, tiny):
    assert tiny("--method=none", "--architecture=mlp:width=9").exit_code == 0
    shown = lopbench("plot", "curves", results, "--output=figure.svg")
    assert shown.exit_code == 1
    assert "One figure cannot hold several protocols" in shown.stderr
