"""What ``lopbench plugins new`` writes: a whole package with one component, which passes its own tests.

The files beside this one are what is written, as they stand: real modules, linted and type-checked with the rest, of a
component called ``my-thing``. Only that name is exchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lopbench.core.errors import UsageError
from lopbench.core.interfaces import KINDS

#: The kinds of component in the singular, each with the module that is written.
TEMPLATES: Mapping[str, str] = {kind.removesuffix("s"): kind.removesuffix("s") for kind in KINDS}

#: What a method may start from: the module that is written, and the built-in that it is nearest to.
LIKE: Mapping[str, tuple[str, str]] = {
    "reset": ("method_reset", "redo"),
    "penalty": ("method_penalty", "l2_init"),
    "optimizer": ("method_optimizer", "weight_decay"),
}

#: The names in the files, longest first, as they are looked for.
_NAMES = re.compile("lopbench-my-thing|lopbench_my_thing|my-thing|my_thing|MyThing|KIND|LOPBENCH")

#: Where in these files the module of the component is imported from, and what stands there in the package.
_IMPORT = re.compile(r"from lopbench\.cli\.templates\.\w+ import")


def write(name: str, kind: str, into: Path, *, like: str | None = None) -> Path:
    """Write a package with one component, and return its folder.

    Args:
        name: Name of the component: lower-case words joined by hyphens or underscores.
        kind: Its kind, in the singular.
        into: Parent folder.
        like: What a method starts from, of `LIKE`; None for the shortest one.

    Raises:
        UsageError: If the name is of another form or taken, the folder exists, or ``like`` is asked for another kind.
    """
    if like is not None and kind != "method":
        raise UsageError(f"--like {like} is for methods; leave it out, or write --kind method")
    _check_name(name, kind)
    words = re.split(r"[-_]", name)
    identifier = "_".join(words)
    values = {
        "my-thing": name,
        "my_thing": identifier,
        "lopbench_my_thing": f"lopbench_{identifier}",
        "lopbench-my-thing": f"lopbench-{'-'.join(words)}",
        "MyThing": "".join(word.capitalize() for word in words),
        "KIND": kind,
        "LOPBENCH": origin(),
    }
    folder = into / values["lopbench-my-thing"]
    if folder.exists():
        raise UsageError(f"{folder} exists; remove it, or choose another name or --into another folder")
    module = TEMPLATES[kind] if like is None else LIKE[like][0]
    package = {
        "pyproject.toml": "package/pyproject.toml",
        "README.md": "package/README.md",
        f"{values['lopbench_my_thing']}.py": f"{module}.py",
        f"tests/test_{identifier}.py": "conformance.py",
        ".github/workflows/test.yml": "package/workflow.yml",
    }
    for path, template in package.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = _IMPORT.sub("from lopbench_my_thing import", files(__name__).joinpath(template).read_text())
        target.write_text(_NAMES.sub(lambda found: values[found[0]], text))
    return folder


def origin() -> str:
    """Return what pip installs this lopbench from: a repository where that is known, else its name."""
    with suppress(PackageNotFoundError, ValueError, OSError, KeyError, ConfigError):
        value = json.loads(distribution("lopbench").read_text("direct_url.json") or "{}")
        url = str(value.get("url", ""))
        if "vcs_info" in value:
            return f"lopbench @ {value['vcs_info']['vcs']}+{url}@{value['vcs_info']['commit_id']}"
        if url.startswith("file:"):
            config = ConfigParser(strict=False)
            config.read(Path(unquote(urlsplit(url).path)) / ".git" / "config")
            remote = config['remote "origin"']["url"]
            if remote.startswith("https://") and "@" not in remote:  # nothing secret goes into a file
                return f"lopbench @ git+{remote}"
    return "lopbench"


def _check_name(name: str, kind: str) -> None:
    """Refuse a name of another form, or one that is taken.

    Raises:
        UsageError: If it is so.
    """
    from lopbench.core.manager import plugins

    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no name for a {kind}; write lower-case words joined by hyphens, as my-{kind}")
    registry = plugins().registry
    plural = next(each for each in KINDS if each.removesuffix("s") == kind)
    if name in registry.names(plural):
        taken = registry.get(plural, name).distribution.name
        raise UsageError(f"There is a {kind} {name!r} already, of {taken}; choose another name")
