"""Whatever a plugin does, the records of others stay byte for byte what they are, and what happened is told.

The studies are done in one process, one after another: what one plugin leaves behind would change all that follow. A
plugin that ends the process ends its own case, and a new process does the rest.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

DRIVER = Path(__file__).with_name("driver.py")
_spec = importlib.util.spec_from_file_location("hostile_deeds", DRIVER.with_name("deeds.py"))
deeds = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(deeds)


#: So many cases are done one after another in a process; several processes that run tests share them.
TOGETHER = 40


@pytest.fixture
def outcome(case, tmp_path_factory, request, worker_id):
    """Return what came of a case, of all those that are done with it; one that ended its process has died."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder if worker_id == "master" else folder.parent) / "hostile"
    folder.mkdir(exist_ok=True)
    asked = {
        item.callspec.params["case"] for item in request.session.items if "case" in getattr(item, "fixturenames", ())
    }
    part = list(deeds.CASES).index(case) // TOGETHER
    cases = [each for each in list(deeds.CASES)[part * TOGETHER :][:TOGETHER] if each in asked]
    kept = folder / f"{part}.json"
    with filelock.FileLock(folder / f"{part}.lock"):
        if not kept.exists():
            found = outcomes(cases, folder / str(part))
            kept.write_text(json.dumps(found))
        return json.loads(kept.read_text())[case]


def outcomes(cases, folder):
    """Do cases one after another, and return what came of each, by name."""
    left, found = cases, {}
    while left:
        work, out = folder / f"work{len(left)}", folder / f"outcomes{len(left)}"
        work.mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, str(DRIVER), str(work), str(out)],
            input="\n".join(left),
            text=True,
            capture_output=True,
            cwd=work,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert out.exists(), done.stderr
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        found |= {line["case"]: line for line in lines if "case" in line}
        begun = [line["begun"] for line in lines if "begun" in line]
        found.setdefault(begun[-1], {"died": done.stderr[-3000:]})
        left = left[len(begun) :]
    return found


@pytest.mark.parametrize("case", deeds.CASES)
def test_a_hostile_plugin_changes_no_record_of_others_and_is_told_of(outcome, case):
    place, _, told = deeds.CASES[case]
    assert "died" not in outcome, outcome["died"]
    assert outcome["differs"] == []
    assert outcome["goes_on"] or deeds.PLACES[place][1] != "methods"
    assert any(re.search(told, each) for each in outcome["told"]), outcome["told"]
    assert not any(len(each) > 4000 for each in outcome["told"])


def test_there_are_a_hundred():
    assert len(deeds.CASES) > 100


QUITS = """
import os
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Perturbation, hookimpl


@dataclass(frozen=True, kw_only=True)
class Quits(Perturbation):
    name: ClassVar[str] = "quits"

    def after_step(self, learner, state):
        state.host["steps"] = 1  # what counts on the host is no program
        {ends}


@hookimpl
def lopbench_methods(register):
    register("quits", Quits, "ends its process as if all were well")
"""


@pytest.mark.parametrize("ends", ["os._exit(0)", "os._exit(1)"])
def test_a_method_that_ends_its_worker_is_set_aside_and_the_others_go_on(tmp_path, ends):
    (tmp_path / "quits.py").write_text(QUITS.replace("{ends}", ends))
    scenario = "--scenario=bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6"
    command = f"run {scenario} --plugin=quits.py --method=quits --method=none --device=cpu --jobs=2"
    done = subprocess.run(
        [sys.executable, "-m", "lopbench", *command.split()], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert "quits, seed 0 (online_mlp) killed 3 workers without getting further than step 0" in done.stderr
    assert len([path for path in (tmp_path / "results" / "runs").iterdir() if "-fresh-" not in path.name]) == 1
