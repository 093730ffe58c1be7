"""Widening: every kind of layer and of wiring, and what is refused by name."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from lopbench.cloning.widen import widen_network
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.profile import Partition

BOTH = pytest.mark.parametrize("layout", ["interleave", "tile"])
FACTORS = pytest.mark.parametrize("factor", [2, 3])


class Lambda(nn.Module):
    """Children by name, and a forward pass over them."""

    def __init__(self, forward, **children):
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)
        self.body = forward

    def forward(self, x):
        return self.body(self, x)


def conv(*arguments, **keywords):
    return nn.Conv2d(*arguments, kernel_size=3, padding=1, **keywords)


def image_net(*middle, channels=6):
    return nn.Sequential(conv(3, channels), nn.GELU(), *middle, nn.Flatten(), nn.LazyLinear(4))


def built(module, shape=(3, 4, 4)):
    module(torch.zeros(2, *shape))
    return module


@BOTH
@FACTORS
@pytest.mark.parametrize(
    "middle",
    [
        pytest.param([conv(6, 9, groups=3), nn.Tanh()], id="grouped"),
        pytest.param([conv(6, 6, groups=6), nn.Tanh(), nn.Conv2d(6, 5, 1)], id="depthwise"),
        pytest.param([conv(6, 12, groups=6), nn.Tanh()], id="depthwise with two outputs each"),
        pytest.param([nn.BatchNorm2d(6), nn.PReLU(6)], id="batch norm, prelu of each channel"),
        pytest.param([nn.GroupNorm(3, 6), nn.PReLU()], id="group norm, one prelu"),
        pytest.param([nn.GroupNorm(1, 6), nn.MaxPool2d(2)], id="group norm of one group, pooling"),
        pytest.param([nn.InstanceNorm2d(6, affine=True, track_running_stats=True)], id="instance norm"),
        pytest.param([nn.LayerNorm([6, 4, 4])], id="layer norm over three axes"),
        pytest.param([nn.BatchNorm2d(6, affine=False)], id="batch norm without scale"),
        pytest.param([nn.Conv2d(6, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1)], id="no bias"),
        pytest.param([nn.PixelShuffle(1), nn.Upsample(scale_factor=2)], id="shuffle and upsample"),
    ],
)
def test_layers_on_images(widened, middle, factor, layout):
    widened(built(copy.deepcopy(image_net(*middle))), (3, 4, 4), factor, layout)


@BOTH
@FACTORS
@pytest.mark.parametrize(
    "middle",
    [
        pytest.param([nn.LayerNorm(8), nn.ReLU()], id="layer norm"),
        pytest.param([nn.RMSNorm(8), nn.SiLU()], id="rms norm"),
        pytest.param([nn.BatchNorm1d(8), nn.Softplus()], id="batch norm"),
    ],
)
def test_layers_on_vectors(widened, middle, factor, layout):
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), *copy.deepcopy(middle), nn.LazyLinear(3))
    widened(built(network, (5,)), (5,), factor, layout)


@BOTH
@FACTORS
def test_embeddings_and_convolutions_over_time(widened, factor, layout):
    network = Lambda(
        lambda self, x: self.out(functional.gelu(self.conv(self.embed(x).transpose(1, 2))).mean(-1)),
        embed=nn.Embedding(7, 4),
        conv=nn.Conv1d(4, 6, 3),
        out=nn.Linear(6, 2),
    )
    wide, profile = widened(network, (5,), factor, layout, x=torch.tensor([[0, 1, 2, 3, 4], [6, 5, 4, 3, 2]]))
    assert wide.embed.weight.shape == (7, 4 * factor)
    assert profile.parameters["embed.weight"][0] is None


@BOTH
@FACTORS
def test_attention_of_torch(widened, factor, layout):
    network = Lambda(
        lambda self, x: self.head(self.block(self.embed(x)).mean(1)),
        embed=nn.Linear(5, 8),
        block=nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True),
        head=nn.Linear(8, 3),
    )
    wide, _ = widened(network, (4, 5), factor, layout)
    assert wide.block.self_attn.num_heads == 2 * factor


def test_wider_heads_of_torch_are_refused():
    network = nn.Sequential(
        nn.Linear(5, 8), nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Flatten(), nn.Linear(32, 3)
    )
    with pytest.raises(UnsupportedError, match="heads=duplicate"):
        widen_network(network, 2, example=torch.zeros(2, 4, 5), layout="interleave", heads="widen")


class Attention(nn.Module):
    """Attention with queries, keys and values of layers of their own."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = (f(x).view(n, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


@BOTH
@FACTORS
@pytest.mark.parametrize("heads", ["duplicate", "widen"])
def test_attention_of_one_s_own(widened, heads, factor, layout):
    network = nn.Sequential(nn.Linear(5, 12), Attention(12, 3), nn.Flatten(), nn.Linear(48, 3))
    wide, profile = widened(network, (4, 5), factor, layout, heads)
    chunk = {"interleave": {"duplicate": 4, "widen": 1}, "tile": {"duplicate": 12, "widen": 4}}[layout][heads]
    assert profile.outputs["1.q"] == Partition.clones(12, factor, chunk)
    assert (wide[1].heads, wide[1].scale) == ((3 * factor, 0.5) if heads == "duplicate" else (3, 0.5 / factor))


