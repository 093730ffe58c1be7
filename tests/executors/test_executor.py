"""What an executor is asked for, what it is told, and how its workers are started again."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lopbench.core.errors import InvalidInputError, UsageError
from lopbench.core.executor import MOST_STARTS, OUT_OF_TIME, STOPPED, RestartingHandle, Workers, last_words
from lopbench.runner.pool import Staff, executor_of
from lopbench_plugins.executors.local import Local
from lopbench_plugins.executors.slurm import Slurm

TINY = "--scenario=bitflip:samples=40,m=8,f=5,T=10,steps_per_task=10"


class Fakes(RestartingHandle):
    """Workers that end as they are told to: exit codes by slot, in order."""

    def __init__(self, workers, *codes):
        super().__init__(workers)
        self.codes = [list(each) for each in codes]
        self.launched = []
        self.killed = False

    def launch(self, slot):
        if not self.codes[slot]:
            raise OSError("there is no more room")
        self.launched.append(slot)

    def code(self, slot):
        return self.codes[slot].pop(0)

    def kill(self):
        self.killed = True


@pytest.fixture
def workers(tmp_path):
    return Workers("study", ["work"], 2, tmp_path)


def ended(handle):
    handle.start()
    for _ in range(20):
        if not handle.poll():
            return handle
    return pytest.fail("it goes on")


@pytest.mark.parametrize("code", [0, OUT_OF_TIME, STOPPED])
def test_a_worker_that_left_in_order_is_not_started_again(workers, code):
    handle = ended(Fakes(workers, [None, code], [0]))
    assert handle.launched == [0, 1]
    assert handle.failures == []


def test_a_worker_that_died_is_started_again_as_often_as_it_began_something(workers):
    begun = iter([1, 2, 3, 4])
    handle = ended(Fakes(replace(workers, begun=lambda slot: next(begun)), [-9, -9, -9, -9, 0], [0]))
    assert handle.launched == [0, 1, 0, 0, 0, 0]
    assert handle.failures == []


def test_a_worker_whose_run_ended_the_process_as_one_that_cannot_work_is_started_again(workers):
    begun = iter([1, 2, 2])
    died = replace(workers, begun=lambda slot: next(begun), left=lambda slot: slot == 1)
    handle = ended(Fakes(died, [1, 1, 1], [0]))
    assert handle.launched == [0, 1, 0, 0]
    assert len(handle.failures) == 1


def test_a_place_is_given_up_when_nothing_was_begun(workers):
    handle = ended(Fakes(workers, [-9] * MOST_STARTS, [0]))
    assert handle.launched.count(0) == MOST_STARTS
    assert handle.failures == ["a worker ended with code -9 and said nothing"]


def test_a_worker_that_said_why_is_not_asked_again(workers):
    workers.log(0).write_text("a warning\nError: the folder is full\n\n")
    handle = ended(Fakes(workers, [1], [0]))
    assert handle.launched == [0, 1]
    assert handle.failures == ["the folder is full"]


def test_nothing_is_started_again_once_all_were_asked_to_leave(workers):
    handle = Fakes(workers, [-9], [-9])
    handle.start()
    handle.stop()
    assert not handle.poll()
    assert handle.launched == [0, 1]


def test_where_one_cannot_be_started_none_is_left(workers):
    handle = Fakes(workers, [None], [])
    with pytest.raises(OSError, match="no more room"):
        handle.start()
    assert handle.killed


def test_the_last_words_of_a_log_are_its_last_line_as_far_as_anybody_reads(tmp_path):
    log = tmp_path / "log"
    assert last_words(log) == ""
    log.write_text("x" * 5000)
    assert last_words(log) == "x" * 300


def test_workers_take_their_devices_in_turn(workers):
    several = replace(workers, jobs=3, devices=("cuda:0", "cuda:1"))
    assert [several.command(slot)[1] for slot in range(3)] == ["--device=cuda:0", "--device=cuda:1", "--device=cuda:0"]
    assert several.command(2, follow=True)[2:] == ["--slot=2/3", "--follow"]


# --- what the user writes ---------------------------------------------------------------------------------------------


def test_what_is_no_field_of_slurm_is_a_directive():
    found = executor_of("slurm:partition=gpu,time=4h", {"time": "1h", "gpus": 1, "exclusive": True, "mem": "2G"})
    directives = ("exclusive=true", "mem=2G", "partition=gpu")
    assert isinstance(found, Slurm)
    assert (found.time, found.gpus, found.directives) == ("4h", 1, directives)


def test_numbers_are_texts_where_a_text_is_wanted():
    assert executor_of("slurm", {"time": 90}).time == "90"


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("slrum", UsageError, "Unknown executor 'slrum'. Did you mean 'slurm'? 'lopbench list executors' shows all."),
        ("local:partition=gpu", UsageError, "local has no field 'partition'"),
        ("slurm:gpus=one", UsageError, "gpus=one is not a whole number"),
        ("slurm:gpus=-1", InvalidInputError, "slurm: gpus must be at least 0, got -1"),
        ("slurm:mem", UsageError, "'mem' has no value"),
    ],
)
def test_what_cannot_be_an_executor_is_one_sentence(text, error, told):
    with pytest.raises(error) as raised:
        executor_of(text)
    assert told in str(raised.value)


def test_several_devices_are_a_worker_each():
    staff = Staff.of(Local(), jobs=None, device="cpu,meta")
    assert (staff.jobs, staff.devices, staff.device) == (2, ("cpu", "meta"), "cpu")
    assert Staff.of(Local(), jobs=3, device="cpu,meta").jobs == 3
    with pytest.raises(UsageError, match="--device cpu,meta names 2 devices for --jobs 1; each needs a worker"):
        Staff.of(Local(), jobs=1, device="cpu,meta")
    with pytest.raises(UsageError, match="device 'gpu9' cannot be used"):
        Staff.of(Local(), jobs=2, device="cpu,gpu9")


def test_devices_of_other_machines_need_not_be_here():
    staff = Staff.of(Slurm(), jobs=2, device="cuda:7")
    assert (staff.devices, staff.device, staff.is_one_process) == (("cuda:7",), "cpu", False)


def test_one_worker_of_this_machine_is_this_process():
    assert Staff.of(Local(), jobs=None, device="cpu").is_one_process
    assert not Staff.of(Slurm(), jobs=1, device="cpu").is_one_process


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--executor=slrum"], 2, "Unknown executor 'slrum'. Did you mean 'slurm'?"),
        (["--jobs=0"], 2, "0 is not in the range x>=1"),
        (["--executor=local", "--detach"], 2, "--detach: workers of local end with this command"),
        (["--executor=slurm:gpus=-1"], 2, "gpus must be at least 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_told_before_anything_is_planned(lopbench, arguments, code, told):
    shown = lopbench("run", TINY, *arguments)
    assert shown.exit_code == code
    assert told in " ".join(shown.stderr.replace("│", " ").split())
    assert not Path("results").exists()


def test_a_dry_run_shows_what_would_be_submitted(lopbench):
    shown = lopbench("run", TINY, "--device=cpu", "--executor=slurm:partition=gpu", "--method=none", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "#SBATCH --partition=gpu" in shown.stdout
    assert f"{sys.executable} -m lopbench work" in shown.stdout
    assert "started by slurm" in shown.stderr
    assert not Path("results").exists()


def test_a_study_file_may_say_what_starts_workers(lopbench):
    Path("mine.toml").write_text(
        f'scenario = "{TINY.partition("=")[2]}"\n[executor]\nname = "slurm"\njobs = 2\npartition = "gpu"\ngpus = 1\n'
    )
    dry = ["run", "mine.toml", "--dry-run", "--device=cpu"]
    script = lopbench(*dry).stdout
    for line in ("--array=0-1", "--partition=gpu", "--gpus-per-task=1"):
        assert line in script
    script = lopbench(*dry, "--executor=slurm:partition=cpu", "--jobs=1").stdout
    for line in ("--array=0-0", "--partition=cpu", "--gpus-per-task=1"):
        assert line in script
    assert lopbench(*dry, "--executor=local").stdout == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("executor = 3", "'executor' must be a table, begun by a line [executor]"),
        ("[executor]\njobs = 2", '[executor] needs a name, as in name = "slurm"'),
        ('[executor]\nname = "slurm"\ntime = [4]', "'executor.time' must be a text, a number, true or false"),
        ('jobs = 3\n[executor]\nname = "local"\njobs = 2', "'jobs' stands above and in [executor]; write it once"),
        ('[executor]\nname = "local"\njobs = 0', "'jobs' must be a whole number, at least 1, got '0'"),
        ('[executor]\nname = "locl"', "Unknown executor 'locl'. Did you mean 'local'?"),
        ('[executr]\nname = "local"', "unknown key 'executr'. Did you mean 'executor'?"),
    ],
)
def test_what_is_wrong_with_the_table_is_one_sentence(lopbench, text, told):
    Path("mine.toml").write_text(text)
    shown = lopbench("run", "mine.toml", "--dry-run")
    assert shown.exit_code == 2
    assert told in shown.stderr
