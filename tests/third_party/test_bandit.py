"""A stream that depends on what the learner does, written by a third party."""

import pytest
import torch
from third_party_lab import component, method

from lopbench.learner.learner import StackLearner
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.l2 import L2

SCENARIO = component("scenarios", "bandit", profile="smoke", tasks=4, steps_per_task=300)
CPU = torch.device("cpu")


class Agents:
    """Learners on their bandits."""

    def __init__(self, *methods, seeds=(0, 1)):
        self.streams = [SCENARIO.stream(seed, data=None, device=CPU) for seed in seeds]
        stream = self.streams[0]
        inputs, targets = next(stream.task(0).batches())
        self.learner = StackLearner(
            build=lambda generator: MLP(width=8, depth=1).build(
                stream.input_shape, stream.outputs, generator=generator
            ),
            seeds=seeds,
            methods=methods,
            optimizer=SGD(lr=0.2),
            example=inputs,
            targets=targets,
            outputs=stream.outputs,
            dtype=torch.float64,
        )

    def task(self, index, steps):
        """Train on a task; returns scores ``(steps, R)`` and the probability ``(R,)`` with which arm 1 is pulled."""
        tasks = [stream.task(index) for stream in self.streams]
        self.learner.begin_task(index, tasks, first=index == 0, reset_optimizer=False, zero_head=False)
        batches = [task.batches() for task in tasks]

        def observe(outputs):
            return torch.stack([each.observe(output) for each, output in zip(batches, outputs, strict=True)])

        scores = []
        for _ in range(steps):
            inputs = [next(each) for each in batches]
            scores.append(self.learner.step(inputs, observe=observe).scores)
        with torch.no_grad():
            outputs = self.learner.view.forward(torch.ones(len(batches), 1, 1, dtype=torch.float64)).outputs
        return torch.stack(scores), outputs.softmax(dim=-1)[:, 0, 1]


@pytest.mark.parametrize("methods", [[], [method("c_chain", strength=0.01)]])
def test_the_policy_learns_the_better_arm(methods):
    scores, second = Agents(*methods).task(0, 300)
    assert (second < 0.05).all()
    assert (scores[-20:].mean(dim=0) > 0.7).all()  # the better arm gives 0.8


def test_the_policy_follows_when_the_better_arm_is_another():
    agents = Agents(L2(strength=0.01))  # without, it is too certain of the first arm to try the second
    for index in range(4):
        scores, second = agents.task(index, 300)
        assert ((second > 0.9) if index % 2 else (second < 0.1)).all()
        assert (scores[-20:].mean(dim=0) > 0.7).all()


def test_what_an_agent_is_taught_is_what_it_did():
    agents = Agents()
    scores, _ = agents.task(0, 1)
    action, reward = agents.learner.view.targets.unbind(dim=2)
    assert set(action.flatten().tolist()) == {0, 1}
    assert torch.equal(scores[0], reward.mean(dim=1))


def test_agents_together_equal_agents_alone():
    _, together = Agents(seeds=(0, 1)).task(0, 30)
    _, alone = Agents(seeds=(1,)).task(0, 30)
    torch.testing.assert_close(together[1:], alone, rtol=1e-9, atol=1e-11)


def test_replay_keeps_what_was_done_and_its_score_is_that_of_the_stream():
    agents = Agents(method("replay", samples=4, capacity=64))
    scores, _ = agents.task(0, 3)
    targets = agents.learner.view.targets
    assert targets.shape == (2, 20, 2)
    assert torch.equal(scores[-1], targets[:, :16, 1].mean(dim=1))
    kept = agents.learner.states[0]["targets"][:, :48]
    assert kept[..., 0].any()
    assert set(kept.flatten().tolist()) == {0.0, 1.0}
