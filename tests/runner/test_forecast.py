"""How long a study will take: from records of the like, or from steps taken now."""

import pytest
import torch

from lopbench.core.errors import UnsupportedError
from lopbench.results.record import find_records, read_record
from lopbench.runner import forecast as forecasts
from lopbench.runner import shape, study, timing, worth
from lopbench.runner.forecast import forecast
from lopbench.runner.schedule import Schedule

#: 6 bins of 10 samples.
BITS = {"scenario": "bitflip:samples=60,m=8,f=5,T=10,steps_per_task=10", "architecture": None, "metrics": []}


@pytest.fixture
def timed(monkeypatch):
    """Return a list that fills with the groups that are timed; a step of R replicas takes R seconds."""
    groups = []

    def take(specs, *, data, device, limit_s):
        groups.append(specs)
        return float(len(specs)), False

    monkeypatch.setattr(timing, "seconds_per_step", take)
    return groups


def test_group_takes_the_time_of_its_steps_together(make_study, timed):
    planned = make_study(**BITS, methods=["none", "cbp"], seeds=[0, 1, 2])
    found = forecast(planned, limit_s=100)
    assert [(len(group), group[0].kind, group[0].method_label) for group in timed] == [
        (3, "continual", "none"),
        (3, "fresh", "none"),
        (3, "continual", "cbp"),
        (3, "fresh", "cbp"),
    ]
    steps = dict(zip((spec.run_id for spec in planned.pending), planned.steps, strict=True))
    times = [3.0 * steps[group[0].run_id] for group in timed]
    assert (found.seconds, found.most, found.longest, found.groups) == (sum(times), False, max(times), 4)


def test_runs_of_images_take_their_time_one_after_the_other(make_study, timed):
    planned = make_study(methods=["none"], seeds=[0, 1])
    found = forecast(planned, limit_s=100)
    assert (found.seconds, found.most) == (float(sum(planned.steps)), False)
    assert (found.longest, found.groups) == (float(max(planned.steps)), len(planned.pending))


def test_steps_that_will_be_compiled_make_it_an_upper_bound(make_study, monkeypatch):
    planned = make_study(**BITS)
    assert forecast(planned).most is False
    monkeypatch.setattr(worth, "COMPILE_STEPS", 60)
    assert forecast(planned).most is True
    images = make_study(architecture="cnn", metrics=[])
    assert forecast(images).most is False  # steps of that size are never a program


def test_compiled_programs_take_what_they_took_elsewhere(make_study, monkeypatch):
    planned = make_study(**BITS, seeds=range(3))
    eager = forecast(planned)
    monkeypatch.setattr(worth, "COMPILE_STEPS", 60)
    compiled = forecast(planned)
    starts = worth.COMPILE_S  # once, as the reference takes the same steps
    assert starts + sum(planned.steps) / 3 * worth.STEP_S < compiled.seconds < starts + eager.seconds
    monkeypatch.setattr(timing, "can_compile", lambda: False)
    slow = forecast(planned)
    assert slow.most
    assert compiled.seconds < slow.seconds
    larger = worth.Work(1000, 3, 1000, 1e6, on_cpu=True)
    assert larger.compiled_s(10**6) == pytest.approx(1e-5 + 5e-5 + 1.92e-5)


