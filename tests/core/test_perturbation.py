"""What follows from the hooks of a method, and what a class is refused for."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from lopbench.core.errors import PluginError
from lopbench.core.fields import number
from lopbench.core.interfaces import Perturbation
from lopbench.core.perturbation import HOOKS


def method(**members):
    """Return a class of methods with these members."""
    return dataclass(frozen=True, kw_only=True)(type("Toy", (Perturbation,), {"name": "toy", **members}))


def hook(*arguments):
    """Stand for any hook."""


@dataclass(frozen=True, kw_only=True)
class Two(Perturbation):
    """Has two strengths, of which one is none at 1."""

    name: ClassVar[str] = "two"
    pull: float = number(0.5, least=0, zero=0, swept=True)
    keep: float = number(0.5, least=0, most=1, zero=1)


def test_every_hook_is_a_member_and_a_class_has_those_that_it_defines():
    for name in HOOKS:
        assert not Two.has(name)
        assert method(**{name: hook}).has(name)


@pytest.mark.parametrize(
    ("members", "track"),
    [
        ({}, "boundary-free"),
        ({"after_step": hook}, "boundary-free"),
        ({"on_task_start": hook}, "boundary-aware"),
        ({"batch": hook, "uses_replay": True}, "replay"),
        ({"on_task_start": hook, "uses_replay": True}, "replay"),
    ],
)
def test_the_track_follows_from_the_hooks(members, track):
    assert method(**members)().track == track


@pytest.mark.parametrize(
    ("pull", "keep", "active"), [(0, 1, False), (0.0, 1.0, False), (0, 0.9, True), (0.1, 1, True), (0.5, 0.5, True)]
)
def test_a_method_is_off_where_all_its_strengths_are_zero(pull, keep, active):
    assert Two(pull=pull, keep=keep).active is active


def test_a_method_without_strength_and_one_whose_replicas_differ_are_on():
    assert method()().active
    assert Two(pull=torch.tensor([0.0, 0.0]), keep=1.0).active


@pytest.mark.parametrize("name", ["after_steps", "on_task_starts", "penality", "updates"])
def test_a_function_that_is_all_but_named_as_a_hook_is_refused(name):
    with pytest.raises(PluginError, match=f"'{name}', which is no hook and is never called. Did you mean"):
        method(**{name: hook})
    assert method(**{f"_{name}": hook})


@pytest.mark.parametrize(
    "name", ["track", "uses_boundaries", "uses_activations", "replica_aware", "traceable", "swept", "zero"]
)
def test_a_declaration_that_is_not_read_any_more_is_refused(name):
    with pytest.raises(PluginError, match=rf"'{name}', which belongs to plugin API 1.*plugins/README.md"):
        method(**{name: True})
