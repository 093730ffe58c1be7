"""Entries for a repository of results: what is refused, and why."""

import hashlib
import json
import re
import zipfile
from datetime import date

import pandas as pd
import pytest

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.tuning import Configuration, Tuning, TuningLog
from lopbench.results.leaderboard import board
from lopbench.results.pack import pack
from lopbench.results.record import find_records
from lopbench.results.snapshot import MANIFEST, snapshot
from lopbench.results.submission import ENTRY, RUNS, TABLE, TUNING, Metadata, outside, submit, verify_entry

WHOSE = Metadata(code="https://example.org/my-method", contact="A. Author, a@example.org")


@pytest.fixture
def runs(results, many_seeds):
    """Write plain learning and a method over five seeds."""
    many_seeds([0.5, 0.51, 0.49, 0.5, 0.52])
    many_seeds([0.6, 0.61, 0.59, 0.6, 0.62], results.component("methods", "mine", track="boundary-free"))
    return results.root


@pytest.fixture
def entry(runs, tmp_path):
    return submit(runs, output=tmp_path / "entries" / "my-method", metadata=WHOSE, tuning=written(runs, tmp_path))


def log_of(group, **changes):
    """Return a log that chose what was run, of three rates."""
    rate = group.spec.optimizer.fields["lr"]
    rates, scores = (rate / 3, rate, rate * 3), (0.5, 0.7, 0.6)
    tried = [{"values": {"optimizer.lr": lr}, "scores": [score]} for lr, score in zip(rates, scores, strict=True)]
    log = {"k": 0.1, "budget": 3, "seeds": 1, "score": "accuracy", "steps": 300, "chosen": 1, "configurations": tried}
    row = {"protocol_id": group.protocol_id, "entry_id": group.runs[0].recipe.entry_id}
    return {**row, "log": {**log, **changes}}


def written(runs, folder, change=lambda logs: logs):
    """Write a log of each row, and return the file."""
    logs = [log_of(entry.group) for entry in board(runs).entries]
    (folder / "log.json").write_text(json.dumps(change(logs)))
    return folder / "log.json"


def refused(folder, **options):
    """Return why an entry is refused."""
    with pytest.raises(ResultsError) as error:
        verify_entry(folder, **options)
    return str(error.value)


def rewrite(folder, **changes):
    """Change what an entry says of itself, its hashes as they should be."""
    value = json.loads((folder / ENTRY).read_text())
    value["runs_sha256"] = hashlib.sha256((folder / RUNS).read_bytes()).hexdigest()
    (folder / ENTRY).write_text(json.dumps({**value, **changes}))


def test_what_was_submitted_is_verified(entry):
    found = verify_entry(entry)
    assert found.name == "my-method"
    assert found.rows["method"].tolist() == ["mine", "none"]
    assert {path.name for path in entry.iterdir()} == {ENTRY, RUNS, TABLE, TUNING}
    value = json.loads((entry / ENTRY).read_text())
    assert [row["seeds"] for row in value["rows"]] == ["0-4", "0-4"]
    (protocol,) = {row["protocol_id"] for row in value["rows"]}
    assert verify_entry(entry, protocols=[protocol]).name == "my-method"


def test_the_same_runs_give_the_same_entry(entry, runs, tmp_path):
    again = submit(entry / RUNS, output=tmp_path / "again" / "my-method", metadata=WHOSE)
    assert (again / RUNS).read_bytes() == (entry / RUNS).read_bytes()
    assert (again / TABLE).read_bytes() == (entry / TABLE).read_bytes()


# -- what makes no entry


def test_missing_seeds_are_named(results, many_seeds, tmp_path):
    many_seeds([0.5] * 5)
    many_seeds([0.6, 0.6, 0.6], results.component("methods", "mine", track="boundary-free"))
    with pytest.raises(
        ResultsError, match=r"no entry yet: mine with .*: seeds 3, 4 are missing; a row of an entry needs seeds 0 to 4"
    ):
        submit(results.root, output=tmp_path / "mine", metadata=WHOSE)
    assert not (tmp_path / "mine").exists()


