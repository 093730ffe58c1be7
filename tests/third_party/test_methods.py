"""What is asked of every method of the folder, alone and composed: the interface carries it, or it does not."""

import pytest
import torch
from third_party_lab import TASK_STEPS, Lab, loaded, method, normalised, perceptron, same

from lopbench.core import fields
from lopbench_plugins.perturbations.l2 import L2

METHODS = [entry.name for entry in loaded().registry.entries("methods")]
#: They may differ from a program's steps in the order in which sums are rounded.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
#: Across two boundaries.
STEPS = 3 * TASK_STEPS

each_alone_and_composed = pytest.mark.parametrize("composed", [False, True], ids=["alone", "with l2"])
each_method = pytest.mark.parametrize("name", METHODS)


def made(name, composed=False, **fields):
    return [method(name, **fields), *([L2(strength=0.01)] if composed else [])]


def network_of(name):
    return normalised if name == "hare_tortoise" else perceptron


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], **CLOSE)


def test_there_are_ten():
    assert len(METHODS) == 10


@each_alone_and_composed
@each_method
def test_it_trains_and_acts(name, composed):
    lab = Lab(*made(name, composed), network=network_of(name)).run(STEPS)
    assert lab.learner.hooks.acted == [True] * len(lab.learner.hooks.acted)
    plain = Lab(*made(name, composed)[1:], network=network_of(name)).run(STEPS)
    assert not same(lab.evaluated(), plain.evaluated())


@each_method
def test_strength_zero_is_no_method(name):
    zeros = fields.zeros(type(method(name)))
    if not zeros:
        pytest.skip("it has no strength zero")
    lab = Lab(method(name, **zeros), network=network_of(name)).run(STEPS)
    assert same(lab.evaluated(), Lab(network=network_of(name)).run(STEPS).evaluated())


@each_alone_and_composed
@each_method
def test_replicas_together_equal_replicas_alone(name, composed):
    together = Lab(*made(name, composed), seeds=(0, 1, 2), network=network_of(name)).run(STEPS)
    for replica in (1, 2):
        alone = Lab(*made(name, composed), seeds=(replica,), network=network_of(name)).run(STEPS)
        close(together.evaluated(replica), alone.evaluated())


@each_alone_and_composed
@pytest.mark.parametrize("at", [5, TASK_STEPS, 2 * TASK_STEPS - 1])
@each_method
def test_it_resumes_to_the_bit(name, at, composed):
    straight = Lab(*made(name, composed), network=network_of(name)).run(STEPS)
    first = Lab(*made(name, composed), network=network_of(name)).run(at)
    second = Lab(*made(name, composed), network=network_of(name)).resumed(first).run(STEPS - at)
    assert same(straight.learner.state_dict(), second.learner.state_dict())


@each_alone_and_composed
@each_method
def test_a_program_takes_the_same_steps(name, composed):
    options = {"seeds": (0, 1), "network": network_of(name)}
    assert Lab(*made(name, composed), **options).why_no_program() is None
    # Programs draw other numbers, but for whole sixteens of uniform ones.
    fields = {"upgd": {"noise": 0.0}, "replay": {"samples": 16, "capacity": 40}}.get(name, {})
    lab = Lab(*made(name, composed, **fields), **options)
    program = Lab(*made(name, composed, **fields), **options, by_program=True).run(STEPS)
    lab.run(STEPS)
    for replica in (0, 1):
        close(lab.evaluated(replica), program.evaluated(replica))


@each_method
def test_it_imports_public_names_only(name):
    import ast
    import inspect
    import sys

    import lopbench

    source = inspect.getsource(sys.modules[type(method(name)).__module__])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0].startswith("lopbench"):
            assert node.module == "lopbench"
            assert {alias.name for alias in node.names} <= set(lopbench.__all__)
