"""A benchmark of loss of plasticity: the public names, each imported when it is first used.

What is not listed here may change freely. ``import lopbench`` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lopbench.api import compare, find_records, leaderboard, reproduce, run, status
    from lopbench.core import errors, rng
    from lopbench.core.errors import DataError, InvalidInputError, LopbenchError, UnsupportedError
    from lopbench.core.fields import later, number, numbers, whole
    from lopbench.core.hookspecs import Register, hookimpl
    from lopbench.core.interfaces import (
        Architecture,
        Batches,
        ChunkedBatches,
        Cloner,
        DataSet,
        Growth,
        LayerMetric,
        Learner,
        Metric,
        NetworkMetric,
        Optimizer,
        Perturbation,
        Recipe,
        RemoteFile,
        Samples,
        Scenario,
        State,
        Stream,
        Task,
        TrainingMetric,
        Units,
    )
    from lopbench.core.metric import Invariance, Known
    from lopbench.core.probe import LayerProbe, NetworkProbe
    from lopbench.core.replicas import per_replica
    from lopbench.data.archive import ZipMembers, open_zip, read_tar
    from lopbench.data.arrays import ArraySet
    from lopbench.data.images import ImagePlan, ImageSet
    from lopbench.learner.learner import activation_layers

    __version__: str

__all__ = [
    "Architecture",
    "ArraySet",
    "Batches",
    "ChunkedBatches",
    "Cloner",
    "DataError",
    "DataSet",
    "Growth",
    "ImagePlan",
    "ImageSet",
    "InvalidInputError",
    "Invariance",
    "Known",
    "LayerMetric",
    "LayerProbe",
    "Learner",
    "LopbenchError",
    "Metric",
    "NetworkMetric",
    "NetworkProbe",
    "Optimizer",
    "Perturbation",
    "Recipe",
    "Register",
    "RemoteFile",
    "Samples",
    "Scenario",
    "State",
    "Stream",
    "Task",
    "TrainingMetric",
    "Units",
    "UnsupportedError",
    "ZipMembers",
    "__version__",
    "activation_layers",
    "compare",
    "errors",
    "find_records",
    "hookimpl",
    "later",
    "leaderboard",
    "number",
    "numbers",
    "open_zip",
    "per_replica",
    "read_tar",
    "reproduce",
    "rng",
    "run",
    "status",
    "whole",
]

_HOMES = {
    "activation_layers": "lopbench.learner.learner",
    "hookimpl": "lopbench.core.hookspecs",
    "compare": "lopbench.api",
    "find_records": "lopbench.api",
    "leaderboard": "lopbench.api",
    "reproduce": "lopbench.api",
    "run": "lopbench.api",
    "status": "lopbench.api",
    "ArraySet": "lopbench.data.arrays",
    "DataError": "lopbench.core.errors",
    "ImagePlan": "lopbench.data.images",
    "ImageSet": "lopbench.data.images",
    "InvalidInputError": "lopbench.core.errors",
    "Invariance": "lopbench.core.metric",
    "Known": "lopbench.core.metric",
    "LayerProbe": "lopbench.core.probe",
    "LopbenchError": "lopbench.core.errors",
    "NetworkProbe": "lopbench.core.probe",
    "Register": "lopbench.core.hookspecs",
    "UnsupportedError": "lopbench.core.errors",
    "later": "lopbench.core.fields",
    "number": "lopbench.core.fields",
    "numbers": "lopbench.core.fields",
    "per_replica": "lopbench.core.replicas",
    "whole": "lopbench.core.fields",
    "ZipMembers": "lopbench.data.archive",
    "open_zip": "lopbench.data.archive",
    "read_tar": "lopbench.data.archive",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'lopbench' has no attribute {name!r}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("lopbench")
    if name in ("errors", "rng"):
        return importlib.import_module(f"lopbench.core.{name}")
    return getattr(importlib.import_module(_HOMES.get(name, "lopbench.core.interfaces")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