def test_runs_without_a_reference_are_named(results, tmp_path):
    for seed in range(5):
        results.add(results.spec(seed=seed), 0.5)
    with pytest.raises(ResultsError, match=r"none with .*: 5 runs without a fresh reference"):
        submit(results.root, output=tmp_path / "mine", metadata=WHOSE)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"profile": "smoke"}, "the profile smoke is not ranked"),
        ({"data": {"name": "procedural", "content_hash": "00"}}, "the data are procedural"),
    ],
)
def test_what_is_not_ranked_or_not_real_is_no_entry(changes, told, many_seeds, results, tmp_path):
    many_seeds([0.5] * 5, **changes)
    with pytest.raises(ResultsError, match=told):
        submit(results.root, output=tmp_path / "mine", metadata=WHOSE)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"code": "http://example.org"}, "code: 'http://example.org' is not an https URL"),
        ({"code": "https://user:secret@example.org"}, "code: "),
        ({"code": "javascript:alert(1)"}, "code: "),
        ({"paper": "https://example.org/a)[b](c"}, "paper: "),
        ({"paper": "https://example.org/" + "a" * 300}, "paper: "),
        ({"contact": "<script>alert(1)</script>"}, "contact: .*without markup"),
        ({"contact": "me\x1b[31m"}, "contact: "),
        ({"contact": "[me](https://example.org)"}, "contact: "),
        ({"contact": "x"}, "contact: "),
    ],
)
def test_metadata_are_plain_text_here_and_there(changes, told, entry, runs, tmp_path):
    with pytest.raises(UsageError, match=told):
        submit(runs, output=tmp_path / "other", metadata=Metadata(**{**vars(WHOSE), **changes}))
    rewrite(entry, **changes)
    assert re.search(rf"{ENTRY}[,:] {told.split(':')[0]}", refused(entry))


@pytest.mark.parametrize("name", ["My Method", "-x", "x" * 65, "a.b"])
def test_names_are_plain(name, runs, tmp_path):
    with pytest.raises(UsageError, match="a name has 1 to 64 lower-case letters"):
        submit(runs, output=tmp_path / name, metadata=WHOSE)


def test_nothing_is_overwritten_and_a_log_that_is_none_is_refused(entry, runs, tmp_path):
    with pytest.raises(ResultsError, match="exists"):
        submit(runs, output=entry, metadata=WHOSE)
    (tmp_path / "bad.json").write_text("{")
    for log in ("bad.json", "absent.json"):
        with pytest.raises(ResultsError, match=rf"The file of tuning logs .*{log} cannot be read"):
            submit(runs, output=tmp_path / "other", metadata=WHOSE, tuning=tmp_path / log)
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".other*"))


# -- what is refused of an entry


def test_a_file_too_many_a_link_and_a_file_too_few_are_named(entry, tmp_path):
    (entry / "run_me.py").write_text("raise SystemExit")
    assert "run_me.py is no file of an entry: take it out" in refused(entry)
    (entry / "run_me.py").unlink()
    (entry / TUNING).rename(tmp_path / "elsewhere")
    assert f"{TUNING} is missing, and {ENTRY} names one" in refused(entry)
    (entry / TUNING).symlink_to(tmp_path / "elsewhere")
    assert f"{TUNING} is a link" in refused(entry)
    (entry / TUNING).unlink()
    (entry / TUNING).mkdir()
    assert f"{TUNING} is no file" in refused(entry)
    (entry / TUNING).rmdir()
    (entry / TABLE).unlink()
    assert f"{TABLE} is missing" in refused(entry)
    (tmp_path / "link").symlink_to(entry)
    assert "it is no folder" in refused(tmp_path / "link")
    assert "it is no folder" in refused(tmp_path / "absent")


def test_a_score_that_is_not_the_records_is_named(entry):
    table = (entry / TABLE).read_text()
    score = next(cell for cell in table.splitlines()[1].split(",") if cell.startswith("0.67"))
    (entry / TABLE).write_text(table.replace(score, "0.9"))
    text = refused(entry)
    assert f"{TABLE}: mine, adam:lr=0.003 under toy@" in text
    assert "is 0.9 in the file" in text


def test_the_last_digits_count(entry):
    table = (entry / TABLE).read_text()
    score = next(cell for cell in table.splitlines()[1].split(",") if cell.startswith("0.67"))
    (entry / TABLE).write_text(table.replace(score, f"{float(score) + 1e-5}"))
    assert "by the records" in refused(entry)


