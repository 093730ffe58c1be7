"""How large a function and a class may be, and that files import each other in one direction."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Most lines of a function and of a class, docstrings included; a method file of the built-ins may have as many.
FUNCTION, CLASS, METHOD_FILE = 60, 250, 200

FOLDERS = {"lopbench": ROOT / "lopbench", "lopbench_plugins": ROOT / "plugins" / "lopbench_plugins"}
#: Run as they are, imported by nobody.
SCRIPTS = [ROOT / "results" / "evidence.py", ROOT / "results" / "publish.py"]
FILES = [*(path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))), *SCRIPTS]


def too_long(source):
    """Yield name, length and limit of what is longer than it may be."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            length, limit = node.end_lineno - node.lineno + 1, CLASS if isinstance(node, ast.ClassDef) else FUNCTION
            if length > limit:
                yield node.name, length, limit


def module_name(path):
    """Return what the module in ``path`` is imported as."""
    (folder,) = (folder for folder in FOLDERS.values() if path.is_relative_to(folder))
    return ".".join(path.relative_to(folder.parent).parts).removesuffix(".py").removesuffix(".__init__")


def imported(source, known):
    """Yield the modules among ``known`` that a file imports when it is loaded, those for types alone left out."""
    tree = ast.parse(source)
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from (name for name in (full if full in known else node.module,) if name in known)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def circle(sources):
    """Return a circle of modules that import each other, None if there is none; ``sources`` are texts by name."""
    try:
        TopologicalSorter({name: set(imported(text, sources)) - {name} for name, text in sources.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_classes_are_short(path):
    assert list(too_long(path.read_text())) == []


@pytest.mark.parametrize(
    "path", sorted((FOLDERS["lopbench_plugins"] / "perturbations").glob("*.py")), ids=lambda path: path.name
)
def test_a_method_fits_on_a_few_pages(path):
    assert len(path.read_text().splitlines()) <= METHOD_FILE


def test_files_import_each_other_in_no_circle():
    assert circle({module_name(path): path.read_text() for path in FILES if path not in SCRIPTS}) is None


def test_the_scan_sees_what_is_too_long():
    lines = "\n".join("        x = 1" for _ in range(60))
    assert list(too_long(f"class A:\n    def f(self):\n{lines}\n")) == [("f", 61, 60)]
    assert list(too_long(f"class A:\n    def f(self):\n{lines.removesuffix('x = 1').rstrip()}\n")) == []
    many = "\n".join(f"    x{index} = 1" for index in range(250))
    assert list(too_long(f"class A:\n{many}\n")) == [("A", 251, 250)]


def test_the_walk_sees_a_circle():
    packages = {"a.x": "from a import y", "a.y": "import a.z", "a.z": "class Z:\n    from a.x import w\n", "a": ""}
    assert set(circle(packages)) == {"a.x", "a.y", "a.z"}
    for broken in ("def f():\n    from a.x import w\n", "if TYPE_CHECKING:\n    from a.x import w\n", "import b"):
        assert circle({**packages, "a.z": broken}) is None
    assert module_name(FOLDERS["lopbench"] / "core" / "spec.py") == "lopbench.core.spec"
    assert module_name(FOLDERS["lopbench_plugins"] / "metrics" / "__init__.py") == "lopbench_plugins.metrics"
