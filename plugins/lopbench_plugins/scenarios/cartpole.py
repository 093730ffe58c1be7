"""Continual CartPole: an agent balances a pole, and from level to level its senses are shifted by another constant.

The classic control of Tang et al. 2025, "Mitigating Plasticity Loss in Continual Reinforcement Learning by Reducing
Churn" (C-CHAIN, arXiv:2506.00592), after Muppidi et al. 2024, "Fast TRAC" (arXiv:2405.16642), and the code of the
former (bluecontra/C-CHAIN): 10 levels; the observations of each but the first are shifted by a draw of N(0, 2^2); PPO
with rollouts of 800 steps, episodes of at most 400, five passes in batches of 32, discount 0.99, lambda 0.95, clip 0.2,
entropy 0.01, half the squared error of the value, rewards over 20, advantages normalised over a rollout; the return
that the value learns goes on with the value of the state where an episode is cut.

The score is the mean return of the episodes of a rollout over the largest possible one: all that were begun count,
those that the end of the rollout cuts included, as in their code. It is the same number in each batch of a rollout, and
its mean over a level is the area under the curve of learning. Chance is a policy that acts at random.

Deviations: a rollout is of two environments for 400 steps each, and not of one for 800, so that all agents of all seeds
act at once; actions and starts are drawn by seed, level and rollout, so that methods are paired. ``c_chain`` has the
leaky ReLUs that are the default of their code, and Adam at 1e-3.

``lite`` is ours: half the rollouts, and policy and value of three layers of 64 ReLUs. Measured with seeds 1000 to 1007:
mean return, of at most 400, where chance is 22; what is kept of fresh networks at 1e-3 over levels 2 to 10, with its
95% interval; and the trend.

| Adam | plain, level 1 | plain, levels 2 to 10 | fresh, levels 2 to 10 | retention | trend |
|---|---|---|---|---|---|
| 3e-4 | **359** | 136 | 227 | .53, .27 to .70 | .05, -.02 to .13, unclear |
| 1e-3 | 352 | 92 | **228** | .33, .08 to .59 | .06, .01 to .13, gaining |
| 3e-3 | 347 | 68 | 203 | .22, .04 to .37 | .01, -.06 to .09, unclear |

So plain learning fails at each rate. Tuning sees the first level alone, where every agent is a fresh one, and picks
3e-4 by less than seeds differ. The ceiling is 1.84. By level, at 1e-3:

| level | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |
|---|---|---|---|---|---|---|---|---|---|---|
| plain | 352 | 9 | 34 | 78 | 123 | 50 | 112 | 110 | 130 | 184 |
| fresh | 352 | 175 | 209 | 238 | 245 | 179 | 214 | 264 | 238 | 294 |

Over the last five it keeps .43, .12 to .73: what is lost is lost at the first change, and some of it comes back. At the
second level all eight agents push the same way whatever they see, fall in nine steps, and no longer try anything else;
two of them never balance again, and two thirds of the returns at levels 2 to 10 are below chance. Of the policy's units
.64 are dead at the end, .22 in a new network.

One network for both, ``mlp:widths=64/64/64``, keeps more with the same seeds, perhaps because what it learns of values
goes on to move the policy: .81 over levels 2 to 10, .70 to .93, under a ceiling of 1.71.

| level | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |
|---|---|---|---|---|---|---|---|---|---|---|
| plain | 362 | 104 | 188 | 237 | 225 | 108 | 237 | 202 | 241 | 300 |
| fresh | 362 | 179 | 250 | 256 | 260 | 195 | 225 | 277 | 263 | 307 |

``c_chain`` at its rate, with the same seeds, keeps nothing: -.01, -.05 to .05, under a ceiling of 1.63, and all eight
collapse; its trend is .010, -.020 to .039, unclear. After 363 at the first level, agents have 9 at nearly every other,
and fresh networks 256 over these. Two agents balance again, each at one level, with 350 and 305.

An earlier trial of the setting, in another framework with another law of initialisation and other shifts, kept .59 over
these levels with eight seeds: plain learning had 175 at the second level, and fresh networks some 280 at all. Over
seeds 0 to 15 the same program keeps .57, .46 to .66: eight seeds say little here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from lopbench import ActingBatches, InvalidInputError, Recipe, Scenario, Stream, Task, number, rng, whole
from lopbench_plugins._multiples import divisors
from lopbench_plugins.scenarios import cart_and_pole, ppo
from lopbench_plugins.scenarios.derived import derive

#: Pushes to the left and to the right.
ACTIONS = 2

#: What the protocol's PPO has.
DISCOUNT, TRACE, CLIP, VALUE, ENTROPY, REWARD = 0.99, 0.95, 0.2, 0.5, 0.01, 1 / 20

#: The column of targets after those of PPO: the score of the rollout.
SCORE = ppo.RETURN + 1

#: Rollouts of random actions from which chance comes, and observations of the probe batch.
CHANCE_ROLLOUTS, PROBE = 512, 256


@dataclass(frozen=True, kw_only=True)
class CartPole(Scenario):
    """Balance a pole on a cart; at each level but the first, what the agent sees is shifted by another constant.

    Args:
        tasks: Number of levels.
        rollouts: Rollouts of a level, after each of which the agent is trained on it.
        environments: Carts that are balanced at once in a rollout.
        horizon: Steps of each of them, after which all episodes are cut.
        passes: How often a rollout is passed over.
        batch_size: Actions of a step; a divisor of ``environments`` times ``horizon``.
        shift: Standard deviation of the shift of each of the four senses.
        steps_per_task: Optimizer steps of a level, which follows from the others; 0 fills it in.
        head_policy: Whether weights and bias of the head are set to zero at the start of every level.
        optimizer_policy: Whether the optimizer's state is carried over or cleared at a boundary.
        probe_every: Steps between diagnostics inside a level; 0 for the start and end of each level only.
        late: Number of levels that the score is made of, the last ones; less than ``tasks``, for at the first level the
            agent is a fresh one. 0 fills in all but the first.
        profile: Name of the profile the fields were taken from.
    """

    name: ClassVar[str] = "cartpole"
    default_profile: ClassVar[str] = "lite"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "c_chain": {"rollouts": 200},
        "lite": {"rollouts": 100},
        "smoke": {"tasks": 6, "rollouts": 2, "horizon": 50, "passes": 2, "batch_size": 20},
    }

    profile: str = "lite"
    tasks: int = whole(10, least=1)
    rollouts: int = whole(100, least=1)
    environments: int = whole(2, least=1)
    horizon: int = whole(400, least=1)
    passes: int = whole(5, least=1)
    batch_size: int = whole(32, least=1)
    shift: float = number(2.0, least=0)
    steps_per_task: int = whole(0, least=0)
    late: int = whole(0, least=0)
    head_policy: Literal["zero", "keep"] = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        late = self.late or self.tasks - 1
        if late >= self.tasks:
            raise InvalidInputError(
                f"{self.name}: late must be less than tasks, for at the first level the agent is a fresh one; got "
                f"late={late:,} and tasks={self.tasks:,}; leave late out, or lower it"
            )
        # A derived field of a frozen dataclass; records must hold it.
        object.__setattr__(self, "late", late)
        if self.actions % self.batch_size:
            nearest = min(divisors(self.actions), key=lambda each: abs(each - self.batch_size))
            raise InvalidInputError(
                f"{self.name}: batch_size must be a divisor of environments times horizon, {self.actions:,}, got "
                f"batch_size={self.batch_size}; the nearest is batch_size={nearest}"
            )
        steps = self.rollouts * self.steps_per_rollout
        derive(self, "steps_per_task", steps, "rollouts, environments, horizon, passes and batch_size")

    @property
    def actions(self) -> int:
        """Actions of a rollout."""
        return self.environments * self.horizon

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps after a rollout."""
        return self.passes * self.actions // self.batch_size

    @property
    def default_architecture(self) -> str:  # type: ignore[override] # another for the published profile
        """A policy and a value of three hidden layers each: 256 leaky ReLUs as published, 64 ReLUs otherwise."""
        if self.profile.partition("+")[0] == "c_chain":
            return "actor_critic:widths=256/256/256,activation=leaky_relu"
        return "actor_critic:widths=64/64/64"

    @property
    def data(self) -> None:
        """It plays the game itself."""
        return

    def recipe(self, architecture: str) -> Recipe:
        """Return Adam at 1e-3 for learner and reference."""
        return Recipe(optimizer="adam:lr=1e-3", reference="adam:lr=1e-3")

    def stream(self, seed: int, *, data: object, device: torch.device) -> "CartPoleStream":
        """Return the stream of ``seed``."""
        return CartPoleStream(self, seed, device)


