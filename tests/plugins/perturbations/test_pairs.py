"""Any two methods compose, or are refused before anything is trained."""

import functools
import re

import pytest
import torch

from lopbench.core.errors import UsageError
from lopbench.core.fields import zeros
from lopbench.core.manager import plugins
from lopbench.learner import discovery, nursery
from lopbench.learner.excluding import check_pairs
from lopbench.testing import examples
from lopbench.testing.bench import Bench
from lopbench.testing.networks import rectified
from lopbench_plugins.optimizers.sgd import SGD

METHODS = {
    entry.name: entry.load()
    for entry in plugins().registry.entries("methods")
    if entry.distribution.name == "lopbench" and not entry.load().control
}
SENTENCE = re.compile(
    r"methods '\w+' and '\w+' exclude each other(, as a small network shows)?: [^\n]+; choose one of them|"
    r"method '\w+' cannot act after '\w+': [^\n]+; write \w+\+\w+"
)
#: Pairs that exclude each other: two that replace the activation functions or normalise in front of them, and units of
#: which each is read as two features.
EXCLUSIVE = {
    *(("activation", "crelu"), ("layernorm", "nap")),
    *(("cbp", "crelu"), ("cpr", "crelu"), ("crelu", "redo"), ("crelu", "regrama"), ("crelu", "snr")),
}


@pytest.fixture(autouse=True, scope="module")
def _found_once():
    """Look for the units of networks of one structure once: that takes most of the time of such short runs."""
    found = {}

    def discover(module, batch):
        key = repr(module)
        if key not in found:
            found[key] = discovery.discover(module, batch)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nursery, "discover", discover)
        yield


def strong(name):
    """Return a method in the first setting in which it acts within some steps."""
    return examples(METHODS[name])[0]


def refusal_of(pair):
    """Return the sentence with which a pair is refused, None if it composes."""
    try:
        check_pairs(pair, SGD(lr=0.1))
    except UsageError as error:
        return str(error)
    return None


def at_zero(name):
    return METHODS[name](**zeros(METHODS[name]))


def snapshot(*methods):
    return Bench(*methods, network=rectified).run(3, boundary_every=2).snapshot()


@functools.cache
def alone(name):
    return snapshot(strong(name))


def differing(ours, theirs):
    kinds = ("parameter", "optimizer", "buffer", "evaluated")
    ours, theirs = ({k: v for k, v in each.items() if k.split("/")[0] in kinds} for each in (ours, theirs))
    return sorted(ours.keys() ^ theirs.keys()) or [k for k in ours if not torch.equal(ours[k], theirs[k])]


@pytest.mark.parametrize("first", METHODS)
def test_two_methods_compose_or_are_refused(first):
    refused = set()
    for second in [name for name in METHODS if name > first]:
        pair = [strong(first), strong(second)]
        refusal = refusal_of(pair)
        if refusal is not None:
            assert SENTENCE.fullmatch(refusal), refusal
            refused.add((first, second))
            continue
        made = snapshot(*pair)
        wrong = [k for k, v in made.items() if v.is_floating_point() and not v.isfinite().all()]
        assert wrong == [], (first, second)
        for name, order, other in (
            (first, (at_zero(first), strong(second)), second),
            (second, (strong(first), at_zero(second)), first),
        ):
            if zeros(METHODS[name]):
                assert differing(snapshot(*order), alone(other)) == [], (first, second, name)
    assert refused == {pair for pair in EXCLUSIVE if pair[0] == first}


def test_the_other_order_is_told_where_it_composes():
    crelu, infer = strong("crelu"), strong("infer")
    with pytest.raises(UsageError, match=r"^method 'crelu' cannot act after 'infer': .*; write crelu\+infer$"):
        check_pairs([infer, crelu], SGD(lr=0.1))
    assert differing(snapshot(crelu, infer), snapshot(crelu)) != []


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.has("configure")])
def test_what_is_built_into_the_network_is_not_built_in_twice(name):
    with pytest.raises(UsageError, match="exclude each other"):
        check_pairs([strong(name), strong(name)], SGD(lr=0.1))
