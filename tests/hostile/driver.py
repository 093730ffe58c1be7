"""Does tiny studies with hostile plugins, one after another in this process, and writes what came of each.

As arguments: a folder, and the file to which a line of JSON is appended for each case. The names of the cases come from
standard input.
"""

import json
import sys
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import torch

from lopbench.core.errors import LopbenchError
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution
from lopbench.results.record import read_record, record_path
from lopbench.runner import study, worth
from lopbench.runner.pool import Staff, executor_of

sys.path.append(str(Path(__file__).parent))
from deeds import CASES, TRACED, source

MOST_OPERATIONS = worth.MOST_OPERATIONS
SCENARIO = "samples=24,m=6,f=3,T=6,steps_per_task=6"

#: Scenarios of friends, for what is called in no plain stream.
FRIENDS = """
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Growth, hookimpl
from lopbench_plugins.scenarios.bitflip import BitFlip


@dataclass(frozen=True, kw_only=True)
class Bounded(BitFlip):
    name: ClassVar[str] = "bounded"
    boundaries: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Growing(BitFlip):
    name: ClassVar[str] = "growing"

    @property
    def growth(self):
        return Growth(task=1)


@hookimpl
def lopbench_scenarios(register):
    register("bounded", Bounded, "with boundaries")
    register("growing", Growing, "with clones")
"""

#: Files of a record that hold no time.
FILES = ("spec.json", "environment.json", "measurements.parquet")


def do(results, told, **changes):
    """Do a study; notes what could not be done and what failed, and returns the records of plain learning."""
    asked = {
        "scenario": f"bitflip:{SCENARIO}",
        "architecture": "online_mlp",
        "methods": ["none"],
        "metrics": [],
        **changes,
    }
    planned = study.plan(results=results, device="cpu", **asked)
    told += [f"{what}: {reason}" for what, reason in planned.aside]
    told += [f"{spec.method_label}: {reason}" for spec, reason in study.execute(planned)]
    for spec in planned.specs:
        path = record_path(planned.results, spec)
        if path.exists() and read_record(path).outcome == "failed":
            told.append(f"{spec.method_label}: {json.loads((path / 'status.json').read_text())['error']}")
    return record_bytes(planned.results, [each for each in planned.specs if not each.methods])


def start(results, told, executor):
    """Have an executor start workers, as a command does; it is their end as well."""
    planned = study.plan(results=results, device="cpu", scenario=f"bitflip:{SCENARIO}", metrics=[])
    pool = Staff.of(executor_of(executor), jobs=1, device="cpu").pool([planned], data_dir=None)
    try:
        pool.start()
    finally:
        pool.kill()
        pool.tidy()


def load(place, path, told):
    """Load a plugin file, as itself or as what an entry point of an installed package names."""
    if place.startswith("entry point"):
        point = EntryPoint(path.stem, path.stem, "lopbench")
        before = len(plugins().skipped)
        plugins().try_point(point, Distribution("evil", "1"))
        skipped = plugins().skipped[before:]
    else:
        skipped = filter(None, [plugins().try_file(path)])
    told += [each.reason for each in skipped]


def asked(place):
    """Return what is asked for in a place: the scenario that comes to it, and a program where one is looked at."""
    if place in TRACED:
        return {"seeds": [0, 1]}
    return {"scenario": f"bounded:{SCENARIO}"} if place == "on_task_start" else {}


def record_bytes(results, specs):
    """Return the files of the records of some runs and of their references."""
    found = {}
    for spec in specs:
        for each in (spec, spec.reference()):
            folder = record_path(results, each)
            found |= {f"{each.kind}/{name}": (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    return found


def hostile(case, folder, clean):
    """Do a study with a hostile plugin and plain learning beside it; returns what came of it."""
    place, deed, _ = CASES[case]
    name = "evil-" + case.replace("_", "-")
    text, kind = source(place, deed, name)
    path = folder / f"{case.replace('-', '_')}.py"
    path.write_text(text)
    told, beside = [], None
    try:
        load(place, path, told)
        if kind == "methods":
            worth.MOST_OPERATIONS = MOST_OPERATIONS if place in TRACED else 0
            beside = do(folder / case, told, methods=[name, "none"], **asked(place))
        elif kind == "executors":
            start(folder / case, told, name)
        else:
            given = {
                "metrics": {"metrics": [name]},
                "scenarios": {"scenario": f"{name}:{SCENARIO}"},
                "architectures": {"architecture": name},
                "optimizers": {"optimizers": [f"{name}:lr=0.01"]},
                "cloners": {"scenario": f"growing:{SCENARIO}", "cloner": name},
                "data": {"scenario": f"streaming-{name}:{SCENARIO}"},
            }
            do(folder / case, told, **given[kind])
    except LopbenchError as error:
        told.append(str(error))
    after = do(folder / f"{case}.after", []) if beside is None else beside
    kind = place if beside is not None and asked(place) else ""
    differs = [key for key in clean(kind) if after.get(key) != clean(kind)[key]]
    return {"case": case, "told": told, "differs": differs, "goes_on": beside is not None}


def friends(folder):
    """Write the plugin with the scenarios of friends, and return its file."""
    path = folder / "friends.py"
    path.write_text(FRIENDS)
    return path


def main():
    folder, out = map(Path, sys.argv[1:])
    sys.path.append(str(folder))
    torch.set_num_threads(1)
    worth.MOST_OPERATIONS = 0  # steps one by one: nothing is traced
    plugins().load_file(friends(folder))

    @cache
    def clean(place):
        worth.MOST_OPERATIONS = MOST_OPERATIONS if place in TRACED else 0
        found = do(folder / f"clean {place}", [], **asked(place))
        assert found
        return found

    clean("")
    for case in sys.stdin.read().split():
        with out.open("a") as file:
            file.write(json.dumps({"begun": case}) + "\n")
        found = hostile(case, folder, clean)
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
