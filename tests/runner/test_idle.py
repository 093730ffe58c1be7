"""Methods that changed nothing in a run."""

import signal
from dataclasses import replace

import pytest

from lopbench.results.record import read_record, record_path
from lopbench.runner import course, study
from lopbench.runner.report import Quiet

IMAGES = "tinyimagenet40:tasks={},steps_per_task=4,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
BITS = {
    "scenario": "bitflip:samples=96,m=8,f=5,T=12,steps_per_task=12,probe_every=6",
    "architecture": None,
    "metrics": [],
}


class Notes(Quiet):
    """Keeps what it is told."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def images(tasks):
    return {"scenario": IMAGES.format(tasks), "metrics": []}


def one_run(make_study, scenario, method, start=0.0):
    planned = make_study(**scenario, methods=[method], start=start)
    return replace(planned, pending=planned.specs[:1])


@pytest.mark.parametrize(
    ("scenario", "method", "start", "idle"),
    [
        (images(2), "shrink_and_perturb", 0.6, ["boundary"]),
        (images(3), "shrink_and_perturb", 0.7, ["boundary"]),
        (images(3), "shrink_and_perturb", 0.6, [None]),
        (images(3), "reset", 0.0, [None]),
        (images(3), "head_reset", 0.0, [None]),
        (images(3), "head_reset:layers=0", 0.0, ["zero"]),
        (images(2), "l2:strength=0", 0.0, ["zero"]),
        (images(2), "l2", 1.0, ["off"]),
        (images(2), "l2", 0.0, [None]),
        (images(2), "noisy_sgd", 0.9, [None]),
        (images(2), "shrink_and_perturb_step", 0.0, [None]),
        (images(2), "dropout", 0.0, [None]),
        (images(2), "dropout:p=0", 0.0, ["zero"]),
        (images(2), "layernorm", 0.0, [None]),
        (images(2), "cbp:maturity=1000", 0.0, ["nothing"]),
        (images(2), "cbp:maturity=2,replacement_rate=0.2", 0.0, [None]),
        (images(2), "noisy_sgd+shrink_and_perturb+l2:strength=0", 0.6, [None, "boundary", "zero"]),
        (images(2), "none", 0.0, []),
        (BITS, "cbp:maturity=2,replacement_rate=0.2", 0.0, [None]),
        (BITS, "cbp:maturity=1000", 0.5, ["nothing"]),
        (BITS, "l2+noisy_sgd:scale=0", 0.5, [None, "zero"]),
    ],
)
def test_a_record_says_of_each_method_why_it_changed_nothing(make_study, record_of, scenario, method, start, idle):
    planned = one_run(make_study, scenario, method, start)
    assert study.execute(planned) == []
    assert record_of(planned, planned.specs[0]).status["idle"] == idle


@pytest.mark.parametrize(("start", "idle"), [(0.0, [None]), (0.6, ["boundary"])])
def test_it_is_told_in_the_log_and_to_the_reporter_once_a_run(make_study, start, idle):
    planned, notes = one_run(make_study, images(2), "shrink_and_perturb", start), Notes()
    assert study.execute(planned, notes) == []
    sentence = "shrink_and_perturb changed nothing: its boundary never came"
    path = record_path(planned.results, planned.specs[0])
    assert read_record(path).status["idle"] == idle
    told = [note for note in notes.notes if "nothing" in note]
    assert told == (
        [] if idle == [None] else [f"shrink_and_perturb from 0.6, seed 0 (mlp:depth=2,width=16): {sentence}"]
    )
    assert (path / "log.txt").read_text().count(sentence) == len(told)


def test_of_runs_that_train_together_each_has_it(make_study, record_of):
    planned = make_study(**BITS, methods=["cbp:maturity=1000"], seeds=range(2))
    planned = replace(planned, pending=planned.specs[:2])
    assert study.execute(planned) == []
    records = [record_of(planned, spec) for spec in planned.specs[:2]]
    assert [(each.environment["replicas"], each.status["idle"]) for each in records] == [(2, ["nothing"])] * 2


@pytest.mark.parametrize(("scenario", "method"), [(images(3), "shrink_and_perturb"), (BITS, "cbp:maturity=2")])
def test_what_was_done_before_an_interruption_counts(make_study, record_of, monkeypatch, scenario, method):
    """The rest of the run changes nothing: it goes on from its last task, with what the methods did saved."""
    planned = one_run(make_study, scenario, method.replace("=2", "=2,replacement_rate=0.2"))
    end_task = course.Course._end_task

    def stop(self, place):
        if place.last:
            self.save()
            for _ in range(2):  # the second is not put off
                signal.raise_signal(signal.SIGINT)
        end_task(self, place)

    with monkeypatch.context() as patch:
        patch.setattr(course.Course, "_end_task", stop)
        with pytest.raises(KeyboardInterrupt):
            study.execute(planned)
    assert study.execute(planned) == []
    record = record_of(planned, planned.specs[0])
    assert (record.status["sessions"], record.status["idle"]) == (2, [None])


def test_fresh_networks_and_runs_that_stop_say_nothing_of_it(make_study, record_of, monkeypatch):
    planned = make_study(**images(2), methods=["shrink_and_perturb"])
    assert study.execute(planned) == []
    others = [spec for spec in planned.pending if spec.kind != "continual"]
    assert others
    assert {str(record_of(planned, spec).status["idle"]) for spec in others} == {"None"}

    def fail(self, place):
        raise RuntimeError("no luck")

    monkeypatch.setattr(course.Course, "_train_task", fail)
    planned = one_run(make_study, images(3), "shrink_and_perturb")
    study.execute(planned)
    record = record_of(planned, planned.specs[0])
    assert (record.outcome, record.status["idle"]) == ("failed", None)
