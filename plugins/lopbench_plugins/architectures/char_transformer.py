"""A small causal transformer for sequences of tokens, such as characters.

Of the shape that Farias and Jozefiak 2025, "Self-Normalized Resets for Plasticity in Continual Learning"
(arXiv:2410.20098), train at scale 1: 32 wide, two heads, 256 hidden units, after GPT-2 (Radford et al. 2019).
Their code (ajozefiak/SelfNormalizedResets) leaves the network out, so depth and activation are ours. Deviations from
GPT-2: the embedding is not tied to the head, weights start as torch has them but for embedding and positions, and there
is no dropout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lopbench import Architecture, UnsupportedError, rng, whole
from lopbench_plugins._multiples import check_multiple
from lopbench_plugins.architectures._base import ACTIVATIONS, check_request, named


@dataclass(frozen=True, kw_only=True)
class CharTransformer(Architecture):
    """Embedding and learned positions, then ``depth`` blocks of attention and a hidden layer, a norm and the head.

    Each part of a block reads the normalised stream, and adds to it. Attention sees no token that is still to come.
    Embedding and positions are normal with standard deviation 0.02.

    Args:
        width: Size of the residual stream, at least 1; a multiple of ``heads``.
        depth: Number of blocks, at least 1.
        heads: Attention heads of a block, at least 1.
        hidden: Units of the hidden layer of a block, at least 1.
        context: Most tokens of a sample; 0 for as many as the samples of the stream have.
        activation: Activation function of the hidden layers.
    """

    name: ClassVar[str] = "char_transformer"
    reads: ClassVar[Literal["numbers", "tokens", "observations"]] = "tokens"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"width": 8, "hidden": 12, "depth": 2, "context": 64},
        {"width": 8, "hidden": 12, "activation": "gelu", "context": 64},
    )
    width: int = whole(32, least=1)
    depth: int = whole(1, least=1)
    heads: int = whole(2, least=1)
    hidden: int = whole(256, least=1)
    context: int = whole(0, least=0)
    activation: Literal["relu", "gelu"] = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_multiple(self.name, "heads", self.heads, width=self.width)

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network in training mode, on the CPU.

        Args:
            input_shape: Shape of one sample, ``(T,)`` tokens.
            outputs: Number K of different tokens; the network maps ``(N, T)`` to ``(N, T, K)``.
            generator: Source of every random draw, on the CPU; advanced in place.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1, or the generator is not on the CPU.
            UnsupportedError: If samples are no sequences of tokens, or longer than ``context``.
        """
        check_request(self.name, input_shape, outputs, generator)
        if len(input_shape) != 1:
            raise UnsupportedError(
                f"{self.name} reads sequences of tokens, and these samples have shape {tuple(input_shape)}; use an "
                "architecture for images, such as cnn, or for vectors, such as mlp"
            )
        context = self.context or input_shape[0]
        if input_shape[0] > context:
            raise UnsupportedError(
                f"{self.name} reads {context} tokens at most, and samples have {input_shape[0]}; raise context"
            )
        with rng.isolated(generator):
            return Transformer(self, context, outputs)

    @property
    def transformer(self) -> bool:
        """True."""
        return True


class Transformer(nn.Module):
    """The network of `CharTransformer`.

    Args:
        architecture: Its sizes.
        context: Most tokens of a sample.
        tokens: Number of different tokens.
    """

    def __init__(self, architecture: CharTransformer, context: int, tokens: int) -> None:
        super().__init__()
        width = architecture.width
        self.embedding = nn.Embedding(tokens, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.Sequential(*(Block(architecture) for _ in range(architecture.depth)))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of the token that follows each of ``tokens`` ``(N, T)``, ``(N, T, K)``."""
        stream = self.embedding(tokens) + self.positions[: tokens.shape[-1]]
        logits: Tensor = self.out(self.norm(self.blocks(stream)))
        return logits


class Block(nn.Module):
    """Causal attention and a hidden layer, each added to the stream.

    Args:
        architecture: Its sizes.
    """

    def __init__(self, architecture: CharTransformer) -> None:
        super().__init__()
        width, hidden = architecture.width, architecture.hidden
        self.heads = architecture.heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = named(
            linear=nn.Linear(width, hidden),
            activation=ACTIVATIONS[architecture.activation](),
            project=nn.Linear(hidden, width),
        )

    def forward(self, stream: Tensor) -> Tensor:
        """Return the stream ``(N, T, width)`` with what the block adds to it."""
        parts = self.qkv(self.attention_norm(stream)).unflatten(-1, (3, self.heads, -1))  # (N, T, 3, heads, size)
        query, key, value = parts.transpose(1, 3).unbind(dim=2)  # (N, heads, T, size)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.project(mixed.transpose(1, 2).flatten(2))
        added: Tensor = self.mlp(self.mlp_norm(stream))
        return stream + added
