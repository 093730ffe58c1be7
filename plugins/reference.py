"""Derives the reference in this folder's README from the interface itself: classes, their docstrings, and the checks.

Run ``python plugins/reference.py`` after changing one of them; a test keeps the page equal to what they say.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lopbench.cli.templates import TEMPLATES
from lopbench.core import interfaces
from lopbench.core.interfaces import KINDS
from lopbench.core.perturbation import HOOKS
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.core.profile import Profile

README = Path(__file__).resolve().parent / "README.md"

#: Classes of which authors write subclasses, by kind, the component first.
WRITTEN: Mapping[str, Sequence[type]] = {
    "methods": (interfaces.Perturbation,),
    "metrics": (
        interfaces.Metric,
        interfaces.LayerMetric,
        interfaces.NetworkMetric,
        interfaces.TrainingMetric,
    ),
    "architectures": (interfaces.Architecture,),
    "scenarios": (
        interfaces.Scenario,
        interfaces.Stream,
        interfaces.Task,
        interfaces.Batches,
        interfaces.ChunkedBatches,
    ),
    "cloners": (interfaces.Cloner,),
    "optimizers": (interfaces.Optimizer,),
    "data": (interfaces.DataSet, interfaces.Samples),
    "executors": (interfaces.Executor, interfaces.Handle, interfaces.RestartingHandle),
    "sinks": (interfaces.Sink, interfaces.SinkWriter),
}

#: Classes of which lopbench gives authors objects, or that they make as they are.
GIVEN: Mapping[str, Sequence[type]] = {
    "methods": (interfaces.Units, interfaces.OptimizerState, interfaces.Pass),
    "metrics": (LayerProbe, NetworkProbe),
    "architectures": (),
    "scenarios": (interfaces.Recipe, interfaces.Growth),
    "cloners": (Profile,),
    "optimizers": (),
    "data": (interfaces.RemoteFile,),
    "executors": (interfaces.Workers,),
    "sinks": (interfaces.SinkRun,),
}

#: What `lopbench` has of a class for itself.
_OURS = {"track_of", "track", "has", "active", "share"}


@dataclass(frozen=True)
class Member:
    """What a class has.

    Args:
        name: Its name.
        call: Its name with its arguments, of a function.
        need: "must" of what a subclass has to have; else its value where it says nothing, empty for none.
        text: What it is.
    """

    name: str
    call: str
    need: str
    text: str


def main() -> None:
    """Bring the page up to date."""
    README.write_text(with_reference(README.read_text()))


def with_reference(text: str) -> str:
    """Return the page with what stands between its markers as the interface has it."""
    for kind in KINDS:
        text = _between(text, f"reference {kind}", section(kind))
    return _between(text, "reference component", _table(interfaces.Component, written=True))


def _between(text: str, name: str, new: str) -> str:
    head, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    assert end, f"the page has no place for {name}"
    return f"{head}{begin}{new}{end}{tail}"


def section(kind: str) -> str:
    """Return the reference of a kind: its scaffold, its hook, all members, and what the checks demand."""
    one = kind.removesuffix("s")
    lines = [
        f"Scaffold: `lopbench plugins new NAME --kind {one}` writes [{TEMPLATES[one]}.py]"
        f"(../lopbench/cli/templates/{TEMPLATES[one]}.py). Hook: `lopbench_{kind}(register)`.",
        "",
    ]
    for cls in WRITTEN[kind]:
        lines += [f"`{cls.__name__}`: {_first(cls)}", "", _table(cls, written=True)]
    for cls in GIVEN[kind]:
        lines += [f"`{cls.__name__}` (given): {_first(cls)}", "", _table(cls, written=False)]
    lines += ["The checks demand:", "", "| check | demands |", "|---|---|"]
    found = importlib.import_module(f"lopbench.testing.{kind}").CHECKS
    lines += [f"| `{each.name}` | {_cell(each.claim)} |" for each in found]
    return "\n".join(lines) + "\n"


def _table(cls: type, *, written: bool) -> str:
    rows = [each for each in members(cls) if each.name not in HOOKS or cls is not interfaces.Perturbation]
    if not rows:
        return ""
    if not written:
        head = ["| member | is |", "|---|---|"]
        return "\n".join([*head, *(f"| `{each.call}` | {each.text} |" for each in rows), "", ""])
    head = ["| member | default | is |", "|---|---|---|"]
    return "\n".join([*head, *(f"| `{each.call}` | {each.need} | {each.text} |" for each in rows), "", ""])


def members(cls: type) -> list[Member]:
    """Return the public members that a class itself has, in the order of its source."""
    source = textwrap.dedent(inspect.getsource(cls))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    lines = source.splitlines()
    told = _arguments(inspect.getdoc(cls) or "")
    found = []
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            text = _comment(lines, node) or told.pop(name, "")
            value = None if node.value is None else _value(node.value)
            need = "must" if value is None else f"`{value}`"
            found.append(Member(name, name, need, _cell(text)))
        elif isinstance(node, ast.FunctionDef):
            found += _function(cls, node)
    return [each for each in found if not each.name.startswith("_") or each.name == "__next__"]


def _function(cls: type, node: ast.FunctionDef) -> Iterator[Member]:
    if node.name in _OURS:
        return
    decorators = {ast.unparse(each) for each in node.decorator_list}
    is_property = bool(decorators & {"property", "cached_property"})
    arguments = [each for each in ast.unparse(_bare(node.args)).split(", ") if each not in ("self", "cls")]
    need = "must" if "abstractmethod" in decorators else "" if node.name == "__next__" else "may"
    call = node.name if is_property else f"{node.name}({', '.join(arguments)})"
    yield Member(node.name, call, need, _cell(_description(inspect.getdoc(getattr(cls, node.name)) or "")))


def _bare(arguments: ast.arguments) -> ast.arguments:
    """Return arguments without their types."""
    for each in (*arguments.args, *arguments.kwonlyargs):
        each.annotation = None
    return arguments


def _value(node: ast.expr) -> str | None:
    """Return a default as somebody would write it, of a field its function's first argument; None without one."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("number", "whole", "later"):
        return ast.unparse(node.args[0]) if node.args else None
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
        return "none"
    return "none" if isinstance(node, ast.Name | ast.Lambda) else ast.unparse(node)


def _comment(lines: Sequence[str], node: ast.AnnAssign) -> str:
    """Return what stands behind ``#:`` in the line of a variable, or in those above it."""
    _, mark, behind = lines[(node.end_lineno or node.lineno) - 1].partition("#:")
    if mark:
        return behind.strip()
    above = node.lineno - 2
    found: list[str] = []
    while lines[above].strip().startswith("#:"):
        found.insert(0, lines[above].strip().removeprefix("#:").strip())
        above -= 1
    return " ".join(found)


def _first(cls: type) -> str:
    return _cell((inspect.getdoc(cls) or "").partition("\n\n")[0])


def _description(doc: str) -> str:
    """Return a docstring up to its sections."""
    return re.split(r"\n\n(?:Args|Returns|Raises|Yields|Attributes):\n", doc)[0]


def _arguments(doc: str) -> dict[str, str]:
    """Return what a docstring says of each argument."""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)*)", doc, re.MULTILINE)
    if section is None:
        return {}
    parts = re.split(r"^(\w+): ", textwrap.dedent(section[1]), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _cell(text: str) -> str:
    """Return text in one line, as a cell of a Markdown table shows it."""
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip().replace("|", "\\|")


if __name__ == "__main__":
    main()
