import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench_plugins.architectures.char_transformer import CharTransformer


def build(component, length=9, tokens=7, seed=0):
    return component.build((length,), tokens, generator=torch.Generator().manual_seed(seed))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_those_of_its_parts():
    # Embedding and positions, a block (two norms, qkv, projection, two layers of the hidden units), norm, head.
    block = 2 * 64 + 96 * 33 + 32 * 33 + 256 * 33 + 32 * 257
    assert count(build(CharTransformer(), 128, 65)) == 65 * 32 + 128 * 32 + block + 64 + 65 * 33
    assert count(build(CharTransformer(depth=3), 128, 65)) == 65 * 32 + 128 * 32 + 3 * block + 64 + 65 * 33


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_block_is_pre_norm_attention_and_hidden_layer(activation):
    component = CharTransformer(width=6, heads=2, hidden=5, activation=activation)
    network = build(component).double()
    state = network.state_dict()
    generator = torch.Generator().manual_seed(1)
    state = {name: value + 0.3 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    network.load_state_dict(state)
    tokens = torch.randint(7, (4, 9), generator=generator)
    stream = state["embedding.weight"][tokens] + state["positions"]

    def normed(x, name):
        return F.layer_norm(x, (6,), state[f"{name}.weight"], state[f"{name}.bias"])

    def affine(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    query, key, value = affine(normed(stream, "blocks.0.attention_norm"), "blocks.0.qkv").split(6, dim=2)
    mixed = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = query[..., head] @ key[..., head].transpose(1, 2) / math.sqrt(3)
        scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -math.inf)
        mixed.append(scores.softmax(dim=2) @ value[..., head])
    stream = stream + affine(torch.cat(mixed, dim=2), "blocks.0.project")
    hidden = affine(normed(stream, "blocks.0.mlp_norm"), "blocks.0.mlp.linear")
    hidden = hidden.clamp(min=0) if activation == "relu" else F.gelu(hidden)
    stream = stream + affine(hidden, "blocks.0.mlp.project")
    torch.testing.assert_close(network(tokens), affine(normed(stream, "norm"), "out"))


def test_no_token_is_seen_before_its_time():
    network = build(CharTransformer(width=8, depth=2))
    tokens = torch.zeros(1, 9, dtype=torch.int64)
    other = tokens.clone()
    other[0, 5] = 3
    before, after = network(tokens), network(other)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=2).min() > 1e-6


def test_context_is_the_length_of_samples_or_more():
    assert build(CharTransformer()).positions.shape == (9, 32)
    longer = build(CharTransformer(context=20))
    assert longer.positions.shape == (20, 32)
    assert longer(torch.zeros(2, 9, dtype=torch.int64)).shape == (2, 9, 7)
    with pytest.raises(UnsupportedError, match="reads 8 tokens at most, and samples have 9; raise context"):
        build(CharTransformer(context=8))


def test_what_is_no_sequence_is_refused():
    with pytest.raises(
        UnsupportedError, match=r"reads sequences of tokens, and these samples have shape \(1, 28, 28\)"
    ):
        CharTransformer().build((1, 28, 28), 10, generator=torch.Generator())


def test_a_width_that_cannot_be_shared_out_is_refused():
    with pytest.raises(
        InvalidInputError, match="width must be a multiple of heads, got width=10 and heads=3; the nearest is width=9"
    ):
        CharTransformer(width=10, heads=3)


def test_embedding_and_positions_are_small_and_the_rest_is_as_torch_has_it():
    network = build(CharTransformer(), 128, 65)
    for values in (network.embedding.weight, network.positions):
        assert values.std().item() == pytest.approx(0.02, rel=0.1)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
