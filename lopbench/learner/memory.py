"""What a method remembers, and where its random numbers come from."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, MutableMapping
from typing import Protocol

import torch
from torch import Generator, Tensor

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError

#: Prefix of the names of numbers on the host in a checkpoint.
_HOST = "host/"


class Noise(Protocol):
    """A source of random numbers of one method."""

    @property
    def generators(self) -> list[Generator]:
        """One per replica."""

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape ``(R, ...)`` of ``like``."""

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers uniform in [0, 1) of the shape ``(R, ...)`` of ``like``."""


class Generators:
    """Random numbers from one generator for each replica.

    Args:
        generators: The generators.
    """

    def __init__(self, generators: list[Generator]) -> None:
        self.generators = generators

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape ``(R, ...)`` of ``like``."""
        return rng.normal(like, self.generators)

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers uniform in [0, 1) of the shape ``(R, ...)`` of ``like``."""
        numbers = torch.empty_like(like, requires_grad=False)
        for row, generator in zip(numbers, self.generators, strict=True):
            row.uniform_(generator=generator)
        return numbers


class HostNumbers(UserDict[str, int | float]):
    """Numbers by name. Only those are accepted that a checkpoint can hold: floats, and whole numbers of 64 bits."""

    def __setitem__(self, key: str, value: int | float) -> None:
        _check_key("state.host", key)
        if not isinstance(value, int | float):
            raise InvalidInputError(
                f"state.host[{key!r}] must be a number, got {type(value).__name__}; tensors go into state[{key!r}]"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InvalidInputError(f"state.host[{key!r}]: a whole number must fit into 64 bits, signed; use a float")
        super().__setitem__(key, value)


class MethodState:
    """A method's own tensors, numbers on the host and random numbers. Implements the protocol ``State``.

    Args:
        noise: The source of random numbers.
        tensors: The tensors so far, by name; None for none.
        host: The numbers on the host so far, by name; None for none.
    """

    def __init__(
        self,
        noise: Noise,
        tensors: dict[str, Tensor] | None = None,
        host: MutableMapping[str, int | float] | None = None,
    ) -> None:
        self.noise = noise
        self.tensors: dict[str, Tensor] = {} if tensors is None else tensors
        self.host: MutableMapping[str, int | float] = HostNumbers() if host is None else host

    @property
    def generators(self) -> list[Generator]:
        """One per replica."""
        return self.noise.generators

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape ``(R, ...)`` of ``like``."""
        return self.noise.normal(like)

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers uniform in [0, 1) of the shape ``(R, ...)`` of ``like``."""
        return self.noise.uniform(like)

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        _check_key("state", key)
        if key.startswith(_HOST):
            raise InvalidInputError(f"state[{key!r}]: names that begin with {_HOST!r} are reserved; choose another")
        if not isinstance(value, Tensor):
            raise InvalidInputError(
                f"state[{key!r}] must be a tensor, got {type(value).__name__}; numbers on the host go into "
                f"state.host[{key!r}]"
            )
        # Detached, since a tensor with its autograd graph would keep all tensors of a step in memory.
        self.tensors[key] = value.detach()

    def __contains__(self, key: object) -> bool:
        return key in self.tensors

    def state_dict(self) -> dict[str, Tensor]:
        """Return tensors and numbers as named tensors. The names of numbers on the host begin with ``host/``."""
        host = {_HOST + key: _as_tensor(value) for key, value in self.host.items()}
        return {**self.tensors, **host}

    def load_state_dict(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore a copy of what `state_dict` returned."""
        self.host.clear()
        self.host.update({k.removeprefix(_HOST): v.item() for k, v in tensors.items() if k.startswith(_HOST)})
        self.tensors = {k: v.to(device, copy=True) for k, v in tensors.items() if not k.startswith(_HOST)}


def _check_key(what: str, key: object) -> None:
    if not isinstance(key, str) or not key.isprintable():
        raise InvalidInputError(f"{what}[{key!r}]: a name must be a text without control characters")


def _as_tensor(value: int | float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
