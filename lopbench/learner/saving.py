"""Everything of a learner that changes in training, as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner

#: Sections that count as memory of a recipe.
_HELD = frozenset({"parameter", "buffer", "optimizer", "method"})


def state_dict(learner: StackLearner) -> dict[str, Tensor]:
    """Return everything that changes in training, as named tensors."""
    tensors = {f"parameter/{name}": leaf.detach() for name, leaf in learner.leaves.items()}
    tensors.update({f"buffer/{name}": value for name, value in learner.view.buffers.items()})
    tensors.update({f"optimizer/{name}": value for name, value in learner.optimizer.state_dict().items()})
    if learner.profile is not None:  # the initial weights of a clone cannot be built again from the seed
        tensors.update({f"initial/{name}": value for name, value in learner.view.initial.items()})
    tensors["generator/layers"] = learner.network.generator.get_state()
    tensors.update({f"previous/{name}": value for name, value in learner.previous.state_dict().items()})
    tensors["acted"] = torch.tensor(learner.hooks.acted, dtype=torch.bool)
    tensors["restarted"] = torch.tensor(learner.boundary.restarted)
    tensors["samples_ahead"] = torch.tensor(learner.boundary.samples_ahead)
    for index, state in enumerate(learner.states):
        tensors.update({f"method/{index}/{key}": value for key, value in state.state_dict().items()})
        for replica, generator in enumerate(state.generators):
            tensors[f"generator/{index}/{replica}"] = generator.get_state()
    if learner.nursery.has_rows:
        tensors.update({f"pool/{key}": value for key, value in learner.boundary.rows.state_dict().items()})
    return tensors


@torch.no_grad()
def load_state_dict(learner: StackLearner, tensors: Mapping[str, Tensor]) -> None:
    """Restore a copy of what `state_dict` returned."""
    part = sections(tensors)
    for name, leaf in learner.leaves.items():
        leaf.copy_(part["parameter"][name])
    for name, buffer in learner.view.buffers.items():
        buffer.copy_(part["buffer"][name])
    for name, value in part.get("initial", {}).items():
        learner.view.initial[name].copy_(value)
    learner.previous.load_state_dict(part.get("previous", {}), learner.device)
    learner.boundary.restarted = bool(tensors["restarted"])
    if learner.boundary.restarted:
        learner.optimizer.restart(learner.reference_optimizer)
    learner.optimizer.load_state_dict({n: v.to(learner.device) for n, v in part.get("optimizer", {}).items()})
    generators, methods = part["generator"], sections(part.get("method", {}))
    learner.network.generator.set_state(generators["layers"].cpu())
    learner.hooks.acted = tensors["acted"].tolist()
    learner.boundary.samples_ahead = int(tensors["samples_ahead"])
    for index, state in enumerate(learner.states):
        state.load_state_dict(methods.get(str(index), {}), learner.device)
        for replica, generator in enumerate(state.generators):
            generator.set_state(generators[f"{index}/{replica}"].cpu())
    if "pool" in part:
        learner.boundary.rows.load_state_dict(part["pool"])


def state_bytes(learner: StackLearner) -> int:
    """Return the bytes of parameters, buffers, optimizer and methods, which a recipe keeps from step to step."""
    return sum(tensor.nbytes for name, tensor in state_dict(learner).items() if name.split("/")[0] in _HELD)


def sections(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors that are named ``section/name``, by section and by name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        section, _, rest = key.partition("/")
        found.setdefault(section, {})[rest] = value
    return found


def entries_of(parameters: Iterable[str], part: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the optimizer's entries of each parameter, from `sections` in which they are named ``parameter/entry``."""
    entries: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    for key, value in part.get("optimizer", {}).items():
        name, _, entry = key.rpartition("/")
        entries[name][entry] = value
    return entries
