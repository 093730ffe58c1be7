"""Proximal policy optimisation: what a rollout teaches, and the loss of a part of it.

Schulman et al. 2017, "Proximal Policy Optimization Algorithms" (arXiv:1707.06347v2), Eq. (7) and (9); advantages are
those of Schulman et al. 2015, "High-Dimensional Continuous Control Using Generalized Advantage Estimation"
(arXiv:1506.02438v6), Eq. (16). What a network makes of a state are the log-odds of the actions, and last its value.
"""

import torch
from torch import Tensor

#: The columns of targets: the action, its log-probability when it was chosen, its advantage, and the return after it.
ACTION, LOG_PROBABILITY, ADVANTAGE, RETURN = range(4)


def advantages_and_returns(
    rewards: Tensor, values: Tensor, over: Tensor, last: Tensor, *, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """Return the advantage of each action, and the discounted return after it, ``(T, ...)`` each.

    Args:
        rewards: Reward of each action, ``(T, ...)``.
        values: Value of the state before it.
        over: Whether its episode ended with it, boolean.
        last: Value of the state after the last action, ``(...)``, which stands for what comes after the rollout.
        discount: Factor in [0, 1] by which a reward counts less with each step.
        trace: The parameter lambda of the advantages, in [0, 1].
    """
    on = discount * (~over).to(values)
    surprises = rewards + on * torch.cat([values[1:], last.unsqueeze(0)]) - values
    added, kept = torch.stack([surprises, rewards], dim=1), torch.stack([trace * on, on], dim=1)  # (T, 2, ...)
    sums = torch.empty_like(added)
    total = torch.stack([torch.zeros_like(last), last])
    for time in reversed(range(len(added))):
        total = sums[time] = torch.addcmul(added[time], kept[time], total)
    advantages, returns = sums.unbind(dim=1)
    return advantages, returns


def loss(outputs: Tensor, targets: Tensor, *, clip: float, value: float, entropy: float) -> Tensor:
    """Return the loss of some actions, a scalar: the clipped objective, the error of the value, and less for chance.

    Args:
        outputs: What the network makes now of the states, ``(N, K + 1)``: numbers for K actions, and the value.
        targets: As the columns above, ``(N, ...)``.
        clip: How far the probability of an action may move, relative to what it was, before it does not count.
        value: Weight of the squared error of the value.
        entropy: Weight of the policy's entropy, in nats.
    """
    logs = outputs[:, :-1].log_softmax(dim=1)
    chosen = logs.gather(1, targets[:, ACTION].long().unsqueeze(1)).squeeze(1)
    ratio, advantage = (chosen - targets[:, LOG_PROBABILITY]).exp(), targets[:, ADVANTAGE]
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    error = (outputs[:, -1] - targets[:, RETURN]).square().mean()
    spread = -(logs.exp() * logs).sum(dim=1).mean()
    return value * error - objective - entropy * spread
