import errno
import json
import math
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lopbench.core.errors import ResultsError
from lopbench.core.spec import SCHEMA_VERSION, digest
from lopbench.results import stored
from lopbench.results.pack import pack
from lopbench.results.record import (
    Measurements,
    find_records,
    is_recorded,
    read_record,
    record_path,
    remove_cut_short,
    scan_records,
    write_record,
)


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def run(results):
    return results.add(results.spec(), 0.5)


def test_record_round_trip(results, tmp_path):
    spec = results.spec(results.component("methods", "m", track="boundary-free", strength=0.5), seed=3)
    rows = Measurements()
    rows.add(0, 0, "dead_fraction", 0.25, layer="fc1")
    rows.add(100, 1, "online_accuracy", 0.1 + 0.2)
    log = tmp_path / "run.log"
    log.write_text("started\n")
    path = write_record(
        results.root, spec.to_json(), spec.run_id, {"device": "cpu"}, results.status(steps=7), rows, log
    )
    assert path == record_path(results.root, spec)
    record = read_record(path)
    assert record.spec == spec
    assert record.run_id == spec.run_id
    assert record.environment == {"device": "cpu"}
    assert record.outcome == "completed"
    assert record.status["steps"] == 7
    assert (path / "log.txt").read_text() == "started\n"
    frame = record.measurements
    assert list(frame.columns) == ["step", "task", "layer", "metric", "value"]
    assert [frame[c].dtype for c in ("step", "task", "value")] == [np.int64, np.int32, np.float64]
    assert frame.to_numpy().tolist() == [
        [0, 0, "fc1", "dead_fraction", 0.25],
        [100, 1, "", "online_accuracy", 0.1 + 0.2],
    ]
    assert sorted(p.name for p in path.iterdir()) == [
        "environment.json",
        "log.txt",
        "measurements.parquet",
        "spec.json",
        "status.json",
    ]


def test_same_measurements_give_the_same_file(results):
    first = results.add(results.spec(), 0.5, root=results.root / "a")
    second = results.add(results.spec(), 0.5, root=results.root / "b")
    assert (first / "measurements.parquet").read_bytes() == (second / "measurements.parquet").read_bytes()


def test_measurements_survive_a_checkpoint_bit_for_bit():
    rows = Measurements()
    for step, value in enumerate([0.1 + 0.2, math.nan, -0.0, math.inf, 5e-324]):
        rows.add(step, step % 2, "metric é", value, layer="" if step % 2 else "fc1")
    arrays = rows.to_arrays()
    assert all(array.dtype.kind in "iuf" for array in arrays.values())
    again = Measurements.from_arrays(arrays)
    rows.add(9, 9, "later", 1.0)
    again.add(9, 9, "later", 1.0)
    assert len(again) == len(rows) == 6
    assert again.to_table().equals(rows.to_table())
    for key, array in rows.to_arrays().items():
        assert again.to_arrays()[key].tobytes() == array.tobytes()


def test_checkpoint_arrays_do_not_change_with_later_rows():
    rows = Measurements()
    rows.add(0, 0, "a", 1.0)
    arrays = rows.to_arrays()
    rows.add(1, 0, "b", 2.0)
    assert arrays["value"].tolist() == [1.0]


def test_a_row_that_is_refused_leaves_nothing_behind():
    rows = Measurements()
    with pytest.raises(ValueError, match="could not convert"):
        rows.add(0, 0, "a", "none")
    rows.add(1, 0, "a", 2.0)
    assert len(rows.to_table()) == 1


def test_non_finite_values_are_null_in_the_file(results):
    rows = Measurements()
    for task, value in enumerate([math.nan, math.inf, -math.inf, 0.5]):
        rows.add(task, task, "online_accuracy", value)
    assert rows.to_table()["value"].null_count == 3
    spec = results.spec()
    status = results.status("diverged", diverged_at=0)
    record = read_record(write_record(results.root, spec.to_json(), spec.run_id, {}, status, rows, None))
    assert record.per_task("online_accuracy") == {3: 0.5}
    assert record.measurements["value"].isna().tolist() == [True, True, True, False]


