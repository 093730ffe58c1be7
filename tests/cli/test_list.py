import json
import re
from dataclasses import replace

import pytest

from lopbench.core.interfaces import KINDS
from lopbench.core.manager import Skipped, plugins
from lopbench.core.perturbation import FAMILIES
from lopbench.core.spec import ComponentSpec, parse_methods


def test_it_lists_every_registered_component(lopbench):
    shown = lopbench("list").stdout
    for kind in KINDS:
        for entry in plugins().registry.entries(kind):
            assert f"  {entry.name} " in shown
            assert entry.summary in shown


def test_plain_learning_stands_among_the_methods_of_all_kinds(lopbench):
    methods = lopbench("list").stdout.partition("\nmethods\n")[2].partition("\n\n")[0]
    assert re.search(r"^  none +plain learning, without any method", methods, re.MULTILINE)


@pytest.mark.parametrize("folder", ["claims", "figures", "suites"])
def test_study_files_have_titles_and_a_command_that_reads_them(lopbench, folder):
    rows = json.loads(lopbench("list", folder, "--format", "json").stdout)[folder]
    assert all(row["summary"] for row in rows)
    verb = {"claims": "verify", "figures": "figure", "suites": "run"}[folder]
    assert lopbench("list", folder).stdout.splitlines()[-1].startswith(f"'lopbench {verb} NAME' ")


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_lists_no_other(lopbench, kind):
    value = json.loads(lopbench("list", kind, "--format", "json").stdout)
    assert list(value) == [kind, "skipped"]
    assert [row["name"] for row in value[kind]] == plugins().registry.names(kind)


def test_methods_alone_are_grouped_by_family_with_their_track(lopbench):
    shown = lopbench("list", "methods").stdout
    headings = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    assert headings == [f"methods: {family}" for family in FAMILIES if family != "other"]
    control = shown.partition("methods: regularise")[0]
    assert re.search(r"^  none +plain learning, without any method +boundary-free", control, re.MULTILINE)
    assert re.search(r"^  reset .* boundary-aware +1x, 1x mem. +lopbench", control, re.MULTILINE)
    rows = json.loads(lopbench("list", "methods", "--format", "json").stdout)["methods"]
    assert len(rows) + 1 >= 32
    for row in rows:
        cls = plugins().registry.get("methods", row["name"]).load()
        assert (row["family"], row["track"]) == (cls.family, cls.track_of())
        assert (row["cost"], row["presets"]) == (cls.cost, cls.presets)


def test_methods_have_their_cost_beside_the_track(lopbench):
    shown = lopbench("list", "methods").stdout
    for row in json.loads(lopbench("list", "methods", "--format", "json").stdout)["methods"]:
        cost = f"{row['cost']['time']:g}x, {row['cost']['memory']:g}x mem."
        assert re.search(rf"^  {row['name']} .*{row['track']} +{re.escape(cost)}", shown, re.MULTILINE), row["name"]


def test_rows_of_comparisons_stand_under_their_component(lopbench):
    lines = lopbench("list", "methods").stdout.splitlines()
    places = [n for n, line in enumerate(lines) if line.startswith(("  layernorm ", "  layernorm+l2 "))]
    assert places[1] == places[0] + 1
    assert "  activation:leaky_relu " in "\n".join(lines)
    assert "  adam:betas=0.99/0.99 " in lopbench("list", "optimizers").stdout


@pytest.mark.parametrize("kind", ["methods", "optimizers"])
def test_rows_of_comparisons_can_be_run(kind):
    for entry in plugins().registry.entries(kind):
        for text in entry.load().presets:
            made = parse_methods(text) if kind == "methods" else [ComponentSpec.parse(kind, text, lr=0.1)]
            assert entry.name in [spec.name for spec in made]


def test_a_method_that_cannot_be_imported_is_listed_all_the_same(lopbench, monkeypatch):
    broken = replace(plugins().registry.get("methods", "cbp"), target="nowhere:Nothing")
    monkeypatch.setitem(plugins().registry._entries["methods"], "cbp", broken)
    last = lopbench("list", "methods").stdout.partition("methods: cannot be imported")[2]
    assert last.split()[0] == "cbp"


def test_skipped_plugins_stand_at_the_end_with_their_reason(lopbench, monkeypatch):
    skipped = Skipped("foo", "lopbench-foo", "ModuleNotFoundError: No module named 'bar'", "Traceback ...")
    monkeypatch.setattr(plugins(), "skipped", [skipped])
    last = lopbench("list", "metrics").stdout.splitlines()[-1]
    assert last == "  foo of lopbench-foo: ModuleNotFoundError: No module named 'bar'"
    value = json.loads(lopbench("list", "--format", "json").stdout)
    assert value["skipped"] == [{"plugin": "foo", "distribution": "lopbench-foo", "reason": skipped.reason}]


@pytest.mark.parametrize("columns", [80, 100, 140, 200])
def test_summaries_of_methods_can_be_read_at_any_width(lopbench, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = lopbench("list", "methods").stdout
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= columns
    for name in ("shrink_and_perturb_step", "activation:leaky_relu", "none"):
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
    assert "boundary-aware" in shown
    assert ("lopbench 0" in shown) == (columns >= 140)
    assert ("a wider terminal shows more" in shown) == (columns < 140)
    assert len(shown.splitlines()) < 3 * len(plugins().registry.names("methods"))


def test_help_names_every_kind(lopbench):
    shown = " ".join(lopbench("list", "--help").stdout.split())
    assert [kind for kind in KINDS if f" {kind}" not in shown] == []
