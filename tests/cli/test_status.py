import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lopbench.runner.worker import Telling

LONGEST = "shrink_and_perturb:decay=0.9999,scale=0.01, resnet18:width=128, seed 12"


def test_it_counts_what_is_done_and_tells_of_the_rest(lopbench, recorded, tiny):
    recorded("--method=none")
    shown = lopbench("status")
    assert (shown.exit_code, shown.stdout) == (0, "2 completed\n")
    tiny("--method=none", "--optimizer=sgd:lr=1e30")
    shown = lopbench("status", "results")
    counts, blank, headings, *rows = (text.rstrip() for text in shown.stdout.splitlines())
    assert (counts, blank) == ("2 completed, 2 diverged", "")  # the learner, and the same recipe from fresh
    assert headings.split() == [
        "state",
        "scenario",
        "profile",
        "method",
        "optimizer",
        "seed",
        "progress",
        "age",
        "folder",
    ]
    text = " ".join(" ".join(rows).split())
    assert text.count("diverged") == 2
    assert "sgd:lr=1e+30" in text
    assert text.count("the loss was not") == 2  # it is folded


def test_json_has_every_run(lopbench, recorded):
    recorded("--method=none")
    found = json.loads(lopbench("status", "--format=json").stdout)
    assert [each["state"] for each in found["runs"]] == ["completed"] * 2
    assert (found["counts"], found["workers"], found["command"]) == ({"completed": 2}, [], None)
    assert {Path(each["path"]).name for each in found["runs"]} == {path.name for path in Path("results/runs").iterdir()}


def test_what_a_command_in_one_process_left_undone_is_told_and_gone_on_with(lopbench, monkeypatch):
    def die(*arguments, **options):
        raise SystemExit(137)

    asked = ["run", "--scenario=slowly_changing_regression:samples=100,steps_per_task=50", "--seeds=0-1", "--jobs=1"]
    with monkeypatch.context() as patch:
        patch.setattr("lopbench.runner.study.execute_all", die)
        assert lopbench(*asked).exit_code == 137
    found = json.loads(lopbench("status", "--format=json").stdout)
    assert found["counts"] == {"to do": 4}
    command = shlex.split(found["command"])
    assert command[:2] == ["lopbench", "work"]
    assert subprocess.run([sys.executable, "-m", *command], check=False).returncode == 0
    found = json.loads(lopbench("status", "--format=json").stdout)
    assert (found["counts"], found["command"]) == ({"completed": 4}, None)


def test_a_folder_that_is_not_there_is_one_sentence(lopbench):
    shown = lopbench("status", "nowhere")
    assert shown.exit_code == 1
    assert shown.stderr == "Error: nowhere does not exist; give a results folder, a run directory or a packed set.\n"


@pytest.fixture
def at_work(tmp_path):
    """Let a worker of the folder ``results`` be at something with a long name, and another be dead."""
    results = tmp_path / "results"
    study = results / ".partial" / "studies" / "n1-7.json"
    telling = Telling(study, results, 3)
    telling.started(LONGEST, 1000, 0)
    telling.advanced(610, 11, 40, 0.5)
    telling.tell(host="n1", speed=48.2)
    code = "import sys; from pathlib import Path; from lopbench.runner.worker import Telling; p = Path('results')"
    code += "; Telling(p / 'n1-7.json', p, 4).tell(state='running', label='none, mlp, seed 0')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("columns", [40, 60, 80, 140])
def test_workers_are_whole_at_any_width(lopbench, monkeypatch, at_work, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = lopbench("status").stdout.splitlines()
    assert all(len(line.rstrip()) <= columns for line in lines)
    text = "".join("".join(lines).split())
    assert "…" not in text
    found = re.sub(r"1worker.*", "", text)
    for part in ("shrink_and_", "seed12", "seed0", "silent"):
        assert part in found
    if columns == 140:
        first = re.sub(r"  +", "|", lines[1].strip())
        assert first.startswith(f"n1 slot 3|{LONGEST}|task 12/40|61%|48 steps/s|")
        assert first.endswith(" s ago")
    assert "1 worker is silent: other workers, or the command below, take over what is unfinished." in " ".join(
        " ".join(lines).split()
    )
    assert "".join(lines).rstrip().endswith("To go on: the same 'lopbench run' as before")


def test_it_looks_without_torch(lopbench, at_work):
    code = "import sys; sys.argv = ['lopbench', 'status', 'results', '--format=json']; from lopbench.cli import main\n"
    code += "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["workers"]) == 2


def test_watching_in_a_pipe_shows_it_once(lopbench, recorded):
    recorded("--method=none")
    for option in ("--watch", "--watch=0.5"):
        shown = lopbench("status", "results", option)
        assert (shown.exit_code, shown.stdout) == (0, "2 completed\n")
    assert lopbench("status", "results", "--watch", "0").exit_code == 2


def test_watching_ends_with_q(recorded):
    recorded("--method=none")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lopbench", "status", "results", "--watch", "0.1"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"2 completed") < 2:  # looked twice
            shown += os.read(ours, 4096)
        os.write(ours, b"q")
        while process.poll() is None:
            time.sleep(0.05)
    os.close(ours)
    assert process.returncode == 0
