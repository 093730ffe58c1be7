import importlib
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import lopbench.cli as lopbench_cli
from lopbench.core.errors import DataError, UsageError

COMMANDS = [
    *("run", "list", "show", "status", "leaderboard", "compare", "reproduce", "report", "plot", "certify", "data"),
    *("plugins", "theory", "verify", "figure", "submit", "verify-entry", "snapshot"),
]


@pytest.fixture
def failing(monkeypatch):
    """Return a function that makes ``lopbench list`` raise an error."""

    def fail(error):
        def raises():
            raise error

        monkeypatch.setattr("lopbench.core.manager.plugins", raises)

    return fail


def test_help_names_every_command(lopbench):
    shown = lopbench("--help")
    assert shown.exit_code == 0
    for name in COMMANDS:
        assert name in shown.stdout


def test_lopbench_alone_gives_a_first_step(lopbench):
    shown = lopbench()
    assert shown.exit_code == 0
    assert "run --profile smoke\n" in shown.stdout
    assert "--help\n" in shown.stdout
    assert "plugins new my-method" in shown.stdout
    assert len(shown.stdout.splitlines()) <= 12


def test_a_command_that_is_misspelt_is_answered_with_the_nearest(lopbench):
    shown = lopbench("leaderbord", "results")
    assert shown.exit_code == 2
    assert "There is no command 'leaderbord'. Did you mean 'leaderboard'?" in " ".join(shown.stderr.split())


def test_help_stands_in_groups_that_name_every_command(lopbench):
    shown = lopbench("--help").stdout
    for heading, commands in lopbench_cli._HELP.items():
        assert heading in shown
        assert set(commands) <= set(lopbench_cli._COMMANDS)
    for heading in ("What to run", "Where and how"):
        assert heading in lopbench("run", "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(lopbench, name):
    shown = lopbench(name, "-h")
    assert shown.exit_code == 0
    assert f"lopbench {name}" in shown.stdout
    assert "\\b" not in shown.stdout  # it would have to be a backspace, which keeps the lines of a list apart


@pytest.mark.parametrize("name", COMMANDS)
def test_lines_of_a_list_in_the_help_fit_into_80_columns(lopbench, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    shown = lopbench(name, "--help").stdout
    command = lopbench_cli.cli.get_command(None, name)
    lists = re.findall(r"\x08\n((?:.+\n?)+)", command.help)
    missing = [line for each in lists for line in each.splitlines() if line.strip() not in shown]
    assert missing == []


def test_the_version_is_the_distributions(lopbench):
    assert lopbench("--version").stdout == f"lopbench {importlib.import_module('lopbench').__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run", "--no-such-option"],
        ["list", "planets"],
        ["show"],
        ["leaderboard"],
        ["run", "--seeds"],
    ],
    ids=" ".join,
)
def test_a_usage_error_exits_with_2_and_leaves_stdout_empty(lopbench, arguments):
    shown = lopbench(*arguments)
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert shown.stderr


@pytest.mark.parametrize("arguments", [["run", "a\x1b[2Jb"], ["a\x1b[2Jb"], ["list", "a\x1b[2Jb"], ["run", "--a\x1b"]])
def test_a_usage_error_obeys_nothing_that_was_typed(lopbench, arguments):
    shown = lopbench(*arguments)
    assert shown.exit_code == 2
    assert all(character.isprintable() or character == "\n" for character in shown.stderr)


@pytest.mark.parametrize(
    "command", [["status"], ["leaderboard"], ["compare"], ["pack", "--output=x.lopbench"], ["unpack"]]
)
def test_a_path_that_no_system_takes_is_told_of(lopbench, command):
    shown = lopbench(*command, "a" * 300)
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr.strip().endswith(f"{'a' * 300} cannot be used: File name too long.")


@pytest.mark.parametrize(("error", "code"), [(DataError("no images"), 1), (UsageError("no such thing"), 2)])
def test_a_users_mistake_is_one_sentence_and_an_exit_code(lopbench, failing, error, code):
    failing(error)
    shown = lopbench("list")
    assert shown.exit_code == code
    assert shown.stderr == f"Error: {error}\n"
    assert shown.stdout == ""


def test_debug_raises_the_error(lopbench, failing):
    error = DataError("no images")
    failing(error)
    assert lopbench("--debug", "list").exception is error


def test_a_bug_is_not_dressed_up(lopbench, failing):
    error = AssertionError("ours")
    failing(error)
    assert lopbench("list").exception is error


def test_an_interrupt_exits_with_130(lopbench, failing):
    failing(KeyboardInterrupt())
    shown = lopbench("list")
    assert shown.exit_code == 130
    assert shown.stderr == "\nInterrupted.\n"


def test_an_interrupted_run_says_how_to_go_on(lopbench, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lopbench.runner.study.plan", interrupted)
    for command in (["run"], ["verify", "B.2"], ["figure", "B.2"]):
        shown = lopbench(*command)
        assert shown.exit_code == 130
        assert "checkpointed; the same command resumes" in shown.stderr

    def told(**_):
        raise KeyboardInterrupt("The workers go on.")

    monkeypatch.setattr("lopbench.runner.study.plan", told)
    assert lopbench("run").stderr == "\nInterrupted. The workers go on.\n"


def test_a_reader_that_leaves_early_is_no_error():
    code = "import sys; sys.argv = ['lopbench', 'list']; from lopbench.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_console_script_is_main():
    (script,) = entry_points(group="console_scripts", name="lopbench")
    assert script.load() is lopbench_cli.main


def test_python_m_lopbench_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "lopbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lopbench ")


#: A program that has something like torch, what is told at its end, and what Python says when it takes a module apart.
ENDING = """
import atexit, sys, threading, time, types

class Kept:
    def __del__(self):
        print("taken apart")

sys.modules["torch"] = types.ModuleType("torch")
sys.modules["torch"].kept = Kept()
atexit.register(print, "registered")
sys.argv = ["lopbench", *sys.argv[1:]]
from lopbench.cli import main
"""


def ended(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["list", "nothing"], 2)])
def test_a_command_that_used_torch_ends_at_once_with_its_exit_code(arguments, code):
    done = ended(f"{ENDING}main()", *arguments)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == "registered"  # and is written, as what was printed before
    assert "taken apart" not in done.stdout
    assert "taken apart" in ended(f"{ENDING}sys.exit(0)").stdout


def test_threads_that_are_at_work_are_waited_for():
    code = "def late():\n    time.sleep(0.2)\n    print('done')\nthreading.Thread(target=late).start()\nmain()"
    done = ended(f"{ENDING}{code}", "--version")
    assert done.returncode == 0
    assert "done" in done.stdout


def test_output_that_is_lost_at_the_end_is_an_error():
    command = ["sh", "-c", '"$0" -c "$1" --version >/dev/full', sys.executable, f"{ENDING}main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: what is printed cannot be written: No space left on device.\n"
