"""Small networks of every kind, on which the checks of methods run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

#: Shape of a sample, and number of outputs.
SHAPE, CLASSES = (2, 4, 4), 3

Network = Callable[[], nn.Module]


class _Branching(nn.Module):
    """Units that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(32, 6)
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)
        self.activation, self.last = nn.ReLU(), nn.Tanh()
        self.out = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.hidden(x.flatten(1)))
        return self.out(self.last(self.left(hidden) + self.right(hidden)))  # type: ignore[no-any-return]


class _Shared(nn.Module):
    """A layer that is used twice, behind one and before another of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.hidden = nn.Linear(32, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(4))
        self.out = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        layers = (self.first, self.tied, self.tied, self.hidden)
        for layer, activation in zip(layers, self.activations, strict=True):
            x = activation(layer(x))
        return self.out(x)  # type: ignore[no-any-return]


class _Residual(nn.Module):
    """A stream that blocks add to; ``hidden`` units only if asked for, the stream's own never are private."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(32, 6)
        self.activation = nn.ReLU()
        self.block = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) if hidden else nn.Linear(6, 6)
        self.out = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        return self.out(self.activation(x + self.block(x)))  # type: ignore[no-any-return]


class _Transformer(nn.Module):
    """One block on sixteen tokens: attention of one head, and a hidden layer, each added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(SHAPE[0], 6)
        self.query, self.key, self.value, self.project = (nn.Linear(6, 6) for _ in range(4))
        self.hidden, self.activation, self.back = nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6)
        self.out = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).transpose(1, 2))
        weights = (self.query(x) @ self.key(x).transpose(1, 2) / 6**0.5).softmax(dim=2)
        x = x + self.project(weights @ self.value(x))
        x = x + self.back(self.activation(self.hidden(x)))
        return self.out(x.mean(dim=1))  # type: ignore[no-any-return]


def plain(dropout: float = 0.0) -> nn.Module:
    """Return two hidden layers, one of ReLU and one of tanh, with dropout between them if there is some."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(32, 8),
        nn.ReLU(),
        *([nn.Dropout(dropout)] if dropout else []),
        nn.Linear(8, 7),
        nn.Tanh(),
        nn.Linear(7, CLASSES),
    )


def _convolutional() -> nn.Module:
    """Channels behind which a flattened feature map stands: each owns four columns of the next layer."""
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 6),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


def _normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 6),
        nn.LayerNorm(6),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


#: Networks in which some units may be reset.
NETWORKS: Mapping[str, Network] = {
    "plain": plain,
    "convolutional": _convolutional,
    "normalised": _normalised,
    "branching": _Branching,
    "shared": _Shared,
    "residual": lambda: _Residual(hidden=True),
    "transformer": _Transformer,
}
#: Networks without units that may be reset.
WITHOUT_UNITS: Mapping[str, Network] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, CLASSES)),
    "stream": lambda: _Residual(hidden=False),
}


def rectified() -> nn.Sequential:
    """Return two hidden layers of ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, CLASSES))


def wide() -> nn.Module:
    """Return two hidden layers of 256 units of ReLU."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)
    )


def small() -> nn.Module:
    """Return a network that is traced in no time: one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def with_dropout() -> nn.Module:
    """Return the plain network with dropout of its own."""
    return plain(dropout=0.5)
