import io
import json
import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.compare import compare
from lopbench.results.leaderboard import board, leaderboard
from lopbench.results.pack import pack, unpack
from lopbench.results.packed import MANIFEST, MEMBERS, PACK_VERSION, RECORDS
from lopbench.results.record import Measurements, find_records, read_record, scan_records, write_record
from lopbench.results.stored import LOG, MEASUREMENTS

OLD = Path(__file__).with_name("old_records")


def files_under(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def assemble(path, contents, *, names=MEMBERS, method=zipfile.ZIP_STORED):
    """Write a packed set by hand, its manifest's sizes and hashes being those of what it holds."""
    import hashlib

    manifest = json.loads(contents[MANIFEST])
    for name, part in manifest["files"].items():
        part["bytes"], part["sha256"] = len(contents[name]), hashlib.sha256(contents[name]).hexdigest()
    contents = {**contents, MANIFEST: json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, contents[name])


def parquet(table, **options):
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@pytest.fixture
def runs(results, tmp_path):
    """Records of all kinds: with layers, with holes, that stopped, without rows, without a log."""
    method = results.component("methods", "m", track="boundary-free", strength=0.5)
    log = tmp_path / "log"
    log.write_bytes(b"started\n\xff not UTF-8\n")
    for seed in range(3):
        spec = results.spec(method, seed=seed)
        results.add(
            spec, 0.5 + seed / 10, dict.fromkeys(range(10), 0.25), metrics={"dead_fraction": {0: 0.1, 5: float("nan")}}
        )
        results.add(results.spec(seed=seed), 0.4 + seed / 100)
        results.add(spec.reference(), 0.8)
    spec = results.spec(seed=3)
    rows = results.fill({0: 0.5, 1: float("nan"), 2: -0.0})
    status = results.status("diverged", diverged_at=2)
    write_record(results.root, spec.to_json(), spec.run_id, {"device": "cuda"}, status, rows, log)
    spec = results.spec(seed=4)
    status = results.status("failed", error="out of memory", steps=0, train_time_s=0.0)
    empty = write_record(results.root, spec.to_json(), spec.run_id, {}, status, Measurements(), None)
    (empty / LOG).unlink()
    return results.root


@pytest.fixture
def packed(runs, tmp_path):
    return pack(runs, output=tmp_path / "set.lopbench").path


# -- round trip


def test_what_is_unpacked_is_what_was_packed_byte_for_byte(runs, packed, tmp_path):
    made = unpack(packed, tmp_path / "again")
    assert files_under(tmp_path / "again" / "runs") == files_under(runs / "runs")
    assert (made.records, made.rewritten) == (11, 0)
    assert made.loose_bytes == sum(map(len, files_under(runs).values()))
    assert made.packed_bytes == packed.stat().st_size


def test_packed_records_read_as_loose_ones(runs, packed):
    loose, read = find_records(runs), find_records(packed)
    assert len(loose) == len(read) == 11
    for ours, theirs in zip(read, loose, strict=True):
        assert ours.path == packed / theirs.path.name
        assert (ours.spec, ours.spec_json, ours.run_id) == (theirs.spec, theirs.spec_json, theirs.run_id)
        assert ours.spec.shown == theirs.spec.shown
        assert (ours.status, ours.environment) == (theirs.status, theirs.environment)
        assert ours.table.equals(theirs.table)
        assert ours.measurements_digest == theirs.measurements_digest
        assert ours.content_digest == theirs.content_digest
        for metric in ("chance", "online_accuracy", "heldout_accuracy", "dead_fraction", "nothing"):
            assert ours.per_task(metric) == theirs.per_task(metric)
        assert read_record(ours.path).run_id == ours.run_id
    assert {record.spec.shown is None for record in read} == {False, True}  # as now, and as of an older lopbench


def test_packing_gives_the_same_bytes_whatever_the_order_and_the_source(runs, packed, tmp_path):
    paths = sorted((runs / "runs").iterdir(), reverse=True)
    for number, sources in enumerate(([runs], paths, [packed], [packed, *paths[:3]])):
        made = pack(*sources, output=tmp_path / f"{number}.lopbench")
        assert made.path.read_bytes() == packed.read_bytes()


def test_blocks_do_not_show(runs, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("lopbench.results.pack._BLOCK_ROWS", 50)
    made = pack(runs, output=tmp_path / "small.lopbench")
    assert len(json.loads(members(made.path)[MANIFEST])["blocks"]) > 3
    for ours, theirs in zip(reversed(find_records(made.path)), reversed(find_records(packed)), strict=True):
        assert ours.table.equals(theirs.table)
        assert ours.per_task("online_accuracy") == theirs.per_task("online_accuracy")


def test_records_in_many_groups(runs, packed, tmp_path, monkeypatch):
    for module in ("pack", "packed"):
        monkeypatch.setattr(f"lopbench.results.{module}.MOST_RECORDS", 4)
    made = pack(runs, output=tmp_path / "small.lopbench")
    assert [record.status for record in find_records(made.path)] == [record.status for record in find_records(runs)]
    unpack(made.path, tmp_path / "again")
    assert files_under(tmp_path / "again" / "runs") == files_under(runs / "runs")


def test_a_file_that_pyarrow_writes_otherwise_keeps_its_rows_and_its_digest(runs, tmp_path):
    (record, *_) = find_records(runs)
    before = record.measurements_digest
    pq.write_table(record.table, record.path / MEASUREMENTS, compression="gzip")
    (read, *_) = find_records(runs)
    assert read.content_digest == record.content_digest
    assert read.measurements_digest != before
    made = unpack(pack(runs, output=tmp_path / "set.lopbench").path, tmp_path / "again")
    assert made.rewritten == 1
    (again, *_) = find_records(tmp_path / "again")
    assert again.table.equals(record.table)
    assert again.content_digest == record.content_digest
    assert len(find_records(runs, tmp_path / "set.lopbench", tmp_path / "again")) == 33
    assert leaderboard(runs, tmp_path / "set.lopbench", tmp_path / "again")["seeds"].tolist() == [3, 5]


def test_a_record_of_the_first_edition_is_packed_and_unpacked(tmp_path):
    made = pack(OLD, output=tmp_path / "old.lopbench")
    unpack(made.path, tmp_path / "again")
    assert files_under(tmp_path / "again" / "runs") == files_under(OLD)


def test_the_members_are_plain_parquet(packed):
    parts = members(packed)
    assert list(parts) == list(MEMBERS)
    rows = pq.read_table(io.BytesIO(parts[MEASUREMENTS])).to_pandas()
    names = pq.read_table(io.BytesIO(parts[RECORDS])).to_pandas()["name"]
    assert list(rows.columns) == ["run", "row", "step", "task", "layer", "metric", "value"]
    record = read_record(packed / names[2])
    mine = rows[rows["run"] == 2].sort_values("row").drop(columns=["run", "row"]).reset_index(drop=True)
    assert mine.equals(record.measurements)


def test_one_row_more_changes_the_digest(results):
    digests = set()
    for changes in ({}, {"task": 1}, {"step": 1}, {"metric": "n"}, {"layer": "m"}, {"value": -0.0}, {"value": 1e-300}):
        rows = Measurements()
        rows.add(**{"step": 0, "task": 0, "metric": "m", "value": 0.0, "layer": "", **changes})
        spec = results.spec()
        root = results.root / str(len(digests))
        path = write_record(root, spec.to_json(), spec.run_id, {}, results.status(), rows, None)
        digests.add(read_record(path).content_digest)
    assert len(digests) == 7


# -- in the place of a folder


def test_the_leaderboard_is_that_of_the_folder(runs, packed):
    assert leaderboard(packed).equals(leaderboard(runs))
    assert board(packed).overall.equals(board(runs).overall)


def test_a_folder_may_hold_packed_sets_beside_loose_runs(runs, packed, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    paths = sorted((runs / "runs").iterdir())
    pack(*paths[:4], output=mixed / "a.lopbench")
    (mixed / "runs").mkdir()
    pack(*paths[3:8], output=mixed / "runs" / "b.lopbench")
    for path in paths[7:]:
        shutil.copytree(path, mixed / "runs" / path.name)
    assert [record.run_id for record in find_records(packed)] == sorted(
        {record.run_id for record in find_records(mixed)},
        key=[record.run_id for record in find_records(packed)].index,
    )
    assert leaderboard(mixed).equals(leaderboard(runs))  # what stands there twice counts once
    assert len(scan_records(packed, mixed / "a.lopbench", mixed)[0]) == 11 + 4 + 5 + 4


def test_one_run_of_a_set_can_be_named(packed):
    names = [record.path.name for record in find_records(packed)]
    (record,) = find_records(packed / names[1])
    assert record.path == packed / names[1]
    with pytest.raises(ResultsError, match=r"set\.lopbench has no record 'x'; it has 11 others"):
        read_record(packed / "x")
    with pytest.raises(ResultsError, match="is a file, not one record"):
        read_record(packed)


def test_comparisons_take_a_set_in_the_place_of_a_folder(results, tmp_path, many_seeds):
    method = results.component("methods", "m", track="boundary-free")
    many_seeds([0.5, 0.55, 0.5, 0.52, 0.51])
    many_seeds([0.6, 0.65, 0.61, 0.6, 0.62], method)
    path = pack(results.root, output=tmp_path / "set.lopbench").path
    ours, theirs = (compare(str(place)).rows.drop(columns="source", errors="ignore") for place in (path, results.root))
    assert not ours.empty
    text, where = ours.to_csv(), theirs.to_csv()
    assert text.replace(str(path), "X") == where.replace(str(results.root), "X")


def test_a_damaged_set_in_a_folder_is_left_out_and_named(runs, packed, tmp_path):
    shutil.copy(packed, runs / "other.lopbench")
    (runs / "other.lopbench").write_bytes(packed.read_bytes()[:-1])
    records, (problem,) = scan_records(runs)
    assert len(records) == 11
    assert "other.lopbench is cut off" in str(problem)


def test_a_link_out_of_the_folder_is_left_out(runs, packed):
    (runs / "link.lopbench").symlink_to(packed)
    records, (problem,) = scan_records(runs)
    assert len(records) == 11
    assert "link.lopbench is a link to" in str(problem)


# -- what cannot be packed or unpacked


def test_what_would_be_lost_is_refused(runs, tmp_path):
    run = min((runs / "runs").iterdir())
    (run / "notes.txt").write_text("mine")
    with pytest.raises(ResultsError, match=rf"{run.name} holds notes.txt, which is no file of a record"):
        pack(runs, output=tmp_path / "set.lopbench")
    assert not list(tmp_path.glob("*set*"))


def test_damaged_and_missing_runs_are_refused(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="There are no runs in"):
        pack(tmp_path / "empty", output=tmp_path / "a.lopbench")
    (min((runs / "runs").iterdir()) / "status.json").unlink()
    with pytest.raises(ResultsError, match=r"status\.json is missing"):
        pack(runs, output=tmp_path / "a.lopbench")
    with pytest.raises(ResultsError, match=r"has to end in \.lopbench"):
        pack(runs, output=tmp_path / "a.zip")


def test_two_results_of_one_run_are_refused(results, runs, tmp_path):
    results.add(results.spec(seed=0), 0.9, root=tmp_path / "other")
    with pytest.raises(ResultsError, match="are the same run with different results"):
        pack(runs, tmp_path / "other", output=tmp_path / "set.lopbench")


def test_unpacking_overwrites_nothing(results, packed, tmp_path):
    unpack(packed, tmp_path / "again")
    before = files_under(tmp_path / "again")
    unpack(packed, tmp_path / "again")
    assert files_under(tmp_path / "again") == before
    results.add(results.spec(seed=0), 0.9, root=tmp_path / "other")
    with pytest.raises(ResultsError, match="is there, with other results than the same run has in"):
        unpack(packed, tmp_path / "other")


def test_folders_that_cannot_be_written_to_are_a_sentence(runs, packed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match=r"cannot be unpacked into .*file/runs: "):
        unpack(packed, tmp_path / "file")
    with pytest.raises(ResultsError, match=r"set\.lopbench cannot be written: "):
        pack(runs, output=tmp_path / "absent" / "set.lopbench")


def test_an_interrupted_packing_leaves_the_old_file(runs, packed, monkeypatch):
    before = packed.read_bytes()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("lopbench.results.pack.write_container", full)
    with pytest.raises(ResultsError, match="No space left"):
        pack(runs, output=packed)
    assert packed.read_bytes() == before
    assert [path.name for path in packed.parent.iterdir() if "set.lopbench" in path.name] == [packed.name]


# -- broken and hostile files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n", r"a file that begins with b'\\x89PNG'"),
        (b"<!doctype html>", "a file that begins with b'<!do'"),
        (b"PK\x03\x04" + b"\0" * 100, "is cut off"),
        (pickle.dumps(os.getcwd), "a file that begins with"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "x.lopbench"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=rf"x\.lopbench .*expected a zip of manifest\.json.*|{said}") as caught:
        find_records(path)
    assert said.replace("\\\\", "\\") in str(caught.value)


def test_pipes_and_missing_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.lopbench")
    records, (problem,) = scan_records(tmp_path)
    assert records == []
    assert "expected a file, found a pipe" in str(problem)
    with pytest.raises(ResultsError, match="give a results folder, a run directory or a packed set"):
        find_records(tmp_path / "absent.lopbench")


def test_a_compressed_zip_is_refused_before_anything_grows(packed):
    contents = members(packed)
    contents[MEASUREMENTS] = b"\0" * 50_000_000
    assemble(packed, contents, method=zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 100_000
    with pytest.raises(ResultsError, match=r"found something compressed, or damaged in place of manifest\.json"):
        find_records(packed)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((MANIFEST, RECORDS), "found one of 2 files"),
        ((RECORDS, MANIFEST, MEASUREMENTS), r"found 'records\.parquet' in place of manifest\.json"),
        ((MANIFEST, RECORDS, "../../evil"), r"found '../../evil' in place of measurements\.parquet"),
    ],
)
def test_other_members_are_refused(packed, names, said):
    assemble(packed, {**members(packed), "../../evil": b"x"}, names=names)
    with pytest.raises(ResultsError, match=said):
        find_records(packed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pack_version": PACK_VERSION + 1}, r"packed by a newer lopbench \(pack version 2, this one reads up to 1\)"),
        ({"schema_version": 99}, r"packed by a newer lopbench \(schema version 99"),
        ({"format": "else"}, "the format 'else', not 'lopbench packed set'"),
        ({"records": "many"}, "'many' in place of a whole number"),
        ({"records": 12}, "should have 12 rows by the manifest, and has 11"),
        ({"records": True}, "in place of a whole number"),
        ({"rows": 1}, "should have 1 rows by the manifest"),
        ({"blocks": [0, 0]}, "other files or blocks"),
        ({"blocks": [1]}, "other files or blocks"),
        ({"files": {}}, "other files or blocks"),
        ({"blocks": None}, "found "),
    ],
)
def test_what_the_manifest_says_is_checked(packed, change, said):
    contents = members(packed)
    manifest = json.loads(contents[MANIFEST]) | change
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, json.dumps(manifest) if name == MANIFEST else content)
    with pytest.raises(ResultsError, match=said):
        _ = [record.per_task("chance") for record in find_records(packed)]


