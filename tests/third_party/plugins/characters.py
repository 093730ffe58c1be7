"""A character stream whose alphabet is permuted at each task, and a small causal transformer that reads it.

After the permuted Shakespeare of Farias and Jozefiak 2025, "Self-Normalized Resets for Plasticity in Continual
Learning", arXiv:2410.20098. Deviation: the text comes from a random first-order source and no data set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lopbench import (
    Architecture,
    Batches,
    ChunkedBatches,
    InvalidInputError,
    Recipe,
    Register,
    Scenario,
    Stream,
    Task,
    UnsupportedError,
    hookimpl,
    rng,
    whole,
)

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Characters(Scenario):
    """Predict each next character of a random source; at each task the alphabet is permuted.

    Args:
        profile: "full", or "smoke" for a trial.
        tasks: Number of tasks.
        steps_per_task: Steps of a task.
        optimizer_policy: Whether the optimizer's state is carried over.
        head_policy: What becomes of the head at the start of every task.
        probe_every: Steps between probes inside a task.
        alphabet: Different characters, at least 2.
        length: Characters of a sample, at least 1.
        batch_size: Samples of a batch, at least 1.
    """

    name: ClassVar[str] = "characters"
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "full": {"tasks": 60, "steps_per_task": 400},
        "smoke": {"tasks": 5, "steps_per_task": 12, "batch_size": 4},
    }
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    default_architecture: ClassVar[str] = "token_transformer"
    head_policy: Literal["zero", "keep"] = "keep"
    alphabet: int = whole(32, least=2)
    length: int = whole(32, least=1)
    batch_size: int = whole(8, least=1)

    @property
    def data(self) -> None:
        """It draws its samples."""
        return

    def stream(self, seed: int, *, data: object, device: torch.device) -> Stream:
        """Return the stream of ``seed``."""
        return CharacterStream(self, seed, device)

    def recipe(self, architecture: str) -> Recipe:
        """Return Adam at a rate that suits small transformers."""
        return Recipe(optimizer="adam:lr=3e-3", reference="adam:lr=3e-3")


class CharacterStream(Stream):
    """The tasks of one seed: one source, and a permutation of its characters for each task."""

    inputs: Literal["numbers", "tokens"] = "tokens"

    def __init__(self, scenario: Characters, seed: int, device: torch.device) -> None:
        self.scenario, self.seed, self.device = scenario, seed, device
        self.input_shape, self.outputs = (scenario.length,), scenario.alphabet
        logits = torch.randn(scenario.alphabet, scenario.alphabet, generator=rng.derive(seed, "characters", "source"))
        #: Probabilities of the next character, summed up, ``(characters, next)``.
        self.source = (2 * logits).softmax(dim=1).cumsum(dim=1)

    def task(self, index: int) -> Task:
        """Return task ``index``."""
        generator = rng.derive(self.seed, "characters", "permutation", index)
        return CharacterTask(self, index, torch.randperm(self.outputs, generator=generator))


class CharacterTask(Task):
    """One alphabet."""

    def __init__(self, stream: CharacterStream, index: int, permutation: Tensor) -> None:
        self.stream, self.index, self.permutation = stream, index, permutation

    @property
    def chance(self) -> float:
        """Share of characters that a guess hits."""
        return 1 / self.stream.outputs

    def text(self, samples: int, *names: str | int) -> tuple[Tensor, Tensor]:
        """Return characters and what follows each, ``(samples, length)`` of int64, from the named random stream."""
        length = self.stream.scenario.length
        generator = rng.derive(self.stream.seed, "characters", "text", self.index, *names)
        uniform = torch.rand(length + 1, samples, generator=generator)
        character = (uniform[0] * self.stream.outputs).long()
        written = [character]
        for place in range(1, length + 1):
            row = self.stream.source[character]
            character = torch.searchsorted(row, uniform[place].unsqueeze(1)).squeeze(1).clamp(max=len(row[0]) - 1)
            written.append(character)
        text = self.permutation[torch.stack(written, dim=1)].to(self.stream.device)
        return text[:, :-1], text[:, 1:]

    def batches(self) -> Batches:
        """Return the training stream."""
        return CharacterBatches(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of ``outputs`` ``(N, T, K)``, a scalar."""
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the share of characters that were foreseen, ``(N,)``."""
        return (outputs.argmax(dim=-1) == targets).double().mean(dim=1)

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch."""
        yield self.text(64, "held-out")

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return one batch."""
        return self.text(16, "probe")


class CharacterBatches(ChunkedBatches):
    """Batches that each have a random stream of their own."""

    def __init__(self, task: CharacterTask) -> None:
        self.task, self.step = task, 0

    @property
    def sizes(self) -> Sequence[int]:
        """Size of every batch."""
        return (self.task.stream.scenario.batch_size,)

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self.step += 1
        return self.task.text(self.task.stream.scenario.batch_size, "train", self.step)

    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the next batches."""
        inputs, targets = zip(*(next(self) for _ in range(periods)), strict=True)
        return [(torch.stack(inputs), torch.stack(targets))]

    def state_dict(self) -> dict[str, Tensor]:
        """Return how many batches were taken."""
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue after as many."""
        self.step = int(state["step"])


@dataclass(frozen=True, kw_only=True)
class CharTransformer(Architecture):
    """A causal transformer with pre-normalisation, learned positions and hidden layers of ReLU.

    Args:
        width: Size of the residual stream, a multiple of ``heads``.
        heads: Heads of attention, at least 1.
        hidden: Units of each hidden layer, at least 1.
        depth: Blocks, at least 1.
    """

    name: ClassVar[str] = "token_transformer"
    reads: ClassVar[Literal["numbers", "tokens", "observations"]] = "tokens"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"width": 8, "hidden": 12, "depth": 2},)
    width: int = whole(32, least=1)
    heads: int = whole(2, least=1)
    hidden: int = whole(128, least=1)
    depth: int = whole(1, least=1)

    def __post_init__(self) -> None:
        """Refuse a stream that cannot be shared out among the heads."""
        super().__post_init__()
        if self.width % self.heads:
            raise InvalidInputError(f"{self.name}: width={self.width} is no multiple of heads={self.heads}")

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a network for ``outputs`` different tokens, whose outputs are ``(N, T, outputs)``.

        Raises:
            InvalidInputError: If there are no places or no outputs.
            UnsupportedError: If samples are no sequences.
        """
        if len(input_shape) != 1:
            raise UnsupportedError(f"{self.name} reads tokens of shape (T,), got samples of {tuple(input_shape)}")
        if min(*input_shape, outputs) < 1:
            raise InvalidInputError(f"{self.name}: {tuple(input_shape)} places with {outputs} outputs is no network")
        with rng.isolated(generator):
            return Transformer(self, input_shape[0], outputs)


