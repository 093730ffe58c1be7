"""What methods that rank units compute, for all replicas at once and without a look at the host."""

import torch
from torch import Tensor

from lopbench import Learner, State, per_replica

#: So many units are looked for one after another; more are cheaper to sort.
_FEW = 2


def lowest(values: Tensor, count: Tensor, most: int) -> Tensor:
    """Return where the lowest of ``values`` ``(R, D)`` are, boolean; of equal ones the first come first.

    Args:
        values: As many of them as are looked for are finite.
        count: How many to find in each row, ``(R,)``.
        most: A number that ``count`` does not exceed.
    """
    if most > _FEW:
        return values.argsort(dim=1, stable=True).argsort(dim=1) < count.unsqueeze(1)
    size = values.shape[1]
    index = torch.arange(size, device=values.device)
    found = torch.zeros_like(values, dtype=torch.bool)
    for turn in range(most):
        least = values.amin(dim=1, keepdim=True)
        first = index == torch.where(values == least, index, size).amin(dim=1, keepdim=True)
        found = found | (first & (count > turn).unsqueeze(1))
        values = values.masked_fill(first, torch.inf)
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
