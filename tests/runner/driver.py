"""A study of tiny runs in a process of its own, to be killed at any moment.

As a script it is a server: it imports everything once, then reads requests, one JSON value a line. An object asks for a
study: the server forks a process that does it, and answers with its id. A number asks for that process's exit code.
A study writes a byte to the named pipe ``pulse`` whenever it reports an advance. Its request has either ``method``, for
one run on images, or ``plan``, the arguments of `plan`, for all runs of a kind.
"""

import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lopbench.data.images import ImageSet, content_hash
from lopbench.runner import groups, report, session, study, timing, worth

CLASSES, TRAIN, TEST = 24, 24, 6
SCENARIO = "tinyimagenet40:tasks=6,steps_per_task=20,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
WARM = ["none", "cbp", "noisy_sgd", "dropout", "layernorm", "shrink_and_perturb", "reset"]
ARCHITECTURE = "mlp:width=16,depth=2"


@cache
def tiny_images(*arguments, **options):
    """Stands for `load_data`: two dozen classes that differ in colour, under noise."""
    draws = np.random.default_rng(0)
    colours = draws.integers(60, 196, (CLASSES, 1, 3, 1, 1))

    def draw(count):
        noise = draws.integers(-60, 60, (CLASSES, count, 3, 64, 64))
        pixels = np.clip(colours + noise, 0, 255).astype(np.uint8).reshape(-1, 3, 64, 64)
        return pixels, np.repeat(np.arange(CLASSES), count)

    classes = tuple(f"c{k:02}" for k in range(CLASSES))
    train, test = draw(TRAIN), draw(TEST)
    return ImageSet(
        name="tiny",
        content_hash=content_hash(classes, train, test),
        subset=False,
        classes=classes,
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
        real=False,
        notice="Two dozen coloured classes.",
        terms="",
    )


def make_study(results, **changes):
    """Plan a study; ``changes`` are arguments of `plan`."""
    arguments = {"scenario": SCENARIO, "architecture": ARCHITECTURE, "device": "cpu", **changes}
    return study.plan(results=results, **arguments)


class Pulse(report.Quiet):
    """Writes a byte at each look."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_WRONLY)

    def advanced(self, steps, task, tasks, score):
        os.write(self.descriptor, b".")


def die_at_flush(count):
    """Make the process kill itself at the ``count``-th time it flushes a file to disk, before that is done."""
    left = [count]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync


def die_at_rename(after, count):
    """Make the process kill itself right before or right after the ``count``-th record's directory gets its name."""
    rename, left = Path.rename, [count]

    def deadly(path, target):
        left[0] -= 1
        if after or left[0]:
            rename(path, target)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.rename = deadly


def do(request):
    """Do what one request asks for."""
    pulse = Pulse(request["pulse"])
    session.LOOK_S = request.get("look_s", session.LOOK_S)
    worth.COMPILE_STEPS = request.get("compile_steps", worth.COMPILE_STEPS)
    worth.MOST_OPERATIONS = 50_000  # images step by step, with a look at each step; streams of bits as programs
    if "die_at_flush" in request:
        die_at_flush(request["die_at_flush"])
    if "die_at_rename" in request:
        die_at_rename(request["die_at_rename"] == "after", request.get("renames", 1))
    if "plan" in request:
        planned = make_study(request["results"], **request["plan"])
        wanted = [spec for spec in planned.pending if spec.kind == request["kind"]]
    else:
        planned = make_study(request["results"], methods=[request["method"]])
        # The first spec of its kind: a run, or the reference of all runs.
        wanted = [spec for spec in (*planned.specs, planned.specs[0].reference()) if spec.kind == request["kind"]][:1]
    wanted = replace(planned, pending=tuple(wanted))
    refused = study.execute(wanted, pulse, checkpoint_s=request["checkpoint_s"])
    assert not refused, refused


def serve():
    """Fork a process for each request; it never comes back here."""
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            print(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            code = 1
            try:
                do(request)
                code = 0
            except KeyboardInterrupt:
                code = 130
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    study.load_data = tiny_images
    torch.set_num_threads(1)
    # What a study imports late is imported here, once for all processes.
    warm = make_study("nowhere", methods=WARM)
    bits = make_study("nowhere", scenario="bitflip", architecture=None, methods=["none", "cbp", "noisy_sgd"])
    groups.groups(bits.pending, data=None, device=torch.device("cpu"))
    for spec in warm.pending:
        timing.throwaway([spec], data=warm.images, device=torch.device("cpu")).learner.learner.view.units  # noqa: B018
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    serve()