class Transformer(nn.Module):
    """Embedding, blocks, head."""

    def __init__(self, architecture: CharTransformer, length: int, tokens: int) -> None:
        super().__init__()
        width = architecture.width
        self.embedding = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(
            *(Block(width, architecture.heads, architecture.hidden) for _ in range(architecture.depth))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of the next token at each place, ``(N, T, tokens)``."""
        stream = self.embedding(tokens) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(stream)))
        return logits


class Block(nn.Module):
    """Causal attention and a hidden layer, each added to the stream."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, stream: Tensor) -> Tensor:
        """Return the stream ``(N, T, width)`` with what the block adds to it."""
        parts = self.qkv(self.norm1(stream)).unflatten(-1, (3, self.heads, -1))  # (N, T, 3, heads, width / heads)
        query, key, value = parts.transpose(1, 3).unbind(dim=2)  # (N, heads, T, width / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.project(mixed.transpose(1, 2).flatten(2))
        added: Tensor = self.mlp(self.norm2(stream))
        return stream + added


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    """Make the scenario known."""
    register("characters", Characters, "next characters; the alphabet is permuted at each task")


@hookimpl
def lopbench_architectures(register: Register) -> None:
    """Make the architecture known."""
    register("token_transformer", CharTransformer, "a small causal transformer")