def test_programs_that_were_compiled_before_are_only_loaded(make_study, monkeypatch, tmp_path):
    monkeypatch.setenv("LOPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing, "seconds_per_step", lambda *_, **__: (0.0, True))
    planned = make_study(**BITS, methods=["none", "cbp"], seeds=range(3))
    none, fresh, cbp, _ = planned.groups
    new = forecast(planned)
    assert (new.seconds, new.longest, new.most) == (2 * worth.COMPILE_S, worth.COMPILE_S, True)
    shape.mark(fresh)
    assert shape.mark_of(none) == shape.mark_of(fresh)
    half = forecast(planned)
    assert (half.seconds, half.most) == (worth.LOAD_S + worth.COMPILE_S, True)
    shape.mark(cbp)
    known = forecast(planned)
    assert (known.seconds, known.most) == (2 * worth.LOAD_S, False)
    for other in ({"seeds": range(4)}, {"seeds": range(3), "optimizers": ["adam:lr=1e-3"]}):
        assert forecast(make_study(**BITS, methods=["none"], **other)).most
    swept = {"methods": ["none", "cbp:replacement_rate=1e-3"], "optimizers": ["sgd:lr=0.5"]}
    same = make_study(**BITS, **swept, seeds=range(5, 8))
    assert not forecast(same).most
    assert forecast(same, threads=2).most


def test_groups_beyond_the_time_limit_are_as_slow_as_the_slowest_of_their_sort(make_study, monkeypatch):
    taken = []
    costs = {("continual", True): 1.0, ("fresh", True): 2.0, ("continual", False): 100.0, ("fresh", False): 150.0}

    def sort(group):
        return group[0].kind, len(group) > 1

    def take(specs, **_):
        taken.append(sort(specs))
        return costs[sort(specs)], False

    monkeypatch.setattr(timing, "seconds_per_step", take)
    alone = "dropout"  # whose seeds train one after another
    planned = make_study(**BITS, methods=[alone, "none", "cbp"], seeds=[0, 1])
    found = forecast(planned, limit_s=0)
    assert sorted(taken) == sorted(costs)
    steps = planned.steps_by_id
    assert found.seconds == sum(costs[sort(group)] * steps[group[0].run_id] for group in planned.groups)


def test_groups_of_one_workload_are_timed_once(make_study, timed):
    planned = make_study(**BITS, optimizers=["sgd:lr=0.01", "sgd:lr=0.01,momentum=0.9"], seeds=[0, 1])
    assert len(planned.groups) == 4  # learners and fresh networks, of two optimizers
    forecast(planned, limit_s=100)
    assert [len(group) for group in timed] == [2, 2]


def test_group_that_cannot_start_takes_no_time(make_study, monkeypatch):
    def take(specs, **_):
        if specs[0].methods:
            raise UnsupportedError("no luck")
        return 1.0, False

    monkeypatch.setattr(timing, "seconds_per_step", take)
    planned = make_study(**BITS, methods=["none", "cbp"])
    plain = make_study(**BITS)
    assert forecast(planned, limit_s=100).seconds == forecast(plain, limit_s=100).seconds
    assert forecast(make_study(**BITS, methods=["cbp"]), limit_s=100).seconds == plain.steps[1]  # the reference alone
    monkeypatch.setattr(timing, "seconds_per_step", lambda specs, **_: 1 / 0)
    assert forecast(planned) is None


def test_records_of_as_many_replicas_of_the_same_methods_tell_the_time(make_study, timed):
    first = make_study(**BITS, seeds=[0, 1])
    study.execute(first)
    planned = make_study(**BITS, seeds=[2, 3])
    found = forecast(planned, limit_s=100)
    assert timed == []
    records = find_records(first.results)
    # Its share of the time is recorded with each of two replicas.
    seconds = 2 * sum(record.status["wall_time_s"] for record in records)
    steps = sum(record.status["steps"] for record in records)
    assert found.seconds == pytest.approx(sum(planned.steps) / 2 * seconds / steps)
    assert not found.most
    forecast(make_study(**BITS, seeds=[2, 3, 4]), limit_s=100)
    forecast(make_study(**BITS, methods=["cbp"], seeds=[2, 3]), limit_s=100)
    assert [(len(group), group[0].method_label) for group in timed] == [
        *((3, "none"), (3, "none")),  # the runs and their references
        *((2, "cbp"), (2, "cbp")),
    ]


def test_few_of_the_records_of_one_kind_are_read(make_study, timed, monkeypatch):
    first = make_study(**BITS, seeds=range(3))
    study.execute(first)
    (folder,) = {path.parent for path in (first.results / "runs").iterdir()}
    (folder / "notes").mkdir()
    some = next(path for path in folder.glob("*-none-s0-*") if "fresh" not in path.name)
    for number in range(100):  # named as others are, and damaged
        (folder / f"{some.name.rpartition('-s')[0]}-s9-{number:016x}").mkdir()
    read = []
    monkeypatch.setattr(forecasts, "read_record", lambda path: read.append(path) or read_record(path))
    found = forecast(make_study(**BITS, seeds=range(3, 6)), limit_s=100)
    assert len(read) <= 16  # of learners and of references
    assert found.record_bytes > 0
    assert all(path.parent == folder for path in read)


def test_threads_of_the_workers_are_those_of_the_forecast(make_study, monkeypatch):
    seen = []
    took = 1.0, False
    monkeypatch.setattr(timing, "seconds_per_step", lambda *_, **__: seen.append(torch.get_num_threads()) or took)
    forecast(make_study(**BITS), threads=2)
    assert (set(seen), torch.get_num_threads()) == ({2}, 1)


@pytest.mark.parametrize("request_", [{**BITS, "methods": ["none", "cbp"], "seeds": [0, 1]}, {}])
def test_steps_are_timed_and_nothing_is_written(make_study, request_):
    planned = make_study(**request_)
    found = forecast(planned)
    assert 0 < found.seconds < 600
    assert not planned.results.exists()


@pytest.mark.parametrize("request_", [{**BITS, "seeds": [0, 1]}, {}])
def test_no_more_steps_are_timed_than_a_run_has(make_study, monkeypatch, request_):
    planned, taken, take = make_study(**request_), [], timing.Timing._take

    def taking(self):
        assert sum(taken) < 1000
        taken.append(take(self))
        return taken[-1]

    monkeypatch.setattr(timing.Timing, "_take", taking)
    group = planned.groups[0]
    timing.seconds_per_step(group, data=planned.images, device=torch.device("cpu"), limit_s=1e9)
    steps = planned.steps_by_id[group[0].run_id]
    assert steps <= sum(taken[1:]) < steps + timing._TIMED  # the first ones are not counted


VALIDATED = "incremental:tasks=6,classes_per_task=2,images_per_class=16,validation_images=4,epochs=2,batch_size=16"


@pytest.mark.parametrize("request_", [{**BITS, "seeds": [0, 1]}, {}, {"scenario": VALIDATED}])
def test_steps_of_small_networks_have_their_share_of_what_is_done_beside_them(make_study, monkeypatch, request_):
    planned = make_study(**request_)
    group = planned.groups[0]
    schedule = Schedule.of(group[0].scenario.build(), group[0])
    monkeypatch.setattr(timing, "_seconds", lambda function: (function(), 1.0)[1])
    monkeypatch.setattr(timing, "can_compile", lambda: False)
    for per_step, small in ((0.001, True), (0.5, False)):
        monkeypatch.setattr(timing.Timing, "seconds_per_step", lambda self, *_, per_step=per_step, **__: per_step)
        found, _ = timing.seconds_per_step(group, data=planned.images, device=torch.device("cpu"), limit_s=1.0)
        measured = sum(place.measured for place in schedule.places)
        beside = len(schedule.places) + len(group) * measured + (1 + len(group)) * schedule.looks
        beside += len(group) * schedule.validations
        assert found == pytest.approx(per_step + small * beside / schedule.steps)
