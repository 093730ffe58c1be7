"""A benchmark of loss of plasticity: the public names, each imported when it is first used.

What is not listed here may change freely. `import lopbench` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lopbench.api import leaderboard, run
    from lopbench.core import errors, rng
    from lopbench.core.errors import InvalidInputError, LopbenchError, UnsupportedError
    from lopbench.core.hookspecs import Register, hookimpl
    from lopbench.core.interfaces import (
        Architecture,
        Batches,
        Cloner,
        Learner,
        Metric,
        Optimizer,
        Perturbation,
        Scenario,
        State,
        Stream,
        Task,
        Units,
    )
    from lopbench.core.probe import LayerProbe, NetworkProbe

    __version__: str

__all__ = [
    "Architecture",
    "Batches",
    "Cloner",
    "InvalidInputError",
    "LayerProbe",
    "Learner",
    "LopbenchError",
    "Metric",
    "NetworkProbe",
    "Optimizer",
    "Perturbation",
    "Register",
    "Scenario",
    "State",
    "Stream",
    "Task",
    "Units",
    "UnsupportedError",
    "__version__",
    "errors",
    "hookimpl",
    "leaderboard",
    "rng",
    "run",
]

_HOME = {
    **dict.fromkeys(("leaderboard", "run"), "lopbench.api"),
    **dict.fromkeys(("errors", "rng"), "lopbench.core"),
    **dict.fromkeys(("InvalidInputError", "LopbenchError", "UnsupportedError"), "lopbench.core.errors"),
    **dict.fromkeys(("Register", "hookimpl"), "lopbench.core.hookspecs"),
    **dict.fromkeys(("LayerProbe", "NetworkProbe"), "lopbench.core.probe"),
    **dict.fromkeys(
        (
            "Architecture",
            "Batches",
            "Cloner",
            "Learner",
            "Metric",
            "Optimizer",
            "Perturbation",
            "Scenario",
            "State",
            "Stream",
            "Task",
            "Units",
        ),
        "lopbench.core.interfaces",
    ),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lopbench")
    if name not in _HOME:
        raise AttributeError(f"module 'lopbench' has no attribute {name!r}")
    home = _HOME[name]
    if name in ("errors", "rng"):
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