def test_records_that_were_changed_are_refused_whatever_the_hash_says(entry, runs, tmp_path):
    other = find_records(runs)[0].path
    spec = json.loads((other / "spec.json").read_text())
    spec["seed"] = 77
    (other / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(ResultsError, match="run id"):
        pack(runs, output=tmp_path / "bad.lopbench")
    data = bytearray((entry / RUNS).read_bytes())
    data[len(data) // 2] ^= 1
    (entry / RUNS).write_bytes(data)
    assert f"{RUNS} differs from the file that {ENTRY} names" in refused(entry)
    rewrite(entry)
    assert RUNS in refused(entry)


def test_another_protocol_is_refused(entry, many_seeds, results, tmp_path):
    assert "this protocol is not accepted here; accepted are toy@1+000000000000" in refused(
        entry, protocols=["toy@1+000000000000"]
    )
    many_seeds([0.5] * 5, profile="full")
    pack(results.root, output=entry / RUNS)
    rewrite(entry)
    text = refused(entry)
    assert "is in the records, and not named" in text


def test_missing_seeds_are_refused_in_an_entry(entry, results, tmp_path):
    few = tmp_path / "few"
    for record in find_records(entry / RUNS):
        if record.seed < 3:
            results.add(record.spec, 0.5, root=few)
    pack(few, output=entry / RUNS)
    rewrite(entry)
    assert "seeds 3, 4 are missing" in refused(entry)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "another"}, "name: it is 'another'"),
        ({"entry_version": 2}, "entry_version"),
        ({"more": 1}, "more is not known"),
        ({"rows": []}, "rows"),
        ({"code": None}, "code"),
        ({"lopbench": "1\x1b"}, "cannot be printed"),
    ],
)
def test_what_an_entry_says_of_itself_is_checked(change, told, entry):
    rewrite(entry, **change)
    assert told in refused(entry)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "\xff", '"text"', "null"])
def test_what_is_no_json_is_refused(text, entry):
    (entry / ENTRY).write_bytes(text.encode("latin-1"))
    assert ENTRY in refused(entry)


def test_a_log_that_was_edited_is_refused(entry):
    (entry / TUNING).write_text((entry / TUNING).read_text().replace("0.6", "0.5"))
    assert f"{TUNING} differs from the file that {ENTRY} names" in refused(entry)
    (entry / TUNING).write_text("{")
    assert f"{TUNING} cannot be read" in refused(entry)


def best_is_another(log):
    log["configurations"][2]["scores"] = [0.9]


def another_was_run(log):
    log["configurations"][1]["values"]["optimizer.lr"] = 0.5


def of_another_method(log):
    for number, each in enumerate(log["configurations"]):
        each["values"]["cbp.maturity"] = number


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            best_is_another,
            "was edited: it says that configuration 1 was chosen, and by its scores number 2 (optimizer.lr=0.009",
        ),
        (another_was_run, "chose optimizer.lr=0.5, and something else was run"),
        (of_another_method, "has values of cbp.maturity, and what was run has no such field"),
        (lambda log: log.update(budget=4), "has 3 configurations, and its budget is 4"),
        (lambda log: log["configurations"].clear(), "the log of its tuning is empty"),
        (lambda log: log.update(score="error", chosen=0), "and something else was run"),
        (
            lambda log: log.update(seeds=2),
            "the configurations in the log of its tuning differ in their fields or seeds",
        ),
        (lambda log: log.update(k=2), "k must be"),
        (lambda log: log["configurations"][0].update(scores=["0.9"]), "scores"),
    ],
)
def test_a_log_that_cannot_have_led_to_its_row_is_refused_with_its_hash_right(change, told, entry, runs, tmp_path):
    logs = json.loads((entry / TUNING).read_text())
    change(logs[0]["log"])
    (entry / TUNING).write_text(json.dumps(logs))
    rewrite(entry, tuning_sha256=hashlib.sha256((entry / TUNING).read_bytes()).hexdigest())
    assert told in refused(entry)
    assert refused(entry).count(TUNING) == 1
    with pytest.raises(ResultsError, match=rf"no entry yet: {TUNING}: "):
        submit(runs, output=tmp_path / "other", metadata=WHOSE, tuning=entry / TUNING)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda logs: [*logs, logs[0]], "has two logs"),
        (lambda logs: [{**logs[0], "entry_id": "0" * 12}], "the entry 000000000000 under toy@1"),
        (lambda logs: [], "must contain at least 1 items"),
        (lambda logs: {"grid": [1, 2]}, "must be array"),
    ],
)
def test_logs_are_of_the_rows_of_the_entry(change, told, runs, tmp_path):
    with pytest.raises(ResultsError, match=f"{TUNING}: .*{told}"):
        submit(runs, output=tmp_path / "other", metadata=WHOSE, tuning=written(runs, tmp_path, change))


