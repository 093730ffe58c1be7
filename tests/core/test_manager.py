import sys
from importlib.metadata import EntryPoint, PathDistribution
from types import SimpleNamespace

import pytest

from lopbench.core.errors import PluginError
from lopbench.core.hookspecs import API_VERSION, hookimpl
from lopbench.core.manager import build_manager, plugins
from lopbench.core.registry import Distribution

HERE = Distribution("here", "1.0")
GOOD = """
from lopbench.core.hookspecs import hookimpl

@hookimpl
def lopbench_metrics(register):
    register("{name}", "somewhere:Thing", "a thing")
"""


class Plugin:
    def __init__(self, *names: str) -> None:
        self.names = names

    @hookimpl
    def lopbench_metrics(self, register):
        for name in self.names:
            register(name, "somewhere:Thing", "a thing")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Write a distribution with one plugin module; return its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LOPBENCH_PLUGINS", raising=False)

    def install(
        distribution: str, source: str, point: str = "plugin", wheel: bool = True, direct: str = ""
    ) -> EntryPoint:
        module = f"{distribution.replace('-', '_')}_{point}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        if wheel:
            (info / "WHEEL").write_text("Wheel-Version: 1.0\n")
        if direct:
            (info / "direct_url.json").write_text(direct)
        made = EntryPoint("plugin", module, "lopbench")
        vars(made).update(dist=PathDistribution(info))
        return made

    yield install
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def test_an_empty_manager_has_nothing():
    made = build_manager(load_entry_points=False)
    assert made.registry.names("metrics") == []
    assert made.skipped == []


def test_a_plugin_registers_with_its_distribution():
    made = build_manager(load_entry_points=False)
    made.register(Plugin("a", "b"), name="p", distribution=HERE)
    assert [(e.name, e.distribution, e.summary) for e in made.registry.entries("metrics")] == [
        ("a", HERE, "a thing"),
        ("b", HERE, "a thing"),
    ]


def test_a_plugin_that_wants_a_newer_api_is_refused():
    made = build_manager(load_entry_points=False)
    plugin = Plugin("a")
    plugin.lopbench_api = API_VERSION + 1
    with pytest.raises(PluginError, match=f"needs plugin API {API_VERSION + 1}, this lopbench has {API_VERSION}"):
        made.register(plugin, name="p", distribution=HERE)
    assert made.registry.names("metrics") == []


def test_a_plugin_written_for_an_older_api_is_refused_with_what_changed_and_where_to_read():
    made = build_manager(load_entry_points=False)
    plugin = Plugin("a")
    plugin.lopbench_api = 1
    with pytest.raises(PluginError, match=r"written for plugin API 1: .*since version 2 .*plugins/README.md") as error:
        made.register(plugin, name="p", distribution=HERE)
    assert str(error.value).count(". ") == 0, "one sentence"
    assert made.registry.names("metrics") == []


@pytest.mark.parametrize("wanted", [None, API_VERSION])
def test_a_plugin_of_this_api_is_taken_whether_it_says_so(wanted):
    made = build_manager(load_entry_points=False)
    plugin = Plugin("a")
    if wanted is not None:
        plugin.lopbench_api = wanted
    made.register(plugin, name="p", distribution=HERE)
    assert made.registry.names("metrics") == ["a"]


class UnknownHook(Plugin):
    @hookimpl
    def lopbench_metric(self, register): ...


class WrongArgument(Plugin):
    @hookimpl
    def lopbench_scenarios(self, registrar): ...


class Raises(Plugin):
    @hookimpl
    def lopbench_scenarios(self, register):
        raise ValueError("broken")


@pytest.mark.parametrize(
    "plugin",
    [UnknownHook("a"), WrongArgument("a"), Raises("a"), Plugin("a", "a"), Plugin("a", "no good"), Plugin("a", "b")],
)
def test_a_plugin_that_fails_leaves_nothing_behind(plugin):
    made = build_manager(load_entry_points=False)
    made.register(Plugin("b"), name="first", distribution=HERE)
    with pytest.raises(Exception):  # noqa: B017, PT011 (each fails in a way of its own)
        made.register(plugin, name="p", distribution=Distribution("there", "1.0"))
    assert made.registry.names("metrics") == ["b"]
    assert not made.manager.is_registered(plugin)
    made.register(Plugin("c"), name="third", distribution=HERE)
    assert made.registry.names("metrics") == ["b", "c"]


