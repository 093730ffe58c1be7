"""FIRE: Han et al. 2026, "FIRE: Frobenius-Isometry Reinitialization", ICLR 2026, arXiv:2602.08040.

Iterations, scaling and scope are those of their code (``vision/interventions/fire.py``): ten Newton-Schulz iterations
from ``W / norm(W)``, each position of a kernel by itself, the head too, and in vision transformers queries and keys
alone. Deviation: an attention layer of one matrix for queries, keys and values is taken apart wherever it stands.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, whole
from lopbench_plugins.perturbations._weights import roles

#: What layers are called that make queries or keys, and those that make queries, keys and values side by side.
_QUERIES_AND_KEYS = frozenset({"query", "key", "q", "k", "q_proj", "k_proj", "to_q", "to_k", "wq", "wk"})
_TOGETHER = frozenset({"qkv", "qkv_proj", "in_proj", "in_proj_weight", "c_attn", "to_qkv"})
#: Least norm by which a matrix is divided.
FLOOR = 1e-30


@dataclass(frozen=True, kw_only=True)
class Fire(Perturbation):
    """Replaces, at each task, weights by the nearest matrices with equal singular values, and clears the optimizer.

    With ``X = W / norm(W)`` (Frobenius) and then ``X = 1.5 X - 0.5 X X^T X`` some times, ``W = X * sqrt(out / in)``; a
    kernel is such a matrix at each of its positions, divided by their number. Acts on weights of linear layers and
    convolutions, the head's too; in networks with attention on those of queries and keys alone. Biases, gains and
    embeddings stay. There is no strength.

    Args:
        iterations: Newton-Schulz iterations, at least 1; the authors take 5 for language models. Small singular values
            need more: each iteration multiplies them by 1.5.
        scope: Weights to act on; "auto" is "attention" in networks with attention and "all" in others.
    """

    name: ClassVar[str] = "fire"
    family: ClassVar[Family] = "normalise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.0}
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"iterations": (5, 10, 20)}
    equation: ClassVar[str] = "W = sqrt(out / in) * W (W^T W)**(-1/2), at each task"
    validated: ClassVar[tuple[str, ...]] = (
        "trace of the iterations in NumPy, of linear layers and kernels",
        "theorem: many iterations give the polar factor, whose inner product with W is its nuclear norm",
    )
    iterations: int = whole(10, least=1)
    scope: Literal["auto", "all", "attention"] = "auto"

    def begin(self, learner: Learner, state: State) -> None:
        """Look for the weights.

        Raises:
            UnsupportedError: If ``scope`` is "attention" and no layer makes queries and keys.
        """
        self._blocks(learner)

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Replace the weights in place and clear the optimizer."""
        for block in self._blocks(learner):
            block.copy_(isometric(block, self.iterations))
        learner.optimizer.clear()

    def _blocks(self, learner: Learner) -> list[Tensor]:
        """Return the matrices and kernels to replace, ``(R, out, in, ...)``, which lie in those of the network."""
        weights = {name: learner.parameters[name] for name in roles(learner.module).weights}
        attention = [block for name, weight in weights.items() for block in _attention(name, weight)]
        if self.scope == "attention" and not attention:
            raise UnsupportedError(
                f"{self.name}: {type(learner.module).__name__} has no layer that is called as one of queries or keys "
                f"({', '.join(sorted(_QUERIES_AND_KEYS | _TOGETHER))}); write {self.name}:scope=all"
            )
        if attention and self.scope != "all":
            return attention
        return [
            block
            for name, weight in weights.items()
            for block in (weight.chunk(3, dim=1) if _last(name) in _TOGETHER else [weight])
        ]


def _last(name: str) -> str:
    """Return what the layer of a weight is called, or the weight itself where its layer does not say."""
    last = name.removesuffix(".weight")
    return last.rpartition(".")[2]


def _attention(name: str, weight: Tensor) -> Iterator[Tensor]:
    """Yield the queries and keys in a weight ``(R, out, in, ...)``, as views."""
    if _last(name) in _QUERIES_AND_KEYS:
        yield weight
    elif _last(name) in _TOGETHER:
        yield from weight.chunk(3, dim=1)[:2]


def isometric(weight: Tensor, iterations: int) -> Tensor:
    """Return matrices or kernels ``(R, out, in, ...)`` with nearly equal singular values; zeros stay zeros."""
    rows, columns = weight.shape[1:3]
    positions = math.prod(weight.shape[3:])
    x: Tensor = weight.flatten(3).movedim(3, 1) if weight.ndim > 3 else weight.unsqueeze(1)  # (R, positions, out, in)
    x = x.mT if rows < columns else x  # the smaller Gram matrix
    x = x / x.norm(dim=(2, 3), keepdim=True).clamp(min=FLOOR)
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * x @ (x.mT @ x)
    x = (x.mT if rows < columns else x) * (math.sqrt(rows / columns) / positions)
    return x.movedim(1, 3).reshape(weight.shape)
