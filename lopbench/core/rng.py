"""Named random streams: every consumer draws from its own generator, derived from ``(seed, names)``.

Adding a consumer shifts no other, and what draws from one stream cannot disturb another. Streams are drawn on the
CPU unless a device is named, so that devices agree.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on ``seed`` and the path ``names`` and on nothing else."""
    digest = hashlib.sha256("\x1f".join([str(seed), *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def derive(seed: int, *names: str | int, device: torch.device | str = "cpu") -> Generator:
    """Return a fresh generator for the stream ``names`` of ``seed``, as in ``derive(0, "data", "task", 3)``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


@contextmanager
def isolated(generator: Generator) -> Iterator[None]:
    """Let code that draws from torch's global generator draw from ``generator`` instead.

    ``generator`` advances by what is drawn, and the global state is as before afterwards. Needed for
    ``reset_parameters`` and dropout, which take no generator. The generator's device names the global stream.
    """
    if generator.device.type == "cuda":
        device = generator.device
        before = torch.cuda.get_rng_state(device)
        torch.cuda.set_rng_state(generator.get_state(), device)
        try:
            yield
        finally:
            generator.set_state(torch.cuda.get_rng_state(device))
            torch.cuda.set_rng_state(before, device)
    else:
        before = torch.get_rng_state()
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())
            torch.set_rng_state(before)


def normal(like: Tensor, generators: list[Generator]) -> Tensor:
    """Return standard normal noise of the shape ``(R, ...)`` of ``like``, row ``r`` drawn from ``generators[r]``."""
    noise = torch.empty_like(like, requires_grad=False)
    for row, generator in zip(noise, generators, strict=True):
        row.normal_(generator=generator)
    return noise
