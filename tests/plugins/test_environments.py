"""Plugins as real distributions, installed into an environment of their own."""

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "plugins" / "README.md").read_text()
(COMMANDS,) = [
    block for block in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if "plugins new" in block
]


class Environment:
    """An environment that sees the packages of this one, so that nothing is downloaded, and has its own scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder / "env", folder / "work"
        self.work.mkdir()
        venv.create(self.folder)
        self.site = Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))
        places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        (self.site / "parent.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in places))
        for name, module in (("lopbench", "lopbench.cli"), ("pip", "pip._internal.cli.main")):
            script = self.folder / "bin" / name  # as pip makes them
            script.write_text(
                f"#!{self.folder / 'bin' / 'python'}\nfrom {module} import main\nraise SystemExit(main())\n"
            )
            script.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell."""
        variables = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which means: no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder),
            "LOPBENCH_CACHE": str(self.folder / "cache"),
        }
        return subprocess.run(["sh", "-c", command], cwd=self.work, env=variables, capture_output=True, text=True)

    def succeed(self, command: str) -> str:
        """Run a line of shell that must succeed, and return what it prints."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def install(self, sources: Mapping[str, str]) -> None:
        """Install distributions of one module each."""
        for name, source in sources.items():
            folder = self.work / name
            folder.mkdir()
            module = name.replace("-", "_")
            (folder / f"{module}.py").write_text(source)
            (folder / "pyproject.toml").write_text(
                f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
                f'[project]\nname = "{name}"\nversion = "1.0"\n'
                f'[project.entry-points.lopbench]\nplugin = "{module}"\n'
                f'[tool.setuptools]\npy-modules = ["{module}"]\n'
            )
        self.succeed(f"pip install --quiet {' '.join(f'./{name}' for name in sources)}")


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path)


@pytest.mark.slow
def test_the_four_commands_of_the_readme_make_install_check_and_run_a_plugin(environment):
    lines = COMMANDS.splitlines()
    assert len(lines) == 4
    for line in lines:
        output = environment.succeed(line)
    assert "my-method" in output
    assert "my-method" in environment.succeed("lopbench list methods")


@pytest.mark.slow
def test_the_example_plugin_is_built_installed_listed_checked_and_run(environment):
    source = environment.work / "source"
    environment.succeed(f"cp -r {ROOT / 'plugins' / 'example-plugin'} {source}")
    environment.succeed("pip wheel --quiet --no-deps --wheel-dir wheels ./source")
    environment.succeed("pip install --quiet wheels/*.whl && rm -r source")
    listed = environment.succeed("lopbench plugins list")
    assert "lopbench-gradient-clipping 0.1.0\n" in listed  # from a wheel: its version says what it is
    assert " passed" in environment.succeed("lopbench plugins check gradient_clipping")
    table = environment.succeed("lopbench run --scenario bitflip --profile smoke --method gradient_clipping")
    assert "gradient_clipping" in table
    assert "unpublished" not in table


GOOD = """
from lopbench.core.hookspecs import hookimpl

@hookimpl
def lopbench_metrics(register):
    register("{name}", "somewhere:Thing", "a thing")
"""

BROKEN = {
    "lopbench-raises": ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
    "lopbench-exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "lopbench-twice": (GOOD.format(name="t") + "    register('t', 'x:Y', '')\n", "'t' in metrics is registered by"),
    "lopbench-newer": ("lopbench_api = 99\n" + GOOD.format(name="n"), "needs plugin API 99"),
    "lopbench-older": ("lopbench_api = 1\n" + GOOD.format(name="o"), "is written for plugin API 1"),
    "lopbench-oddapi": ("lopbench_api = 'two'\n" + GOOD.format(name="o"), "lopbench_api"),
    "lopbench-garbage": (GOOD.format(name="g").replace('"somewhere:Thing"', "42"), "registers 'g' as 42"),
    "lopbench-first": (GOOD.format(name="same"), None),
    "lopbench-second": (GOOD.format(name="same"), "registered by lopbench-first"),
    "lopbench-printer": ("print('hello from me')\n" + GOOD.format(name="p"), None),
    "lopbench-fine": (GOOD.format(name="fine"), None),
}


@pytest.mark.slow
def test_no_broken_distribution_stops_help_list_or_another_plugin(environment):
    environment.install({name: source for name, (source, _) in BROKEN.items()})
    assert "Measure" in environment.succeed("lopbench --help")
    listed = environment.succeed("lopbench list metrics")
    for name in ("fine", "same", "p", "weight_norm"):
        assert re.search(rf"^  {name} ", listed, re.MULTILINE), name
    shown = environment.succeed("lopbench plugins list")
    for name, (_, reason) in BROKEN.items():
        if reason is not None:
            assert re.search(rf"plugin of {name}: .*{re.escape(reason)}", shown), (name, shown)
    assert "lopbench-second" in next(line for line in shown.splitlines() if "registered by lopbench-first" in line)
    data = environment.run("lopbench list metrics --format json")
    assert data.stdout.lstrip().startswith("{"), "what a plugin prints must not stand in data"
