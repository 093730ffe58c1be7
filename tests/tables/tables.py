"""The table of methods and networks in ``plugins/README.md``: which runs on which, and why not.

Each method, as it is by default, takes a step on a small network of each architecture, and crosses a boundary if it
acts there. After adding a method or an architecture,

    python tests/tables/tables.py

brings the page up to date.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Architecture, Batches, Perturbation, Task
from lopbench.core.manager import plugins
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.learner.learner import StackLearner

README = Path(__file__).parents[2] / "plugins" / "README.md"
BEGIN, END = "<!-- methods and networks -->\n", "<!-- /methods and networks -->"

#: Small networks of the architectures that the table has.
NETWORKS: Mapping[str, str] = {
    "mlp": "mlp:width=8,depth=2",
    "cnn": "cnn:channels=4/6,hidden=12",
    "resnet18": "resnet18:base_width=4",
    "vit": "vit:width=12,depth=1,heads=2,patch=4",
    "char_transformer": "char_transformer:width=8,hidden=12",
}
#: Images, passages of tokens, classes or tokens, and samples of a batch.
IMAGE, LENGTH, OUTPUTS, BATCH = (3, 8, 8), 6, 7, 4

RULE = build_optimizer(ComponentSpec.parse("optimizers", "adam:lr=0.01"))


class One(Task, Batches):
    """A task of one batch, over and over: images with labels, or tokens with the tokens that follow.

    Args:
        tokens: Whether it is of tokens.
    """

    chance = 1 / OUTPUTS
    epoch = 1

    def __init__(self, *, tokens: bool) -> None:
        generator = rng.derive(0, "table")
        passages = torch.randint(OUTPUTS, (BATCH, LENGTH + 1), generator=generator)
        images = torch.randn(BATCH, *IMAGE, generator=generator)
        self.tokens = tokens
        self.batch = (passages[:, :-1], passages[:, 1:]) if tokens else (images, passages[:, 0])

    def batches(self) -> Batches:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        return self.batch

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=-1) == targets).double()

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.batch

    def probe(self) -> tuple[Tensor, Tensor]:
        return self.batch

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        pass


def refusal(method: str, architecture: str) -> str | None:
    """Return why a method refuses a network, None if it runs."""
    made = ComponentSpec.parse("methods", method).build()
    network = ComponentSpec.parse("architectures", architecture).build()
    assert isinstance(made, Perturbation)
    assert isinstance(network, Architecture)
    task = One(tokens=network.name == "char_transformer")
    inputs, targets = task.batch
    try:
        learner = StackLearner(
            build=lambda generator: network.build(inputs.shape[1:], OUTPUTS, generator=generator),
            seeds=(0,),
            methods=[made],
            optimizer=RULE,
            example=inputs,
            targets=targets,
            tokens=task.tokens,
            outputs=OUTPUTS,
            head=network.head,
            layers=network.layers,
        )
        for index in range(2 if made.has("on_task_start") else 1):
            learner.begin_task(index, [task], first=not index, reset_optimizer=False, zero_head=False)
            learner.step([task.batch])
    except UnsupportedError as error:
        return str(error).removeprefix(f"{method}: ").removeprefix(f"method '{method}', hook begin: ")
    return None


def table() -> str:
    """Return the table, with the reasons below it."""
    reasons: list[str] = []
    lines = ["| method | " + " | ".join(f"`{name}`" for name in NETWORKS) + " |", "|---|" + "---|" * len(NETWORKS)]
    for entry in plugins().registry.entries("methods"):
        if entry.distribution.name != "lopbench":
            continue
        cells = []
        for architecture in NETWORKS.values():
            reason = refusal(entry.name, architecture)
            if reason is not None and reason not in reasons:
                reasons.append(reason)
            cells.append("runs" if reason is None else f"no: {reasons.index(reason) + 1}")
        lines.append(f"| `{entry.name}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"{place}. {reason}" for place, reason in enumerate(reasons, 1)), ""])


def with_table(page: str) -> str:
    """Return the page with the table between its marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert END in page.partition(BEGIN)[2], f"{README} has no place for the table"
    return f"{head}{begin}{table()}{end}{tail}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