@pytest.mark.parametrize("value", [1.7e308, -1.7e308])
@pytest.mark.parametrize("packed", [False, True])
def test_numbers_beyond_all_sums_count_as_not_finite(results, packed, tmp_path, value):
    spec = results.spec()
    path = results.add(spec, {0: 0.5, 1: value, 2: 0.25})
    if packed:
        path = pack(results.root, output=tmp_path / "set.lopbench").path / path.name
    record = read_record(path)
    assert record.per_task("online_accuracy") == {0: 0.5, 2: 0.25}
    assert value in record.measurements["value"].tolist()  # what was measured stays


def test_run_without_measurements_can_be_recorded(results):
    spec = results.spec()
    status = results.status("failed", error="out of memory", steps=0, train_time_s=0.0)
    path = write_record(results.root, spec.to_json(), spec.run_id, {}, status, Measurements(), None)
    record = read_record(path)
    assert record.measurements.empty
    assert record.per_task("online_accuracy") == {}


def test_existing_record_is_left_alone(results, run):
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    assert results.add(results.spec(), 0.9) == run
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    assert [p.name for p in run.parent.iterdir()] == [run.name]


def test_an_empty_folder_is_no_record_and_is_replaced_by_one(results):
    spec = results.spec()
    path = record_path(results.root, spec)
    assert not is_recorded(results.root, spec)
    path.mkdir(parents=True)
    assert not is_recorded(results.root, spec)
    assert results.add(spec, 0.5) == path
    assert is_recorded(results.root, spec)
    assert read_record(path).spec == spec


def test_what_stands_in_the_place_of_a_record_is_not_overwritten(results):
    spec = results.spec()
    path = record_path(results.root, spec)
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert is_recorded(results.root, spec)
    results.add(spec, 0.5)
    assert path.read_text() == "mine"


