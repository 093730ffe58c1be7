"""The tables of methods in ``plugins/README.md``: which runs on which network, and what shows that it does its work.

Each method, as it is by default, takes a step on a small network of each architecture, and crosses a boundary if it
acts there. The evidence is that of ``results/evidence.csv``. After adding a method or an architecture,

    python tests/tables/tables.py

brings the page up to date.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Architecture, Batches, Perturbation, Task
from lopbench.core.manager import plugins
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.learner.learner import StackLearner

ROOT = Path(__file__).parents[2]
README, EVIDENCE = ROOT / "plugins" / "README.md", ROOT / "results" / "evidence.csv"

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


def networks_table() -> str:
    """Return the table of methods and networks, with the reasons below it."""
    reasons: list[str] = []
    lines = ["| method | " + " | ".join(f"`{name}`" for name in NETWORKS) + " |", "|---|" + "---|" * len(NETWORKS)]
    for method in ours():
        cells = []
        for architecture in NETWORKS.values():
            reason = refusal(method, architecture)
            if reason is not None and reason not in reasons:
                reasons.append(reason)
            cells.append("runs" if reason is None else f"no: {reasons.index(reason) + 1}")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"{place}. {reason}" for place, reason in enumerate(reasons, 1)), ""])


def ours() -> list[str]:
    """Return the names of the built-in methods."""
    entries = plugins().registry.entries("methods")
    return [entry.name for entry in entries if entry.distribution.name == "lopbench"]


def evidence_table() -> str:
    """Return the table of evidence."""
    lines = [
        "| run as | is for | plain | with it | difference | shown | retention, plain .XX |",
        "|---|---|---|---|---|---|---|",
    ]
    frame = pd.read_csv(EVIDENCE)
    for each in frame.itertuples():
        aim = each.aim if each.aim == "retention" else f"{'more' if each.more else 'less'}: {each.aim}"
        kept = f"{number(each.retention)} ({span(each.retention_low, each.retention_high)})"
        lines.append(
            f"| `{each.setting}` | {aim} | {number(each.none)} | {number(each.value)} | {span(each.low, each.high)} "
            f"| {'yes' if each.shown else 'no'} | {kept} |"
        )
    return "\n".join(lines).replace(".XX", number(frame["retention_none"].iloc[0])) + "\n"


def number(value: float) -> str:
    """Return a number to two digits behind the point, or one from ten on."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def span(low: float, high: float) -> str:
    """Return an interval of a difference."""
    return f"{'+' if low > 0 else ''}{number(low)} to {'+' if high > 0 else ''}{number(high)}"


#: What makes each table, by the name that its marks have.
TABLES: Mapping[str, Callable[[], str]] = {
    "methods and networks": networks_table,
    "evidence": evidence_table,
}


def with_table(page: str, name: str) -> str:
    """Return the page with a table between its marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, _, rest = page.partition(begin)
    assert end in rest, f"{README} has no place for {name!r}"
    return f"{head}{begin}{TABLES[name]()}{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    for name in TABLES:
        README.write_text(with_table(README.read_text(), name))
