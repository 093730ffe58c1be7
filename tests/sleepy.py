"""A plugin of methods that make a run last, or kill its process."""

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Perturbation, Register, hookimpl

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Sleeps(Perturbation):
    """Sleeps after each step, for as many seconds as the environment says: the run is the same."""

    name: ClassVar[str] = "sleeps"

    def after_step(self, learner, state):
        state.host["steps"] = state.host.get("steps", 0) + 1  # what counts on the host is no program
        time.sleep(float(os.environ["SLEEPS_S"]))


@dataclass(frozen=True, kw_only=True)
class Kills(Perturbation):
    """Kills the process that trains it, unless that is one to be spared."""

    name: ClassVar[str] = "kills"

    def after_step(self, learner, state):
        state.host["steps"] = state.host.get("steps", 0) + 1
        if os.environ["SPARED"] != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the methods known."""
    register("sleeps", Sleeps, "sleeps after each step")
    register("kills", Kills, "kills its process")
