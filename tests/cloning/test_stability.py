"""Stability: extreme curvatures against full Hessians, verdicts on constructed cases, what theory says of clones."""

from functools import reduce
from itertools import pairwise
from math import isnan, nan, prod

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

INTERLEAVE = Interleave()
#: Two pairs of clones; the unit normals are (1, -1, 0, 0) and (0, 0, 1, -1) over the root of two.
PAIRS = Profile({}, {}, {"w": (Partition.clones(2, 2),)})
NORMALS = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]], dtype=torch.float64) / 2**0.5


def clone(net, shape, cloner=INTERLEAVE, factor=2, seed=0):
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


def equations(axes, shape):
    """Return the equations of the equitable manifold for one parameter, ``(equations, entries)``, by its definition.

    Along each cloned axis, sums over the blocks of all other axes are the same for a unit and the next of its block.
    """
    parts = [p or Partition.identity(n) for p, n in zip(axes, shape, strict=True)]
    sums = [F.one_hot(p.index()).double().T.contiguous() for p in parts]
    found = [torch.zeros(0, prod(shape), dtype=torch.float64)]
    for axis, partition in enumerate(parts):
        order = sorted(range(len(partition)), key=lambda unit, p=partition: p.blocks[unit])
        unit = torch.eye(len(partition), dtype=torch.float64)
        pairs = [unit[i] - unit[j] for i, j in pairwise(order) if partition.blocks[i] == partition.blocks[j]]
        if pairs:
            found.append(reduce(torch.kron, [torch.stack(pairs) if i == axis else s for i, s in enumerate(sums)]))
    return torch.cat(found)


def curvatures(parameters, profile, loss):
    """Return all eigenvalues of the full Hessian restricted to the normal space, ascending."""
    names, sizes = list(parameters), [value.numel() for value in parameters.values()]

    def flat_loss(vector):
        return loss({n: p.view_as(parameters[n]) for n, p in zip(names, vector.split(sizes), strict=True)})

    point = torch.cat([value.reshape(-1) for value in parameters.values()])
    with sdpa_kernel(SDPBackend.MATH):
        hessian = torch.autograd.functional.hessian(flat_loss, point)
    normals = torch.block_diag(*(equations(profile.parameters[n], v.shape) for n, v in parameters.items()))
    _, values, right = torch.linalg.svd(normals, full_matrices=False)
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
        nn.Sequential(
            nn.Linear(2, 3), nn.TransformerEncoderLayer(3, 1, 2, 0.0, batch_first=True), nn.Flatten(), nn.Linear(9, 3)
        ),
        (3, 2),
    ),
}


@pytest.mark.parametrize("cloner", [Interleave(), Tile(), Equitable(strength=0.5)], ids=lambda cloner: cloner.name)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_extreme_curvatures_are_those_of_the_full_hessian(network, cloner):
    parameters, profile, loss = clone(*network(), cloner)
    expected = curvatures(parameters, profile, loss)
    found = normal_curvature(loss, parameters, profile, products=200, tolerance=1e-7)
    assert found.smallest == pytest.approx(expected[0].item(), rel=1e-6)
    assert found.largest == pytest.approx(expected[-1].item(), rel=1e-6)
    assert found.verdict == "saddle"


def test_three_clones_of_each_unit_are_served():
    parameters, profile, loss = clone(*mlp(activation="tanh"), factor=3)
    expected = curvatures(parameters, profile, loss)
    found = normal_curvature(loss, parameters, profile, products=200, tolerance=1e-7)
    assert (found.smallest, found.largest) == pytest.approx((expected[0].item(), expected[-1].item()), rel=1e-6)


@pytest.mark.parametrize("architecture", [ResNet18(base_width=2), ViT(width=4, depth=1, heads=2)], ids=lambda a: a.name)
def test_curvature_is_that_of_the_loss_along_a_line(architecture):
    # The Hessian of these networks is too large to be formed; take the direction, and look along it.
    net = architecture.build((3, 8, 8), 3, generator=rng.derive(0, "line"))
    parameters, profile, loss = clone(net, (3, 8, 8))
    found = normal_curvature(loss, parameters, profile)
    assert found.verdict == "saddle"
    generator = torch.Generator().manual_seed(1)
    noise = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in parameters.items()}
    normal = profile.equitable_residual(noise)
    length = torch.cat([v.reshape(-1) for v in normal.values()]).norm()

    def along(t):
        return loss({n: v + t * normal[n] / length for n, v in parameters.items()}).item()

    step = 1e-3
    curvature = (along(step) - 2 * along(0) + along(-step)) / step**2
    assert found.smallest - found.smallest_error <= curvature <= found.largest + found.largest_error


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (1.0, 2.0, "stable"),
        (-3.0, -0.5, "unstable"),
        (-1e-6, 4.0, "saddle"),
        (0.0, 1.0, "undecided"),
        (0.0, 0.0, "undecided"),
    ],
)
def test_constructed_curvatures_are_found_and_named(first, second, verdict):
    bowl = torch.tensor([first, second], dtype=torch.float64)

    def loss(parameters):  # with much curvature along the manifold, which is not asked for
        w = parameters["w"]
        return (bowl * (NORMALS @ w).square()).sum() / 2 - 50 * w.sum() ** 2 + w.sum() ** 3

    found = normal_curvature(loss, {"w": torch.tensor([1.0, 1.0, 3.0, 3.0])}, PAIRS)
    assert (found.smallest, found.largest) == pytest.approx((first, second), abs=1e-12)
    assert found.verdict == verdict
    assert found.products <= 2


