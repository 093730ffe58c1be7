"""Entries on the command line, and the workflow of a repository of results."""

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

PUBLISHED = Path(__file__).parents[2] / "results"
WORKFLOW = yaml.safe_load((files("lopbench.results") / "workflow" / "verify.yml").read_text())
BITS = "bitflip:samples=1000,m=8,f=5,T=100,steps_per_task=100"


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    """Return an entry of runs of ten steps."""
    import lopbench

    folder = tmp_path_factory.mktemp("submit")
    lopbench.run(
        scenario=BITS,
        methods=["none", "l2:strength=0.1"],
        seeds=range(5),
        metrics=[],
        device="cpu",
        results=folder / "results",
    )
    return folder


@pytest.fixture
def submitted(entry, lopbench, tmp_path):
    shown = lopbench(
        *(
            "submit",
            entry / "results",
            "--output=entries/mine",
            "--code=https://example.org/mine",
            "--contact=A. Author",
        )
    )
    assert shown.exit_code == 0, shown.output
    return tmp_path / "entries" / "mine", shown


def test_an_entry_is_submitted_verified_and_one_cell_of_it_run(submitted, lopbench):
    folder, shown = submitted
    assert "3 files" in shown.stderr
    assert "verify-entry entries/mine" in shown.stderr
    verified = lopbench("verify-entry", "entries/mine", "--rerun")
    assert verified.exit_code == 0, verified.output
    assert "mine: 2 rows under 1 protocol\n" in verified.stdout
    assert "Files, ids, seeds, references and scores are in order." in verified.stdout
    assert "l2:strength=0.1 completes 5,000 steps of bitflip, profile smoke." in verified.stdout
    (folder / "more.txt").touch()
    refused = lopbench("verify-entry", "entries/mine")
    assert refused.exit_code == 1
    assert "more.txt is no file of an entry" in refused.stderr
    assert "Traceback" not in refused.output


def test_bad_requests_are_a_sentence(lopbench, tmp_path, entry):
    assert "name the folder of an entry" in lopbench("verify-entry").stderr
    assert "it is no folder" in lopbench("verify-entry", "nowhere").stderr
    refused = lopbench("submit", entry / "results", "--output=mine", "--code=example.org", "--contact=A. Author")
    assert refused.exit_code == 2
    assert "code: 'example.org' is not an https URL of at most 200 plain characters" in refused.stderr
    told = lopbench("verify-entry", "mine", "--changed=absent").stderr
    assert "absent cannot be read: No such file or directory" in told


# -- the workflow


def step(job, name):
    (found,) = (each for each in WORKFLOW["jobs"][job]["steps"] if each.get("name") == name)
    return found["run"]


class Repository:
    """A repository of results, in which the steps of the workflow are run."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = folder.parent / "bin"
        self.bin.mkdir()
        program = self.bin / "lopbench"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lopbench "$@"\n')
        program.chmod(0o755)
        folder.mkdir()
        self.git("init", "-q")
        (folder / "README.md").write_text("results")
        self.base = self.commit()

    def git(self, *arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")
        return self.git("rev-parse", "HEAD")

    def run(self, command, **variables):
        temporary = self.folder.parent / "runner"
        temporary.mkdir(exist_ok=True)
        output = temporary / "output"
        output.write_text("")
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "RUNNER_TEMP": str(temporary),
            "GITHUB_OUTPUT": str(output),
            "PYTHONPATH": str(PUBLISHED.parent),
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        script = ["bash", "-eo", "pipefail", "-c", command]
        done = subprocess.run(script, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        return done, dict(line.split("=", 1) for line in output.read_text().splitlines())


def test_the_steps_of_the_workflow_take_an_entry_and_refuse_a_change_beside_it(submitted, tmp_path):
    repository = Repository(tmp_path / "repository")
    shutil.copytree(submitted[0], repository.folder / "entries" / "mine")
    repository.commit()
    _, told = repository.run(step("verify", "entry"), BASE=repository.base)
    assert told == {"entry": "entries/mine"}
    done, _ = repository.run(step("verify", "verify"), ENTRY=told["entry"])
    assert done.returncode == 0, done.stderr
    (repository.folder / "README.md").write_text("changed")
    repository.commit()
    _, told = repository.run(step("verify", "entry"), BASE=repository.base)
    done, _ = repository.run(step("verify", "verify"), ENTRY=told["entry"])
    assert done.returncode == 1
    assert "The change touches README.md, outside entries/mine" in done.stderr


def test_the_first_stage_has_no_rights_and_the_second_waits_for_somebody(lopbench):
    assert WORKFLOW["permissions"] == {"contents": "read"}
    first, second = WORKFLOW["jobs"]["verify"], WORKFLOW["jobs"]["rerun"]
    assert "environment" not in first
    assert second["environment"]
    assert second["needs"] == "verify"
    assert "--rerun" not in str(first)
    for job in (first, second):
        for each in job["steps"]:
            assert "${{" not in each.get("run", ""), "what others wrote gets into no shell"
            if "checkout" in each.get("uses", ""):
                assert each["with"]["persist-credentials"] is False
    assert yaml.safe_load(lopbench("verify-entry", "--workflow").stdout) == WORKFLOW
