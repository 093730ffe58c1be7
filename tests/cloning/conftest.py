import pytest
import torch

from lopbench.cloning.widen import widen_network


def randomise(module, seed=0):
    """Make all parameters and buffers of a float64 network random, so that none keeps a value that hides an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor += 0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor += torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    return module


@pytest.fixture(autouse=True)
def seeded():
    """Build the same networks in every run."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def widened():
    """Return a function that clones a network, checks its function to 1e-12, and gives clone and profile."""

    def clone(module, shape, factor=2, layout="interleave", heads="duplicate", x=None):
        module = randomise(module.double())
        example = torch.zeros(2, *shape, dtype=torch.float64) if x is None else torch.zeros_like(x)
        wide, profile = widen_network(module, factor, example=example, layout=layout, heads=heads)
        if x is None:
            x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        module.eval()
        wide.eval()
        with torch.enable_grad():
            torch.testing.assert_close(wide(x), module(x), rtol=1e-12, atol=1e-12)
        assert all(r.abs().max() < 1e-15 for r in profile.residual(dict(wide.named_parameters())).values())
        return wide, profile

    return clone
