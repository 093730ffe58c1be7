"""Loads plugins one by one from the entry-point group ``lopbench``, so that none can break another.

pluggy's own ``load_setuptools_entrypoints`` stops at the first import error, drops the second of two entry points of
one name in silence, and leaves a plugin that failed half-way registered.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pluggy

from lopbench.core import hookspecs
from lopbench.core.errors import LopbenchError, PluginError
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import KINDS, Component
from lopbench.core.reading import real_path
from lopbench.core.registry import OWN, Distribution, Registration, Registry
from lopbench.core.text import plain, told

GROUP = "lopbench"

#: Environment variable with the plugin files of `use_file`, so that processes started by this one load them as well.
_FILES = "LOPBENCH_PLUGIN_FILES"

#: Seconds of an import after which somebody may wonder what is going on.
_PATIENCE_S = 5.0

#: Distribution that components of single files name as theirs.
UNPUBLISHED = "unpublished"


@dataclass(frozen=True)
class Skipped:
    """A plugin that was not loaded, and why."""

    plugin: str
    distribution: str
    reason: str
    details: str = ""
    #: Whether it could not be loaded, and was not left out because somebody wanted it.
    broken: bool = True


@dataclass
class Plugins:
    """The loaded plugins: pluggy's manager, the registry they filled, and what was skipped."""

    manager: pluggy.PluginManager
    registry: Registry
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def last_broken(self) -> str:
        """Which plugin could not be loaded, the last one, and why, without a full stop; empty if all could."""
        broken = [each for each in self.skipped if each.broken]  # files come after what is installed
        last = broken[-1] if broken else None
        return f"{last.plugin} of {last.distribution} was skipped: {last.reason}" if last else ""

    def register(self, plugin: object, *, name: str, distribution: Distribution) -> None:
        """Register one plugin, wholly or not at all.

        Raises:
            PluginError: If it is written for another API, implements an unknown hook, or registers something unusable.
        """
        wanted = getattr(plugin, "lopbench_api", hookspecs.API_VERSION)
        if not isinstance(wanted, int):
            raise PluginError(
                f"plugin {name!r} of {distribution.name} asks for the plugin API {wanted!r}; lopbench_api is a whole "
                f"number, {hookspecs.API_VERSION} in this lopbench"
            )
        if wanted > hookspecs.API_VERSION:
            raise PluginError(
                f"plugin {name!r} of {distribution.name} needs plugin API {wanted}, this lopbench has "
                f"{hookspecs.API_VERSION}; upgrade lopbench"
            )
        if wanted < hookspecs.API_VERSION:
            raise PluginError(
                f"plugin {name!r} of {distribution.name} is written for plugin API {wanted}: since version 2 fields "
                "say their own bounds, methods declare nothing of how they are run, and learner and scenarios have "
                f"other members; plugins/README.md says how to move to version {hookspecs.API_VERSION}"
            )
        others = self.manager.get_plugins()
        try:
            self.manager.register(plugin, name=f"{distribution.name}:{name}")
            self.manager.check_pending()
            collected: list[Registration] = []
            for kind in KINDS:

                def collect(
                    component: str, target: str | type[Component], summary: str = "", *, kind: str = kind
                ) -> None:
                    collected.append(Registration(kind, component, target, summary, distribution))

                self.manager.subset_hook_caller(f"lopbench_{kind}", others)(register=collect)
            trial = Registry()  # finds duplicates inside the plugin before anything is kept
            for entry in collected:
                trial.add(entry)
                if entry.name in self.registry.names(entry.kind):
                    self.registry.add(entry)  # raises, naming both
            for entry in collected:
                self.registry.add(entry)
        except BaseException:
            if plugin not in others and self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise

    def load_file(self, path: Path) -> None:
        """Import ``path`` and register what its hooks do; nothing if it was loaded before.

        The origin of its components is "unpublished", the file's name and the hash of its content.

        Raises:
            PluginError: If the file cannot be imported or registers nothing, or for the reasons of `register`.
        """
        path = real_path(path)
        distribution = Distribution(UNPUBLISHED, path.name, mutable=True)
        if self.manager.has_plugin(f"{UNPUBLISHED}:{path}"):
            return
        name = f"lopbench_file_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise PluginError(f"{path} is no Python file; give the file in which the plugin is written")
        module = importlib.util.module_from_spec(spec)
        before = sys.modules.get(name)
        if before is not None:
            raise PluginError(f"{path} has the name of {before.__file__}, which is loaded already; rename one")
        sys.modules[name] = module
        registered = self.registry.copy()
        try:
            with left_alone(code=True), _importing(str(path)):
                spec.loader.exec_module(module)
                self.register(module, name=str(path), distribution=distribution)
            if not any(e.distribution == distribution for kind in KINDS for e in self.registry.entries(kind)):
                raise PluginError(f"{path} registers nothing; add a hook, as 'lopbench plugins new' writes it")
        except BaseException as error:
            sys.modules.pop(name, None)
            self._forget(module, registered)
            if isinstance(error, KeyboardInterrupt):  # of the user
                raise
            if isinstance(error, LopbenchError):
                raise error if path.name in str(error) else PluginError(f"{path}: {error}") from error.__cause__
            raise PluginError(f"{path} cannot be loaded: {told(error)}") from error

    def try_file(self, path: Path) -> Skipped | None:
        """Load a file as `load_file` does; returns what is noted of one that cannot be, which is not tried again.

        Raises:
            PluginError: If there is no such file.
        """
        name = str(real_path(path))
        known = next((each for each in self.skipped if (each.plugin, each.distribution) == (name, UNPUBLISHED)), None)
        if known is not None:
            return known
        try:
            self.load_file(path)
        except PluginError as error:
            if not path.is_file():
                raise
            self.skipped.append(Skipped(name, UNPUBLISHED, str(error)))
            return self.skipped[-1]
        return None

    def try_point(self, point: EntryPoint, distribution: Distribution) -> None:
        """Load what an entry point names as `load` does; what cannot be loaded is noted."""
        try:
            self.load(point, distribution)
        except LopbenchError as error:
            self.skipped.append(Skipped(point.name, distribution.name, str(error)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module that exits at import must not take the command with it
            trace = "".join(traceback.format_tb(error.__traceback__))
            details = f"Traceback (most recent call last):\n{trace}{told(error)}\n"
            self.skipped.append(Skipped(point.name, distribution.name, told(error), details))

    def load(self, point: EntryPoint, distribution: Distribution) -> None:
        """Import what an entry point names, and register what its hooks do; all of it or nothing.

        Raises:
            BaseException: Whatever the plugin raises.
            LopbenchError: For the reasons of `register`, or if something of the process was left changed.
        """
        registered, others = self.registry.copy(), self.manager.get_plugins()
        try:
            with left_alone(code=distribution.name != OWN), _importing(f"plugin {point.name!r} of {distribution.name}"):
                module: ModuleType = point.load()
                self.register(module, name=point.name, distribution=distribution)
        except BaseException:
            for plugin in self.manager.get_plugins() - others:
                self._forget(plugin, registered)
            raise

    def _forget(self, plugin: object, registered: Registry) -> None:
        """Have the registry as it was, and no such plugin."""
        self.registry.become(registered)
        if self.manager.is_registered(plugin):
            self.manager.unregister(plugin)


@contextmanager
def _importing(what: str) -> Iterator[None]:
    """Let what a plugin prints as it is loaded go to stderr, as stdout is for data, and name it if it takes long."""
    note = threading.Timer(
        _PATIENCE_S, lambda: print(f"Still importing {plain(what)} ...", file=sys.stderr, flush=True)
    )
    note.daemon = True
    note.start()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        note.cancel()


def _distribution(entry_point: EntryPoint) -> Distribution:
    dist = entry_point.dist
    if dist is None:
        return Distribution("unknown", "0", mutable=True)
    direct = dist.read_text("direct_url.json")
    editable = bool(direct and json.loads(direct).get("dir_info", {}).get("editable"))
    # Metadata that no wheel brought lie in a source tree (an egg-info on the path).
    in_source = dist.read_text("WHEEL") is None
    return Distribution(dist.metadata["Name"], dist.version, mutable=editable or in_source)


def build_manager(*, load_entry_points: bool = True, entry_points: Iterable[EntryPoint] | None = None) -> Plugins:
    """Return a new set of plugins.

    ``$LOPBENCH_PLUGINS``, a comma-separated list of distribution names, limits what is loaded; lopbench's own
    components are always there.

    Args:
        load_entry_points: False for an empty one.
        entry_points: Load these instead of the installed ones.
    """
    manager = pluggy.PluginManager("lopbench")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager, Registry())
    if not load_entry_points:
        return plugins
    found = importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points
    limit = {name.strip().lower() for name in os.environ.get("LOPBENCH_PLUGINS", "").split(",") if name.strip()}
    # Ours first: a third party that takes the name of a built-in is the one that is refused.
    pairs = sorted(((_distribution(point), point) for point in found), key=lambda p: (p[0].name != OWN, p[0].name))
    for distribution, point in pairs:
        if limit and distribution.name.lower() not in limit | {OWN}:
            plugins.skipped.append(Skipped(point.name, distribution.name, "left out by LOPBENCH_PLUGINS", broken=False))
            continue
        plugins.try_point(point, distribution)
    return plugins


@lru_cache(maxsize=1)
def plugins() -> Plugins:
    """Return the installed plugins and those of `use_file`, loaded once per process."""
    loaded = build_manager()
    for path in plugin_files():
        loaded.try_file(Path(path))
    return loaded


def use_file(path: Path) -> None:
    """Load the plugin in a single file, in this process and in those it starts.

    Raises:
        PluginError: As `Plugins.load_file`.
    """
    plugins().load_file(path)
    _hand_down(path)


def try_file(path: Path) -> Skipped | None:
    """Load the plugin in a single file, as `use_file` does; returns what is noted of one that cannot be loaded.

    Raises:
        PluginError: If there is no such file.
    """
    skipped = plugins().try_file(path)
    if skipped is None:
        _hand_down(path)
    return skipped


def _hand_down(path: Path) -> None:
    """Have processes that are started by this one load a file."""
    os.environ[_FILES] = os.pathsep.join(dict.fromkeys([*plugin_files(), str(real_path(path))]))


def plugin_files() -> list[str]:
    """Return the paths of the files that `use_file` loaded, in this process or in the one that started it."""
    return [path for path in os.environ.get(_FILES, "").split(os.pathsep) if path]
