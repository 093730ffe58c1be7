"""How many workers are chosen where nobody said."""

import pytest
import torch

from lopbench.core.errors import UnsupportedError
from lopbench.runner import choice
from lopbench.runner.choice import LEAST_S, choose
from lopbench.runner.pool import Staff, executor_of

LONG = 10 * LEAST_S


@pytest.fixture
def staff():
    return Staff.of(executor_of("local"), jobs=None, device="cpu")


@pytest.fixture
def measured(monkeypatch):
    """Return a function that says how many steps a second are taken, by the number of threads; four cores are here."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(choice, "usable_cores", lambda: 4)
    monkeypatch.setattr(choice, "_fitting", lambda: 99)
    asked = []

    def say(**speeds):
        def timed(group, **_):
            asked.append(torch.get_num_threads())
            return 1 / (speeds["one_thread"] if asked[-1] == 1 else speeds["all_threads"]), False

        monkeypatch.setattr(choice, "seconds_per_step", timed)
        torch.set_num_threads(4)  # `make_study` puts it back
        return asked

    return say


def test_workers_of_one_thread_are_chosen_where_they_are_faster_together(make_study, staff, measured):
    asked = measured(all_threads=100, one_thread=60)
    chosen, why = choose(staff, [make_study(methods=["none", "l2"], seeds=range(3))], LONG)
    assert (chosen.jobs, chosen.devices, chosen.is_one_process) == (4, ("cpu",), False)
    assert why == "4 workers with their share of the threads: 100 steps/s with all threads, 60 with one (--jobs)"
    assert asked == [4, 1]
    assert torch.get_num_threads() == 4


def test_one_worker_stays_where_several_gain_little(make_study, staff, measured):
    measured(all_threads=100, one_thread=30)
    chosen, why = choose(staff, [make_study(methods=["none", "l2"], seeds=range(3))], LONG)
    assert chosen == staff
    assert why == "one worker with all threads: 100 steps/s with all threads, 30 with one (--jobs)"


@pytest.mark.parametrize("seconds", [None, LEAST_S - 1])
def test_nothing_is_chosen_where_there_is_little_work(make_study, staff, measured, seconds):
    measured(all_threads=1, one_thread=1)
    assert choose(staff, [make_study(methods=["none", "l2"])], seconds) == (staff, "")


def test_nothing_is_chosen_where_the_threads_are_given(make_study, staff, measured, monkeypatch):
    measured(all_threads=1, one_thread=1)
    planned = [make_study(methods=["none", "l2"])]
    given = Staff.of(staff.executor, jobs=None, device="cpu", threads=2)
    assert choose(given, planned, LONG) == (given, "")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose(staff, planned, LONG) == (staff, "")


def test_there_are_no_more_workers_than_groups_or_room(make_study, staff, measured, monkeypatch):
    measured(all_threads=1, one_thread=1)
    one = make_study(methods=["none"])
    planned = [make_study(methods=["none", "l2"], seeds=range(3))]
    assert choose(staff, planned, LONG)[0].jobs == 4
    monkeypatch.setattr(choice, "_fitting", lambda: 3)
    assert choose(staff, planned, LONG)[0].jobs == 3
    assert choose(staff, [one], LONG)[0].jobs == len(one.pending)


def test_what_cannot_start_is_not_chosen_for(make_study, staff, measured, monkeypatch):
    measured(all_threads=1, one_thread=1)

    def refuse(group, **_):
        raise UnsupportedError("it cannot")

    monkeypatch.setattr(choice, "seconds_per_step", refuse)
    assert choose(staff, [make_study(methods=["none", "l2"])], LONG) == (staff, "")


def test_each_gpu_has_a_worker(make_study, staff, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    on_gpu = Staff(staff.executor, 1, ("cuda",))
    chosen, why = choose(on_gpu, [make_study(methods=["none", "l2"], seeds=range(3))], None)
    assert (chosen.jobs, chosen.devices) == (2, ("cuda:0", "cuda:1"))
    assert why == "2 workers, one for each GPU (--jobs)"
    assert choose(on_gpu, [make_study(seeds=[0], methods=["reset"])], None)[0].jobs <= 2
