"""Which methods exclude each other: found out by building both into a small network, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Generator, nn

from lopbench.core import rng
from lopbench.core.errors import LopbenchError, UsageError
from lopbench.core.interfaces import Optimizer, Perturbation
from lopbench.learner.learner import StackLearner

#: Layers of the small network that a method may put others in the place of.
_KINDS = (nn.Linear, nn.ReLU)


def check_pairs(methods: Sequence[Perturbation], optimizer: Optimizer) -> None:
    """Refuse methods of which two exclude each other.

    Two do if both put something else in the place of one kind of layer, or if the small network takes each of them
    alone and not the one behind the other. What it does not take alone is left to the network of the run.

    Args:
        methods: The methods, in the order in which they act.
        optimizer: Any optimizer; no step is taken.

    Raises:
        UsageError: If two do.
    """
    for pair in combinations([method for method in methods if method.active], 2):
        if any(method.has("configure") for method in pair):
            _check_pair(*pair, optimizer)


def _check_pair(first: Perturbation, second: Perturbation, optimizer: Optimizer) -> None:
    try:
        replaced = [_replaced([method], optimizer) for method in (first, second)]
    except Exception:  # of a plugin: the run tells it
        return
    names = f"methods {first.name!r} and {second.name!r} exclude each other"
    both = " and ".join(kind.__name__ for kind in _KINDS if all(kind in each for each in replaced))
    if both:
        raise UsageError(f"{names}: both put something else in the place of every {both}; choose one of them")
    try:
        _replaced([first, second], optimizer)
    except LopbenchError as error:
        reason = str(error).removeprefix(f"{second.name}: ").removeprefix(f"{first.name}: ")
        if _compose(second, first, optimizer):
            raise UsageError(
                f"method {second.name!r} cannot act behind {first.name!r}: {reason}; write {second.name}+{first.name}"
            ) from error
        raise UsageError(f"{names}, as a small network shows: {reason}; choose one of them") from error
    except Exception:
        return


def _compose(first: Perturbation, second: Perturbation, optimizer: Optimizer) -> bool:
    try:
        _replaced([first, second], optimizer)
    except Exception:
        return False
    return True


def _replaced(methods: Sequence[Perturbation], optimizer: Optimizer) -> set[type[nn.Module]]:
    """Return the kinds of layers of which the small network has none left once methods are built into it.

    Raises:
        LopbenchError: If it does not take the methods.
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
