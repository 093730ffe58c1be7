"""The built-in cloners: the function is kept, clones stay clones, and Theorem 2.1 holds on the larger manifold."""

import copy

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError
from lopbench.core.profile import Partition

MLP = "mlp:width=6,depth=3"
SMALL = {
    "mlp": MLP,
    "cnn": "cnn:channels=4/6,hidden=8",
    "resnet18": "resnet18:base_width=4",
    "vit": "vit:width=12,heads=3,depth=2,patch=4",
}
NORMS = ("none", "batch", "layer", "group")
NETWORKS = [
    pytest.param(f"{text},normalization={norm}", id=f"{a}-{norm}") for a, text in SMALL.items() for norm in NORMS
]
EXACT = ["interleave", "tile", "equitable"]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
}


def values(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def off_manifold(profile, parameters, manifold="residual"):
    """Return the largest deviation from a manifold, relative to the largest parameter of all."""
    largest = max(p.abs().max().item() for p in parameters.values())
    return max(r.abs().max().item() for r in getattr(profile, manifold)(parameters).values()) / largest


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("cloner", EXACT)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_clone_computes_the_function_of_the_base(build, clone, batch, network, cloner, factor):
    base = build(network)
    wide, profile = clone(base, cloner, factor)
    x, _ = batch()
    torch.testing.assert_close(wide.eval()(x), base.eval()(x), rtol=1e-12, atol=1e-12)
    manifold = "equitable_residual" if cloner == "equitable" else "residual"
    assert off_manifold(profile, values(wide), manifold) < 1e-14


@pytest.mark.parametrize("cloner", ["interleave", "tile", "equitable"])
@pytest.mark.parametrize("normalization", ["layer", "batch"])
def test_wider_heads_keep_the_function_too(build, clone, batch, normalization, cloner):
    base = build(f"{SMALL['vit']},normalization={normalization}")
    wide, _ = clone(base, f"{cloner}:heads=widen", 3)
    x, _ = batch()
    torch.testing.assert_close(wide.eval()(x), base.eval()(x), rtol=1e-12, atol=1e-12)
    assert (wide.blocks[0].attn.num_heads, wide.blocks[0].attn.head_dim) == (3, 12)


def test_heads_are_duplicated_by_default(build, clone):
    wide, _ = clone(build(SMALL["vit"]), "interleave", 3)
    assert (wide.blocks[0].attn.num_heads, wide.blocks[0].attn.head_dim) == (9, 4)


@pytest.mark.parametrize("cloner", ["interleave", "tile", "interleave:heads=widen"])
@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet18", "vit"])
def test_a_clone_of_a_clone_is_a_clone_of_the_first(build, clone, batch, network, cloner):
    base = build(f"{SMALL[network]},normalization=layer")
    once, first = clone(base, cloner, 2)
    twice, second = clone(once, cloner, 2)
    x, _ = batch()
    torch.testing.assert_close(twice.eval()(x), base.eval()(x), rtol=1e-12, atol=1e-12)
    profile = second.compose(first)
    assert off_manifold(profile, values(twice)) < 1e-14
    assert {4} <= {size for p in profile.outputs.values() for size in p.sizes} <= {1, 4}


@pytest.mark.parametrize("cloner", EXACT)
def test_units_of_a_block_have_equal_activations(build, clone, batch, cloner):
    wide, profile = clone(build(SMALL["cnn"]), cloner, 3)
    made = {}
    for name, module in wide.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: made.update({name: output.detach()}))
    wide(batch()[0])
    for name, partition in profile.outputs.items():
        axis = 1 if made[name].ndim == 4 else -1
        torch.testing.assert_close(partition.project(made[name], axis), made[name], rtol=1e-12, atol=1e-12)
    assert profile.outputs["fc.activation"].sizes == (3,) * 8


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cloner", ["interleave", "tile"])
def test_clones_stay_equal_for_200_steps(build, clone, train, cloner, optimizer):
    wide, profile = clone(build(f"{MLP},normalization=batch"), cloner, 3)
    before = values(wide)
    train(wide, OPTIMIZERS[optimizer](wide.parameters()), 200)
    assert off_manifold(profile, values(wide)) < 1e-9
    assert any((p - before[name]).abs().max() > 1e-2 for name, p in wide.named_parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equitable_clones_move_along_their_own_affine_manifold(build, clone, train, optimizer):
    # Theorem A.2(3): W(t) - W(0) is constant on blocks, whatever W(0) is.
    wide, profile = clone(build(MLP), "equitable", 3)
    before = values(wide)
    assert off_manifold(profile, before) > 0.1
    train(wide, OPTIMIZERS[optimizer](wide.parameters()), 200)
    moved = {name: p - before[name] for name, p in values(wide).items()}
    assert max(p.abs().max() for p in moved.values()) > 1e-2
    assert off_manifold(profile, moved) < 1e-9


@pytest.mark.parametrize("network", NETWORKS)
def test_clones_of_every_network_stay_equal_under_adam(build, clone, train, network):
    wide, profile = clone(build(network), "interleave", 2)
    train(wide, torch.optim.Adam(wide.parameters(), lr=1e-3), 8)
    assert off_manifold(profile, values(wide)) < 1e-9


@pytest.mark.parametrize("cloner", ["interleave:heads=widen", "equitable", "equitable:heads=widen"])
def test_attention_stays_cloned_in_training(build, clone, train, cloner):
    wide, profile = clone(build(SMALL["vit"]), cloner, 2)
    train(wide, torch.optim.SGD(wide.parameters(), lr=0.05, momentum=0.9), 20)
    assert off_manifold(profile, values(wide), "equitable_residual") < 1e-12


def test_weight_decay_keeps_clones_of_equal_weights(build, clone, train):
    # Remark A.4: it acts on each parameter by itself, and equal ones stay equal.
    wide, profile = clone(build(MLP), "interleave", 3)
    train(wide, torch.optim.Adam(wide.parameters(), lr=1e-2, weight_decay=0.1), 100)
    assert off_manifold(profile, values(wide)) < 1e-9


def test_weight_decay_shrinks_equitable_clones_towards_equal_weights(build, clone, train):
    # Decay in SGD scales all weights alike, which keeps equal sums equal but leaves the affine manifold of W(0).
    wide, profile = clone(build(MLP), "equitable", 3)
    before = profile.residual(values(wide))["layers.1.linear.weight"]
    train(wide, torch.optim.SGD(wide.parameters(), lr=0.05, weight_decay=0.1), 100)
    after = profile.residual(values(wide))["layers.1.linear.weight"]
    torch.testing.assert_close(after, before * (1 - 0.05 * 0.1) ** 100, rtol=1e-9, atol=1e-12)
    assert off_manifold(profile, values(wide), "equitable_residual") < 1e-12


def test_weight_decay_inside_adam_breaks_equitable_clones(build, clone, train):
    # Remark A.4: Adam divides by what has the decay in it, and sums are no longer equal.
    wide, profile = clone(build(MLP), "equitable", 3)
    train(wide, torch.optim.Adam(wide.parameters(), lr=1e-2, weight_decay=0.1), 20)
    assert off_manifold(profile, values(wide), "equitable_residual") > 1e-3
    decoupled, profile = clone(build(MLP), "equitable", 3)
    train(decoupled, torch.optim.AdamW(decoupled.parameters(), lr=1e-2, weight_decay=0.1), 20)
    assert off_manifold(profile, values(decoupled), "equitable_residual") < 1e-9


def test_dropout_tells_clones_apart(build, clone, train):
    # Remark A.4: every clone has a mask of its own.
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        wide, profile = clone(build(f"{MLP},dropout=0.2"), "interleave", 2)
        train(wide, torch.optim.SGD(wide.parameters(), lr=0.05), 20)
    assert off_manifold(profile, values(wide)) > 1e-3


def test_an_optimizer_whose_state_differs_between_clones_tells_them_apart(build, clone, train):
    # Remark A.4 asks for tied states; noise in Adam's second moment is enough to break the symmetry.
    wide, profile = clone(build(MLP), "interleave", 2)
    optimizer = torch.optim.Adam(wide.parameters(), lr=1e-2)
    train(wide, optimizer, 1)
    for state in optimizer.state.values():
        state["exp_avg_sq"].mul_(1 + torch.rand(state["exp_avg_sq"].shape, generator=torch.Generator().manual_seed(0)))
    train(wide, optimizer, 5)
    assert off_manifold(profile, values(wide)) > 1e-4


@pytest.mark.parametrize("cloner", ["interleave", "tile"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_clone_under_sgd_is_the_base_under_rates_of_each_parameter_s_own(build, clone, train, batch, factor, cloner):
    # A clone by E at rate eta is the base at eta/E (first layer), eta (hidden weights), eta/E (hidden biases),
    # E eta (the head's weights) and eta (the head's bias): summed over a block, E gradients of 1/E each move the
    # weights that a base weight stands for, 1, E or E^2 of them, of which each sums to it divided by 1 or E.
    base = build(MLP)
    wide, _ = clone(base, cloner, factor)
    eta = 0.05
    rates = {"layers.0": (eta / factor, eta / factor), "out": (eta * factor, eta)}
    groups = []
    for name, parameter in base.named_parameters():
        weight, bias = next((r for start, r in rates.items() if name.startswith(start)), (eta, eta / factor))
        groups.append({"params": [parameter], "lr": weight if name.endswith("weight") else bias})
    train(base, torch.optim.SGD(groups, lr=0.0), 200)
    train(wide, torch.optim.SGD(wide.parameters(), lr=eta), 200)
    x, _ = batch(seed=999)
    torch.testing.assert_close(wide(x), base(x), rtol=1e-12, atol=1e-12)


TIMM = {"resnet18": 32, "vit_tiny_patch16_224": 32, "convnext_atto": 32, "test_vit": 32}


@pytest.mark.parametrize("cloner", ["interleave", "tile"])
@pytest.mark.parametrize("model", TIMM)
def test_models_of_timm_keep_their_function(build, clone, batch, model, cloner):
    shape = (3, TIMM[model], TIMM[model])
    base = build(f"timm:{model}", shape)
    wide, _ = clone(base, cloner, 2, shape)
    x, _ = batch(shape, size=1)
    torch.testing.assert_close(wide.eval()(x), base.eval()(x), rtol=1e-10, atol=1e-10)


@pytest.fixture
def mixer():
    """A small relative of mixer_s32_224: an MLP-Mixer of timm of two blocks of width 8 on 4x4 patches."""
    from timm.models.mlp_mixer import MlpMixer

    network = MlpMixer(num_classes=3, img_size=8, patch_size=4, num_blocks=2, embed_dim=8).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


@pytest.mark.parametrize("cloner", ["interleave", "tile", "equitable"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_mixer_keeps_its_function_and_its_clones(mixer, clone, batch, train, cloner, factor):
    wide, profile = clone(mixer, cloner, factor)
    x, _ = batch()
    torch.testing.assert_close(wide.eval()(x), mixer.eval()(x), rtol=1e-12, atol=1e-12)
    assert profile.outputs["blocks.0.mlp_tokens.fc2"].trivial  # tokens are no units
    assert profile.outputs["blocks.0.mlp_tokens.fc1"] == Partition.clones(4, factor, 4 if cloner == "tile" else 1)
    train(wide, torch.optim.Adam(wide.parameters(), lr=1e-3), 10)
    assert off_manifold(profile, values(wide), "equitable_residual") < 1e-9


def test_layouts_are_side_by_side_and_one_after_another(build, clone):
    _, interleaved = clone(build(MLP), "interleave", 2)
    _, tiled = clone(build(MLP), "tile", 2)
    assert interleaved.outputs["layers.0.linear"].blocks == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    assert tiled.outputs["layers.0.linear"].blocks == (0, 1, 2, 3, 4, 5) * 2


def test_interleave_keeps_the_number_of_groups_and_tile_multiplies_it(build, clone):
    network = "resnet18:base_width=8,normalization=group"
    base = build(network)
    assert base.stem.norm.num_groups == 4
    assert clone(base, "interleave")[0].stem.norm.num_groups == 4
    assert clone(base, "tile")[0].stem.norm.num_groups == 8


def test_equitable_of_strength_zero_is_interleave_and_of_more_has_the_strength_asked_for(build, clone):
    base = build(MLP)
    plain, _ = clone(base, "interleave", 3)
    still, _ = clone(base, "equitable:strength=0", 3)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), still.parameters(), strict=True))
    moved, _ = clone(base, "equitable:strength=0.5", 3)
    for name, weight in values(plain).items():
        change = moved.get_parameter(name) - weight
        free = name in ("layers.1.linear.weight", "layers.2.linear.weight")
        expected = 0.5 * weight.square().mean().sqrt() if free else 0.0
        assert change.square().mean().sqrt().item() == pytest.approx(float(expected), rel=1e-12)


def test_noise_has_the_size_asked_for_and_spares_what_is_not_cloned(build, clone):
    base = build("mlp:width=64,depth=2")
    plain, profile = clone(base, "interleave")
    noisy, same = clone(base, "noisy:strength=0.1")
    assert same == profile
    for name, weight in values(plain).items():
        size = (noisy.get_parameter(name) - weight).square().mean().sqrt() / weight.square().mean().sqrt()
        assert size.item() == (0 if name == "out.bias" else pytest.approx(0.1, rel=0.25))
    still, _ = clone(base, "noisy:strength=0")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), still.parameters(), strict=True))