def test_a_score_that_is_no_number_is_refused(entry):
    (entry / TUNING).write_text((entry / TUNING).read_text().replace("0.5", "NaN"))
    assert f"{TUNING} cannot be read: NaN is no JSON number" in refused(entry)


def test_logs_of_tuned_runs_are_those_of_their_records(results, tmp_path):
    configurations = tuple(Configuration({"optimizer.lr": lr}, (lr,)) for lr in (0.001, 0.003))
    log = TuningLog(Tuning(budget=2, seeds=1), "accuracy", 100, configurations, 1)
    for seed in range(5):
        spec = results.spec(seed=seed, tuning=log)
        results.add(spec, 0.5 + 0.01 * seed)
        results.add(spec.reference(), 0.8)
    entry = submit(results.root, output=tmp_path / "tuned", metadata=WHOSE)
    (row,) = json.loads((entry / TUNING).read_text())
    assert row["log"] == log.to_json()
    assert verify_entry(entry).rows["entry_id"].tolist() == [row["entry_id"]]
    row["log"]["steps"] = 99
    (entry / TUNING).write_text(json.dumps([row]))
    rewrite(entry, tuning_sha256=hashlib.sha256((entry / TUNING).read_bytes()).hexdigest())
    assert "its log differs from the one in its records" in refused(entry)


def test_an_archive_that_unpacks_outside_its_folder_is_refused_and_unpacks_nowhere(entry, tmp_path):
    with zipfile.ZipFile(entry / RUNS) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for bad in ("../../outside", "/tmp/outside", "manifest.json/../../outside"):
        with zipfile.ZipFile(entry / RUNS, "w", zipfile.ZIP_STORED) as made:
            for number, (name, data) in enumerate(members.items()):
                made.writestr(bad if number == 1 else name, data)
        rewrite(entry)
        assert "is no packed set" in refused(entry)
        assert "outside" in refused(entry)
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("step", ["to_csv", "write_whole"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_snapshot_that_is_stopped_leaves_nothing_and_can_be_made_again(entry, tmp_path, monkeypatch, step, error):
    def stopped(*_):
        raise error

    output = tmp_path / "snapshots"
    with monkeypatch.context() as patch:
        patch.setattr(f"lopbench.results.snapshot.{step}", stopped)
        with pytest.raises((KeyboardInterrupt, ResultsError)):
            snapshot(entry.parent, output, day=date(2026, 1, 31))
    assert [*output.iterdir()] == []
    assert snapshot(entry.parent, output, day=date(2026, 1, 31)) == output / "2026-01-31"


def test_a_snapshot_holds_the_tables_of_all_entries_and_what_their_files_are(entry, runs, tmp_path):
    submit(runs, output=entry.parent / "other", metadata=WHOSE)
    told = []
    made = snapshot(entry.parent, tmp_path / "snapshots", day=date(2026, 1, 31), told=told.append)
    assert (made.name, told) == ("2026-01-31", ["my-method", "other"])
    table = pd.read_csv(made / TABLE)
    assert table.groupby("entry").size().to_dict() == {"my-method": 2, "other": 2}
    manifest = json.loads((made / MANIFEST).read_text())
    digest = hashlib.sha256((entry / RUNS).read_bytes()).hexdigest()
    assert manifest["entries"]["my-method"]["sha256"][RUNS] == digest
    assert set(manifest["entries"]["other"]["sha256"]) == {ENTRY, RUNS, TABLE}
    with pytest.raises(ResultsError, match="a snapshot is never changed"):
        snapshot(entry.parent, tmp_path / "snapshots", day=date(2026, 1, 31))
    with pytest.raises(ResultsError, match="There are no entries"):
        snapshot(tmp_path / "absent", tmp_path / "snapshots", day=date(2026, 2, 1))
    (entry / "more").touch()
    with pytest.raises(ResultsError, match="more is no file of an entry"):
        snapshot(entry.parent, tmp_path / "snapshots", day=date(2026, 2, 1))
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {"2026-01-31"}


def test_a_change_outside_the_entry_is_found():
    mine = [f"entries/mine/{name}" for name in (ENTRY, RUNS)]
    assert outside([*mine, ""], "entries/mine") == []
    others = ["entries/other/entry.json", "README.md", "entries/mine/deep/x", "entries/mine/../other", ".github/x.yml"]
    assert outside([*mine, *others], "entries/mine") == others
