"""Fresh rows, the new incoming weights and biases of units that are reset, from the layer's own initialisation law."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor

from lopbench.core.errors import InvalidInputError
from lopbench.learner.groups import UnitGroup

#: Incoming weights ``(M, ...)`` and biases ``(M,)`` of M fresh units; the biases of a layer without bias are None.
Rows = tuple[Tensor, Tensor | None]


class FreshPool:
    """Hands out rows of newly built networks, one unused row for each unit that is reset.

    The rows of a layer in a new network are draws from the layer's initialisation law, so the law need not be known
    here. A network is built when a layer has used up its D rows. Each replica has networks of its own. Each group
    counts the rows that it has used. These counts are the whole state, since network ``k`` can be built again.

    Args:
        build: Builds a network from a generator and returns its parameters by name, without replica axis.
        generator_for: Returns the generator of the ``k``-th network of a replica, ``generator_for(replica, k)``. Each
            call returns a new generator in the same state. Its stream is not that of the replica's initialisation.
        groups: The groups that will ask for rows.
        replicas: R, the number of replicas.
    """

    def __init__(
        self,
        build: Callable[[Generator], Mapping[str, Tensor]],
        generator_for: Callable[[int, int], Generator],
        groups: Sequence[UnitGroup],
        replicas: int,
    ) -> None:
        self._build = build
        self._generator_for = generator_for
        self._groups = tuple(groups)
        #: Rows handed out so far: row ``taken % D`` of network ``taken // D`` is next.
        self._taken = {group.name: [0] * replicas for group in groups}
        # Groups use up rows at different speeds. Each group keeps its rows of the network that it is at. The rows of
        # all groups in the newest network are kept as well, so that groups at the same network share one build. Per
        # replica this takes the memory of two networks at most.
        self._current: dict[tuple[str, int], tuple[int, Rows]] = {}
        self._newest: dict[int, tuple[int, dict[str, Rows]]] = {}

    def is_empty(self, mask: Tensor) -> bool:
        """Return whether ``mask`` selects no unit."""
        return not bool(mask.any())

    def draw(self, group: UnitGroup, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return fresh incoming weights ``(R, D, ...)`` and biases ``(R, D)`` for the units in ``mask``; uses them up.

        Args:
            group: The group.
            mask: Boolean ``(R, D)``, true for at least one unit. Values for other units mean nothing.
        """
        counts = mask.sum(dim=1).tolist()
        parts = [self.look_ahead(group, replica, 0, count) for replica, count in enumerate(counts) if count]
        self.consume(group, counts)
        biases = [bias for _, bias in parts if bias is not None]
        rows = torch.cat([weight for weight, _ in parts])
        return _scatter(rows, mask), _scatter(torch.cat(biases), mask) if biases else None

    def look_ahead(self, group: UnitGroup, replica: int, skip: int, count: int) -> Rows:
        """Return a replica's next ``count`` rows (at least 1) after the first ``skip`` of them; uses up none."""
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        place = self._taken[group.name][replica] + skip
        end = place + count
        while place < end:
            k, start = divmod(place, group.size)
            stop = min(group.size, start + end - place)
            weight, bias = self._rows(group, replica, k)
            weights.append(weight[start:stop])
            if bias is not None:
                biases.append(bias[start:stop])
            place += stop - start
        return torch.cat(weights), torch.cat(biases) if biases else None

    def consume(self, group: UnitGroup, counts: Sequence[int]) -> None:
        """Count the next rows of a group as used, ``counts[r]`` of them in replica ``r``."""
        taken = self._taken[group.name]
        for replica, count in enumerate(counts):
            taken[replica] += count

    def _rows(self, group: UnitGroup, replica: int, k: int) -> Rows:
        """Return the rows of ``group`` in network ``k`` of ``replica``, building the network if it is not at hand."""
        current = self._current.get((group.name, replica))
        if current is None or current[0] != k:
            newest = self._newest.get(replica)
            if newest is None or newest[0] != k:
                network = self._build(self._generator_for(replica, k))
                rows = {
                    g.name: (network[g.weight].detach(), None if g.bias is None else network[g.bias].detach())
                    for g in self._groups
                }
                newest = self._newest[replica] = (k, rows)
            current = self._current[group.name, replica] = (k, newest[1][group.name])
        return current[1]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of rows handed out, int64 ``(R,)``, by name of the group."""
        return {name: torch.tensor(taken, dtype=torch.int64) for name, taken in self._taken.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``, so that the same rows come next.

        Raises:
            InvalidInputError: If ``state`` is of other groups or another number of replicas.
        """
        given = {name: tuple(taken.shape) for name, taken in state.items()}
        wanted = {name: (len(taken),) for name, taken in self._taken.items()}
        if given != wanted:
            raise InvalidInputError(
                f"the saved counts of fresh rows are for {given}, the network needs {wanted}; "
                "resume with the network and the replicas of the saved run"
            )
        self._taken = {name: state[name].tolist() for name in self._taken}


def _scatter(rows: Tensor, mask: Tensor) -> Tensor:
    """Return ``rows`` ``(M, ...)`` at the M true places of ``mask`` ``(R, D)``, replica by replica; zero elsewhere."""
    full = torch.zeros(*mask.shape, *rows.shape[1:], dtype=rows.dtype, device=mask.device)
    full[mask] = rows.to(mask.device)
    return full
