"""Finds methods that exclude each other, by building them into a small network before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Generator, nn

from lopbench.core import rng
from lopbench.core.errors import LopbenchError, UsageError
from lopbench.core.interfaces import Optimizer, Perturbation
from lopbench.learner.learner import StackLearner

#: Kinds of layers in the small network that a method may replace.
_KINDS = (nn.Linear, nn.ReLU)


def check_pairs(methods: Sequence[Perturbation], optimizer: Optimizer) -> None:
    """Refuse methods if two of them exclude each other.

    Two methods exclude each other if both replace all layers of one kind. They also do if the small network accepts
    each of them alone, but not one after the other. If it does not accept a method alone, the pair passes: the network
    of the run decides then.

    Args:
        methods: The methods, in the order in which they act.
        optimizer: Any optimizer; no step is taken.

    Raises:
        UsageError: If two exclude each other, or could act in the opposite order only.
    """
    for pair in combinations([method for method in methods if method.active], 2):
        if any(method.has("configure") for method in pair):
            _check_pair(*pair, optimizer)


def _check_pair(first: Perturbation, second: Perturbation, optimizer: Optimizer) -> None:
    try:
        replaced = [_replaced([method], optimizer) for method in (first, second)]
    except Exception:  # one method alone fails: the run reports that
        return
    names = f"methods {first.name!r} and {second.name!r} exclude each other"
    both = " and ".join(kind.__name__ for kind in _KINDS if all(kind in each for each in replaced))
    if both:
        raise UsageError(f"{names}: both replace every {both}; choose one of them")
    try:
        _replaced([first, second], optimizer)
    except LopbenchError as error:
        reason = str(error).removeprefix(f"{second.name}: ").removeprefix(f"{first.name}: ")
        if _compose(second, first, optimizer):
            raise UsageError(
                f"method {second.name!r} cannot act after {first.name!r}: {reason}; write {second.name}+{first.name}"
            ) from error
        raise UsageError(f"{names}, as a small network shows: {reason}; choose one of them") from error
    except Exception:
        return


def _compose(first: Perturbation, second: Perturbation, optimizer: Optimizer) -> bool:
    """Return whether the small network accepts ``first`` and then ``second``."""
    try:
        _replaced([first, second], optimizer)
    except Exception:
        return False
    return True


def _replaced(methods: Sequence[Perturbation], optimizer: Optimizer) -> set[type[nn.Module]]:
    """Build methods into the small network, and return the kinds of layers of which it has none left.

    Raises:
        LopbenchError: If the network does not accept the methods.
    """
    built = StackLearner(
        build=_network,
        seeds=(0,),
        methods=methods,
        optimizer=optimizer,
        example=torch.zeros(2, 6),
        targets=torch.zeros(2, dtype=torch.int64),
        outputs=3,
    )
    return set(_KINDS) - {type(layer) for layer in built.network.module.modules()}


def _network(generator: Generator) -> nn.Module:
    with rng.isolated(generator):
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