def test_a_plugin_registered_twice_is_refused_and_kept_once():
    made = build_manager(load_entry_points=False)
    plugin = Plugin("a")
    made.register(plugin, name="p", distribution=HERE)
    with pytest.raises(ValueError, match="already registered"):
        made.register(plugin, name="p", distribution=HERE)
    assert made.manager.is_registered(plugin)
    assert made.registry.names("metrics") == ["a"]


def test_a_broken_plugin_is_skipped_with_its_reason_and_stops_no_other(installed):
    points = [
        installed("alpha", "raise RuntimeError('out of order')"),
        installed("beta", "import no_such_module_xyz"),
        installed("gamma", GOOD.format(name="fine")),
    ]
    made = build_manager(entry_points=points)
    assert made.registry.names("metrics") == ["fine"]
    assert [(s.distribution, s.reason) for s in made.skipped] == [
        ("alpha", "RuntimeError: out of order"),
        ("beta", "ModuleNotFoundError: No module named 'no_such_module_xyz'"),
    ]
    assert "Traceback" in made.skipped[0].details


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise GeneratorExit", "GeneratorExit: "),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise type('Odd', (BaseException,), {})", "Odd: "),
        ("raise ValueError", "ValueError: "),
    ],
)
def test_whatever_a_plugin_raises_as_it_is_imported_stops_no_other(installed, text, reason):
    plugins = build_manager(entry_points=[installed("alpha", text)])
    assert [each.reason for each in plugins.skipped] == [reason]


def test_two_distributions_may_use_one_entry_point_name(installed):
    points = [installed("alpha", GOOD.format(name="one")), installed("beta", GOOD.format(name="two"))]
    assert build_manager(entry_points=points).registry.names("metrics") == ["one", "two"]


def test_a_third_party_that_takes_the_name_of_a_builtin_is_the_one_refused(installed):
    points = [installed("alpha", GOOD.format(name="same")), installed("lopbench", GOOD.format(name="same"))]
    made = build_manager(entry_points=points)
    assert made.registry.get("metrics", "same").distribution.name == "lopbench"
    (skipped,) = made.skipped
    assert skipped.distribution == "alpha"
    assert "registered by lopbench" in skipped.reason


def test_the_environment_limits_what_is_loaded_but_not_the_builtins(installed, monkeypatch):
    points = [installed(name, GOOD.format(name=name)) for name in ("alpha", "beta", "lopbench")]
    monkeypatch.setenv("LOPBENCH_PLUGINS", "Beta, none")
    made = build_manager(entry_points=points)
    assert made.registry.names("metrics") == ["beta", "lopbench"]
    assert [(s.distribution, s.reason) for s in made.skipped] == [("alpha", "left out by LOPBENCH_PLUGINS")]


@pytest.mark.parametrize(
    ("wheel", "direct", "mutable"),
    [
        (True, "", False),
        (True, '{"url": "file:///x", "dir_info": {}}', False),
        (True, '{"url": "file:///x", "dir_info": {"editable": true}}', True),
        (False, "", True),
    ],
    ids=["wheel", "wheel of a folder", "editable", "source tree"],
)
def test_what_may_change_under_its_version_is_mutable(installed, wheel, direct, mutable):
    point = installed("alpha", GOOD.format(name="a"), wheel=wheel, direct=direct)
    made = build_manager(entry_points=[point])
    assert made.registry.get("metrics", "a").distribution == Distribution("alpha", "1.0", mutable=mutable)


def test_the_builtins_are_found_by_entry_point_and_all_of_them_load():
    loaded = plugins()
    assert plugins() is loaded
    assert [s for s in loaded.skipped if s.distribution == "lopbench"] == []
    for kind in ("architectures", "methods", "metrics", "scenarios"):
        entries = [e for e in loaded.registry.entries(kind) if e.distribution.name == "lopbench"]
        assert entries
        for entry in entries:
            assert entry.load().name == entry.name
            assert entry.summary


def test_an_entry_point_without_distribution_is_of_unknown_origin():
    point = SimpleNamespace(name="p", dist=None, load=lambda: Plugin("a"))
    made = build_manager(entry_points=[point])
    assert made.registry.get("metrics", "a").distribution == Distribution("unknown", "0", mutable=True)