def test_two_writers_of_one_run_publish_one_record(results):
    paths, barrier = [], threading.Barrier(4)

    def write(value):
        barrier.wait()
        paths.append(results.add(results.spec(), value))

    threads = [threading.Thread(target=write, args=(0.5,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert [p.name for p in (results.root / "runs").iterdir()] == [paths[0].name]
    assert len(read_record(paths[0]).per_task("online_accuracy")) == 10


def test_folder_that_cannot_be_written_to_is_a_sentence(results, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        ResultsError, match=r"cannot be written to .*file.*Make it writable, make room, or choose another folder"
    ):
        results.add(results.spec(), 0.5, root=tmp_path / "file" / "results")


@pytest.mark.parametrize("failing_call", range(7))  # five files, the directory, its parent
def test_full_disk_publishes_nothing_partial(results, monkeypatch, failing_call):
    calls = iter(range(100))
    fsync = os.fsync

    def full(descriptor):
        if next(calls) == failing_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    if failing_call < 6:
        with pytest.raises(ResultsError, match="No space left on device"):
            results.add(results.spec(), 0.5)
        assert list((results.root / "runs").iterdir()) == []
    else:  # already renamed: the record is whole
        assert read_record(results.add(results.spec(), 0.5)).outcome == "completed"


WRITER = """
import importlib.util, os, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
calls, fsync = iter(range(100)), os.fsync
def hang(descriptor):
    if next(calls) == int(sys.argv[3]):
        print("hanging", flush=True)
        time.sleep(60)
    fsync(descriptor)
os.fsync = hang
helpers.Results(Path(sys.argv[2])).add(helpers.make_spec(), 0.5)
"""


@pytest.mark.parametrize("call", [0, 3, 5])  # in the first file, in the measurements, just before the rename
def test_killed_writer_leaves_no_record(results, call):
    helpers = Path(__file__).with_name("conftest.py")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(helpers), str(results.root), str(call)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "hanging\n"
        process.kill()
    left = list((results.root / "runs").iterdir())
    assert [p.suffix for p in left] == [".partial"]
    assert find_records(results.root) == find_records(results.root / "runs") == []
    published = results.add(results.spec(), 0.5)
    remove_cut_short(results.root)
    assert list((results.root / "runs").iterdir()) == [published]  # what the kill left is gone


def test_of_a_log_that_is_none_of_ours_the_end_is_kept(results, tmp_path, monkeypatch):
    monkeypatch.setattr("lopbench.results.record.MOST_LOG_BYTES", 10)
    log, spec = tmp_path / "log.txt", results.spec()
    with log.open("wb") as file:
        file.truncate(2**40)  # has holes, and takes no room
        file.seek(0, os.SEEK_END)
        file.write(b"the end")
    path = write_record(
        results.root, spec.recorded(), spec.run_id, {"device": "cpu"}, results.status(), results.fill({}), log
    )
    assert (path / "log.txt").read_bytes() == b"\0\0\0the end"


def test_a_log_that_is_a_device_is_a_sentence(results):
    spec = results.spec()
    with pytest.raises(ResultsError, match=r"cannot be written to .*: it is no file, but a folder, pipe or device"):
        write_record(
            *(results.root, spec.recorded(), spec.run_id, {"device": "cpu"}, results.status(), results.fill({})),
            "/dev/zero",
        )
    assert not is_recorded(results.root, spec)


def test_what_was_cut_short_is_removed_once_the_record_is_written(results):
    published, other = results.add(results.spec(), 0.5), record_path(results.root, results.spec(seed=1))
    for path in (published, other):
        cut_short = path.with_name(f".{path.name}.0123abcd.partial")
        cut_short.mkdir()
        (cut_short / "spec.json").touch()
    remove_cut_short(results.root)
    # Another process may be writing the record that is not there yet.
    assert sorted(path.name for path in published.parent.iterdir()) == [
        f".{other.name}.0123abcd.partial",
        published.name,
    ]
    remove_cut_short(results.root / "nowhere")


def test_newer_schema_is_refused(run):
    edit(run / "spec.json", lambda spec: spec.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(ResultsError, match=rf"newer lopbench \(record schema {SCHEMA_VERSION + 1}.*upgrade lopbench"):
        read_record(run)


def test_changed_spec_is_refused(run):
    edit(run / "spec.json", lambda spec: spec.update(seed=1))
    with pytest.raises(ResultsError, match=r"run id .* one was changed"):
        read_record(run)


@pytest.mark.parametrize("name", ["spec.json", "environment.json", "status.json", "measurements.parquet"])
def test_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(ResultsError, match=f"{run.name} is damaged: {name} is missing"):
        read_record(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
@pytest.mark.parametrize("name", ["spec.json", "environment.json", "status.json"])
def test_damaged_json_is_named(run, name, content):
    (run / name).write_bytes(content)
    with pytest.raises(ResultsError, match=f"is damaged: {name} is not"):
        read_record(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("status", "done"), ("steps", "many"), ("train_time_s", None), ("peak_bytes", True), ("error", 3)],
)
def test_damaged_status_is_named(run, key, value):
    edit(run / "status.json", lambda status: status.update({key: value}))
    with pytest.raises(ResultsError, match=f"status.json: {key} must be"):
        read_record(run)


@pytest.mark.parametrize(
    ("idle", "said"),
    [
        ([], "idle is not of the 1 methods of spec.json"),
        ([None, "off"], "idle is not of the 1 methods of spec.json"),
        (["lazy"], r"idle\[0\] must be one of"),
        ("off", "idle must be array"),
    ],
)
def test_what_says_why_methods_changed_nothing_is_of_the_methods(results, idle, said):
    path = results.add(results.spec(results.component("methods", "m")), 0.5, idle=["off"])
    assert read_record(path).status["idle"] == ["off"]
    edit(path / "status.json", lambda status: status.pop("idle"))
    assert "idle" not in read_record(path).status  # of an older lopbench
    edit(path / "status.json", lambda status: status.update(idle=idle))
    with pytest.raises(ResultsError, match=f"status.json: {said}"):
        read_record(path)


def test_incomplete_status_is_named(run):
    edit(run / "status.json", lambda status: status.pop("sessions"))
    with pytest.raises(ResultsError, match="sessions is missing"):
        read_record(run)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"name": "adam", "fields": {"lr": -1.0}}},
        {"optimizer": {"name": "adam"}},
        {"scenario": None},
        {"kind": 1},
    ],
)
def test_spec_that_is_none_is_refused(run, change):
    value = json.loads((run / "spec.json").read_text())
    value |= change
    (run / "spec.json").write_text(json.dumps(value))
    moved = run.rename(run.with_name("edited-" + digest(value, 16)))
    with pytest.raises(ResultsError, match="is damaged"):
        read_record(moved)