@pytest.mark.parametrize(("share", "verdict"), [(1.1, "stable"), (0.9, "saddle"), (-0.9, "saddle"), (-1.1, "unstable")])
def test_a_penalty_beyond_the_curvature_makes_a_network_stable_or_unstable(share, verdict):
    parameters, profile, loss = clone(*mlp(activation="tanh"))
    plain = normal_curvature(loss, parameters, profile)
    shift = share * (-plain.smallest if share > 0 else plain.largest)  # what the penalty adds to every curvature

    def penalised(parameters):
        return loss(parameters) + shift / 2 * sum(value.square().sum() for value in parameters.values())

    found = normal_curvature(penalised, parameters, profile)
    assert found.verdict == verdict
    assert found.smallest == pytest.approx(plain.smallest + shift, abs=2e-3)
    assert found.largest == pytest.approx(plain.largest + shift, abs=2e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), activation=st.sampled_from(["relu", "tanh", "gelu"]))
def test_no_clone_is_strictly_stable_or_unstable(seed, activation):
    # Weights that read clones can be redistributed among them at no change of the function.
    parameters, profile, loss = clone(*mlp(seed, activation=activation, depth=1), seed=seed)
    found = normal_curvature(loss, parameters, profile)
    assert found.smallest <= found.smallest_error
    assert found.largest >= -found.largest_error
    assert found.verdict in ("saddle", "undecided")


def test_redistributing_weights_within_blocks_has_no_curvature():
    # The normals of the block-wise constant manifold that the equitable one does not have.
    parameters, profile, loss = clone(*mlp(activation="tanh"))
    noise = {n: torch.randn(v.shape, generator=rng.derive(0, n), dtype=torch.float64) for n, v in parameters.items()}
    constant, equitable = profile.residual(noise), profile.equitable_residual(noise)
    free = {n: (constant[n] - equitable[n]) for n in noise}
    assert free["layers.1.linear.weight"].norm() > 1
    _, product = torch.autograd.functional.hvp(
        lambda *values: loss(dict(zip(parameters, values, strict=True))),
        tuple(parameters.values()),
        tuple(free.values()),
    )
    assert max(part.abs().max() for part in product) < 1e-14


def test_a_saddle_is_left_at_the_rate_of_its_smallest_curvature():
    def loss(parameters):
        along = NORMALS @ parameters["w"]
        return (torch.tensor([-0.5, 2.0]) * along.square()).sum() / 2

    w = torch.tensor([1.0, 1.0, 3.0, 3.0], dtype=torch.float64) + 1e-6 * NORMALS.sum(0)
    found = normal_curvature(loss, {"w": w}, PAIRS)
    for _ in range(100):
        w = w.clone().requires_grad_()
        w = (w - 0.1 * torch.autograd.grad(loss({"w": w}), w)[0]).detach()
    assert PAIRS.residual({"w": w})["w"].norm() == pytest.approx(1e-6 * (1 - 0.1 * found.smallest) ** 100, rel=1e-6)


@pytest.mark.parametrize("products", range(1, 12))
def test_errors_bound_the_distance_from_an_eigenvalue(products):
    parameters, profile, loss = clone(*mlp(activation="tanh"))
    expected = curvatures(parameters, profile, loss)
    found = normal_curvature(loss, parameters, profile, products=products, tolerance=0)
    assert found.products == products
    assert expected[0] - 1e-12 <= found.smallest <= found.largest <= expected[-1] + 1e-12
    assert (expected - found.smallest).abs().min() <= found.smallest_error
    assert (expected - found.largest).abs().min() <= found.largest_error


def test_the_search_ends_when_the_tolerance_is_met():
    parameters, profile, loss = clone(*mlp(activation="tanh"))
    coarse, fine = (normal_curvature(loss, parameters, profile, tolerance=t) for t in (0.1, 1e-6))
    assert coarse.products < fine.products < 64
    assert fine.smallest_error <= 1e-6 * abs(fine.smallest)