@BOTH
@FACTORS
def test_skips_from_the_input_give_blocks_of_unequal_size(widened, factor, layout):
    network = Lambda(
        lambda self, x: self.out(functional.relu(self.mix(torch.cat([x, self.conv(x)], 1))).mean((-1, -2))),
        conv=conv(3, 4),
        mix=conv(7, 5),
        out=nn.Linear(5, 2),
    )
    _, profile = widened(network, (3, 4, 4), factor, layout)
    assert profile.inputs["mix"].sizes == (1, 1, 1, *[factor] * 4)


@BOTH
def test_residuals_gates_and_bare_parameters(widened, layout):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv, self.gate = conv(3, 4), conv(4, 4), nn.Linear(4, 4)
            self.scale, self.shift = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4, 1, 1))
            self.temperature = nn.Parameter(torch.ones(1))
            self.spatial = nn.Conv2d(4, 1, 1)  # one channel, which gates all
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.conv(x.relu()) * self.scale.reshape(1, -1, 1, 1) + self.shift
            x = x * self.gate(x.mean((-1, -2))).sigmoid()[:, :, None, None] * self.temperature
            return self.out((x * self.spatial(x).sigmoid()).mean((-1, -2)))

    wide, profile = widened(Net(), (3, 4, 4), 2, layout)
    assert wide.scale.shape == (8,)
    assert wide.shift.shape == (8, 1, 1)
    assert wide.temperature.shape == (1,)
    assert wide.spatial.weight.shape == (1, 8, 1, 1)
    assert profile.parameters["temperature"] == (None,)


@BOTH
def test_class_token_and_positions_grow_along_their_channels(widened, layout):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            # As many tokens as channels, so that sizes do not tell the axes apart.
            self.token, self.positions = nn.Parameter(torch.zeros(1, 1, 4)), nn.Parameter(torch.zeros(1, 4, 4))
            self.embed, self.out = nn.Linear(5, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1) + self.positions
            return self.out(functional.layer_norm(x.relu(), x.shape[-1:])[:, 0])

    wide, _ = widened(Net(), (3, 5), 3, layout)
    assert wide.token.shape == (1, 1, 12)
    assert wide.positions.shape == (1, 4, 12)


def test_layers_that_mix_tokens_keep_the_number_of_tokens_and_clone_what_is_between(widened):
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.up, self.down, self.out = (
                nn.Linear(5, 4),
                nn.Linear(3, 6),
                nn.Linear(6, 3),
                nn.Linear(4, 2),
            )

        def forward(self, x):
            x = self.embed(x)
            x = x + self.down(functional.gelu(self.up(x.transpose(1, 2)))).transpose(1, 2)
            return self.out(x.mean(1))

    wide, profile = widened(Mixer(), (3, 5))
    assert wide.up.weight.shape == (12, 3)
    assert wide.down.weight.shape == (3, 12)
    assert profile.outputs["down"].trivial


def test_layers_called_twice_are_widened_once(widened):
    shared = nn.Linear(4, 4)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(4, 2))
    wide, _ = widened(network, (3,))
    assert wide[2] is wide[4]


@FACTORS
def test_a_flatten_puts_each_pixel_of_each_clone_where_it_is_read(widened, factor):
    wide, profile = widened(built(image_net()), (3, 4, 4), factor)
    assert profile.inputs["3"] == Partition.clones(96, factor, 16)
    assert profile.outputs["2"] == profile.inputs["3"]
    assert wide[3].in_features == 96 * factor


def test_inputs_and_outputs_are_not_cloned(widened):
    _, profile = widened(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (3,))
    assert profile.inputs["0"].trivial
    assert profile.outputs["2"].trivial
    assert profile.inputs[""] == Partition.identity(3)
    assert profile.outputs["1"] == profile.inputs["2"] == Partition.clones(4, 2)
    assert profile.parameters["0.weight"] == (Partition.clones(4, 2), None)


def test_the_base_and_the_global_random_state_are_left_alone():
    network = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    hooks = [len(m._forward_hooks) for m in network.modules()]
    wide, _ = widen_network(network, 2, example=torch.zeros(2, 3, 4, 4), layout="interleave")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(m._forward_hooks) for m in network.modules()] == hooks
    assert [len(m._forward_hooks) for m in wide.modules()] == hooks
    assert network.training
    assert wide.training
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    assert not {id(p) for p in wide.parameters()} & {id(p) for p in network.parameters()}


def test_what_needs_no_gradient_still_needs_none():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    wide, _ = widen_network(network, 2, example=torch.zeros(2, 3), layout="interleave")
    assert [p.requires_grad for p in wide.parameters()] == [False, False, True, True]


def tied():
    network = nn.Sequential(nn.Embedding(5, 4), nn.ReLU(), nn.Linear(4, 5, bias=False))
    network[2].weight = network[0].weight
    return network


