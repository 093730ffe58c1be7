"""Commands as they work in the shell that lopbench was called from, whose environment may not be activated."""

from __future__ import annotations

import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def here() -> str:
    """Return how lopbench is called here: ``lopbench`` where the shell finds this one, else with its path."""
    return _found("lopbench") or f"{shlex.quote(sys.executable)} -m lopbench"


def install(folder: Path) -> str:
    """Return the command that installs the package in ``folder`` where this lopbench is installed."""
    python = shlex.quote(sys.executable)
    found = _found("pip")
    if found is not None:
        program = f"{found} install"
    elif not _has_pip() and shutil.which("uv"):
        program = f"uv pip install --python {python}"
    else:
        program = f"{python} -m pip install"
    return f"{program} -e {quoted(folder)}"


def quoted(path: Path) -> str:
    """Return a path as a shell takes it, from here where it lies below."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _found(program: str) -> str | None:
    """Return the name of a program of this environment if the shell finds it, else its path; None if it has none."""
    own = Path(sys.executable).parent / program
    if not own.is_file():
        return None
    which = shutil.which(program)
    return program if which is not None and Path(which).resolve() == own.resolve() else shlex.quote(str(own))


def _has_pip() -> bool:
    """Return whether pip is installed here; its metadata tells, as looking for its module can make setuptools warn."""
    try:
        distribution("pip")
    except PackageNotFoundError:
        return False
    return True