@pytest.mark.parametrize("cloner", ["equitable", "noisy"])
def test_draws_come_from_the_generator_alone(build, clone, cloner):
    base = build(MLP)
    state = torch.get_rng_state()
    first, again, other = (list(clone(base, cloner, seed=seed)[0].parameters()) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_base_is_left_as_it_is(build, clone):
    base = build(SMALL["vit"])
    before = copy.deepcopy(base.state_dict())
    attributes = {name: dict(vars(m)) for name, m in base.named_modules() if isinstance(m, nn.Linear)}
    clone(base, "equitable:heads=widen")
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    for name, module in base.named_modules():
        if name in attributes:
            assert module.in_features == attributes[name]["in_features"]
    assert base.blocks[0].attn.num_heads == 3


@pytest.mark.parametrize("text", ["interleave:heads=double", "tile:heads=x"])
def test_unknown_ways_to_clone_heads_are_refused(clone, text):
    with pytest.raises(Exception, match="duplicate"):
        clone(nn.Linear(2, 2), text)


@pytest.mark.parametrize("strength", ["-1", "-0.1"])
@pytest.mark.parametrize("cloner", ["equitable", "noisy"])
def test_negative_strengths_are_refused(clone, cloner, strength):
    with pytest.raises(InvalidInputError, match=f"got {float(strength)}"):
        clone(nn.Linear(2, 2), f"{cloner}:strength={strength}")
