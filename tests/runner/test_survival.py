"""What is known of our own components, and is watched of others'."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from lopbench.core.interfaces import Sink
from lopbench.core.spec import ComponentSpec
from lopbench.runner.survival import is_own
from lopbench_plugins.sinks.tensorboard import TensorBoard


@dataclass(frozen=True, kw_only=True)
class Theirs(Sink):
    """A sink of somebody else."""

    name: ClassVar[str] = "theirs"

    def open(self, run):
        raise NotImplementedError


@pytest.fixture
def spec(make_study):
    return make_study(methods=["l2"], metrics=["dead_fraction"]).specs[0]


def theirs(part):
    return replace(part, origin="lopbench-theirs 1.0")


def test_a_run_of_our_own_components_alone_is_our_own(spec):
    assert is_own(spec)
    assert is_own(spec, TensorBoard())


@pytest.mark.parametrize("name", ["scenario", "architecture", "optimizer", "reference_optimizer"])
def test_a_run_with_a_component_of_others_is_not(spec, name):
    assert not is_own(replace(spec, **{name: theirs(getattr(spec, name))}))


@pytest.mark.parametrize("name", ["methods", "metrics"])
def test_nor_is_one_with_a_method_a_metric_a_cloner_or_a_sink_of_others(spec, name):
    assert not is_own(replace(spec, **{name: (*getattr(spec, name), theirs(getattr(spec, name)[0]))}))
    assert not is_own(replace(spec, cloner=theirs(ComponentSpec.parse("cloners", "tile"))))
    assert not is_own(spec, TensorBoard(), Theirs())
