import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lopbench.core import faces
from lopbench.core.faces import Face, face
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from lopbench import Scenario

@dataclass(frozen=True, kw_only=True)
class Mine(Scenario):
    name: ClassVar[str] = "mine"
    unranked = frozenset({"b", "a"})
    headline = "generalisation"
    rate: float
    width: int = 3
    sizes: tuple[int, ...] = (1, 2)
    data = None
    def recipe(self, *_, **__): ...
    def stream(self, *_, **__): ...
"""

#: Says, in a process of its own, what it found and whether it had to import the class.
CODE = """
import sys
from lopbench.core.faces import face
from lopbench.core.registry import Distribution, Registration
found = face(Registration("scenarios", "mine", "mine_plugin:Mine", "", Distribution("d", "1")))
print(found.defaults["width"], found.defaults["sizes"], "rate" in found.defaults, found.positional, found.unranked)
print(found.headline, found.control)
print("mine_plugin" in sys.modules)
"""


@pytest.fixture
def look(tmp_path):
    """Return a function that looks at a scenario in another process: its face, and whether it was imported."""
    (tmp_path / "mine_plugin.py").write_text(PLUGIN)
    where = {**os.environ, "PYTHONPATH": str(tmp_path), "LOPBENCH_CACHE": str(tmp_path / "cache")}

    def look():
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=where)
        assert done.returncode == 0, done.stderr
        *shown, imported = done.stdout.splitlines()
        return "; ".join(shown), imported == "True"

    return look


def test_every_component_has_the_face_of_its_class():
    for kind in ("methods", "architectures", "optimizers", "scenarios", "metrics"):
        for name in plugins().registry.names(kind):
            entry = plugins().registry.get(kind, name)
            assert face(entry) == Face.of(entry.load())


def test_installations_that_share_a_cache_have_classes_of_their_own(tmp_path):
    where = {**os.environ, "LOPBENCH_CACHE": str(tmp_path / "cache")}
    for _ in range(2):
        for width in ("3", "31"):
            (tmp_path / width).mkdir(exist_ok=True)
            path = tmp_path / width / "mine_plugin.py"
            if not path.exists():
                path.write_text(PLUGIN.replace("width: int = 3", f"width: int = {width}"))
            where["PYTHONPATH"] = str(path.parent)
            done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=where)
            assert done.stdout.split()[0] == width
    assert done.stdout.split()[-1] == "False"  # both are kept


def test_one_method_is_the_control():
    registry = plugins().registry
    assert [name for name in registry.names("methods") if face(registry.get("methods", name)).control] == ["reset"]


def test_a_class_is_imported_once_and_then_when_it_changes(look, tmp_path):
    shown = "3 [1, 2] False None ('a', 'b'); generalisation False"
    assert look() == (shown, True)
    assert look() == (shown, False)
    (tmp_path / "mine_plugin.py").write_text(PLUGIN.replace("width: int = 3", "width: int = 31"))
    assert look() == (shown.replace("3", "31"), True)
    assert look() == (shown.replace("3", "31"), False)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{", b"null", b'{"scenarios mine_plugin:Mine PATH": 5}', b" " * 5_000_000]
)
def test_a_damaged_cache_is_passed_over(look, tmp_path, content):
    (tmp_path / "cache").mkdir()
    content = content.replace(b"PATH", bytes(tmp_path / "mine_plugin.py"))
    (tmp_path / "cache" / "faces.json").write_bytes(content)
    assert look()[1]
    assert not look()[1]


def test_faces_with_other_contents_are_passed_over(look, tmp_path):
    look()
    path = tmp_path / "cache" / "faces.json"
    kept = json.loads(path.read_text())
    kept[f"scenarios mine_plugin:Mine {tmp_path / 'mine_plugin.py'}"]["face"] = {"defaults": {}}
    path.write_text(json.dumps(kept))
    assert look()[1]


def test_a_cache_that_cannot_be_written_hurts_nobody(look, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    assert look()[1]
    assert look()[1]


def test_a_class_that_was_registered_as_such_is_never_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(faces, "cache_directory", lambda: Path(tmp_path / "cache"))
    cls = plugins().registry.get("methods", "l2").load()
    assert face(Registration("methods", "l2", cls, "", Distribution("d", "1"))) == Face.of(cls)
    assert not (tmp_path / "cache").exists()
