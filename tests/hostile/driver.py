"""Does tiny studies with hostile plugins, one after another in this process, and writes what came of each.

As arguments: a folder, and the file to which a line of JSON is appended for each case. The names of the cases come from
standard input.
"""

import json
import sys
from pathlib import Path

import torch

from lopbench.core.errors import LopbenchError
from lopbench.core.manager import plugins
from lopbench.results.record import read_record, record_path
from lopbench.runner import study, worth

sys.path.append(str(Path(__file__).parent))
from deeds import CASES, source

SCENARIO = "samples=24,m=6,f=3,T=6,steps_per_task=6"

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
        skipped = plugins().try_file(path)
        told += [] if skipped is None else [skipped.reason]
        if kind == "methods":
            beside = do(folder / case, told, methods=[name, "none"])
        else:
            given = {
                "metrics": {"metrics": [name]},
                "scenarios": {"scenario": f"{name}:{SCENARIO}"},
                "architectures": {"architecture": name},
                "optimizers": {"optimizers": [f"{name}:lr=0.01"]},
            }
            do(folder / case, told, **given[kind])
    except LopbenchError as error:
        told.append(str(error))
    after = do(folder / f"{case}.after", []) if beside is None else beside
    differs = [key for key in clean if after.get(key) != clean[key]]
    return {"case": case, "told": told, "differs": differs, "goes_on": beside is not None}


def main():
    folder, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    worth.MOST_OPERATIONS = 0  # steps one by one: nothing is traced
    clean = do(folder / "clean", [])
    assert clean
    for case in sys.stdin.read().split():
        with out.open("a") as file:
            file.write(json.dumps({"begun": case}) + "\n")
        found = hostile(case, folder, clean)
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
