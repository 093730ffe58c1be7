"""A benchmark of loss of plasticity: the public names, each imported when it is first used.

What is not listed here may change freely. ``import lopbench`` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lopbench import report
    from lopbench.api import compare, find_records, leaderboard, measurements, plot, reproduce, run, status
    from lopbench.cloning.stability import normal_curvature
    from lopbench.cloning.widen import Heads, widen_network
    from lopbench.core import errors, rng
    from lopbench.core.errors import DataError, InvalidInputError, LopbenchError, UnsupportedError, UsageError
    from lopbench.core.executor import threads_of, usable_cores
    from lopbench.core.fields import later, number, numbers, whole
    from lopbench.core.hookspecs import Register, hookimpl
    from lopbench.core.interfaces import (
        ActingBatches,
        Architecture,
        Batches,
        ChunkedBatches,
        Cloner,
        DataSet,
        Executor,
        Family,
        Growth,
        Handle,
        LayerMetric,
        Learner,
        Metric,
        NetworkMetric,
        Optimizer,
        OptimizerState,
        Pass,
        Perturbation,
        Recipe,
        RemoteFile,
        RestartingHandle,
        Samples,
        Scenario,
        Sink,
        SinkRun,
        SinkWriter,
        State,
        Stream,
        Task,
        TrainingMetric,
        Units,
        Workers,
    )
    from lopbench.core.metric import Invariance, Known
    from lopbench.core.moments import row_chunks
    from lopbench.core.probe import LayerProbe, NetworkProbe
    from lopbench.core.profile import Partition, Profile
    from lopbench.core.reading import read_regular
    from lopbench.core.replicas import add_scaled, per_replica
    from lopbench.data.archive import ZipMembers, open_zip, read_tar
    from lopbench.data.arrays import ArraySet
    from lopbench.data.images import ImagePlan, ImageSet
    from lopbench.learner.head import head_of
    from lopbench.learner.network import activation_layers

    __version__: str

__all__ = [
    "ActingBatches",
    "Architecture",
    "ArraySet",
    "Batches",
    "ChunkedBatches",
    "Cloner",
    "DataError",
    "DataSet",
    "Executor",
    "Family",
    "Growth",
    "Handle",
    "Heads",
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
    "OptimizerState",
    "Partition",
    "Pass",
    "Perturbation",
    "Profile",
    "Recipe",
    "Register",
    "RemoteFile",
    "RestartingHandle",
    "Samples",
    "Scenario",
    "Sink",
    "SinkRun",
    "SinkWriter",
    "State",
    "Stream",
    "Task",
    "TrainingMetric",
    "Units",
    "UnsupportedError",
    "UsageError",
    "Workers",
    "ZipMembers",
    "__version__",
    "activation_layers",
    "add_scaled",
    "compare",
    "errors",
    "find_records",
    "head_of",
    "hookimpl",
    "later",
    "leaderboard",
    "measurements",
    "normal_curvature",
    "number",
    "numbers",
    "open_zip",
    "per_replica",
    "plot",
    "read_regular",
    "read_tar",
    "report",
    "reproduce",
    "rng",
    "row_chunks",
    "run",
    "status",
    "threads_of",
    "usable_cores",
    "whole",
    "widen_network",
]

_MODULES = {
    "lopbench.api": (
        "compare",
        "find_records",
        "leaderboard",
        "measurements",
        "plot",
        "reproduce",
        "run",
        "status",
    ),
    "lopbench.cloning.stability": ("normal_curvature",),
    "lopbench.cloning.widen": (
        "Heads",
        "widen_network",
    ),
    "lopbench.core.errors": (
        "DataError",
        "InvalidInputError",
        "LopbenchError",
        "UnsupportedError",
        "UsageError",
    ),
    "lopbench.core.executor": (
        "threads_of",
        "usable_cores",
    ),
    "lopbench.core.fields": (
        "later",
        "number",
        "numbers",
        "whole",
    ),
    "lopbench.core.hookspecs": (
        "Register",
        "hookimpl",
    ),
    "lopbench.core.interfaces": (
        "ActingBatches",
        "Architecture",
        "Batches",
        "ChunkedBatches",
        "Cloner",
        "DataSet",
        "Executor",
        "Family",
        "Growth",
        "Handle",
        "LayerMetric",
        "Learner",
        "Metric",
        "NetworkMetric",
        "Optimizer",
        "OptimizerState",
        "Pass",
        "Perturbation",
        "Recipe",
        "RemoteFile",
        "RestartingHandle",
        "RestartingHandle",
        "Samples",
        "Scenario",
        "Sink",
        "SinkRun",
        "SinkWriter",
        "State",
        "Stream",
        "Task",
        "TrainingMetric",
        "Units",
        "Workers",
    ),
    "lopbench.core.metric": (
        "Invariance",
        "Known",
    ),
    "lopbench.core.moments": ("row_chunks",),
    "lopbench.core.probe": (
        "LayerProbe",
        "NetworkProbe",
    ),
    "lopbench.core.profile": (
        "Partition",
        "Profile",
    ),
    "lopbench.core.reading": ("read_regular",),
    "lopbench.core.replicas": (
        "add_scaled",
        "per_replica",
    ),
    "lopbench.data.archive": (
        "ZipMembers",
        "open_zip",
        "read_tar",
    ),
    "lopbench.data.arrays": ("ArraySet",),
    "lopbench.data.images": (
        "ImagePlan",
        "ImageSet",
    ),
    "lopbench.learner.head": ("head_of",),
    "lopbench.learner.network": ("activation_layers",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'lopbench' has no attribute {name!r}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("lopbench")
    if name == "report":  # a package that can be called
        return importlib.import_module("lopbench.report")
    if name in ("errors", "rng"):
        return importlib.import_module(f"lopbench.core.{name}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