@pytest.mark.parametrize("change", [{"method": "a\x1b[1mb"}, {"ranked": "no"}, {"headline": None}])
def test_what_tables_show_is_checked(run, change):
    edit(run / "spec.json", lambda spec: spec["shown"].update(change))
    with pytest.raises(ResultsError, match=r"is damaged: spec\.json: "):
        read_record(run)


def test_what_tables_show_is_no_part_of_the_identity(run):
    before = read_record(run)
    edit(run / "spec.json", lambda spec: spec["shown"].update(method="so called", ranked=False))
    after = read_record(run)
    assert (after.spec.method_label, after.spec.is_ranked) == ("so called", False)
    assert (after.run_id, after.protocol_id, after.spec_json) == (before.run_id, before.protocol_id, before.spec_json)
    edit(run / "spec.json", lambda spec: spec.pop("shown"))  # of an older lopbench
    assert read_record(run).spec.shown is None
    assert read_record(run).spec.recorded() == before.spec.recorded()


def test_truncated_measurements_are_damaged(run):
    content = (run / "measurements.parquet").read_bytes()
    (run / "measurements.parquet").write_bytes(content[: len(content) // 2])
    record = read_record(run)
    with pytest.raises(ResultsError, match=r"measurements.parquet cannot be read"):
        _ = record.measurements


class Bomb:
    def __reduce__(self):
        return (os._exit, (1,))


def test_a_pickle_named_parquet_is_never_executed(run):
    (run / "measurements.parquet").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ResultsError, match=r"measurements.parquet cannot be read"):
        _ = read_record(run).table


def test_foreign_columns_are_refused(run):
    pq.write_table(pa.table({"step": [1], "value": [0.5]}), run / "measurements.parquet")
    with pytest.raises(ResultsError, match="has the columns"):
        _ = read_record(run).table
    with pytest.raises(ResultsError, match=r"measurements.parquet has no column 'layer'"):
        read_record(run).series("online_accuracy")


def test_two_rows_of_one_task_are_refused(results):
    rows = results.fill({0: 0.5})
    rows.add(1, 0, "online_accuracy", 0.6)
    spec = results.spec()
    path = write_record(results.root, spec.to_json(), spec.run_id, {}, results.status(), rows, None)
    with pytest.raises(ResultsError, match="online_accuracy stands more than once"):
        read_record(path).per_task("online_accuracy")


def test_per_task_leaves_out_layers_and_other_metrics(results):
    rows = results.fill({0: 0.5, 1: 0.75})
    rows.add(1, 0, "online_accuracy", 0.9, layer="fc1")
    spec = results.spec()
    path = write_record(results.root, spec.to_json(), spec.run_id, {}, results.status(), rows, None)
    assert read_record(path).per_task("online_accuracy") == {0: 0.5, 1: 0.75}


def test_records_are_found_from_every_level_and_once(results):
    paths = [results.add(results.spec(seed=seed), 0.5) for seed in range(3)]
    (results.root / "runs" / "README.md").write_text("not a run")
    (results.root / "runs" / ".other.partial").mkdir()
    for places in (
        [results.root],
        [results.root / "runs"],
        paths,
        [results.root, paths[0], str(results.root / "runs")],
    ):
        assert sorted(record.spec.seed for record in find_records(*places)) == [0, 1, 2]


@pytest.mark.parametrize("denied", ["spec.json", "measurements.parquet", ""])
def test_a_record_that_may_not_be_read_is_left_out_and_told(results, monkeypatch, denied):
    """The tests may run as one who may read everything, so the refusals of the system are made here."""
    first, second = (results.add(results.spec(seed=seed), 0.5) for seed in (0, 1))
    stat, opened = os.stat, stored.open_regular

    def refused(path):
        return str(path).startswith(str(first / denied)) and path != first

    def deny(real):
        def call(path, *arguments, **options):
            if refused(path):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return call

    if not denied:  # a folder that may not be entered
        monkeypatch.setattr(os, "stat", deny(stat))
    monkeypatch.setattr(stored, "open_regular", deny(opened))
    if denied == "measurements.parquet":
        with pytest.raises(ResultsError, match=r"cannot be read: measurements\.parquet: Permission denied"):
            _ = read_record(first).table
        return
    records, problems = scan_records(results.root / "runs" if denied else results.root)
    assert [record.path for record in records] == [second]
    assert [str(problem) for problem in problems] == [
        f"The run record {first} cannot be read: spec.json: Permission denied. Give yourself the right to read it, or "
        "copy the record."
    ]


def test_links_in_a_circle_spoil_no_folder(results):
    results.add(results.spec(), 0.5)
    runs = results.root / "runs"
    for name in ("circle", "circle.lopbench"):
        (runs / name).symlink_to(name)
    (runs / "gone").symlink_to("nowhere")
    records, problems = scan_records(results.root)
    assert len(records) == 1
    assert [str(problem) for problem in problems] == [
        f"{runs / 'circle.lopbench'} cannot be read: Too many levels of symbolic links."
    ]
    with pytest.raises(ResultsError, match="circle is not a folder; give a results folder"):
        scan_records(runs / "circle")


def test_empty_folder_holds_no_records_and_a_missing_one_is_an_error(tmp_path):
    assert find_records(tmp_path) == []
    with pytest.raises(ResultsError, match="does not exist"):
        find_records(tmp_path / "absent")


def test_damaged_record_among_good_ones_is_named(results, run):
    results.add(results.spec(seed=1), 0.5)
    (run / "status.json").unlink()
    with pytest.raises(ResultsError, match=run.name):
        find_records(results.root)


def test_record_directory_is_readable_by_others(results, run):
    umask = os.umask(0)
    os.umask(umask)
    assert run.stat().st_mode & 0o777 == 0o777 & ~umask


def test_measurements_read_as_plain_pandas(run):
    frame = pd.read_parquet(run / "measurements.parquet")
    assert frame.query("metric == 'online_accuracy'")["value"].tolist() == [0.5] * 10


# -- hostile and broken folders


def test_the_good_records_are_read_beside_the_damaged(results, run):
    good = results.add(results.spec(seed=1), 0.5)
    (run / "status.json").unlink()
    (results.root / "runs" / "foreign").mkdir()
    (results.root / "runs" / "foreign" / "photo.jpg").write_bytes(b"\xff\xd8")
    records, problems = scan_records(results.root)
    assert [record.path for record in records] == [good]
    assert [name for problem in problems for name in (run.name, "foreign") if f"/{name} " in str(problem)] == [
        "foreign",
        run.name,
    ]


@pytest.mark.parametrize("name", ["spec.json", "environment.json", "status.json", "measurements.parquet"])
def test_a_link_in_place_of_a_file_is_not_followed(run, tmp_path, name):
    outside = (run / name).rename(tmp_path / name)
    (run / name).symlink_to(outside)
    with pytest.raises(ResultsError, match=rf"{run.name} is damaged: {name} is a link"):
        _ = read_record(run).table


@pytest.mark.parametrize("name", ["spec.json", "status.json", "measurements.parquet"])
def test_a_pipe_in_place_of_a_file_does_not_hang(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(ResultsError, match=rf"{name} is (no file|missing)"):
        _ = read_record(run).table


@pytest.mark.parametrize("name", ["spec.json", "status.json", "measurements.parquet"])
def test_a_file_far_larger_than_any_of_ours_is_not_read(run, name):
    os.truncate(run / name, 2**40)
    with pytest.raises(ResultsError, match=rf"{name}: it has 1099511627776 bytes, at most"):
        read_record(run).measurements.sum()


def test_measurements_that_claim_far_more_rows_than_any_run_are_not_read(run, monkeypatch):
    monkeypatch.setattr("lopbench.results.stored._MOST_ROWS", 3)
    with pytest.raises(ResultsError, match=r"says that it holds \d+ rows of .* bytes; at most 3 rows are read"):
        read_record(run).table  # noqa: B018


def test_links_out_of_the_folder_are_left_out_and_named(results, run, tmp_path):
    elsewhere = results.add(results.spec(seed=1), 0.5, root=tmp_path / "elsewhere")
    link = run.parent / elsewhere.name
    link.symlink_to(elsewhere)
    records, (problem,) = scan_records(results.root)
    assert [record.path for record in records] == [run]
    assert f"{link} is a link to {elsewhere}, out of the results folder" in str(problem)
    assert len(scan_records(results.root, elsewhere)[0]) == 2  # unless it is named itself


def test_links_within_the_folder_and_to_it_count_once(results, run, tmp_path):
    (run.parent / "again").symlink_to(run)
    (tmp_path / "link").symlink_to(results.root)
    records, problems = scan_records(results.root, tmp_path / "link")
    assert len(records) == 1
    assert problems == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"steps": 1e999}', "1e999, which is too large, is no JSON number"),
        (b"[" * 200_000, "is not JSON"),
        (b" " * (2**24 + 1), "has 16777217 bytes"),
        (b'{"steps": 1' + b"0" * 5000 + b"}", "is not JSON"),
    ],
)
def test_json_that_is_none_is_refused(run, content, said):
    (run / "status.json").write_bytes(content)
    with pytest.raises(ResultsError, match=f"status.json.*{said}"):
        read_record(run)


