"""Feeds broken inputs to commands, in one process, and prints a line of JSON for whatever goes wrong.

``python driver.py FOLDER SEED FIRST COUNT`` works in FOLDER on the inputs FIRST to FIRST + COUNT - 1 of SEED; each is
made from SEED and its number alone. The last line has the number of inputs and the most memory that the process had.
"""

import faulthandler
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from corpus import build, command
from inputs import broken

from lopbench.runner import worth
from lopbench.runner.environment import peak_bytes
from lopbench_plugins.data import procedural

CPU = torch.device("cpu")

#: Seconds of work that a command may take, on a machine that may have other work, and bytes of memory of the process.
MOST_S, MOST_BYTES = 10, 2 * 10**9

#: Exit codes: done, a mistake with a sentence, wrong usage, a difference that was asked for.
CODES = (0, 1, 2, 3)


class Hangs(BaseException):
    """A command takes too long."""


def main() -> None:
    """Feed them."""
    folder, (seed, first, count) = Path(sys.argv[1]).resolve(), map(int, sys.argv[2:5])
    resource.setrlimit(resource.RLIMIT_DATA, (3 * MOST_BYTES,) * 2)  # what wants more fails, and not the machine
    torch.set_num_threads(1)
    drawn = procedural.plan
    procedural.plan = lambda *_: drawn(3, 4, 2)  # whole, it takes a minute to draw
    worth.MOST_OPERATIONS = 0  # a run that goes on takes its steps one by one: to trace a program takes seconds
    folder.mkdir(exist_ok=True)
    os.environ.update(COLUMNS="100", LOPBENCH_DATA=str(folder), LOPBENCH_CACHE=str(folder / "cache"))
    signal.signal(signal.SIGPROF, _hang)
    signal.signal(signal.SIGALRM, _hang)
    if not (folder / "whole").exists():
        (folder / "making").mkdir()
        build(folder / "making")
        (folder / "making").rename(folder / "whole")
    codes: Counter[str] = Counter()
    for number in range(first, first + count):
        for fault in _feed(folder, f"{seed}-{number}", codes):
            print(json.dumps({"number": number, **fault}), flush=True)
    print(json.dumps({"inputs": count, "peak_bytes": peak_bytes(CPU), "codes": codes}))


def _feed(folder: Path, name: str, codes: Counter[str]) -> Iterator[dict[str, object]]:
    """Make an input, run its command, and yield what is wrong with how that went."""
    place = folder / f"case-{name}" / "in"
    place.mkdir(parents=True)
    os.chdir(place)
    faulthandler.dump_traceback_later(9 * MOST_S, exit=True)
    arguments = broken(random.Random(name), folder / "whole", place)
    about = {"arguments": [each[:200] for each in arguments]}
    peak = peak_bytes(CPU)
    signal.setitimer(signal.ITIMER_PROF, MOST_S)
    signal.alarm(5 * MOST_S)
    try:
        result = command(*arguments)
    except Hangs:
        yield {**about, "fault": f"takes longer than {MOST_S} s"}
        shutil.rmtree(place.parent)
        return
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        os.chdir(folder)
    about["output"] = result.output[-500:]
    codes[f"{arguments[0] if arguments else ''} {result.exit_code}"] += 1
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        trace = "".join(traceback.format_exception(result.exception)[-6:])
        yield {**about, "fault": f"{type(result.exception).__name__}", "trace": trace[-3000:]}
    elif result.exit_code not in CODES:
        yield {**about, "fault": f"exit code {result.exit_code}"}
    if result.exit_code in (1, 2) and not result.stderr.strip():
        yield {**about, "fault": "says nothing"}
    if "Traceback" in result.output or re.search(r" object at 0x[0-9a-f]{6}", result.output):
        yield {**about, "fault": "a traceback or an address"}
    odd = sorted({each for each in result.output if not (each.isprintable() or each in "\n\r\ufeff")})
    if odd:
        yield {**about, "fault": f"prints {odd}"}
    if peak < MOST_BYTES < peak_bytes(CPU):
        yield {**about, "fault": f"takes {peak_bytes(CPU):,} bytes"}
    if list(folder.rglob("canary*")):
        yield {**about, "fault": "ran what it was given"}
    outside = {path.name for path in (*folder.iterdir(), *place.parent.iterdir(), *Path("/tmp").glob("lopbench-evil*"))}
    if not outside <= {"whole", "cache", place.parent.name, place.name}:
        yield {**about, "fault": f"wrote outside: {outside}"}
    shutil.rmtree(place.parent)


def _hang(number: int, frame: object) -> None:
    raise Hangs


if __name__ == "__main__":
    main()
