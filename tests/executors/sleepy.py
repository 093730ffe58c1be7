"""A plugin of a method that makes a run last."""

import os
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


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("sleeps", Sleeps, "sleeps after each step")
