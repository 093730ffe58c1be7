"""Sessions: what is damaged is set aside, and two at one run never damage each other."""

import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lopbench.results.record import record_path
from lopbench.runner import report, session, study
from lopbench.runner.checkpoint import load_checkpoint, save_checkpoint, steps_of
from lopbench.runner.run import Run
from lopbench.runner.session import Clock, PublishedError, Session, TakenOverError
from lopbench.runner.unfinished import LOG, checkpoints, folder_of

TINY = "tinyimagenet40:tasks=6,steps_per_task=4,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"


class Notes(report.Quiet):
    """Keeps what is said, and interrupts after a number of looks."""

    def __init__(self, looks=10**6):
        self.said, self.looks = [], looks

    def note(self, message):
        self.said.append(message)

    def advanced(self, steps, task, tasks, score):
        self.looks -= 1
        if self.looks < 0:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def planned(make_study, monkeypatch):
    """One run of 24 steps."""
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    made = make_study(scenario=TINY, methods=["none", "l2"])
    return replace(made, pending=made.specs)


def stopped(planned, looks=9):
    """Stop the first run after some steps; returns its checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned, Notes(looks), checkpoint_s=0.0)
    (path,) = checkpoints(folder_of(planned.results, planned.specs[:1]))
    return path


def make(planned, notes=None):
    made = Session(planned.specs[:1], planned.results, reporter=notes or report.Quiet(), checkpoint_s=0.0)
    made.open()
    return made


def whole(make_study, planned, tmp_path, record_of):
    """Return the digest of the first run's measurements when nothing disturbs it."""
    plain = replace(make_study(tmp_path / "whole", scenario=TINY), pending=planned.specs[:1])
    assert study.execute(plain) == []
    return record_of(plain, planned.specs[0]).measurements_digest


# -- damage


@pytest.mark.parametrize("damage", ["truncated", "flipped", "other code", "wrong types"])
def test_damaged_checkpoint_is_set_aside_and_its_run_starts_anew(make_study, planned, record_of, tmp_path, damage):
    path = stopped(planned)
    content, found = bytearray(path.read_bytes()), load_checkpoint(path)
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[-50] ^= 1
        path.write_bytes(content)
    else:
        tensors, header = dict(found.tensors), dict(found.header)
        if damage == "other code":
            tensors = {name: tensor for name, tensor in tensors.items() if "losses" not in name}
        else:
            header["clock"] = [1, 2]
        save_checkpoint(path.parent, header["session"], found.steps, tensors, header)
    notes = Notes()
    assert study.execute(planned, notes) == []  # the rest goes on too
    (note,) = [text for text in notes.said if "checkpoint" in text]
    assert note.startswith(f"none, seed 0 (mlp:depth=2,width=16): the checkpoint {path} cannot be used (")
    assert note.endswith("and the run starts from its beginning.")
    record = record_of(planned, planned.specs[0])
    assert record.status["sessions"] == 1
    assert record.measurements_digest == whole(make_study, planned, tmp_path, record_of)
    assert record_path(planned.results, planned.specs[1]).exists()
    assert not (planned.results / ".partial").exists()


def test_damaged_checkpoint_is_kept_under_another_name_until_the_run_is_done(planned):
    path = stopped(planned)
    path.write_bytes(b"x")
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned, Notes(2), checkpoint_s=0.0)
    names = {entry.name for entry in path.parent.iterdir()}
    assert f"{path.name}.damaged" in names
    assert len(checkpoints(path.parent)) == 1


# -- two sessions


def test_session_goes_on_from_the_furthest_whole_checkpoint(planned):
    one = make(planned)
    tensors = {"a": torch.zeros(3)}
    for name, steps in (("one", 5), ("two", 9), ("three", 7), ("four", 11)):
        save_checkpoint(one._folder, name, steps, tensors, {})
    damaged = checkpoints(one._folder)[0]
    assert "four" in damaged.name
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = one.load()
    assert (found.steps, found.header["session"]) == (9, "two")
    one.save(9, tensors, {})
    assert [one.name in path.name for path in checkpoints(one._folder)] == [True]  # in place of those before it


def test_checkpoint_whose_writing_was_cut_short_is_removed(planned):
    path = stopped(planned)
    torn = path.with_name("checkpoint-0123abcd.new")
    torn.write_bytes(path.read_bytes()[:100])
    assert make(planned).load().path == path
    assert not torn.exists()


