"""A bandit whose better arm changes: the smallest problem on which what a network is taught depends on what it does.

The policy gradient is that of Williams 1992, Machine Learning 8:229-256, with the batch's mean reward as baseline.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lopbench import Batches, Recipe, Register, Scenario, Stream, Task, hookimpl, number, rng, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Bandit(Scenario):
    """Choose the better of two arms, which takes turns from task to task.

    Args:
        profile: "full", or "smoke" for a trial.
        tasks: Number of tasks.
        steps_per_task: Steps of a task.
        optimizer_policy: Whether the optimizer's state is carried over.
        head_policy: What becomes of the head at the start of every task.
        probe_every: Steps between probes inside a task.
        pulls: Pulls of a step, at least 2.
        better: Probability of a reward of the better arm, in [0, 1]; the other has that of none.
    """

    name: ClassVar[str] = "bandit"
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "full": {"tasks": 100, "steps_per_task": 500},
        "smoke": {"tasks": 5, "steps_per_task": 20},
    }
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    default_architecture: ClassVar[str] = "mlp"
    head_policy: Literal["zero", "keep"] = "keep"
    pulls: int = whole(16, least=2)
    better: float = number(0.8, least=0, most=1)

    @property
    def data(self) -> None:
        """It draws its rewards."""
        return

    def stream(self, seed: int, *, data: object, device: torch.device) -> Stream:
        """Return the stream of ``seed``."""
        return BanditStream(self, seed, device)

    def recipe(self, architecture: str) -> Recipe:
        """Return plain Adam."""
        return Recipe(optimizer="adam:lr=1e-2", reference="adam:lr=1e-2")


class BanditStream(Stream):
    """The tasks of one seed. There is nothing to see: the input is always 1."""

    input_shape = (1,)
    outputs = 2

    def __init__(self, scenario: Bandit, seed: int, device: torch.device) -> None:
        self.scenario, self.seed, self.device = scenario, seed, device

    def task(self, index: int) -> Task:
        """Return task ``index``."""
        return BanditTask(self, index)


class BanditTask(Task):
    """One better arm. Targets ``(N, 2)`` are the arm that was pulled and the reward that it gave."""

    def __init__(self, stream: BanditStream, index: int) -> None:
        self.stream, self.index = stream, index
        self.best = index % 2

    @property
    def chance(self) -> float:
        """Mean reward of pulling either arm."""
        return 0.5

    def rewarded(self) -> Tensor:
        """Return the probability of a reward of each arm, ``(2,)``."""
        better = self.stream.scenario.better
        return torch.tensor([better, 1 - better] if self.best == 0 else [1 - better, better])

    def batches(self) -> Batches:
        """Return the training stream."""
        return Pulls(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the policy gradient's loss, a scalar."""
        action, reward = targets.unbind(dim=1)
        chosen = outputs.log_softmax(dim=1).gather(1, action.long().unsqueeze(1)).squeeze(1)
        return -(chosen * (reward - reward.mean())).mean()

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the rewards, ``(N,)``."""
        return targets[:, 1]

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield nothing: what an arm gives is known when it was pulled."""
        yield from ()

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return pulls of both arms, with the rewards that are expected."""
        arms = torch.arange(2)
        targets = torch.stack([arms.float(), self.rewarded()], dim=1).repeat(8, 1)
        return torch.ones(16, 1, device=self.stream.device), targets.to(self.stream.device)


class Pulls(Batches):
    """Pulls of the arms that the network chooses."""

    def __init__(self, task: BanditTask) -> None:
        self.task, self.step = task, 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return inputs, and targets that say nothing yet."""
        self.step += 1
        pulls, device = self.task.stream.scenario.pulls, self.task.stream.device
        return torch.ones(pulls, 1, device=device), torch.zeros(pulls, 2, device=device)

    def observe(self, outputs: Tensor) -> Tensor:
        """Draw actions from the policy ``outputs`` ``(N, 2)``, and return them with the rewards they give."""
        uniform = torch.rand(2, len(outputs), generator=rng.derive(self.task.stream.seed, self.task.index, self.step))
        action = (uniform[0] < outputs.softmax(dim=1)[:, 1].cpu()).long()
        reward = uniform[1] < self.task.rewarded()[action]
        return torch.stack([action, reward], dim=1).float().to(outputs.device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return how many batches were taken."""
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue after as many."""
        self.step = int(state["step"])


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    """Make the scenario known."""
    register("bandit", Bandit, "two arms of which the better one changes")
