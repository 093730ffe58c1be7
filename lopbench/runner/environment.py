"""Where and how fast a run ran: recorded beside it, never part of its identity."""

import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import torch

import lopbench
from lopbench.core.globals import usual_globals
from lopbench.core.manager import plugins
from lopbench.core.spec import Numerics, RunSpec

PACKAGES = ("lopbench", "torch", "torchvision", "timm", "torch-pruning", "numpy", "scipy", "pandas", "pyarrow")

#: An attribute that torch's stubs lack.
_FILL = "fill_uninitialized_memory"


def describe(device: torch.device) -> dict[str, Any]:
    """Return versions, device, threads, platform and, where it is known, the commit."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        **_source(),
        "code": _code(),
    }


def origins(spec: RunSpec) -> dict[str, Any]:
    """Return where the code of each component of a spec comes from: distribution, version, hash of its file."""
    registry = plugins().registry
    named = {f"{part.kind} {part.name}": part for part in (*spec.components, spec.reference_optimizer)}
    found = {key: registry.get(part.kind, part.name) for key, part in sorted(named.items())}
    return {"origins": {key: f"{entry.distribution.label}+{entry.content}" for key, entry in found.items()}}


def device_name(device: torch.device) -> str:
    """Return the device as people know it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {_cpu_model()})"


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory: what torch allocated on a GPU, the resident set of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # On Linux, getrusage counts from the process that started this one: its memory would be taken for ours.
    if found := re.search(r"^VmHWM:\s*(\d+) kB$", _kernel("/proc/self/status"), re.MULTILINE):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def numerics(spec: Numerics, device: torch.device) -> Iterator[None]:
    """Compute as ``spec`` says for the duration, whatever was set before, and as before afterwards."""
    precision = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill: bool = getattr(torch.utils.deterministic, _FILL)
    # On a CPU too: "medium" would let it multiply in bfloat16.
    torch.set_float32_matmul_precision("high" if spec.tf32 else "highest")
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = spec.tf32, spec.deterministic, not spec.deterministic
    wanted = device.type == "cuda" and spec.deterministic
    torch.use_deterministic_algorithms(wanted, warn_only=wanted)
    if wanted:
        # cuBLAS reads this at its first call; without it matrix products may differ from run to run.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        setattr(torch.utils.deterministic, _FILL, False)
    try:
        with usual_globals():
            yield
    finally:
        setattr(torch.utils.deterministic, _FILL, fill)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
        torch.set_float32_matmul_precision(precision)


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    lines = _kernel("/proc/cpuinfo").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")


def _kernel(path: str) -> str:
    """Return what Linux says in a file of ``/proc``; nothing on other systems."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


@cache
def _code() -> str:
    """Return a hash over the Python files of lopbench, which tells code from code where its version does not."""
    root = Path(lopbench.__file__).parent
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.py")}
    lines = [f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(contents.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


@cache
def _source() -> dict[str, Any]:
    """Return the commit that lopbench is of, and whether files differ from it; both None where nobody can say.

    It is that of the checkout it runs from, or of the repository that it was installed from.
    """
    root = Path(lopbench.__file__).resolve().parents[1]
    if (root / ".git").exists():
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", "lopbench", "plugins")
        return {"commit": commit, "dirty": None if changes is None else bool(changes)}
    try:
        origin = json.loads(distribution("lopbench").read_text("direct_url.json") or "{}")
        commit = origin.get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, ValueError, AttributeError):
        commit = None
    return {"commit": commit, "dirty": None if commit is None else False}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
