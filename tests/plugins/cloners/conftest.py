import pytest
import torch
from torch.nn import functional

from lopbench.core.spec import ComponentSpec

SHAPE = (3, 8, 8)


def component(kind, text):
    return ComponentSpec.parse(kind, text).build()


def randomise(module, seed=0):
    """Make every parameter and running statistic random, so that none keeps a value that hides an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor += 0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor += torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    return module


@pytest.fixture(scope="session")
def build():
    """Return a function that builds a float64 network with random parameters."""

    def network(text, shape=SHAPE):
        made = component("architectures", text).build(shape, 3, generator=torch.Generator().manual_seed(0))
        return randomise(made.double())

    return network


@pytest.fixture(scope="session")
def clone():
    """Return a function that clones a network by a cloner's text."""

    def cloned(network, text="interleave", factor=2, shape=SHAPE, seed=0):
        example = torch.zeros(2, *shape, dtype=next(network.parameters()).dtype)
        generator = torch.Generator().manual_seed(seed)
        return component("cloners", text).clone(network, factor, example=example, generator=generator)

    return cloned


@pytest.fixture(scope="session")
def batch():
    """Return a function that gives random inputs and classes."""

    def draw(shape=SHAPE, size=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(size, *shape, generator=generator, dtype=torch.float64)
        return x, torch.randint(3, (size,), generator=generator)

    return draw


@pytest.fixture(scope="session")
def train(batch):
    """Return a function that trains a network on a new batch at each step."""

    def run(network, optimizer, steps, shape=SHAPE):
        network.train()
        for step in range(steps):
            x, y = batch(shape, seed=step)
            optimizer.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            optimizer.step()

    return run
