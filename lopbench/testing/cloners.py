"""The checks of cloners."""

from __future__ import annotations

import torch
from torch import nn

from lopbench.cloning.certify import certify
from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Cloner, Component
from lopbench.testing.check import Check, Mismatch, check
from lopbench.testing.comparing import listed, same
from lopbench.testing.networks import NETWORKS, SHAPE
from lopbench.testing.shared import SHARED

_EXAMPLE = torch.zeros(2, *SHAPE)


def _cloner(component: Component) -> Cloner:
    assert isinstance(component, Cloner)
    return component


def _network(name: str) -> nn.Module:
    with rng.isolated(rng.derive(0, "conformance", "cloner")):
        return NETWORKS[name]()


def _served(cloner: Cloner) -> list[str]:
    """Return the networks that the cloner serves."""
    found = []
    for name in NETWORKS:
        try:
            cloner.clone(_network(name), 2, example=_EXAMPLE, generator=rng.derive(0, "conformance", "clone"))
        except UnsupportedError:
            continue
        found.append(name)
    if not found:
        raise Mismatch("a clone of one of the networks", f"UnsupportedError for {listed(list(NETWORKS), 9)}")
    return found


@check(
    "The clone computes what the base does, and its clones stay equal in training: the certificate.",
    lesson="public ViT clones change the softmax temperature, and GroupNorm is not cloned (finding 11, METHODS F20)",
)
def clones_are_certified(component: Component) -> None:
    """Certify networks of every kind, each module by itself."""
    cloner = _cloner(component)
    for name in _served(cloner):
        certificate = certify(_network(name), cloner, 2, example=_EXAMPLE)
        if not certificate.passed:
            raise Mismatch(f"a certificate for the {name} network", certificate.verdict)


@check("The clone is a network of its own, a function of network, factor and generator alone.")
def cloning_is_a_function(component: Component) -> None:
    """Clone twice, from two global seeds, and compare the base before and after."""
    cloner = _cloner(component)
    for name in _served(cloner):
        base = _network(name)
        before = {key: value.clone() for key, value in base.state_dict().items()}
        clones = []
        for place in (1, 2):
            torch.manual_seed(place)
            state = torch.get_rng_state()
            wide, _ = cloner.clone(base, 2, example=_EXAMPLE, generator=rng.derive(0, "conformance", "clone"))
            clones.append(wide.state_dict())
            if not torch.equal(state, torch.get_rng_state()):
                raise Mismatch("torch's global generator left alone", f"{name} network: it has advanced")
        wrong = [key for key, value in before.items() if not same(value, base.state_dict()[key])]
        if wrong:
            raise Mismatch("the base left as it is", f"{name} network: {listed(wrong)} changed")
        if any(not same(value, clones[1][key]) for key, value in clones[0].items()):
            raise Mismatch("the same clone from the same generator", f"{name} network: another one")
        places = {value.untyped_storage().data_ptr() for value in base.state_dict().values()}
        if any(value.untyped_storage().data_ptr() in places for value in clones[0].values()):
            raise Mismatch("a clone with memory of its own", f"{name} network: it shares that of the base")


@check("The clone is wider by the factor inside, and takes and gives what the base does.")
def clones_are_wider(component: Component) -> None:
    """Count parameters."""
    cloner = _cloner(component)
    for name in _served(cloner):
        base = _network(name)
        counts = []
        for factor in (1, 2, 3):
            wide, profile = cloner.clone(
                base, factor, example=_EXAMPLE, generator=rng.derive(0, "conformance", "clone")
            )
            profile.residual(dict(wide.named_parameters()))  # refuses a profile of another network
            if wide(_EXAMPLE).shape != base(_EXAMPLE).shape:
                raise Mismatch("outputs of the base's shape", f"{name} network: {tuple(wide(_EXAMPLE).shape)}")
            counts.append(sum(parameter.numel() for parameter in wide.parameters()))
        if not counts[0] == sum(p.numel() for p in base.parameters()) < counts[1] < counts[2]:
            raise Mismatch("more parameters for a larger factor, as many for factor 1", f"{name} network: {counts}")


@check("A factor below 1 is refused with InvalidInputError.")
def nonsense_factors_are_refused(component: Component) -> None:
    """Ask for none."""
    cloner = _cloner(component)
    try:
        cloner.clone(_network("plain"), 0, example=_EXAMPLE, generator=rng.derive(0, "conformance", "clone"))
    except InvalidInputError:
        return
    raise Mismatch("InvalidInputError for factor 0", "a clone")


CHECKS: tuple[Check, ...] = (
    *SHARED,
    clones_are_certified,
    cloning_is_a_function,
    clones_are_wider,
    nonsense_factors_are_refused,
)