class CartPoleStream(Stream):
    """The levels of one seed, which draws their shifts, the starts of episodes, and the chance in actions."""

    input_shape: Sequence[int] = (4,)
    outputs: int = ACTIONS + 1

    def __init__(self, scenario: CartPole, seed: int, device: torch.device) -> None:
        self.scenario = scenario
        self.seed = seed
        self.device = device

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a fresh generator of the stream's, for one purpose."""
        return rng.derive(self.seed, "data", self.scenario.name, *names)

    def task(self, index: int) -> "CartPoleLevel":
        """Return level ``index``."""
        return CartPoleLevel(self, index)


class CartPoleLevel(Task):
    """The game under one shift of the senses.

    Args:
        stream: The stream it is part of.
        index: Its place in the stream.
    """

    def __init__(self, stream: CartPoleStream, index: int) -> None:
        self.stream = stream
        self.index = index
        self.epoch = stream.scenario.actions // stream.scenario.batch_size  #: Of a rollout.
        drawn = torch.randn(4, generator=stream.generator("shift", index), dtype=torch.float64)
        #: What is added to what the agent sees, ``(4,)``; nothing in the first level.
        self.shift = (stream.scenario.shift * (index > 0) * drawn).to(stream.device)

    @property
    def chance(self) -> float:
        """Mean score of acting at random, whatever the shift."""
        return chance(self.stream.scenario.environments, self.stream.scenario.horizon)

    def batches(self) -> "Rollouts":
        """Return the training stream of the level from its start."""
        return Rollouts(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of PPO."""
        return ppo.loss(outputs, targets, clip=CLIP, value=VALUE, entropy=ENTROPY)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of the rollout that each action is of, ``(N,)``."""
        return targets[:, SCORE]

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield nothing: how well an agent plays is known when it has played."""
        yield from ()

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the first observations of a rollout of random actions, and what they teach."""
        return self._probe

    @cached_property
    def _probe(self) -> tuple[Tensor, Tensor]:
        draws = Draws.of(self.stream.scenario, self.stream.generator("probe", self.index)).to(self.stream.device)
        observations, targets = lessons(play(_at_random, draws.together([draws]), self.shift.view(1, 1, 4)))
        return observations[0, :PROBE], targets[0, :PROBE]


class Draws(NamedTuple):
    """All that is random in a rollout of E environments over T steps, of one replica or ``(T, R, E, ...)`` of several.

    Args:
        chances: Uniform in (0, 1); an action goes right where this is below its probability.
        starts: The state in which an environment begins anew, if its last episode has just ended, ``(T, E, 4)``.
    """

    chances: Tensor
    starts: Tensor

    @classmethod
    def of(cls, scenario: CartPole, generator: torch.Generator) -> Self:
        """Draw for one replica."""
        shape = scenario.horizon, scenario.environments
        chances = torch.rand(shape, generator=generator, dtype=torch.float64)
        return cls(chances, cart_and_pole.starts(*shape, generator=generator))

    @classmethod
    def together(cls, each: Sequence[Self]) -> Self:
        """Return those of several replicas."""
        chances, starts = zip(*each, strict=True)
        return cls(torch.stack(chances, dim=1), torch.stack(starts, dim=1))

    def to(self, device: torch.device) -> Self:
        """Return the same on a device."""
        return type(self)(self.chances.to(device), self.starts.to(device))


class Played(NamedTuple):
    """What R agents did in E environments over T steps.

    Args:
        observations: What they saw before each action, ``(T, R, E, 4)``.
        outputs: What their networks made of it, ``(T, R, E, K + 1)``.
        right: Which action they chose, boolean ``(T, R, E)``.
        fell: Whether the episode ended with it, likewise.
        last: What their networks made of what came after the last action, ``(R, E, K + 1)``.
    """

    observations: Tensor
    outputs: Tensor
    right: Tensor
    fell: Tensor
    last: Tensor


def play(policy: Callable[[Tensor], Tensor], draws: Draws, shift: Tensor) -> Played:
    """Return a rollout of all replicas.

    Args:
        policy: Makes of observations ``(R, E, 4)`` the outputs ``(R, E, K + 1)``.
        draws: What is random, ``(T, R, E, ...)``.
        shift: What is added to what each sees, ``(R, 1, 4)``.
    """
    odds, made = draws.chances.logit(), []
    state = draws.starts[0]
    for time in range(len(odds)):
        seen = (state + shift).float()
        outputs = policy(seen)
        right = outputs[..., 1] - outputs[..., 0] > odds[time]
        state, fell = cart_and_pole.step(state, right)
        made.append((seen, outputs, right, fell))
        if time + 1 < len(odds):
            state = torch.where(fell.unsqueeze(-1), draws.starts[time + 1], state)
    observations, outputs, pushes, falls = (torch.stack(each) for each in zip(*made, strict=True))
    return Played(observations, outputs, pushes, falls, policy((state + shift).float()))


def lessons(played: Played) -> tuple[Tensor, Tensor]:
    """Return observations ``(R, T * E, 4)`` and targets ``(R, T * E, 5)`` of a rollout, in single precision."""
    outputs, right = played.outputs.double(), played.right.long()
    rewards = torch.full_like(outputs[..., -1], REWARD)
    advantages, returns = ppo.advantages_and_returns(
        rewards, outputs[..., -1], played.fell, played.last[..., -1].double(), discount=DISCOUNT, trace=TRACE
    )
    of_replica = (0, 2)  # steps and environments
    centred = advantages - advantages.mean(dim=of_replica, keepdim=True)
    spread = centred.square().mean(dim=of_replica, keepdim=True).sqrt()
    logs = outputs[..., :-1].log_softmax(dim=-1).gather(-1, right.unsqueeze(-1)).squeeze(-1)
    score = scores(played.fell).view(1, -1, 1).expand_as(logs)
    targets = torch.stack([right.double(), logs, centred / (spread + 1e-5), returns, score], dim=-1)
    return _rows(played.observations), _rows(targets).float()


def _rows(values: Tensor) -> Tensor:
    """Return values ``(T, R, E, ...)`` as ``(R, T * E, ...)``."""
    return values.transpose(0, 1).flatten(1, 2)


def scores(fell: Tensor) -> Tensor:
    """Return the mean return of the episodes of each replica's rollout over the largest one, ``(R,)``.

    Each step gives a reward of 1, so that this is the number of environments over that of episodes.
    """
    begun = fell.sum(dim=(0, 2)) + (~fell[-1]).sum(dim=1)
    return fell.shape[2] / begun.double()


@lru_cache
def chance(environments: int, horizon: int) -> float:
    """Return the mean score of acting at random."""
    generator = rng.derive(0, "data", CartPole.name, "chance")
    shape = horizon, CHANCE_ROLLOUTS, environments
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    draws = Draws(drawn, cart_and_pole.starts(*shape, generator=generator))
    return float(scores(play(_at_random, draws, torch.zeros(1, 1, 4)).fell).mean())


def _at_random(observations: Tensor) -> Tensor:
    """Return outputs after which all actions are as likely, and nothing is worth anything."""
    return observations.new_zeros(*observations.shape[:-1], ACTIONS + 1)


class Rollouts(ActingBatches):
    """The rollouts of a level, each passed over in batches before the next.

    Args:
        level: The level.
    """

    def __init__(self, level: CartPoleLevel) -> None:
        scenario = self._scenario = level.stream.scenario
        self._level = level
        self._made = 0  #: Rollouts that were made.
        self._taken = 0  #: Batches that were taken of the last one.
        self._observations, self._targets = (
            torch.zeros(scenario.actions, columns, device=level.stream.device) for columns in (4, SCORE + 1)
        )
        self._order = torch.zeros(self.every * scenario.batch_size, dtype=torch.int64, device=level.stream.device)

    @property
    def sizes(self) -> Sequence[int]:
        """Actions of a batch."""
        return (self._scenario.batch_size,)

    @property
    def every(self) -> int:
        """Batches of a rollout, all passes over it together."""
        return self._scenario.steps_per_rollout

    @property
    def left(self) -> int:
        """Batches that are left of the last rollout."""
        return self.every - self._taken if self._made else 0

    @classmethod
    def act(cls, streams: Sequence[Self], policy: Callable[[Tensor], Tensor]) -> None:
        """Make the next rollout of all replicas."""
        first = streams[0]._level.stream
        drawn = [Draws.of(first.scenario, each._generator("rollout", each._made)) for each in streams]
        shift = torch.stack([each._level.shift for each in streams]).unsqueeze(1)
        played = play(policy, Draws.together(drawn).to(first.device), shift)
        for each, observations, targets in zip(streams, *lessons(played), strict=True):
            each._observations, each._targets = observations, targets
            each._made, each._taken = each._made + 1, 0
            each._shuffle()

    def _generator(self, purpose: str, rollout: int) -> torch.Generator:
        return self._level.stream.generator(purpose, self._level.index, rollout)

    def _shuffle(self) -> None:
        """Draw the order of each pass over the last rollout."""
        generator = self._generator("order", self._made - 1)
        passes = [torch.randperm(self._scenario.actions, generator=generator) for _ in range(self._scenario.passes)]
        self._order = torch.cat(passes).to(self._observations.device)

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        ((observations, targets),) = self.take(1)
        return observations[0], targets[0]

    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the next batches ``(periods, N, 4)`` and their targets ``(periods, N, 5)``."""
        size = self._scenario.batch_size
        rows = self._order[self._taken * size : (self._taken + periods) * size].view(periods, size)
        if self._made:  # those before are blank, and none of them is taken
            self._taken += periods
        return [(self._observations[rows], self._targets[rows])]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the last rollout, and the place in it."""
        place = {"made": torch.tensor(self._made), "taken": torch.tensor(self._taken)}
        return {**place, "observations": self._observations, "targets": self._targets}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._made, self._taken = int(state["made"]), int(state["taken"])
        device = self._observations.device
        self._observations, self._targets = (state[name].to(device, copy=True) for name in ("observations", "targets"))
        if self._made:
            self._shuffle()