def test_two_directions_of_either_sign_make_a_saddle_before_the_search_has_ended():
    found = NormalCurvature(-0.1, 3.0, 0.5, 0.5, rounding=1e-12, converged=False, products=3)
    assert found.verdict == "saddle"


@pytest.mark.parametrize(("smallest", "largest"), [(0.1, 3.0), (-3.0, -0.1), (-1e-13, 1e-13)])
def test_signs_within_the_errors_are_undecided(smallest, largest):
    assert (
        NormalCurvature(smallest, largest, 0.5, 0.5, rounding=1e-12, converged=True, products=3).verdict == "undecided"
    )


@pytest.mark.parametrize(("sign", "verdict"), [(1, "stable"), (-1, "unstable")])
def test_a_search_cut_short_finds_no_manifold_stable_or_unstable(sign, verdict):
    bowl = sign * torch.tensor([1.0, 1.1], dtype=torch.float64)

    def loss(parameters):
        return (bowl * (NORMALS @ parameters["w"]).square()).sum() / 2

    short, whole = (normal_curvature(loss, {"w": torch.ones(4)}, PAIRS, products=k) for k in (1, 2))
    assert abs(short.smallest) > short.smallest_error
    assert (short.converged, short.verdict) == (False, "undecided")
    assert (whole.converged, whole.verdict) == (True, verdict)


def test_dead_units_are_flat():
    parameters, profile, loss = clone(*mlp(depth=1))
    parameters["layers.0.linear.bias"] -= 100
    found = normal_curvature(loss, parameters, profile)
    assert (found.smallest, found.largest, found.verdict) == (0, 0, "undecided")


def test_off_the_manifold_its_nearest_point_counts():
    parameters, profile, loss = clone(*mlp(activation="tanh"))
    noise = {n: torch.randn(v.shape, generator=rng.derive(0, n), dtype=torch.float64) for n, v in parameters.items()}
    normal = profile.equitable_residual(noise)
    on = normal_curvature(loss, parameters, profile)
    off = normal_curvature(loss, {n: v + normal[n] for n, v in parameters.items()}, profile)
    assert (off.smallest, off.largest) == pytest.approx((on.smallest, on.largest), rel=1e-9)


def test_parameters_are_untouched_and_the_answer_is_the_same_again():
    parameters, profile, loss = clone(*mlp())
    copies = {name: value.clone() for name, value in parameters.items()}
    before = torch.get_rng_state()
    first = normal_curvature(loss, parameters, profile)
    assert normal_curvature(loss, parameters, profile) == first
    assert all(torch.equal(parameters[name], value) for name, value in copies.items())
    assert torch.equal(torch.get_rng_state(), before)


def test_single_precision_is_computed_in_double():
    seen = []

    def loss(parameters):
        seen.append(parameters["w"].dtype)
        return (NORMALS @ parameters["w"]).square().sum() / 2

    with torch.no_grad():
        assert normal_curvature(loss, {"w": torch.ones(4)}, PAIRS).verdict == "stable"
    assert set(seen) == {torch.float64}


def test_parameters_that_the_loss_does_not_bend_with_are_flat():
    profile = Profile({}, {}, {"w": PAIRS.parameters["w"], "linear": PAIRS.parameters["w"], "idle": (None,)})
    parameters = {"w": torch.ones(4), "linear": torch.ones(4), "idle": torch.ones(2)}
    found = normal_curvature(lambda p: (NORMALS @ p["w"]).square().sum() / 2 + p["linear"].sum(), parameters, profile)
    assert (found.smallest, found.largest) == pytest.approx((0, 1), abs=1e-12)
    assert normal_curvature(lambda p: p["w"].sum(), {"w": torch.ones(4)}, PAIRS).verdict == "undecided"


@pytest.mark.parametrize("bad", [nan, float("inf")])
def test_a_loss_that_is_not_finite_has_no_curvature(bad):
    found = normal_curvature(lambda p: (p["w"] ** 4).sum() * bad, {"w": torch.ones(4)}, PAIRS)
    assert isnan(found.smallest)
    assert isnan(found.largest)
    assert found.verdict == "undecided"


def test_a_network_without_clones_is_refused():
    parameters, profile, loss = clone(*mlp(), factor=1)
    with pytest.raises(UnsupportedError, match="factor of at least 2"):
        normal_curvature(loss, parameters, profile)


def test_the_profile_of_another_network_is_refused():
    with pytest.raises(InvalidInputError, match="another network"):
        normal_curvature(lambda p: p["v"].sum(), {"v": torch.ones(4)}, PAIRS)


@pytest.mark.parametrize("fields", [{"products": 0}, {"tolerance": -1e-3}, {"tolerance": nan}])
def test_numbers_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=str(*fields.values())):
        normal_curvature(lambda p: p["w"].sum(), {"w": torch.ones(4)}, PAIRS, **fields)
