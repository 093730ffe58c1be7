"""Where runs run: recorded without telling whose machine it was, and put back as it was found."""

import getpass
import hashlib
import inspect
import json
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from lopbench.core.spec import Numerics
from lopbench.runner import environment, study
from lopbench.runner.environment import describe, numerics, origins, peak_bytes
from lopbench_plugins.perturbations.cbp import ContinualBackprop as Cbp

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
KEYS = {"versions", "device", "threads", "cpu_count", "platform", "cuda", "commit", "dirty", "code"}


def flags():
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def set_flags(precision, _, cudnn_tf32, deterministic, benchmark, strict, warn_only, fill):
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = cudnn_tf32
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(strict, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture(autouse=True)
def own_flags(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = flags()
    yield
    set_flags(*before)


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("spec", [Numerics(), Numerics(tf32=True, deterministic=False)])
@pytest.mark.parametrize(
    "outside",
    [
        ("highest", None, True, False, False, False, False, True),
        ("medium", None, True, False, True, True, True, True),
        ("high", None, False, True, False, True, False, False),
    ],
)
def test_numerics_leaves_every_flag_as_it_was_also_after_an_error(device, spec, outside):
    set_flags(*outside)
    before = flags()

    def fail():
        with numerics(spec, device):
            raise RuntimeError

    with numerics(spec, device):
        pass
    assert flags() == before
    with pytest.raises(RuntimeError):
        fail()
    assert flags() == before


def test_default_numerics_are_full_precision_and_deterministic_whatever_was_set_before():
    set_flags("medium", None, True, False, True, False, False, True)
    with numerics(Numerics(), CUDA):
        assert flags() == ("highest", False, False, True, False, True, True, False)
    with numerics(Numerics(), CPU):
        assert flags()[:5] == ("highest", False, False, True, False)


def test_tf32_and_speed_can_be_asked_for():
    set_flags("highest", None, False, True, False, False, False, True)
    with numerics(Numerics(tf32=True, deterministic=False), CUDA):
        assert flags() == ("high", True, True, False, True, False, False, True)


def test_description_has_its_keys_and_is_json():
    found = describe(CPU)
    assert set(found) == KEYS
    assert set(found["versions"]) == {"python", *environment.PACKAGES}
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu (")
    assert found["cuda"] is None
    assert found["commit"] is None or re.fullmatch("[0-9a-f]{40}", found["commit"])
    assert re.fullmatch("[0-9a-f]{12}", found["code"])
    assert json.loads(json.dumps(found)) == found


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a checkout of a lopbench of one file, from which it runs; what was found of another is forgotten."""
    package = tmp_path / "lopbench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(environment.lopbench, "__file__", str(package / "__init__.py"))
    environment._source.cache_clear()
    yield tmp_path
    environment._source.cache_clear()


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("file", "dirty"), [(None, False), ("lopbench/__init__.py", True), ("lopbench/new.py", True), ("notes.txt", False)]
)
def test_a_checkout_is_recorded_by_its_commit_and_whether_its_code_was_changed(checkout, file, dirty):
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    if file is not None:
        (checkout / file).write_text("1")
    found = describe(CPU)
    assert (found["commit"], found["dirty"]) == (git(checkout, "rev-parse", "HEAD"), dirty)


@pytest.mark.parametrize(
    ("direct", "commit"),
    [('{"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}', "abc"), (None, None), ("{", None)],
)
def test_an_installation_from_a_repository_is_recorded_by_its_commit(checkout, monkeypatch, direct, commit):
    class Installed:
        def read_text(self, name):
            return direct

    monkeypatch.setattr(environment, "distribution", lambda name: Installed())
    found = describe(CPU)
    assert (found["commit"], found["dirty"]) == (commit, None if commit is None else False)


def test_every_component_of_a_run_is_recorded_with_version_and_content_of_its_file(make_study):
    spec = make_study(methods=["cbp+l2"], metrics=["effective_rank"]).specs[0]
    found = origins(spec)["origins"]
    assert {key.partition(" ")[0] for key in found} == {
        *("architectures", "methods", "metrics", "optimizers", "scenarios")
    }
    assert {"methods cbp", "methods l2", "metrics effective_rank", f"scenarios {spec.scenario.name}"} <= set(found)
    content = hashlib.sha256(Path(inspect.getfile(Cbp)).read_bytes()).hexdigest()[:12]
    assert found["methods cbp"] == f"lopbench {version('lopbench')}+{content}"


def test_the_code_of_lopbench_is_told_apart_by_any_of_its_files(monkeypatch, tmp_path):
    (tmp_path / "part").mkdir()
    for name, text in (("__init__.py", ""), ("part/a.py", "x = 1"), ("notes.txt", "none")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(environment.lopbench, "__file__", str(tmp_path / "__init__.py"))
    first = environment._code.__wrapped__()
    (tmp_path / "notes.txt").write_text("other")
    assert environment._code.__wrapped__() == first
    (tmp_path / "part" / "a.py").write_text("x = 2")
    assert environment._code.__wrapped__() != first


def test_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("lopbench", "no-such-package"))
    versions = describe(CPU)["versions"]
    assert versions["no-such-package"] is None
    assert versions["lopbench"]


def test_peak_memory_is_that_of_this_process():
    assert 50 * 2**20 < peak_bytes(CPU) < 2**40


def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    # A notebook with much data in it starts workers, whose peak would be the notebook's.
    code = """
import subprocess, sys, torch
from lopbench.runner.environment import peak_bytes
print(peak_bytes(torch.device("cpu")), flush=True)
if len(sys.argv) == 2:
    filled = b"1" * 1_500_000_000
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
    done = subprocess.run([sys.executable, "-c", code, code], capture_output=True, text=True, check=True)
    first, inner = map(int, done.stdout.split())
    assert inner < 1.5 * first


def test_record_names_no_machine_no_user_and_no_folder(make_study, record_of):
    scenario = "tinyimagenet40:tasks=2,steps_per_task=2,classes_per_task=2,images_per_class=20,resolution=8"
    planned = make_study(scenario=scenario)
    study.execute(planned)
    record = record_of(planned, planned.specs[0])
    texts = {path.name: path.read_bytes().decode(errors="replace") for path in record.path.iterdir()}
    assert len(texts) == 5
    folders = {str(planned.results), str(Path.cwd()), sys.prefix, str(Path.home())} - {"/"}
    secrets = folders | {name for name in (platform.node(), getpass.getuser()) if len(name) > 4}
    for name, text in texts.items():
        assert not [secret for secret in secrets if secret in text], name
