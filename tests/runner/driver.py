"""A study of tiny runs in a process of its own, to be killed at any moment.

As a script it is a server: it imports everything once, then reads requests, one JSON value a line. An object asks for a
study: the server forks a process that does it, and answers with its id. A number asks for that process's exit code.
A study writes a byte to the named pipe ``pulse`` whenever it reports an advance. Its request has either ``method``, for
one run on images, or ``plan``, the arguments of `plan`, for all runs, or for those of a ``kind``.
"""

import io
import json
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lopbench.data.images import ImageSet, content_hash
from lopbench.runner import claims, groups, heart, report, session, study, timing, worth

TRAIN, TEST = 24, 6
SCENARIO = "tinyimagenet40:tasks=6,steps_per_task=20,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
WARM = ["none", "cbp", "noisy_sgd", "dropout", "layernorm", "shrink_and_perturb", "reset"]
ARCHITECTURE = "mlp:width=16,depth=2"


def tiny_images(name="auto", *, wanted="tiny-imagenet-200", **options):
    """Stands for `load_data`: a few classes of images as large as those of the data set that is wanted."""
    return coloured(10, 32) if wanted == "cifar10" else coloured(24, 64)


@cache
def coloured(count, side):
    """Return ``count`` classes that differ in colour, under noise."""
    draws = np.random.default_rng(0)
    colours = draws.integers(60, 196, (count, 1, 3, 1, 1))

    def draw(each):
        noise = draws.integers(-60, 60, (count, each, 3, side, side))
        pixels = np.clip(colours + noise, 0, 255).astype(np.uint8).reshape(-1, 3, side, side)
        return pixels, np.repeat(np.arange(count), each)

    classes = tuple(f"c{k:02}" for k in range(count))
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
        notice="A few coloured classes.",
        terms="",
    )


def make_study(results, **changes):
    """Plan a study; ``changes`` are arguments of `plan`."""
    arguments = {"scenario": SCENARIO, "architecture": ARCHITECTURE, "device": "cpu", **changes}
    return study.plan(results=results, **arguments)


class Pulse(report.Quiet):
    """Writes a byte at each look, and waits for some seconds."""

    def __init__(self, path, wait_s):
        self.descriptor = os.open(path, os.O_WRONLY)
        self.wait_s = wait_s

    def advanced(self, steps, task, tasks, score):
        os.write(self.descriptor, b".")
        time.sleep(self.wait_s)


class Operations:
    """Calls ``at(n)`` at the n-th thing that this process does to a file below a folder, from 1; it cannot be undone.

    It opens a file for writing, writes to it, flushes a file or a folder to disk, renames or removes one, and makes or
    removes a folder. The call comes right before, or when half of what is written is.
    """

    def __init__(self, folder, at):
        self._folder = os.path.join(folder, "")  # noqa: PTH118  (as the operations name it)
        self._at, self._count = at, 0
        self._open, self._fsync = io.open, os.fsync
        io.open, os.fsync = self.open, self.fsync
        sys.addaudithook(self._audit)

    def count(self):
        """Count an operation."""
        self._count += 1
        self._at(self._count)

    def _audit(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR) and self._is_below(path):
                self.count()
        elif event in ("os.rename", "os.mkdir"):
            if self._is_below(arguments[0]):
                self.count()
        # Below a folder that is removed as a whole, names are relative to it.
        elif event in ("os.remove", "os.rmdir") and (arguments[-1] != -1 or self._is_below(arguments[0])):
            self.count()

    def _is_below(self, path):
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._folder)

    def fsync(self, descriptor):
        self.count()
        self._fsync(descriptor)

    def open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **options):
        """Stand for `io.open`, which is what paths are opened with."""
        if not (set(mode) & set("wax+") and self._is_below(file)):
            return self._open(file, mode, buffering, encoding, errors, newline, **options)
        buffered = io.BufferedWriter(HalfWritten(file, mode.replace("b", ""), self.count))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class HalfWritten(io.FileIO):
    """A file that calls ``between`` when half of what is written to it is written."""

    def __init__(self, path, mode, between):
        super().__init__(path, mode)
        self._between = between

    def write(self, data):
        half = len(data) // 2
        written = super().write(data[:half])
        self._between()
        return written + super().write(data[half:])


def signal_at(count, number):
    """Return what sends this process a signal at the ``count``-th operation."""

    def at(operation):
        if operation == count:
            os.kill(os.getpid(), number)

    return at


def keep_at_each(results, kept):
    """Return what copies a results folder at each operation: what a process that dies there leaves behind."""
    return lambda operation: shutil.copytree(results, Path(kept) / f"{operation:04}")


def do(request):
    """Do what one request asks for."""
    pulse = Pulse(request["pulse"], request.get("wait_s", 0.0))
    session.LOOK_S = request.get("look_s", session.LOOK_S)
    worth.COMPILE_STEPS = request.get("compile_steps", worth.COMPILE_STEPS)
    heart.BEAT_S, heart.LEASE_S = request.get("beat_s", heart.BEAT_S), request.get("lease_s", heart.LEASE_S)
    groups.LOOK_AGAIN_AT_CLAIMS_S = request.get("look_again_s", groups.LOOK_AGAIN_AT_CLAIMS_S)
    if "machine" in request:
        claims.machine = lambda: request["machine"]
    # Images step by step, with a look at each step, unless told otherwise; streams of bits as programs.
    worth.MOST_OPERATIONS = request.get("most_operations", 50_000)
    if "operation" in request:
        Operations(request["results"], signal_at(request["operation"], request["signal"]))
    if "kept" in request:
        Operations(request["results"], keep_at_each(request["results"], request["kept"]))
    if "plan" in request:
        planned = make_study(request["results"], **request["plan"])
        wanted = [spec for spec in planned.pending if request["kind"] in (None, spec.kind)]
    else:
        planned = make_study(request["results"], methods=[request["method"]])
        # The first spec of its kind: a run, or the reference of all runs.
        wanted = [spec for spec in (*planned.specs, planned.specs[0].reference()) if spec.kind == request["kind"]][:1]
    wanted = replace(planned, pending=tuple(wanted))
    locks = request.get("locks", "flock")
    refused = study.execute(wanted, pulse, checkpoint_s=request["checkpoint_s"], locks=locks)
    assert not refused, refused


def serve():
    """Fork a process for each request; it never comes back here."""
    # As in a shell in front, even where this is one in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
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