def recurrent():
    return Lambda(lambda self, x: self.out(self.lstm(x)[0]), lstm=nn.LSTM(3, 4), out=nn.Linear(4, 2))


REFUSED = {
    "recurrent": (recurrent(), r"^lstm \(LSTM\) cannot be cloned: no rule"),
    "tied": (tied(), r"0\.weight and 2\.weight are one parameter"),
    "softmax over channels": (
        nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2)),
        r"^2 \(Linear\).*between 0 and it something mixes channels",
    ),
    "width written in": (
        Lambda(lambda self, x: self.out(self.conv(x).view(-1, 64)), conv=conv(3, 4), out=nn.Linear(64, 2)),
        r"\(Lambda\) cannot be cloned: the output has shape \(4, 2\)",
    ),
    "reshape to a width": (
        nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (8, 1)), nn.Conv1d(8, 5, 1), nn.Flatten(), nn.Linear(5, 2)),
        r"^1 \(Unflatten\)",
    ),
    "neighbours": (
        nn.Sequential(conv(3, 4), nn.LocalResponseNorm(3), nn.Flatten(), nn.Linear(64, 2)),
        r"^3 \(Linear\).*between 0",
    ),
    "uncalled": (
        Lambda(lambda self, x: self.out(x), out=nn.Linear(3, 2), spare=nn.Linear(3, 2)),
        r"^spare \(Linear\).*never calls",
    ),
    "computed weight": (
        nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)),
        r"^0 \(ParametrizedLinear\).*parametrisation",
    ),
    "matrix of one's own": (
        Lambda(
            lambda self, x: self.out(self.linear(x) @ self.matrix),
            linear=nn.Linear(3, 4),
            matrix=nn.Parameter(torch.ones(4, 4)),
            out=nn.Linear(4, 2),
        ),
        r"\(Lambda\)|^out",
    ),
    "norm over unequal blocks": (
        Lambda(
            lambda self, x: self.out(self.norm(torch.cat([x, self.linear(x)], -1))),
            linear=nn.Linear(3, 4),
            norm=nn.LayerNorm(7),
            out=nn.Linear(7, 2),
        ),
        r"^norm \(LayerNorm\).*different numbers of clones",
    ),
    "two outputs": (Lambda(lambda self, x: (self.a(x), x), a=nn.Linear(3, 2)), "returns tuple"),
    "renormalised embedding": (nn.Sequential(nn.Embedding(5, 4, max_norm=1.0), nn.Linear(4, 2)), r"^0 \(Embedding\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_by_name(case):
    network, message = REFUSED[case]
    shape = (2, 3, 4, 4) if any(isinstance(m, nn.Conv2d) for m in network.modules()) else (2, 3)
    tokens = any(isinstance(m, nn.Embedding) for m in network.modules())
    example = torch.zeros(shape, dtype=torch.int64 if tokens else torch.float32)
    with pytest.raises(UnsupportedError, match=message):
        widen_network(network, 2, example=example, layout="interleave")


def test_a_layer_scale_of_a_shape_of_its_own_is_refused_and_not_worked_around():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.shape = nn.Parameter(torch.ones(4)), (4, 1, 1)

        def forward(self, x):
            return x * self.scale.view(self.shape)

    network = nn.Sequential(conv(3, 4), Scale(), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(UnsupportedError, match=r"^1 \(Scale\)"):
        widen_network(network, 2, example=torch.zeros(2, 3, 4, 4), layout="interleave")


def test_a_layer_that_does_not_follow_its_kind_s_rule_is_named_by_the_final_check():
    class Squared(nn.Linear):
        def forward(self, x):
            return functional.linear(x, self.weight**2, self.bias)

    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Squared(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(UnsupportedError, match=r"^2 \(Squared\).*first whose output differs"):
        widen_network(network, 2, example=torch.zeros(2, 3), layout="interleave")


def test_a_head_of_zeros_hides_no_error():
    class Squared(nn.Linear):
        def forward(self, x):
            return functional.linear(x, self.weight**2, self.bias)

    network = nn.Sequential(nn.Linear(3, 4), Squared(4, 4), nn.Linear(4, 2))
    nn.init.zeros_(network[2].weight)
    nn.init.zeros_(network[2].bias)
    with pytest.raises(UnsupportedError, match=r"^1 \(Squared\)"):
        widen_network(network, 2, example=torch.zeros(2, 3), layout="interleave")


@pytest.mark.parametrize("factor", [0, -1])
def test_factors_below_one_are_refused(factor):
    with pytest.raises(InvalidInputError, match=f"got {factor}"):
        widen_network(nn.Linear(2, 2), factor, example=torch.zeros(2, 2), layout="tile")


def test_factor_one_is_a_copy(widened):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    wide, profile = widened(network, (3,), 1)
    assert all(torch.equal(a, b) for a, b in zip(wide.parameters(), network.parameters(), strict=True))
    assert all(p.trivial for p in profile.outputs.values())
