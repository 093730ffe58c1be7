import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lopbench

ROOT = Path(__file__).parents[1]

#: What each part of lopbench may import of lopbench besides itself. "" is the public names, imported on first use.
ALLOWED = {
    "core": set(),
    "cloning": {"core", "learner"},
    "data": {"core"},
    "learner": {"core"},
    "report": {"core", "results"},
    "results": {"core"},
    "testing": {"cloning", "core", "data", "learner"},
    "theory": {"core"},
    "runner": {"", "core", "data", "learner", "results"},
    "api": {"cli", "core", "data", "results", "runner"},
    "cli": {"", "api", "cloning", "core", "data", "learner", "report", "results", "runner", "testing", "theory"},
    "": {"api", "cloning", "core", "data", "learner", "report"},
    "__main__": {"cli"},
}


def imports(path):
    """Yield the absolute names of all modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            # `from lopbench import core` may mean the part of this name
            is_package = node.module == "lopbench"
            yield from (f"lopbench.{alias.name}" for alias in node.names) if is_package else [node.module]


def part(name):
    """Return the part of lopbench that the module ``name`` belongs to, None for modules of others."""
    package, _, rest = name.partition(".")
    if package != "lopbench":
        return None
    first = rest.partition(".")[0]
    return first if first in ALLOWED else ""


def files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("lopbench"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_inside_lopbench_go_one_way(path):
    place = path.relative_to(ROOT / "lopbench").parts[0].removesuffix(".py")
    own = "" if place == "__init__" else place
    assert own in ALLOWED, f"{path}: say in this test what the new part may import"
    for name in imports(path):
        assert name.partition(".")[0] != "lopbench_plugins", f"{path} imports a plugin, {name}"
        target = part(name)
        assert target is None or target == own or target in ALLOWED[own], f"{path} may not import {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in files("plugins") if "tests" not in path.parts and path.name != "reference.py"],  # no plugin
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_plugins_import_public_names_alone(path):
    public = {f"lopbench.{name}" for name in lopbench.__all__}
    for name in imports(path):
        ours = name.partition(".")[0] == "lopbench"
        assert not ours or name in public, f"{path} imports {name}; write `from lopbench import ...` of a public name"


def test_the_walk_sees_every_kind_of_import(tmp_path):
    file = tmp_path / "f.py"
    file.write_text("import a.b\ndef f():\n    from lopbench import core, run\n    from lopbench.data.load import x\n")
    assert list(imports(file)) == ["a.b", "lopbench.core", "lopbench.run", "lopbench.data.load"]
    assert [part(name) for name in imports(file)] == [None, "core", "", "data"]


@pytest.mark.parametrize(
    "statement",
    [
        "import lopbench, lopbench.core.hookspecs, lopbench.core.interfaces",
        "import lopbench.cli; lopbench.cli.cli(['--help'], standalone_mode=False)",
        "import lopbench.cli; lopbench.cli.cli(['list'], standalone_mode=False)",
        "import lopbench.cli; lopbench.cli.cli(['run', '--help'], standalone_mode=False)",
    ],
    ids=["import", "help", "list", "run help"],
)
def test_looking_around_imports_no_torch_and_no_pandas(statement):
    heavy = "{'torch', 'pandas', 'numpy', 'scipy'} & set(sys.modules)"
    code = f"import sys\n{statement}\nassert not {heavy}, {heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_about_the_house_tells_what_each_room_may_import():
    rows = re.findall(
        r"^\| `(\w+)(?:/|\.py)` \| .*? \| ?(.*?) ?\|$", (ROOT / "lopbench" / "README.md").read_text(), re.M
    )
    assert {room for room, _ in rows} == set(ALLOWED) - {"", "__main__"}
    for room, told in rows:
        named = {each.removesuffix("/") for each in re.findall(r"`(\w+)/`", told)}
        assert told == "all" or named == ALLOWED[room] - {"", "core"}, room


def test_every_public_name_is_there():
    for name in lopbench.__all__:
        assert getattr(lopbench, name) is not None, name
    assert set(lopbench.__all__) <= set(dir(lopbench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lopbench.nothing