@pytest.mark.parametrize("name", ["m\x1b[2J", "m\u202e", "m\ud800", "m\n"])
def test_names_that_a_terminal_would_obey_are_refused(results, name):
    value = results.spec(results.component("methods", name, track="replay")).to_json()
    path = results.root / "runs" / f"x-{digest(value, 16)}"
    path.mkdir(parents=True)
    (path / "spec.json").write_text(json.dumps(value))
    with pytest.raises(ResultsError, match="has characters that cannot be printed"):
        read_record(path)


def test_nulls_in_measurements_are_refused_but_for_values(run):
    table = pq.read_table(run / "measurements.parquet").to_pydict()
    table["task"][0] = None
    kinds = [pa.int64(), pa.int32(), pa.string(), pa.string(), pa.float64()]
    arrays = [pa.array(table[key], kind) for key, kind in zip(table, kinds, strict=True)]
    pq.write_table(pa.table(arrays, names=list(table)), run / "measurements.parquet")
    with pytest.raises(ResultsError, match=r"has the columns .*task: int32[^n]*layer"):
        read_record(run).per_task("chance")


def test_many_foreign_folders_are_told_of_and_hurt_nobody(results, run):
    for number in range(2_000):
        (run.parent / f"x{number}").mkdir()
    records, problems = scan_records(results.root)
    assert len(records) == 1
    assert len(problems) == 2_000
    assert all("spec.json is missing" in str(problem) for problem in problems)


