"""What runs that were stopped leave behind, and who may take it up."""

import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.record import record_path
from lopbench.runner.checkpoint import DamagedError, load_checkpoint, steps_of
from lopbench.runner.claims import BusyError
from lopbench.runner.holder import Holder
from lopbench.runner.status import status
from lopbench.runner.unfinished import (
    LOG,
    MEMBERS,
    checkpoint_name,
    folder_of,
    make_folder,
    members_of,
    resumable,
    tidy,
)


@pytest.fixture
def specs(make_study):
    """Four runs, which differ in their seed."""
    return list(make_study(seeds=range(4)).specs)


def stop(results, specs, *, checkpoint=True):
    """Leave a folder of ``specs`` behind."""
    folder = make_folder(results, specs)
    if checkpoint:
        (folder / checkpoint_name("a")).write_bytes(b"")
    return folder


def publish(results, *specs):
    for spec in specs:
        record_path(results, spec).mkdir(parents=True)
        (record_path(results, spec) / "spec.json").touch()


def left(results):
    return sorted(path.name for path in (results / ".partial").glob("*"))


def test_folder_says_whose_it_is_in_the_order_of_the_replicas(tmp_path, specs):
    folder = make_folder(tmp_path, specs[::-1])
    assert folder == folder_of(tmp_path, specs[::-1])
    assert json.loads((folder / MEMBERS).read_bytes()) == [spec.to_json() for spec in specs[::-1]]
    assert make_folder(tmp_path, specs[::-1]) == folder
    # Replicas in another order have another checkpoint.
    assert folder_of(tmp_path, specs) != folder
    assert folder_of(tmp_path, specs[:1]).name == specs[0].run_id


def test_group_resumes_whole_in_its_own_order(tmp_path, specs):
    stop(tmp_path, specs[2::-1])
    assert resumable(tmp_path, specs) == [specs[2::-1]]
    publish(tmp_path, specs[1])
    assert resumable(tmp_path, [specs[3], specs[0], specs[2]]) == [specs[2::-1]]
    assert resumable(tmp_path, [specs[0], specs[3]]) == []  # one that is left is not asked for


def test_no_run_resumes_twice(tmp_path, specs):
    for group in (specs[:2], specs[1:3], [specs[0]], [specs[3]]):
        stop(tmp_path, group)
    found = [spec.seed for group in resumable(tmp_path, specs) for spec in group]
    assert len(found) == len(set(found))
    assert 3 in found


def test_folder_without_a_checkpoint_has_nothing_to_resume(tmp_path, specs):
    folder = stop(tmp_path, specs[:2], checkpoint=False)
    assert resumable(tmp_path, specs[:1]) == []
    assert folder.exists()  # another process may be at its other run
    assert resumable(tmp_path, specs) == []
    assert not folder.exists()


