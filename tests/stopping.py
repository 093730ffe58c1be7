"""Studies that are interrupted again and again."""

import signal

from lopbench.runner import report, study


class Stopping(report.Quiet):
    """Interrupts after a number of looks."""

    def __init__(self, looks):
        self.left = looks

    def advanced(self, steps, task, tasks, score):
        self.left -= 1
        if self.left < 0:
            signal.raise_signal(signal.SIGINT)


def in_parts(make, looks):
    """Do a study stopped every few looks; returns how often it was."""
    for stops in range(10**3):
        try:
            assert study.execute(make(), Stopping(looks), checkpoint_s=0.0) == []
        except KeyboardInterrupt:
            continue
        return stops
    raise AssertionError("it never ends")