def test_session_that_is_behind_stops_when_it_would_save(planned):
    tensors = {"a": torch.zeros(3)}
    one, other = make(planned), make(planned)
    one.save(5, tensors, {})
    other.save(9, tensors, {})
    assert sorted(steps_of(path) for path in checkpoints(one._folder)) == [5, 9]
    with pytest.raises(TakenOverError, match="another process works on it and is further"):
        one.save(6, tensors, {})
    other.save(10, tensors, {})  # the other goes on
    one.save(10, tensors, {})  # none is further
    other.save(11, tensors, {})


def test_session_whose_runs_are_recorded_takes_that_for_its_end(planned):
    one = make(planned)
    assert study.execute(replace(planned, pending=planned.specs[:1])) == []
    with pytest.raises(PublishedError):
        one.save(5, {"a": torch.zeros(3)}, {})


def test_session_that_is_done_leaves_the_checkpoint_of_another(planned):
    tensors = {"a": torch.zeros(3)}
    one, other = make(planned), make(planned)
    other.save(4, tensors, {})
    one.save(5, tensors, {})
    one.close()
    assert [other.name in path.name for path in checkpoints(one._folder)] == [True]
    other.close()
    assert not one._folder.exists()


def test_session_goes_on_in_a_folder_that_was_removed_under_it(planned):
    one = make(planned)
    one.begin("the start", Clock())
    shutil.rmtree(one._folder)
    one.log("goes on")
    assert "goes on" in one.log_file.read_text()
    shutil.rmtree(one._folder)
    one.save(5, {"a": torch.zeros(3)}, {})
    assert one.load().steps == 5


def test_session_logs_although_another_removes_its_folder_as_often_as_it_is_made(planned, monkeypatch):
    one, open_, left = make(planned), Path.open, [3]

    def removed(path, *args, **options):
        if path.name == LOG and left[0]:
            left[0] -= 1
            shutil.rmtree(path.parent)
        return open_(path, *args, **options)

    monkeypatch.setattr(Path, "open", removed)
    one.log("goes on")
    assert left == [0]
    assert "goes on" in one.log_file.read_text()


def test_session_saves_again_what_another_removed_half_written(planned, monkeypatch):
    one, replace_ = make(planned), Path.replace

    def removed(path, target):
        monkeypatch.undo()
        make(planned).load()  # another session begins, and takes it for what a kill left
        return replace_(path, target)

    monkeypatch.setattr(Path, "replace", removed)
    one.save(5, {"a": torch.zeros(3)}, {})
    assert one.load().steps == 5


class Elsewhere(report.Quiet):
    """Lets another process do the same run, up to a number of its looks, at a look of this one."""

    def __init__(self, planned, *, at, looks):
        self.planned, self.at, self.looks, self.saw = planned, at, looks, 0

    def advanced(self, steps, task, tasks, score):
        self.saw += 1
        if self.saw == self.at:
            outer = signal.signal(signal.SIGINT, signal.default_int_handler)  # an interrupt is for the other
            with suppress(KeyboardInterrupt):
                run_alone(self.planned, Notes(self.looks))
            signal.signal(signal.SIGINT, outer)


def run_alone(planned, reporter):
    """Do the first run as a process does whose locks do not work."""
    run = Run(
        planned.specs[:1],
        results=planned.results,
        data=planned.images,
        device=torch.device("cpu"),
        reporter=reporter,
        checkpoint_s=0.0,
    )
    return run.execute()


@pytest.mark.parametrize("at", [1, 2, 7, 23])
def test_run_that_another_process_finishes_under_it_ends_with_that_record(make_study, planned, record_of, tmp_path, at):
    digest = whole(make_study, planned, tmp_path, record_of)
    ((outcome, path),) = run_alone(planned, Elsewhere(planned, at=at, looks=10**6))
    assert (outcome, path) == ("completed", record_path(planned.results, planned.specs[0]))
    assert record_of(planned, planned.specs[0]).measurements_digest == digest
    assert not folder_of(planned.results, planned.specs[:1]).exists()


@pytest.mark.parametrize(("at", "looks"), [(3, 12), (8, 15), (20, 2)])
def test_of_two_at_one_run_the_one_behind_stops_and_the_next_session_resumes(
    make_study, planned, record_of, tmp_path, at, looks
):
    digest = whole(make_study, planned, tmp_path, record_of)
    other = Elsewhere(planned, at=at, looks=looks)
    if at + looks < 24:
        with pytest.raises(TakenOverError):
            run_alone(planned, other)
    else:
        run_alone(planned, other)
    assert study.execute(planned) == []
    assert record_of(planned, planned.specs[0]).measurements_digest == digest
