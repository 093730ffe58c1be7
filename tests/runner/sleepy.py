"""A plugin of methods that make a run last, or kill its process."""

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Perturbation, Register, hookimpl, number

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Sleeps(Perturbation):
    """Sleeps after each step.

    Args:
        seconds: For how long.
    """

    name: ClassVar[str] = "sleeps"
    seconds: float = number(0.002, least=0)

    def after_step(self, learner, state):
        state.host["steps"] = state.host.get("steps", 0) + 1  # what counts on the host is no program
        time.sleep(self.seconds)


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
