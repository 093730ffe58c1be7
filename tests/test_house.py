"""The page about the house names what is there."""

import ast
import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "lopbench"
TEXT = (HOUSE / "README.md").read_text()

#: Paths in the house, and what a file of it defines.
NAMED = sorted(set(re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)(?::([\w.]+))?`", TEXT)))


def defines(file, name):
    """Return whether a file has a class, function or variable of this name, or a class a method: ``Class.method``."""
    body = ast.parse(file.read_text()).body
    for part in name.split("."):
        body = next((found for found in map(lambda node: _named(node, part), body) if found is not None), None)  # noqa: C417
        if body is None:
            return False
    return True


def _named(node, name):
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
        return node.body
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [] if any(getattr(target, "id", None) == name for target in targets) else None


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda text: text)
def test_everything_that_is_named_is_there(path, name):
    if path.startswith(("tests/", "plugins/")):
        assert (HOUSE.parent / path).exists()
    else:
        assert (HOUSE / path).exists()
        assert not name or defines(HOUSE / path, name)


def test_there_is_something_to_test():
    assert len(NAMED) > 40
    assert not defines(HOUSE / "core" / "spec.py", "RunSpec.nothing")
    assert defines(HOUSE / "core" / "spec.py", "RunSpec.protocol_id")
    assert defines(HOUSE / "results" / "columns.py", "COLUMNS")


@pytest.mark.parametrize("file", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_paths_of_users_are_not_resolved_by_what_raises_where_links_lead_round_in_a_circle(file):
    """`real_path` does not; `resolve` is for our own files, and for files that are known to be there."""
    calls = [line.strip() for line in file.read_text().splitlines() if ".resolve()" in line]
    assert [line for line in calls if not re.search(r"__file__|which|is_file\(\)|# the link stays", line)] == []