@pytest.mark.parametrize("name", [RECORDS, MEASUREMENTS])
def test_one_changed_byte_is_found_by_the_hash(packed, name):
    data = bytearray(packed.read_bytes())
    data[data.index(members(packed)[name]) + 1000] ^= 1
    packed.write_bytes(data)
    with pytest.raises(ResultsError, match=rf"{name} should have the SHA-256 \w+\.\.\. by the manifest, and has \w+"):
        find_records(packed)


def with_table(path, name, change, **options):
    """Change one of the Parquet files of a packed set, hashes and all."""
    contents = members(path)
    table = change(pq.read_table(io.BytesIO(contents[name])))
    contents[name] = parquet(table, **options)
    assemble(path, contents)


@pytest.mark.parametrize("name", ["../../evil", "/etc/x", ".hidden", "a\x1b[2Jb", "", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(packed, tmp_path, name):
    def change(table):
        return table.set_column(0, table.schema.field(0), pa.array([name, *table["name"].to_pylist()[1:]]))

    with_table(packed, RECORDS, change)
    with pytest.raises(ResultsError, match="which is no name of a directory of ours"):
        unpack(packed, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_names_that_stand_twice_are_refused(packed):
    def change(table):
        names = table["name"].to_pylist()
        return table.set_column(0, table.schema.field(0), pa.array([names[1], *names[1:]]))

    with_table(packed, RECORDS, change)
    with pytest.raises(ResultsError, match="names of records are not in order"):
        find_records(packed)


def test_a_changed_spec_in_a_set_is_refused(packed):
    def change(table):
        specs = [spec.replace(b'"seed": 0', b'"seed": 7') for spec in table["spec"].to_pylist()]
        return table.set_column(1, table.schema.field(1), pa.array(specs, pa.binary()))

    with_table(packed, RECORDS, change)
    records, problems = scan_records(packed)
    assert len(records) == 11 - len(problems) < 11
    assert all("one was changed. Get the packed set again" in str(problem) for problem in problems)


def test_changed_measurements_are_found_where_all_are_read(packed, tmp_path):
    """With hashes made anew nobody but the digest of each record tells."""
    contents = members(packed)
    source = pq.ParquetFile(io.BytesIO(contents[MEASUREMENTS]))
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, source.schema_arrow) as writer:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            halved = pa.array([value and value / 2 for value in table["value"].to_pylist()], pa.float64())
            writer.write_table(table.set_column(6, table.schema.field(6), halved))
    contents[MEASUREMENTS] = buffer.getvalue()
    assemble(packed, contents)
    with pytest.raises(ResultsError, match="its measurements are not those of its digest"):
        unpack(packed, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (
            lambda table: table.drop_columns(["row"]),
            {},
            r"has the columns pyarrow\.Field<run: int32 not null>, pyarrow\.Field<step",
        ),
        (lambda table: table, {}, "is not laid out as lopbench packs it"),
        (lambda table: table, {"write_statistics": False}, "lacks the statistics"),
        (lambda table: table.slice(1), {}, "rows by the manifest"),
    ],
)
def test_other_layouts_of_measurements_are_refused(packed, change, options, said):
    with_table(packed, MEASUREMENTS, change, **options)
    records = find_records(packed)
    with pytest.raises(ResultsError, match=said):
        records[0].per_task("chance")


def test_a_group_of_more_rows_than_are_ever_written_is_refused(packed, monkeypatch):
    monkeypatch.setattr("lopbench.results.packed.MOST_ROWS", 20)
    with pytest.raises(ResultsError, match=r"claims \d+ rows and [\d,]+ bytes in one group, more than lopbench writes"):
        find_records(packed)[0].per_task("chance")


def told_or_right(path, right):
    """Say whether a set that was damaged is refused in a sentence that names it; else it must read as it was."""
    try:
        records = find_records(path)
        tables = [record.table for record in records]
        read = [(record.spec, record.status, record.environment) for record in records]
    except ResultsError as error:
        return path.name in str(error) and "\n" not in str(error)
    assert all(ours.equals(theirs) for ours, theirs in zip(tables, right[0], strict=True))
    assert read == right[1]
    return False


def damage(data, draw):
    """Return data with some damage: a bit flipped, bytes cut, left out, put in, overwritten or swapped."""
    data = bytearray(data)
    start, size = draw.randrange(len(data)), draw.randrange(1, 64)
    kind = draw.choice(["bit", "cut", "out", "in", "zero", "random", "swap"])
    if kind == "bit":
        data[start] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del data[start:]
    elif kind == "out":
        del data[start : start + size]
    elif kind == "in":
        data[start:start] = draw.randbytes(size)
    elif kind == "swap":
        half = len(data) // 2
        data = data[half:] + data[:half]
    else:
        part = data[start : start + size]
        data[start : start + size] = bytes(len(part)) if kind == "zero" else draw.randbytes(len(part))
    return bytes(data)


def test_a_corpus_of_damaged_sets_is_refused_or_reads_as_it_was(packed, tmp_path):
    records = find_records(packed)
    right = [record.table for record in records], [(r.spec, r.status, r.environment) for r in records]
    whole, draw = packed.read_bytes(), random.Random(20_260_101)
    path = tmp_path / "damaged.lopbench"
    told = 0
    for _ in range(300):
        path.write_bytes(damage(whole, draw))
        told += told_or_right(path, right)
    assert told > 250  # bytes of the zip that nobody needs, such as the date of a file, may change


@pytest.mark.parametrize("name", MEMBERS)
def test_damaged_members_with_hashes_made_anew_raise_nothing_else(packed, tmp_path, name):
    contents, draw = members(packed), random.Random(20_260_101)
    path = tmp_path / "damaged.lopbench"
    told = 0
    for _ in range(60):
        changed = {**contents, name: damage(contents[name], draw)}
        if name == MANIFEST:
            with zipfile.ZipFile(path, "w") as archive:
                for each in MEMBERS:
                    archive.writestr(each, changed[each])
        else:
            assemble(path, changed)
        try:
            for record in scan_records(path)[0]:
                record.per_task("chance")
                _ = record.table
        except ResultsError as error:
            told += path.name in str(error)
    assert told > 40
