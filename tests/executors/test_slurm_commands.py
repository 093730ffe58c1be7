"""What is given to SLURM's commands, and what becomes of what they say: here they are scripts that write it down."""

import os
import re
from dataclasses import replace

import pytest

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.executor import Workers
from lopbench_plugins.executors import slurm
from lopbench_plugins.executors.slurm import Slurm

COMMANDS = {
    "sbatch": 'echo 7$(grep -c sbatch "$TOLD")',
    "scontrol": 'echo "MaxArraySize            = 3"',
    "squeue": "echo 70 RUNNING",
    "scancel": "true",
}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Return a function that makes the commands, some of them others, and gives what they were asked."""
    path = tmp_path / "told"
    path.touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TOLD", str(path))
    (tmp_path / "bin").mkdir()

    def make(**others):
        for name, text in {**COMMANDS, **others}.items():
            file = tmp_path / "bin" / name
            file.write_text(f'#!/bin/sh\necho {name} "$@" >> "$TOLD"\n{text}\n')
            file.chmod(0o755)
        return lambda name: [line for line in path.read_text().splitlines() if line.startswith(name)]

    return make


@pytest.fixture
def workers(tmp_path):
    folder = tmp_path / 'a folder of 100% "mine"'
    folder.mkdir()
    return Workers("study", ["python", "-m", "lopbench", "work", "a list"], 2, folder, environment={"X": "a b"})


def directives(script):
    return re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)


def test_a_script_says_what_was_asked_for(workers):
    asked = Slurm(
        time="90m",
        gpus=2,
        cpus=3,
        setup="module load cuda",
        directives=("exclusive=true", "nice=false", "mem_per_cpu=2G"),
    )
    script = asked.script(replace(workers, devices=("cuda",)))
    assert directives(script) == [
        "--job-name=lopbench --array=0-1",
        "--requeue --signal=USR2@120 --open-mode=append",
        f'--output="{str(workers.folder).replace("%", "%%").replace(chr(34), chr(92) + chr(34))}/study-%A_%a.log"',
        "--cpus-per-task=3",
        "--gpus-per-task=2 --ntasks=1",
        "--time=90",
        "--exclusive",
        "--mem-per-cpu=2G",
    ]
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    assert "\nexport X='a b'\nexport OMP_NUM_THREADS=3\nexport MKL_NUM_THREADS=3\nmodule load cuda\nsrun " in script
    assert "python -m lopbench work 'a list' --device=cuda --slot=\"$SLURM_ARRAY_TASK_ID/2\"\n" in script


@pytest.mark.parametrize(
    ("given", "meant"),
    [("4h", "240"), ("30m", "30"), ("1.5d", "2160"), ("330s", "6"), ("90", "90"), ("1-12:00:00", "1-12:00:00")],
)
def test_a_time_is_in_minutes_or_as_slurm_writes_it(workers, given, meant):
    assert f"--time={meant}" in directives(Slurm(time=given).script(workers))


@pytest.mark.parametrize("time", ["20s", "4m", "0.01h", "4", "4:59", "0:04:59", "0-0:4", "0-0:4:30"])
def test_a_time_that_leaves_nothing_for_work_is_refused(time):
    with pytest.raises(InvalidInputError, match=f"time={time} is too short: .* give 5m or more"):
        Slurm(time=time)


@pytest.mark.parametrize("time", ["", "5m", "5", "5:00", "0:5:00", "1-0", "1-1:1", "infinite"])
def test_other_times_are_for_slurm_to_judge(time):
    assert Slurm(time=time).time == time


@pytest.mark.parametrize("field", [{"time": "4h\nrm -r x"}, {"directives": ("mem=2G\nrm -r x",)}])
def test_a_directive_is_one_line(field):
    with pytest.raises(InvalidInputError, match="a directive is one line of printable characters"):
        Slurm(**field)


def test_which_gpu_a_worker_takes_is_for_slurm_to_say(workers):
    with pytest.raises(UnsupportedError, match="devices cuda:0, cuda:1 cannot be shared out; write --device cuda and"):
        Slurm().script(replace(workers, devices=("cuda:0", "cuda:1")))


def test_an_array_that_the_site_finds_too_long_is_submitted_in_parts(workers, told):
    asked = told()
    handle = Slurm().start(replace(workers, jobs=7))
    assert handle.token == "71,72,73"
    assert len(asked("sbatch")) == 3
    scripts = [(workers.folder / f"study-{number}.sh").read_text() for number in range(3)]
    assert [directives(script)[0].split("=")[-1] for script in scripts] == ["0-2", "0-2", "0-0"]
    slots = [re.search(r'--slot="(.*)"', script)[1] for script in scripts]
    assert slots == [
        "$SLURM_ARRAY_TASK_ID/7",
        "$((SLURM_ARRAY_TASK_ID + 3))/7",
        "$((SLURM_ARRAY_TASK_ID + 6))/7",
    ]
    assert handle.poll()
    handle.stop()
    assert asked("scancel") == ["scancel 71 72 73"]


def test_what_sbatch_says_is_passed_on_and_nothing_is_left(workers, told):
    refuses = (
        '[ "$(grep -c sbatch "$TOLD")" = 1 ] && echo 70 && exit; echo "sbatch: error: invalid partition" >&2; exit 1'
    )
    asked = told(sbatch=refuses)
    with pytest.raises(UnsupportedError, match=r"^slurm: sbatch says: invalid partition$"):
        Slurm().start(replace(workers, jobs=4))
    assert asked("scancel") == ["scancel 70"]


def test_without_slurm_there_is_a_sentence(workers, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="there is no 'scontrol' on the path; run this where jobs are submitted"):
        Slurm().start(workers)


def test_jobs_are_over_when_slurm_knows_them_no_more_and_not_when_it_does_not_answer(workers, told, monkeypatch):
    monkeypatch.setattr(slurm, "_SOON_S", 0.0)
    told()
    handle = Slurm().join(workers, "70,71")
    assert (handle.token, handle.stop_command) == ("70,71", "scancel 70 71")
    assert handle.poll()
    told(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert handle.poll()
    for states in ("70 COMPLETED; echo 71 PENDING", "70 NODE_FAIL; echo 71 CANCELLED", "71 REQUEUED"):
        told(squeue=f"echo {states}")
        assert handle.poll()
    told(squeue="echo 70 COMPLETED; echo 71 TIMEOUT; echo 72 RUNNING")
    assert handle.poll()  # not for a moment alone
    assert not handle.poll()
    told(squeue="echo 70 RUNNING")
    assert not handle.poll()


def test_jobs_that_have_ended_are_not_joined(workers, told):
    told(squeue="true")
    assert not Slurm().join(workers, "70").poll()


def test_slurm_is_asked_less_often_the_longer_it_takes(workers, told, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(slurm.time, "monotonic", lambda: now[0])
    asked = told()
    handle = Slurm().join(workers, "70")
    for tick in range(2000):
        now[0] = tick / 2
        handle.poll()
    assert 100 < len(asked("squeue")) < 150  # of 2,000
