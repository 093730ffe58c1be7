"""The kit catches broken executors."""

import os
import sys
from dataclasses import dataclass, replace

import pytest

from lopbench.testing import checks, executors
from lopbench_plugins.executors.local import Local
from lopbench_plugins.executors.script import Script


def made(cls):
    return dataclass(frozen=True, kw_only=True)(cls)()


def as_its_own(kind, workers):
    """Return the same workers as an object of another class."""
    return kind(**{name: getattr(workers, name) for name in workers.__dataclass_fields__})


class TooFew(Local):
    """Starts the first worker, and in the place of the others what is none."""

    def start(self, workers):
        class One(type(workers)):
            def command(self, slot, *, follow=False):
                return [sys.executable, "-c", ""] if slot else super().command(slot, follow=follow)

        return super().start(as_its_own(One, workers))


class SameSlot(Local):
    """Tells all workers that they are the first."""

    def start(self, workers):
        class First(type(workers)):
            def command(self, slot, *, follow=False):
                return super().command(0, follow=follow)

        return super().start(as_its_own(First, workers))


class Sees(Local):
    """Says that workers are at work when they are not."""

    def start(self, workers):
        handle = super().start(workers)
        whole = handle.poll
        handle.poll = lambda: whole() or True
        return handle


class Deaf(Local):
    """Kills where it should ask."""

    def start(self, workers):
        handle = super().start(workers)
        handle.stop = handle.kill
        return handle


class Stubborn(Local):
    """Starts again what it killed."""

    def start(self, workers):
        handle = super().start(replace(workers, begun=lambda slot: os.times().elapsed))
        whole = handle.kill

        def kill():
            whole()
            handle.is_stopping = False

        handle.kill = kill
        return handle


class Forgets(Local):
    """Says that its workers last, and gives nothing to find them by."""

    lasts = True


class Writes(Script):
    """Writes its script when it is only to be shown."""

    def script(self, workers):
        (workers.folder / "script.sh").touch()
        return super().script(workers)


BROKEN = [
    (TooFew, "starts-workers"),
    (SameSlot, "starts-workers"),
    (Sees, "starts-workers"),
    (Deaf, "stops-workers"),
    (Stubborn, "kills-workers"),
    (Forgets, "joins-workers"),
    (Writes, "shows-without-doing"),
]


@pytest.mark.parametrize(("cls", "name"), BROKEN, ids=[f"{cls.__name__}-{name}" for cls, name in BROKEN])
def test_the_kit_catches_the_broken_executor(cls, name, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE_S", 3.0)
    component = made(cls)
    (check,) = [check for check in checks(component) if check.name == name]
    outcome = check.run(component)
    assert outcome.status == "failed", f"{outcome.status}: {outcome.detail}"
    assert outcome.expected != "no error", outcome.found


@pytest.mark.parametrize("name", ["starts-workers", "stops-workers", "kills-workers", "shows-without-doing"])
def test_a_sound_executor_passes(name):
    (check,) = [check for check in checks(Local()) if check.name == name]
    assert check.run(Local()).status == "passed"
