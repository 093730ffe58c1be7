"""What becomes of workers when the command that shows them is interrupted, or fails."""

import io

import pytest
from rich.console import Console

from lopbench.cli import workers
from lopbench.cli.workers import follow
from lopbench.core.errors import UnsupportedError


class Pool:
    """Workers that leave at the third look, unless something is raised instead; keeps what was done to them."""

    called = "2 workers of slurm (70)"
    stop_command = "scancel 70"
    failures = ()

    def __init__(self, *raised, is_joined=False):
        self.is_joined = is_joined
        self.done = []
        self._looks = [*raised, True, True]

    def start(self):
        self.done.append("start")

    def poll(self):
        if not self._looks:
            return False
        if isinstance(look := self._looks.pop(0), BaseException):
            raise look
        return look

    def reports(self):
        return []

    def stop(self):
        self.done.append("stop")

    def kill(self):
        self.done.append("kill")

    def tidy(self):
        self.done.append("tidy")


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(workers, "LOOK_S", 0.0)
    return lambda pool: follow(pool, Console(file=io.StringIO()), runs=1, steps=1)


@pytest.mark.parametrize("is_joined", [True, False])
def test_workers_that_have_done_all_are_tidied_up_after(shown, is_joined):
    pool = Pool(is_joined=is_joined)
    assert shown(pool) == []
    assert pool.done == ["start", "kill", "tidy"]


def test_an_interrupt_stops_workers_of_this_command_and_the_next_ends_them(shown):
    pool = Pool(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        shown(pool)
    assert pool.done == ["start", "stop", "kill", "tidy"]
    pool = Pool(True, KeyboardInterrupt(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        shown(pool)
    assert pool.done == ["start", "stop", "kill", "tidy"]


def test_an_interrupt_leaves_workers_of_another_command_and_says_how_to_stop_them(shown):
    pool = Pool(True, KeyboardInterrupt(), is_joined=True)
    with pytest.raises(
        KeyboardInterrupt, match="go on; the same command shows them again, and 'scancel 70' stops them"
    ):
        shown(pool)
    assert pool.done == ["start"]
    pool = Pool(KeyboardInterrupt(), is_joined=True)
    pool.stop_command = ""
    with pytest.raises(KeyboardInterrupt, match=r"go on; the same command shows them again\.$"):
        shown(pool)


def test_workers_of_another_command_outlive_the_failure_of_this_one(shown):
    pool = Pool(True, UnsupportedError("no answer"), is_joined=True)
    with pytest.raises(UnsupportedError):
        shown(pool)
    assert pool.done == ["start"]
