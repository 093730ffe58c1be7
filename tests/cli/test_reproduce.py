import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lopbench.core.spec import NUMBERS
from lopbench.runner.reproduce import reproduce


@pytest.fixture
def run(recorded, images, monkeypatch, one_thread):
    """Return the directory of a recorded run of ten steps."""
    asked = []

    def load(name, *, wanted, data_dir):
        asked.append((name, wanted, data_dir))
        return images

    monkeypatch.setattr("lopbench.runner.reproduce.load_data", load)
    (path,) = recorded("--method=cbp").glob("runs/*-mlp-cbp-*")
    return path


def edit(path, **changes):
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, **changes}))


def change(run, factor):
    """Multiply all recorded accuracies."""
    table = pq.read_table(run / "measurements.parquet")
    scores = pc.starts_with(table["metric"], "online_accuracy")
    values = pc.if_else(scores, pc.multiply(table["value"], factor), table["value"])
    pq.write_table(table.set_column(4, table.schema.field(4), values), run / "measurements.parquet")


def test_a_run_on_the_same_machine_comes_out_bit_by_bit(lopbench, run):
    before = sorted(Path("results").rglob("*"))
    shown = lopbench("reproduce", run)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == "identical, bit by bit\n"
    assert sorted(Path("results").rglob("*")) == before  # nothing was written there


def test_a_fresh_reference_can_be_run_again_too(lopbench, run):
    (path,) = run.parent.glob("*-fresh-none-*")
    assert lopbench("reproduce", path).stdout.startswith("identical")


def test_other_numbers_on_the_same_machine_are_different(lopbench, run):
    change(run, 1 + 1e-12)
    shown = lopbench("reproduce", run)
    assert shown.exit_code == 3
    assert "code, versions and hardware are the same, so all numbers should be" in shown.stdout
    assert "online_accuracy" in shown.stdout


@pytest.mark.parametrize(("factor", "verdict", "code"), [(1.01, "within tolerance", 0), (2.0, "different", 3)])
def test_elsewhere_the_means_of_the_scores_must_agree(lopbench, run, factor, verdict, code):
    change(run, factor)
    edit(run / "environment.json", device="cpu (another)", replicas=30)
    shown = lopbench("reproduce", run, "--format=json")
    found = json.loads(shown.stdout)
    assert (found["verdict"], shown.exit_code) == (verdict, code)
    assert found["environment"]["device"][0] == '"cpu (another)"'
    assert found["environment"]["replicas"] == ["30", "1"]
    assert found["code"] == {}
    assert ("trained beside others" in found["reason"]) == (code == 0)
    (row,) = [row for row in found["metrics"] if row["metric"] == "online_accuracy"]
    assert row["recorded"] == pytest.approx(factor * row["reproduced"])
    assert row["identical"] < row["rows"]


def test_another_end_is_different(run):
    edit(run / "status.json", status="failed", error="boom")
    found = reproduce(run, device="cpu")
    assert (found.verdict, found.outcomes) == ("different", ("failed", "completed"))
    assert "failed then and completed now" in found.reason


def test_other_code_is_named(run, monkeypatch):
    monkeypatch.setattr("lopbench.runner.reproduce.NUMBERS", NUMBERS + 1)
    found = reproduce(run)
    assert found.verdict == "identical"
    assert found.code == {"numbers": (str(NUMBERS), str(NUMBERS + 1))}


def test_other_files_of_the_same_version_are_named(run):
    value = json.loads((run / "environment.json").read_text())
    edit(run / "environment.json", code="0" * 12)
    found = reproduce(run)
    assert found.environment == {"code": (f'"{"0" * 12}"', f'"{value["code"]}"')}
    assert found.verdict == "identical"


def test_that_a_record_of_the_first_schema_has_its_origins_elsewhere_is_not_told(run):
    value = json.loads((run / "environment.json").read_text())
    del value["code"], value["origins"]
    (run / "environment.json").write_text(json.dumps(value))
    assert reproduce(run).environment == {}


def test_other_data_are_refused(lopbench, run, monkeypatch, images):
    from dataclasses import replace

    other = replace(images, content_hash="f" * 64)
    monkeypatch.setattr("lopbench.runner.reproduce.load_data", lambda *_, **__: other)
    shown = lopbench("reproduce", run)
    assert shown.exit_code == 1
    assert "here it has content ffffffffffff" in shown.stderr


def test_a_component_that_is_not_installed_is_named(lopbench, run):
    from lopbench.core.spec import digest

    value = json.loads((run / "spec.json").read_text())
    value["methods"][0]["name"] = "elsewhere"
    (run / "spec.json").write_text(json.dumps(value))
    del value["shown"]  # which no hash covers
    moved = run.rename(run.with_name(f"x-{digest(value, 16)}"))
    shown = lopbench("reproduce", moved)
    assert shown.exit_code == 1
    assert "cannot be run again here: Unknown method 'elsewhere'" in shown.stderr
    assert "It was made with elsewhere version" in shown.stderr


def test_what_is_no_run_is_one_sentence(lopbench, tmp_path):
    assert lopbench("reproduce", "nowhere").exit_code == 2
    shown = lopbench("reproduce", tmp_path)
    assert shown.exit_code == 1
    assert "spec.json is missing" in shown.stderr


def test_a_run_of_a_packed_set_is_named_behind_the_file(lopbench, run):
    assert lopbench("pack", run.parent, "--output=set.lopbench").exit_code == 0
    assert lopbench("reproduce", f"set.lopbench/{run.name}").stdout == "identical, bit by bit\n"
    shown = lopbench("reproduce", "set.lopbench")
    assert shown.exit_code == 1
    assert "name one as set.lopbench/RECORD" in shown.stderr
    assert "set.lopbench has no record 'x'" in lopbench("reproduce", "set.lopbench/x").stderr