UNKNOWN = [
    "",
    "[{}]",
    '[{"schema_version": 999}]',
    "null",
    "5",
    "[1]",
    '"\\ud800"',
    '[{"seed": NaN}]',
    "[" * 100_000,
    "[WRONG]",
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_folder_of_unknown_members_is_left_alone(tmp_path, specs, text):
    folder = stop(tmp_path, specs[:2])
    value = specs[0].to_json()
    value["architecture"]["fields"] = 7
    (folder / MEMBERS).write_text(text.replace("WRONG", json.dumps(value)))
    assert resumable(tmp_path, specs) == []
    publish(tmp_path, *specs)
    tidy(tmp_path)
    assert folder.exists()
    assert [each.state for each in status(tmp_path)] == ["damaged"] * 4  # what `publish` made


@pytest.mark.parametrize("name", [MEMBERS, LOG, "checkpoint-ab.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_hangs_nobody(tmp_path, specs, name, make):
    folder = make_folder(tmp_path, specs[:1])
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    tidy(tmp_path)
    assert len(status(tmp_path)) == (name != MEMBERS)
    resumable(tmp_path, specs)
    if name == "checkpoint-ab.safetensors":
        with pytest.raises(DamagedError, match="it is no file, but a folder, pipe or device"):
            load_checkpoint(folder / name)
        assert steps_of(folder / name) == 0
    else:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            make(folder / name)
        with pytest.raises(ResultsError, match=f"{name} is no file"):
            make_folder(tmp_path, specs[:1])


@pytest.mark.parametrize("ending", ["lock", "claim"])
def test_tidy_removes_what_is_published_and_nothing_else(tmp_path, specs, ending):
    whole = stop(tmp_path, specs[:2])
    half, single = stop(tmp_path, specs[1:3]), stop(tmp_path, [specs[3]])
    for name in (f"{specs[0].run_id}.{ending}", f"{specs[2].run_id}.{ending}"):
        (tmp_path / ".partial" / name).touch()
    for folder in (whole, half):
        folder.with_suffix(".attempts").touch()
    publish(tmp_path, *specs[:2])
    tidy(tmp_path)
    assert left(tmp_path) == sorted([half.name, single.name, f"{half.name}.attempts", f"{specs[2].run_id}.{ending}"])
    publish(tmp_path, *specs[2:])
    tidy(tmp_path)
    assert not (tmp_path / ".partial").exists()
    tidy(tmp_path / "nowhere")


@pytest.mark.parametrize("files", [[], [f"{MEMBERS}.new"], [LOG]])
def test_tidy_removes_a_folder_that_does_not_say_whose_it_is(tmp_path, specs, files):
    folder = folder_of(tmp_path, specs[:2])
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    tidy(tmp_path)
    assert not (tmp_path / ".partial").exists()


def test_tidy_leaves_what_could_be_gone_on_from(tmp_path, specs):
    folder = stop(tmp_path, specs[:2])
    (folder / MEMBERS).unlink()
    tidy(tmp_path)
    assert (folder / checkpoint_name("a")).exists()


@pytest.mark.parametrize("members", [True, False])
def test_tidy_removes_nothing_where_a_link_leads(tmp_path, specs, members):
    folder = stop(tmp_path / "elsewhere", specs[:2], checkpoint=False)
    (folder / LOG).touch()
    if not members:
        (folder / MEMBERS).unlink()
    before = sorted(folder.iterdir())
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / folder.name).symlink_to(folder)
    publish(tmp_path, *specs[:2])
    tidy(tmp_path)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("removed", ["mkdir", "write_text"])
def test_folder_that_is_tidied_away_while_it_is_made_is_made_again(tmp_path, specs, monkeypatch, removed):
    usual, calls = getattr(Path, removed), []

    def then_tidied(path, *arguments, **options):
        done = usual(path, *arguments, **options)
        calls.append(path)
        if len(calls) == 1:
            tidy(tmp_path)
        return done

    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / f"{specs[0].run_id}.lock").touch()  # it is claimed
    monkeypatch.setattr(Path, removed, then_tidied)
    folder = make_folder(tmp_path, specs[:2])
    assert len(calls) > 1
    assert len(members_of(folder / MEMBERS)) == 2


def test_removal_of_a_folder_that_a_kill_cuts_short_is_finished_by_the_next_process(tmp_path, specs, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*arguments, **options):
        raise Killed

    folder = stop(tmp_path, specs[:2])
    (folder / LOG).touch()
    publish(tmp_path, *specs[:2])
    monkeypatch.setattr(shutil, "rmtree", kill)
    with pytest.raises(Killed):
        tidy(tmp_path)
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == [MEMBERS]
    tidy(tmp_path)
    assert not folder.exists()


def test_an_empty_folder_is_no_record(tmp_path, specs):
    folder = stop(tmp_path, specs[:1])
    record_path(tmp_path, specs[0]).mkdir(parents=True)
    tidy(tmp_path)
    assert folder.exists()
    with Holder(tmp_path).claimed(specs) as free:
        assert free == specs


def test_claim_yields_what_has_no_record_and_leaves_nothing(tmp_path, specs):
    publish(tmp_path, specs[1])
    with Holder(tmp_path).claimed(specs) as free:
        assert free == [specs[0], specs[2], specs[3]]
        assert left(tmp_path) == sorted(["locks", *(f"{spec.run_id}.lock" for spec in free)])
    assert not (tmp_path / ".partial").exists()


def test_locks_stay_while_there_is_something_to_resume(tmp_path, specs):
    with Holder(tmp_path).claimed(specs):
        folder = stop(tmp_path, specs[:2])
    assert left(tmp_path) == sorted(["locks", folder.name, *(f"{spec.run_id}.lock" for spec in specs[:2])])


def test_what_another_process_is_at_is_refused(tmp_path, specs):
    with Holder(tmp_path).claimed(specs[1:3]):
        with pytest.raises(BusyError), Holder(tmp_path).claimed(specs):
            pass
        with Holder(tmp_path).claimed([specs[0], specs[3]]) as free:
            assert free == [specs[0], specs[3]]


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path, specs):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot be written to: Not a directory"):
        make_folder(tmp_path / "file", specs)
    with pytest.raises(ResultsError, match="cannot be written to"), Holder(tmp_path / "file").claimed(specs):
        pass
    shutil.rmtree(tmp_path)


def hold(results, specs, locks="flock"):
    with Holder(results, locks=locks) as holder, holder.claimed(specs) as left:
        return left


@pytest.mark.parametrize(
    ("name", "take"),
    [
        (".", hold),
        ("locks", hold),
        ("{id}.lock", hold),
        ("{id}", make_folder),
        ("{id}/members.json.new", make_folder),
        ("{id}/log.txt", make_folder),
    ],
)
def test_a_link_that_leads_nowhere_is_told_of_and_not_tried_for_ever(tmp_path, specs, name, take):
    """Who makes a file finds that it is there, and who reads it that it is not."""
    path = tmp_path / "results" / ".partial" / name.format(id=specs[0].run_id)
    path.parent.mkdir(parents=True)
    path.symlink_to(path.with_name("nowhere") / "at all")
    with pytest.raises(ResultsError, match=re.escape(f"The results folder {tmp_path / 'results'} cannot be written")):
        take(tmp_path / "results", specs[:1])
    assert not path.with_name("nowhere").exists()


def test_a_claim_that_is_a_link_to_nowhere_is_that_of_nobody(tmp_path, specs, monkeypatch):
    monkeypatch.setattr("lopbench.runner.heart.LEASE_S", 0.0)
    path = tmp_path / ".partial" / f"{specs[0].run_id}.claim"
    path.parent.mkdir()
    path.symlink_to("nowhere")
    with pytest.raises(BusyError):  # whose it is has to be seen twice
        hold(tmp_path, specs[:1], "claims")
    with Holder(tmp_path, locks="claims") as holder:
        for _ in range(2):
            with suppress(BusyError), holder.claimed(specs[:1]) as left:
                assert left == specs[:1]
                return
    raise AssertionError("it was not taken over")
