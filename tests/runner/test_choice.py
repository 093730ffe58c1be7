"""How many workers are chosen where nobody said."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lopbench.core.errors import UnsupportedError
from lopbench.runner import choice
from lopbench.runner.choice import LEAST_S, choose, crowded
from lopbench.runner.pool import Staff, executor_of
from lopbench.runner.side_by_side import SideBySide, side_by_side

LONG = 10 * LEAST_S


@pytest.fixture
def staff():
    return Staff.of(executor_of("local"), jobs=None, device="cpu")


@pytest.fixture
def measured(monkeypatch):
    """Return a function that says how many steps a second are taken, by whom; four cores are here."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(choice, "usable_cores", lambda: 4)
    monkeypatch.setattr(choice, "_fitting", lambda: 99)
    asked = []

    def say(whole, alone, together):
        def timed(group, *, data, count):
            asked.append(count)
            return SideBySide(whole, alone, together, count)

        monkeypatch.setattr(choice, "side_by_side", timed)
        return asked

    return say


def test_workers_of_one_thread_are_chosen_where_they_are_faster_together(make_study, staff, measured):
    asked = measured(whole=100, alone=60, together=160)
    chosen, why = choose(staff, [make_study(methods=["none", "l2"], seeds=range(3))], LONG)
    assert (chosen.jobs, chosen.devices, chosen.is_one_process) == (4, ("cpu",), False)
    assert why == (
        "4 workers with their share of the threads: 100 steps/s of one with all threads, "
        "160 of 4 with one thread each, side by side (--jobs)"
    )
    assert asked == [4]
    assert chosen.crowding == 4 * 60 / 160


def test_one_worker_stays_where_several_gain_little(make_study, staff, measured):
    measured(whole=100, alone=60, together=120)  # whatever the cores promise: 4 * 60
    chosen, why = choose(staff, [make_study(methods=["none", "l2"], seeds=range(3))], LONG)
    assert chosen == staff
    assert why.startswith("one worker with all threads: 100 steps/s of one with all threads, 120 of 4 ")


@pytest.mark.parametrize("seconds", [None, LEAST_S - 1])
def test_nothing_is_chosen_where_there_is_little_work(make_study, staff, measured, seconds):
    measured(whole=1, alone=1, together=4)
    assert choose(staff, [make_study(methods=["none", "l2"])], seconds) == (staff, "")


def test_nothing_is_chosen_where_the_threads_are_given(make_study, staff, measured, monkeypatch):
    measured(whole=1, alone=1, together=4)
    planned = [make_study(methods=["none", "l2"])]
    given = Staff.of(staff.executor, jobs=None, device="cpu", threads=2)
    assert choose(given, planned, LONG) == (given, "")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose(staff, planned, LONG) == (staff, "")


def test_there_are_no_more_workers_than_groups_or_room(make_study, staff, measured, monkeypatch):
    measured(whole=1, alone=1, together=4)
    one = make_study(methods=["none"])
    planned = [make_study(methods=["none", "l2"], seeds=range(3))]
    assert choose(staff, planned, LONG)[0].jobs == 4
    monkeypatch.setattr(choice, "_fitting", lambda: 3)
    assert choose(staff, planned, LONG)[0].jobs == 3
    assert choose(staff, [one], LONG)[0].jobs == len(one.pending)


def test_what_cannot_start_is_not_chosen_for(make_study, staff, measured, monkeypatch):
    measured(whole=1, alone=1, together=4)

    def refuse(group, **_):
        raise UnsupportedError("it cannot")

    monkeypatch.setattr(choice, "side_by_side", refuse)
    assert choose(staff, [make_study(methods=["none", "l2"])], LONG) == (staff, "")


def test_each_gpu_has_a_worker(make_study, staff, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    on_gpu = Staff(staff.executor, 1, ("cuda",))
    chosen, why = choose(on_gpu, [make_study(methods=["none", "l2"], seeds=range(3))], None)
    assert (chosen.jobs, chosen.devices) == (2, ("cuda:0", "cuda:1"))
    assert why == "2 workers, one for each GPU (--jobs)"
    assert choose(on_gpu, [make_study(seeds=[0], methods=["reset"])], None)[0].jobs <= 2


def test_workers_whose_number_is_given_are_measured_for_the_forecast(make_study, staff, measured):
    asked = measured(whole=1, alone=10, together=20)
    planned = [make_study(methods=["none", "l2"])]  # with their references four groups
    three = replace(staff, jobs=3)
    assert crowded(three, planned, LONG) == replace(three, crowding=1.5)
    assert crowded(replace(staff, jobs=9), planned, LONG).crowding == 2.0
    assert asked == [3, 4]
    for others in (replace(three, devices=("cuda",)), replace(three, executor=executor_of("script")), staff):
        assert crowded(others, planned, LONG) == others
    assert crowded(three, planned, 1.0) == three
    assert asked == [3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
def test_steps_are_timed_side_by_side(make_study, monkeypatch):
    copies = []
    fork = os.fork

    def forked():
        copies.append(fork())
        return copies[-1]

    monkeypatch.setattr(os, "fork", forked)
    planned = make_study(methods=["cbp"])
    before = len([*Path("/proc/self/fd").iterdir()])
    found = side_by_side(planned.groups[0], data=planned.images, count=3, limit_s=0.02)
    assert (found.count, found.crowding >= 1) == (3, True)
    assert min(found.whole, found.alone, found.together) > 0
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert len(copies) == 1 + 3
    for copy in copies:
        with pytest.raises(ChildProcessError):  # it has ended, and somebody waited for it
            os.waitpid(copy, 0)
    assert not planned.results.exists()


def test_what_a_copy_cannot_do_is_not_measured(make_study, monkeypatch):
    planned = make_study(methods=["none"])
    here = os.getpid()
    found = torch.set_num_threads

    def fail(count):
        if os.getpid() != here:
            raise RuntimeError("not in a copy")
        found(count)

    monkeypatch.setattr(torch, "set_num_threads", fail)
    assert side_by_side(planned.groups[0], data=planned.images, count=2, limit_s=0.02) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert side_by_side(planned.groups[0], data=planned.images, count=2, limit_s=0.02) is None
