"""Hidden units in a stack of replicas, with the ``reset`` that every method uses to reset some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.learner.groups import Consumer, UnitGroup

if TYPE_CHECKING:
    from lopbench.learner.view import View


class Rows(Protocol):
    """A source of incoming weights for units that are reset: the rows of newly built networks, in order."""

    def is_empty(self, mask: Tensor) -> bool:
        """Return True if ``mask`` is known to select no unit, False if it selects some or a program cannot read it."""

    def draw(self, group: UnitGroup, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return fresh incoming weights ``(R, D, ...)`` and biases ``(R, D)`` for the units in ``mask``; uses them up.

        Values for other units mean nothing. The biases of a layer without biases are None.
        """


class StackUnits:
    """The units of one group in a stack of R replicas. Implements the protocol ``Units``.

    Args:
        group: Where the units are.
        view: The tensors in training, which `reset` changes in place.
        rows: Where fresh incoming weights come from.
    """

    def __init__(self, group: UnitGroup, view: View, rows: Rows) -> None:
        self.group = group
        self.name = group.name
        self.size = group.size
        self._view = view
        self._rows = rows

    @property
    def activation(self) -> Tensor:
        """What the outgoing weights multiplied in the last training step, ``(R, N, D)``, detached.

        With several consumers it is the input of the first one. In convolutions N counts samples x height x width, in
        transformers samples x tokens. If a linear layer reads a flattened feature map, N counts its positions as well.
        """
        read = self._view.read(self.group.read).detach()
        consumer = self.group.consumers[0]
        if self._view.parameters[consumer.weight].ndim > 3:  # a convolution: (R, B, D, ...)
            read = read.movedim(2, -1)
        elif consumer.expansion > 1:  # (R, B, D * expansion)
            read = torch.unflatten(read, -1, (self.size, consumer.expansion)).transpose(-1, -2)
        return read.reshape(read.shape[0], -1, self.size)

    def incoming(self) -> Tensor:
        """Return the incoming weights, biases left out, as a new tensor ``(R, D, fan_in)``."""
        return self._view.parameters[self.group.weight].flatten(2).clone()

    def outgoing(self) -> Tensor:
        """Return the outgoing weights of all consumers as a new tensor ``(R, D, fan_out)``."""
        columns = [self._outgoing_to(consumer) for consumer in self.group.consumers]
        # `clone` keeps the order in memory. `cat` would transpose it, at three times the cost.
        return columns[0].clone() if len(columns) == 1 else torch.cat(columns, dim=2)

    @torch.no_grad()
    def reset(
        self,
        mask: Tensor,
        *,
        bias: Literal["law", "zero"] = "law",
        transfer_mean: Tensor | None = None,
    ) -> None:
        """Make the units where ``mask`` is true as good as new, in place.

        Incoming weights are redrawn from the layer's own initialisation law. Outgoing columns become zero. In the norms
        of these channels, weights become 1, biases 0, running means 0 and running variances 1. The optimizer's state of
        exactly these entries is cleared. Its state of the consumers' biases stays.

        Args:
            mask: Units to reset, boolean ``(R, D)``.
            bias: Whether the bias is redrawn from the layer's law or set to zero.
            transfer_mean: Mean activation of each unit, ``(R, D)``. If given, what a reset unit contributes on average
                moves into the biases of the consumers. In convolutions it is what it contributes to positions that no
                padding touches. Entries outside ``mask`` are not used.

        Raises:
            InvalidInputError: If ``mask`` or ``transfer_mean`` has another shape, or ``mask`` is not boolean.
            UnsupportedError: If ``transfer_mean`` is given and a consumer has no bias. Nothing is changed then.
        """
        group, parameters, optimizer = self.group, self._view.parameters, self._view.optimizer
        shape = parameters[group.weight].shape[:2]
        if mask.shape != shape or mask.dtype != torch.bool:
            raise InvalidInputError(
                f"resetting units of {self.name} needs a boolean mask of shape {tuple(shape)}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if transfer_mean is not None:
            self._check_transfer(transfer_mean, shape)
        if self._rows.is_empty(mask):
            return
        if transfer_mean is not None:
            self._transfer(mask, transfer_mean)

        self._redraw(mask, bias)
        optimizer.clear(group.weight, mask.view(*shape, *[1] * (parameters[group.weight].ndim - 2)))
        if group.bias is not None:
            optimizer.clear(group.bias, mask)
        for norm in group.norms:
            for name, value in ((norm.weight, 1.0), (norm.bias, 0.0)):
                if name is not None:
                    parameters[name].masked_fill_(mask, value)
                    optimizer.clear(name, mask)
            for name, value in ((norm.running_mean, 0.0), (norm.running_var, 1.0)):
                if name is not None:
                    self._view.buffers[name].masked_fill_(mask, value)
        for consumer in group.consumers:
            self._erase(mask, consumer)
            columns = mask.repeat_interleave(consumer.expansion, dim=1).unsqueeze(1)  # (R, 1, D * expansion)
            ndim = parameters[consumer.weight].ndim
            optimizer.clear(consumer.weight, columns.view(*columns.shape, *[1] * (ndim - 3)))

    @torch.no_grad()
    def mix(self, share: Tensor) -> None:
        """Move each unit a share of the way to a new one, in place: a reset in part.

        Incoming weights become ``(1 - share) * w + share * fresh``, with ``fresh`` drawn from the layer's own
        initialisation law, and outgoing ones ``(1 - share) * w``. Biases, norms and the optimizer's state stay.

        Args:
            share: Share of each unit in [0, 1], ``(R, D)``. For a share of 0 nothing is changed or drawn.

        Raises:
            InvalidInputError: If ``share`` has another shape.
        """
        weight = self._view.parameters[self.group.weight]
        if share.shape != weight.shape[:2]:
            raise InvalidInputError(
                f"mixing units of {self.name} needs shares of shape {tuple(weight.shape[:2])}, got {tuple(share.shape)}"
            )
        mask = share > 0
        if self._rows.is_empty(mask):
            return
        fresh, _ = self._rows.draw(self.group, mask)
        weight.lerp_(fresh.to(weight), share.to(weight).view(*share.shape, *[1] * (weight.ndim - 2)))
        for consumer in self.group.consumers:
            columns = self._columns(consumer)  # (R, O, D, expansion, *kernel)
            columns.mul_((1 - share.to(weight)).view(len(share), 1, -1, *[1] * (columns.ndim - 3)))

    def _redraw(self, mask: Tensor, bias: Literal["law", "zero"]) -> None:
        """Give the masked units fresh incoming weights and biases."""
        weight = self._view.parameters[self.group.weight]
        fresh, biases = self._rows.draw(self.group, mask)
        weight.copy_(torch.where(mask.view(*mask.shape, *[1] * (weight.ndim - 2)), fresh.to(weight), weight))
        if self.group.bias is not None:
            old = self._view.parameters[self.group.bias]
            assert biases is not None  # the rows are of the same layers
            old.copy_(torch.where(mask, biases.to(old) if bias == "law" else 0.0, old))

    def _erase(self, mask: Tensor, consumer: Consumer) -> None:
        """Zero the weights with which ``consumer`` reads the masked units."""
        columns = self._columns(consumer)  # (R, O, D, expansion, *kernel)
        columns.masked_fill_(mask.unsqueeze(1).view(len(mask), 1, -1, *[1] * (columns.ndim - 3)), 0.0)

    def _columns(self, consumer: Consumer) -> Tensor:
        """Return a view ``(R, O, D, expansion, *kernel)`` of the weights that read the units."""
        return torch.unflatten(self._view.parameters[consumer.weight], 2, (self.size, consumer.expansion))

    def _outgoing_to(self, consumer: Consumer) -> Tensor:
        """Return the weights that read the units, ``(R, D, fan_out)``: one row for each unit; a view if possible."""
        weight = self._view.parameters[consumer.weight]
        if weight.ndim == 3 and consumer.expansion == 1:
            return weight.mT  # as below, in one call
        return self._columns(consumer).movedim(2, 1).flatten(2)

    def _check_transfer(self, mean: Tensor, shape: torch.Size) -> None:
        """Refuse means of another shape, and consumers without a bias to move them into."""
        if mean.shape != shape:
            raise InvalidInputError(
                f"transfer_mean for units of {self.name} needs shape {tuple(shape)}, got {tuple(mean.shape)}"
            )
        for consumer in self.group.consumers:
            if consumer.bias is None:
                raise UnsupportedError(
                    f"the mean of units of {self.name} cannot move into the bias of {consumer.module}, which has "
                    "none; reset without transferring the mean, or use a network whose layers have biases"
                )

    def _transfer(self, mask: Tensor, mean: Tensor) -> None:
        """Add to the biases of the consumers what the masked units contribute to their outputs on average."""
        # `where` and not a product: the mean of a unit that was never measured may be NaN.
        mean = torch.where(mask, mean, 0.0)
        for consumer in self.group.consumers:
            assert consumer.bias is not None  # checked before anything was changed
            bias = self._view.parameters[consumer.bias]
            moved = torch.einsum("rod,rd->ro", self._columns(consumer).flatten(3).sum(dim=3), mean.to(bias))
            bias.copy_(torch.where(mask.any(dim=1, keepdim=True), bias + moved, bias))
