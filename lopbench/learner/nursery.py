"""Builds the networks of a stack, at its start and when something is drawn anew, and finds their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import Perturbation, State
from lopbench.learner.changes import Watch, versions_of
from lopbench.learner.discovery import Discovery, discover
from lopbench.learner.fresh import FreshPool
from lopbench.learner.groups import UnitGroup
from lopbench.learner.hooks import in_words, naming

Build = Callable[[Generator], nn.Module]


class Nursery:
    """Builds networks as the methods configure them.

    Args:
        base: Makes one network from a generator.
        methods: The methods. Those that are on may change each network (hook ``configure``).
        seeds: Seed of each replica.
        example: A batch of the stream's inputs, ``(N, *input_shape)``, on the device, in the type of the run.
        dtype: Type of parameters.
        tokens: Whether inputs are whole numbers that are never cast.
    """

    def __init__(
        self,
        base: Build,
        methods: Sequence[Perturbation],
        seeds: Sequence[int],
        *,
        example: Tensor,
        dtype: torch.dtype,
        tokens: bool,
    ) -> None:
        self._base = base
        self._methods = tuple(methods)
        self._seeds = tuple(seeds)
        self._example = example
        self._dtype = dtype
        self._tokens = tokens
        self._discovery: Discovery | None = None
        self._pool: FreshPool | None = None
        self._idle: set[int] = set()  #: Indices of methods whose hook left a network as it was.

    @property
    def built_in(self) -> list[Perturbation]:
        """The methods that are on and change networks when these are built."""
        return [m for place, m in enumerate(self._methods) if _configures(m) and place not in self._idle]

    def build(self, generator: Generator) -> nn.Module:
        """Return a new network, with the changes that methods build in.

        The base network draws from ``generator`` first. So it is the same whatever the methods draw.

        Raises:
            UnsupportedError: If a method cannot serve the network, or the network cannot take the stream.
        """
        module = self._base(generator).to(dtype=self._dtype)
        if self._tokens and not any(isinstance(m, nn.Embedding) for m in module.modules()):
            raise UnsupportedError(
                f"the stream is of tokens, and {type(module).__name__} has no embedding to take them; choose an "
                "architecture for tokens"
            )
        example = torch.zeros(2, *self._example.shape[1:], dtype=self._example.dtype)
        for place, method in enumerate(self._methods):
            if _configures(method):
                watching = Watch(partial(versions_of, module), module).watching()
                with naming(method, "configure"), left_alone(), watching as watch:
                    configured = method.configure(module, example=example, generator=generator)
                    if not isinstance(configured, nn.Module):
                        raise InvalidInputError(f"it must return the network, got {in_words(configured)}")
                if configured is module and not watch.changed:
                    self._idle.add(place)
                module = configured
        return module.to(device=self._example.device, dtype=self._dtype)

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from a method's own stream."""
        networks = []
        for generator in state.generators:
            draw = int(torch.randint(2**62, (), generator=generator, device=generator.device).item())
            networks.append(dict(self.build(torch.Generator().manual_seed(draw)).named_parameters()))
        return {name: torch.stack([network[name].detach() for network in networks]) for name in networks[0]}

    def groups(self, module: nn.Module) -> tuple[UnitGroup, ...]:
        """Return the groups of units of ``module`` that a method may reset.

        Raises:
            UnsupportedError: If it has none.
        """
        if self._discovery is None:
            with torch._C.DisableTorchFunction():  # a trial of the network is no change by a method
                self._discovery = discover(module, self._example)
        if not self._discovery.groups:
            raise UnsupportedError(self._discovery.refusal)
        return self._discovery.groups

    @property
    def has_groups(self) -> bool:
        """Whether units were asked for."""
        return self._discovery is not None

    @property
    def has_rows(self) -> bool:
        """Whether fresh rows were asked for."""
        return self._pool is not None

    def rows(self, module: nn.Module) -> FreshPool:
        """Return the source of incoming weights for units that are reset."""
        if self._pool is None:
            self._pool = FreshPool(
                build=lambda generator: dict(self.build(generator).named_parameters()),
                generator_for=lambda replica, k: rng.derive(self._seeds[replica], "reset", k),
                groups=self.groups(module),
                replicas=len(self._seeds),
            )
        return self._pool


def _configures(method: Perturbation) -> bool:
    """Return whether a method is on and may change networks when these are built."""
    return method.active and method.has("configure")