def test_measurements_read_whole_and_per_task_agree(results):
    rows = results.fill({0: 0.5, 3: 0.25}, {0: 0.125}, metrics={"online_accuracy": {0: 0.9}})
    spec = results.spec()
    record = read_record(write_record(results.root, spec.to_json(), spec.run_id, {}, results.status(), rows, None))
    frame = record.measurements
    for metric in ("chance", "online_accuracy", "heldout_accuracy", "nothing"):
        mine = frame[(frame["metric"] == metric) & (frame["layer"] == "")]
        assert record.per_task(metric) == dict(zip(mine["task"], mine["value"], strict=True))


def test_records_of_one_kind_share_their_specs(results):
    for seed in range(3):
        results.add(results.spec(seed=seed), 0.5)
    records = find_records(results.root)
    assert [record.spec.seed for record in records] == [record.spec_json["seed"] for record in records] == [0, 1, 2]
    assert all(record.run_id == record.spec.run_id for record in records)
    assert records[0].spec.scenario is records[2].spec.scenario


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("continual", "none, seed 0"),
        ("fresh", "none on fresh networks, seed 0"),
        ("development", "none, tuning, seed 0"),
    ],
)
def test_a_record_is_named_by_what_its_run_was_for(results, kind, name):
    results.add(replace(results.spec(), kind=kind), dict.fromkeys(range(10), 0.5))
    (record,) = find_records(results.root)
    assert repr(record).startswith(f"Record({name}, toy@")
