"""What methods that rank units compute, for all replicas at once and without a look at the host."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lopbench import Learner, State, per_replica

#: So many units are looked for one after another; more are cheaper to sort.
_FEW = 2
#: Most elements of tensors that are copied side by side: below, calls take longer than what they do.
_SMALL = 2**16


def side_by_side(function: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Return what a function makes of some tensors one after another, ``(R, sum of D)``, in few calls.

    Args:
        function: Makes of a tensor ``(R, ..., A, B)`` numbers ``(R, ..., D)``, and counts axes from the end.
        tensors: Tensors ``(R, A, B)``, for each group of units one.
    """
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for place, tensor in enumerate(tensors):
        alike[tensor.shape].append(place)
    found: dict[int, Tensor] = {}
    for shape, places in alike.items():
        if len(places) == 1 or shape.numel() > _SMALL:
            found |= {place: function(tensors[place]) for place in places}
        else:
            made = function(torch.stack([tensors[place] for place in places], dim=1))
            if len(alike) == 1:
                return torch.flatten(made, 1)
            found |= zip(places, made.unbind(1), strict=True)
    return torch.cat([found[place] for place in range(len(tensors))], dim=1)


def count_each(units: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return how many units there are of each group, ``(R, groups)``; ``units`` is boolean, ``(R, sum of sizes)``."""
    if len(set(sizes)) == 1:
        return torch.unflatten(units, 1, (-1, sizes[0])).sum(dim=2)
    return torch.stack([part.sum(dim=1) for part in torch.split(units, list(sizes), dim=1)], dim=1)


def lowest_of_each(values: Tensor, counts: Tensor, sizes: Sequence[int], most: Callable[[int], int]) -> Tensor:
    """Return where the lowest of each group are, as `lowest` does, boolean ``(R, sum of sizes)``.

    Args:
        values: What all groups are ranked by, ``(R, sum of sizes)``.
        counts: How many to find in each group, ``(R, groups)``.
        sizes: Sizes of the groups.
        most: Returns a number that the count of a group of this size does not exceed.
    """
    if len(set(sizes)) == 1:
        return lowest(values.reshape(-1, sizes[0]), counts.flatten(), most(sizes[0])).view_as(values)
    parts = zip(values.split(list(sizes), dim=1), counts.unbind(1), sizes, strict=True)
    return torch.cat([lowest(part, count, most(size)) for part, count, size in parts], dim=1)


def lowest(values: Tensor, count: Tensor, most: int) -> Tensor:
    """Return where the lowest of ``values`` ``(R, D)`` are, boolean; of equal ones the first come first.

    Args:
        values: As many of them as are looked for are finite.
        count: How many to find in each row, ``(R,)``.
        most: A number that ``count`` does not exceed.
    """
    if most > _FEW:
        return values.argsort(dim=1, stable=True).argsort(dim=1) < count.unsqueeze(1)
    found = torch.zeros_like(values, dtype=torch.bool)
    for turn in range(most):
        if turn:
            values = values.masked_fill(found, torch.inf)
        first = values.argmin(dim=1, keepdim=True)  # of equal ones the first, as torch promises
        found = found.scatter(1, first, found.gather(1, first) | (count > turn).unsqueeze(1))
    return found


def fast_mean(values: Tensor, dim: int) -> Tensor:
    """Return the mean over ``dim``, in a third of the time of torch's on the CPU."""
    return values.sum(dim=dim) / values.shape[dim]


def start_clock(learner: Learner, state: State) -> None:
    """Let the state count the steps of the stream, from where it is."""
    state["step"] = torch.full((learner.replicas,), learner.age, device=learner.device)


def tick(state: State, period: int) -> Tensor:
    """Count a step, and return whether it is the last of ``period``, boolean ``(R, 1)``."""
    state["step"] += 1
    return (state["step"] % period == 0).unsqueeze(1)


def dormant(activity: Tensor, threshold: float | Tensor, cap: float) -> Tensor:
    """Return the units that are at most ``threshold`` times as active as the mean of their layer, boolean ``(R, D)``.

    Args:
        activity: How active each unit is, ``(R, D)``; in a layer where none is all count.
        threshold: One number, or one for each replica, ``(R,)``.
        cap: Share of the layer that is not exceeded, in (0, 1], but for one unit; the least active come first.
    """
    mean = fast_mean(activity, 1).unsqueeze(1)
    # Both sides of "score at most threshold" times the mean, which may be zero.
    found = activity <= per_replica(threshold, activity) * mean
    if cap == 1:
        return found
    size = activity.shape[1]
    most = max(1, int(cap * size))
    return found & lowest(activity, torch.full_like(mean[:, 0], most), most)
