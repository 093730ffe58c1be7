"""Experience replay with a ring buffer: Chaudhry et al. 2019, "On Tiny Episodic Memories", arXiv:1902.10486v4.

Deviations: one ring for all classes, so that regression and tokens are served too; the samples of the step itself are
in the buffer before it is drawn from, so that it is never empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import InvalidInputError, Learner, Perturbation, Register, State, hookimpl, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Replay(Perturbation):
    """Adds samples of earlier steps to every batch, drawn with replacement from the last ``capacity`` samples.

    Args:
        samples: Samples to add to each batch, at least 0.
        capacity: Samples that are kept, at least those of a batch.
    """

    name: ClassVar[str] = "replay"
    uses_replay: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"samples": 4, "capacity": 40},)
    exempt: ClassVar[Mapping[str, str]] = {
        "moves-no-other-stream": "dropout draws for the samples that are added, too",
    }
    samples: int = whole(16, least=0, zero=0)
    capacity: int = whole(1000, least=1)

    def begin(self, learner: Learner, state: State) -> None:
        """Make room for the samples.

        Raises:
            InvalidInputError: If a batch is larger than the buffer.
        """
        if learner.inputs.shape[1] > self.capacity:
            raise InvalidInputError(f"a batch has {learner.inputs.shape[1]} samples, the buffer {self.capacity}")
        for key, example in (("inputs", learner.inputs), ("targets", learner.targets)):
            state[key] = example.new_zeros(learner.replicas, self.capacity, *example.shape[2:])
        state["seen"] = torch.zeros(learner.replicas, dtype=torch.int64, device=learner.device)

    def batch(self, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the batch, and return it with samples from the buffer behind it."""
        replica = torch.arange(learner.replicas, device=learner.device).unsqueeze(1)
        place = (state["seen"].unsqueeze(1) + torch.arange(inputs.shape[1], device=learner.device)) % self.capacity
        state["seen"] += inputs.shape[1]
        filled = state["seen"].clamp(max=self.capacity).unsqueeze(1)
        like = torch.empty(learner.replicas, self.samples, dtype=torch.float64, device=learner.device)
        drawn = (state.uniform(like) * filled).long()  # (R, samples)
        batch = []
        for key, new in (("inputs", inputs), ("targets", targets)):
            state[key][replica, place] = new
            batch.append(torch.cat([new, state[key][replica, drawn]], dim=1))
        return batch[0], batch[1]


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("replay", Replay, "trains on samples of earlier steps too")
