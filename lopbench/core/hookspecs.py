"""The plugin hooks, one per interface; a plugin implements those it needs with ``@hookimpl``."""

from collections.abc import Callable
from pathlib import Path

import pluggy

from lopbench.core.interfaces import Component

#: Version of the plugin interface. A plugin module says with ``lopbench_api = 2`` for which one it was written.
API_VERSION = 2

Register = Callable[[str, str | type[Component], str], None]

hookspec = pluggy.HookspecMarker("lopbench")
hookimpl = pluggy.HookimplMarker("lopbench")


@hookspec
def lopbench_architectures(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Architecture; names are unique across plugins."""


@hookspec
def lopbench_cloners(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Cloner; names are unique across plugins."""


@hookspec
def lopbench_data(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each DataSet; names are unique across plugins."""


@hookspec
def lopbench_executors(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Executor; names are unique across plugins."""


@hookspec
def lopbench_methods(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Perturbation; names are unique across plugins."""


@hookspec
def lopbench_metrics(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Metric; names are unique across plugins."""


@hookspec
def lopbench_optimizers(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Optimizer; names are unique across plugins."""


@hookspec
def lopbench_scenarios(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Scenario; names are unique across plugins."""


@hookspec
def lopbench_sinks(register: Register) -> None:
    """Call ``register(name, "module:Class", summary)`` for each Sink; names are unique across plugins."""


@hookspec
def lopbench_studies() -> Path:
    """Return the folder of the plugin's study files; each is named by its path in it, as claims/D3 of claims/D3.toml.

    Those under ``claims`` are for ``lopbench verify``, and those under ``figures`` for ``lopbench figure``.
    """
    raise NotImplementedError
