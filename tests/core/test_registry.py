from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from lopbench.core.errors import PluginError, UsageError
from lopbench.core.interfaces import KINDS, LayerMetric
from lopbench.core.registry import Distribution, Registration, Registry, suggest

HERE = Distribution("here", "1.0")
THERE = Distribution("there", "2.0")


@dataclass(frozen=True, kw_only=True)
class Count(LayerMetric):
    name: ClassVar[str] = "count"

    def compute(self, probe):
        return 0.0


class Unfinished(LayerMetric):
    name: ClassVar[str] = "unfinished"

    @abstractmethod
    def more(self): ...


def entry(name="count", target=Count, distribution=HERE, kind="metrics"):
    return Registration(kind, name, target, "counts", distribution)


def test_what_was_added_is_found_and_listed_in_order():
    registry = Registry()
    for name in ("b", "a"):
        registry.add(entry(name))
    assert registry.names("metrics") == ["a", "b"]
    assert [e.name for e in registry.entries("metrics")] == ["a", "b"]
    assert registry.get("metrics", "a").name == "a"


def test_kinds_have_names_of_their_own():
    registry = Registry()
    registry.add(entry())
    registry.add(entry(kind="methods"))
    assert registry.names("methods") == registry.names("metrics") == ["count"]


def test_a_duplicate_is_refused_naming_both_distributions():
    registry = Registry()
    registry.add(entry())
    with pytest.raises(PluginError, match=r"'count' in metrics .* by here .* by there"):
        registry.add(entry(distribution=THERE))
    assert registry.get("metrics", "count").distribution is HERE


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a=b", "a,b", "a+b", "a/b", "../a", "-a", "a\n", 3])
def test_a_name_that_no_command_line_or_directory_can_take_is_refused(name):
    with pytest.raises(PluginError, match="a name is made of letters"):
        Registry().add(entry(name))


@pytest.mark.parametrize("target", ["no_colon", "two:colons:here", 3, None])
def test_a_target_that_is_neither_path_nor_class_is_refused(target):
    with pytest.raises(PluginError, match="'module:Class' or a class"):
        Registry().add(entry(target=target))


def test_an_unknown_name_is_an_error_with_the_nearest():
    registry = Registry()
    registry.add(entry("effective_rank"))
    with pytest.raises(
        UsageError, match=r"Unknown metric 'efective_rank'. Did you mean 'effective_rank'\? 'lopbench list metrics'"
    ):
        registry.get("metrics", "efective_rank")


def test_nothing_near_means_no_suggestion():
    assert suggest("xyz", ["effective_rank"]) == ""


def test_a_class_is_loaded_as_it_is():
    assert entry().load() is Count


def test_a_path_is_imported_on_demand():
    target = "collections:OrderedDict"
    with pytest.raises(PluginError, match="'collections:OrderedDict' is not a Metric"):
        entry(target=target).load()


@pytest.mark.parametrize("target", ["no_such_module_xyz:Thing", "collections:NoSuchThing"])
def test_a_path_that_leads_nowhere_is_an_error_naming_it(target):
    with pytest.raises(PluginError, match=f"of here cannot be imported from '{target}'"):
        entry(target=target).load()


def test_a_component_of_another_kind_is_refused():
    with pytest.raises(PluginError, match="is not a Perturbation"):
        entry(kind="methods").load()


def test_an_abstract_class_is_refused_naming_what_it_lacks():
    with pytest.raises(PluginError, match="does not implement compute, more"):
        entry("unfinished", Unfinished).load()


def test_a_class_under_another_name_is_refused():
    with pytest.raises(PluginError, match="the class calls itself 'count'"):
        entry("other").load()


def test_the_origin_of_a_published_component_is_its_version():
    assert entry().origin == "here 1.0"


def test_the_origin_of_a_mutable_component_changes_with_its_file(tmp_path, monkeypatch):
    source = (
        "from dataclasses import dataclass\nfrom lopbench.core.interfaces import LayerMetric\n"
        "class M(LayerMetric):\n    name = 'm'\n    def compute(self, probe):\n        return {}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    origins = []
    for module, value in (("origin_one", 1.0), ("origin_two", 2.0), ("origin_three", 1.0)):
        (tmp_path / f"{module}.py").write_text(source.format(value))
        origins.append(entry("m", f"{module}:M", replace(HERE, mutable=True)).origin)
    assert origins[0].startswith("here 1.0+")
    assert origins[0] == origins[2] != origins[1]


def test_every_kind_has_an_interface():
    assert list(KINDS) == [
        "architectures",
        "cloners",
        "data",
        "executors",
        "methods",
        "metrics",
        "optimizers",
        "scenarios",
        "sinks",
    ]
