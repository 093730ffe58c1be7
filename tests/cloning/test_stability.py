"""Stability: extreme curvatures against full Hessians, verdicts on constructed cases, and what theory says of clones."""

from dataclasses import replace
from math import isnan, nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from lopbench.cloning.stability import NormalCurvature, normal_curvature
from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.profile import Partition, Profile
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.cloners.equitable import Equitable
from lopbench_plugins.cloners.interleave import Interleave
from lopbench_plugins.cloners.tile import Tile

#: Two pairs of clones; the unit normals are (1, -1, 0, 0) and (0, 0, 1, -1) over the root of two.
PAIRS = Profile({}, {}, {"w": (Partition.clones(2, 2),)})
NORMALS = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]], dtype=torch.float64) / 2**0.5


def clone(net, cloner, shape, factor=2, seed=0):
    """Return the parameters of a trained network's clone, its profile, and its loss on some data."""
    generator = rng.derive(seed, "stability test")
    net = net.double()
    x = torch.randn(12, *shape, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (12,), generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    example = torch.zeros(2, *shape, dtype=torch.float64)
    wide, profile = cloner.clone(net, factor, example=example, generator=generator)
    wide.eval()
    buffers = dict(wide.named_buffers())

    def loss(parameters):
        return F.cross_entropy(functional_call(wide, (dict(parameters), buffers), (x,)), y)

    return {name: value.detach() for name, value in wide.named_parameters()}, profile, loss


def mlp(seed=0, **fields):
    net = MLP(**{"width": 3, "depth": 2, **fields}).build((4,), 3, generator=rng.derive(seed, "mlp"))
    return net, (4,)


def constraints(profile, name, tensor):
    """Return the equations of the equitable manifold for one parameter, ``(equations, *tensor.shape)``, by definition.

    For each block of each cloned axis: sums over the blocks of the other axes differ by nothing from one to the next.
    """
    axes = profile.parameters[name]
    blocks = [torch.arange(n) if p is None else p.index() for n, p in zip(tensor.shape, axes, strict=True)]
    found = []
    for axis, partition in enumerate(axes):
        if partition is None:
            continue
        others = [torch.arange(int(b.max()) + 1) if i != axis else torch.zeros(1) for i, b in enumerate(blocks)]
        for first in range(len(partition)):
            for second in range(first + 1, len(partition)):
                if partition.blocks[first] != partition.blocks[second]:
                    continue
                for place in torch.cartesian_prod(*others).reshape(-1, len(axes)).long():
                    equation = torch.zeros_like(tensor)
                    for sign, unit in ((1, first), (-1, second)):
                        picks = [
                            (torch.arange(len(b)) == unit) if i == axis else b == place[i] for i, b in enumerate(blocks)
                        ]
                        index = torch.meshgrid(*[p.nonzero()[:, 0] for p in picks], indexing="ij")
                        equation[index] += sign
                    found.append(equation)
                break  # the next unit of the block; the rest follow
    return torch.stack(found) if found else tensor.new_zeros(0, *tensor.shape)


def curvatures(parameters, profile, loss):
    """Return all eigenvalues of the full Hessian restricted to the normal space, ascending."""
    names, sizes = list(parameters), [value.numel() for value in parameters.values()]

    def flat_loss(vector):
        return loss({n: p.view_as(parameters[n]) for n, p in zip(names, vector.split(sizes), strict=True)})

    point = torch.cat([value.reshape(-1) for value in parameters.values()])
    with sdpa_kernel(SDPBackend.MATH):
        hessian = torch.autograd.functional.hessian(flat_loss, point)
    normals, start = [], 0
    for name, size in zip(names, sizes, strict=True):
        equations = constraints(profile, name, parameters[name]).flatten(1)
        normals.append(F.pad(equations, (start, len(point) - start - size)))
        start += size
    left, values, right = torch.linalg.svd(torch.cat(normals), full_matrices=False)
    basis = right[values > 1e-9 * values[0]]
    return torch.linalg.eigvalsh(basis @ hessian @ basis.T)


NETWORKS = {
    "tanh": lambda: mlp(activation="tanh"),
    "relu": lambda: mlp(),
    "batch norm": lambda: mlp(normalization="batch"),
    "layer norm": lambda: mlp(normalization="layer", activation="gelu"),
    "convolution": lambda: (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(2, 3)),
        (1, 4, 4),
    ),
    "attention": lambda: (
        nn.Sequential(nn.TransformerEncoderLayer(2, 1, 2, 0.0, batch_first=True), nn.Flatten(), nn.Linear(6, 3)),
        (3, 2),
    ),
}


@pytest.mark.parametrize("cloner", [Interleave(), Tile(), Equitable(strength=0.5)], ids=lambda cloner: cloner.name)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_extreme_curvatures_are_those_of_the_full_hessian(network, cloner):
    parameters, profile, loss = clone(*reversed_cloner(network(), cloner))
    expected = curvatures(parameters, profile, loss)
    found = normal_curvature(loss, parameters, profile, products=200, tolerance=1e-7)
    assert found.smallest == pytest.approx(expected[0].item(), rel=1e-6)
    assert found.largest == pytest.approx(expected[-1].item(), rel=1e-6)
    assert found.verdict == "saddle"
