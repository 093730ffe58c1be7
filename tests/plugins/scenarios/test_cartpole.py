"""Continual CartPole: the game, what PPO makes of it, and agents that play it side by side."""

import math

import numpy as np
import pytest
import torch

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench.learner.acting import Actor
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program, why_not
from lopbench_plugins.architectures.actor_critic import ActorCritic
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.dash import Dash
from lopbench_plugins.scenarios import cart_and_pole, ppo
from lopbench_plugins.scenarios.cartpole import CartPole, Draws, chance, play, scores

CPU = torch.device("cpu")
SMALL = {"tasks": 3, "rollouts": 3, "environments": 3, "horizon": 40, "passes": 2, "batch_size": 24}
NETWORK = ActorCritic(widths=(16, 12))


def level(seed=0, index=1, **fields):
    return CartPole(**{**SMALL, **fields}).stream(seed, data=None, device=CPU).task(index)


def constant(action, value=0.5):
    """Return a policy that always does the same."""
    return lambda seen: torch.tensor([50.0 - 100 * action, 0.0, value]).expand(*seen.shape[:-1], 3)


# -- the game


def test_a_push_from_rest_is_that_of_the_equations_of_motion():
    state, fell = cart_and_pole.step(torch.zeros(4, dtype=torch.float64), torch.tensor(True))
    # Force over mass is 10 / 1.1. Each second the pole turns faster by -(10 / 1.1) / (0.5 * (4/3 - 0.1/1.1)) a second,
    # and the cart is faster by 10 / 1.1 + 0.05 * 14.634146 / 1.1.
    np.testing.assert_allclose(state, [0, 0.02 * 9.7560976, 0, -0.02 * 14.6341463], rtol=1e-7)
    assert not fell


@pytest.mark.parametrize(
    ("state", "fails"),
    [
        ((2.39, 1, 0, 0), True),
        ((-2.39, -1, 0, 0), True),
        ((2.3, 1, 0, 0), False),
        ((0, 0, 0.2, 1), True),
        ((0, 0, -0.2, -1), True),
        ((0, 50, 0, 0), False),
        ((0, 0, 0.2, 0.1), False),
    ],
)
def test_it_fails_beyond_the_track_or_twelve_degrees(state, fails):
    _, fell = cart_and_pole.step(torch.tensor(state, dtype=torch.float64), torch.tensor(False))
    assert bool(fell) == fails


def test_each_step_is_that_of_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    game = gymnasium.make("CartPole-v1").unwrapped
    draws = np.random.default_rng(0)
    ends = 0
    for episode in range(30):
        game.reset(seed=episode)
        lean = draws.uniform()
        for _ in range(200):
            state = torch.tensor(np.array(game.state, dtype=np.float64))
            right = bool(
                draws.uniform() < (lean if episode % 2 else 0.5 - 2 * (state[2] < 0) + 1 * (draws.uniform() < 0.2))
            )
            ours, fell = cart_and_pole.step(state, torch.tensor(right))
            _, reward, terminated, _, _ = game.step(int(right))
            np.testing.assert_allclose(ours, np.array(game.state, dtype=np.float64), rtol=1e-12, atol=1e-15)
            assert (bool(fell), reward) == (terminated, 1.0)
            if terminated:
                ends += 1
                break
    assert ends > 20


def test_many_carts_at_once_are_as_each_alone():
    states = cart_and_pole.starts(2, 3, generator=torch.Generator().manual_seed(0)) * 20
    right = torch.tensor([[True, False, True], [False, False, True]])
    together, fell = cart_and_pole.step(states, right)
    for place in np.ndindex(2, 3):
        alone, alone_fell = cart_and_pole.step(states[place], right[place])
        assert torch.equal(together[place], alone)
        assert fell[place] == alone_fell


# -- what is taught


def naive(rewards, values, over, last, discount, trace):
    """Advantages and returns of one environment, episode by episode, each as sums over what comes after."""
    steps, advantages, returns, begin = len(rewards), [], [], 0
    while begin < steps:
        end = next((t + 1 for t in range(begin, steps) if over[t]), steps)
        tail = 0.0 if over[end - 1] else last
        of_episode = [*values[begin:end], tail]
        surprises = [
            rewards[t] + discount * of_episode[t - begin + 1] - of_episode[t - begin] for t in range(begin, end)
        ]
        for t in range(begin, end):
            advantages.append(sum((discount * trace) ** k * s for k, s in enumerate(surprises[t - begin :])))
            returns.append(sum(discount**k * r for k, r in enumerate(rewards[t:end])) + discount ** (end - t) * tail)
        begin = end
    return advantages, returns


def test_advantages_and_returns_are_those_of_each_episode_alone():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.rand(2, 30, 4, generator=generator, dtype=torch.float64)
    over, last = torch.rand(30, 4, generator=generator) < 0.2, torch.rand(4, generator=generator, dtype=torch.float64)
    over[-1, 0] = True
    found = ppo.advantages_and_returns(rewards, values, over, last, discount=0.9, trace=0.8)
    for place in range(4):
        parts = (each[..., place].tolist() for each in (rewards, values, over, last))
        for ours, theirs in zip(found, naive(*parts, 0.9, 0.8), strict=True):
            np.testing.assert_allclose(ours[:, place], theirs, rtol=1e-12)


def test_loss_is_the_clipped_objective_with_value_and_entropy():
    outputs = torch.tensor([[0.0, math.log(3), 2.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    # Probabilities of the actions taken: 3/4, which was 1/2, and 1/2, which was 5/8: ratios 1.5 and 0.8.
    targets = torch.tensor([[1, math.log(0.5), 2.0, 1.0, 0], [0, math.log(0.625), -1.0, 1.0, 0]], dtype=torch.float64)
    objective = (1.2 * 2.0 + 0.8 * -1.0) / 2  # the first is clipped, for its advantage is positive
    entropy = (-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) + math.log(2)) / 2
    found = ppo.loss(outputs, targets, clip=0.2, value=0.5, entropy=0.01)
    assert float(found) == pytest.approx(0.5 * (1 + 4) / 2 - objective - 0.01 * entropy, rel=1e-12)


def test_a_rollout_shows_what_is_shifted_and_begins_anew_where_a_pole_fell():
    task = level()
    draws = Draws.together([Draws.of(task.stream.scenario, torch.Generator().manual_seed(0))])
    played = play(constant(1), draws, task.shift.view(1, 1, 4))
    seen = (played.observations.double() - task.shift)[:, 0]  # (T, E, 4)
    torch.testing.assert_close(seen[0], draws.starts[0, 0], rtol=0, atol=1e-6)
    assert played.right.all()
    for time in range(39):
        after, _ = cart_and_pole.step(seen[time], played.right[time, 0])
        fell = played.fell[time, 0]
        expected = torch.where(fell.unsqueeze(-1), draws.starts[time + 1, 0], after)
        torch.testing.assert_close(seen[time + 1], expected, rtol=0, atol=2e-6)
    assert 9 <= played.fell.sum() <= 15  # a push to one side makes it fall in some ten steps


def test_score_is_the_mean_return_over_the_largest():
    fell = torch.zeros(10, 2, 2, dtype=torch.bool)
    fell[3, 0, 0] = fell[9, 0, 0] = True  # the first agent has episodes of 4, 6 and 10, the second of 10 and 10
    torch.testing.assert_close(scores(fell), torch.tensor([20 / 3 / 10, 1.0], dtype=torch.float64))


def test_chance_is_what_acting_at_random_scores():
    generator = torch.Generator().manual_seed(1)
    draws = Draws(*(torch.rand(400, 300, 2, *last, generator=generator, dtype=torch.float64) for last in ((), (4,))))
    draws = draws._replace(starts=(2 * draws.starts - 1) * 0.05)
    found = scores(play(constant(0.5), draws, torch.zeros(1, 1, 4)).fell)
    assert chance(2, 400) == pytest.approx(float(found.mean()), abs=4 * float(found.std()) / 300**0.5)
    assert 21 < 400 * chance(2, 400) < 23  # steps of an episode


# -- the stream


def test_levels_are_shifted_by_draws_of_the_seed_and_the_first_by_none():
    shifts = [[level(seed, index, shift=2.0).shift for index in range(3)] for seed in range(200)]
    assert not any(each[0].any() for each in shifts)
    assert torch.equal(shifts[0][2], level(0, 2).shift)
    drawn = torch.stack([shift for each in shifts for shift in each[1:]])
    assert drawn.mean().abs() < 0.2
    assert 1.85 < drawn.std() < 2.15
    assert not level(shift=0.0).shift.any()


def test_each_pass_over_a_rollout_has_each_of_its_actions_once():
    batches = level().batches()
    assert (batches.sizes, batches.every, batches.left) == ((24,), 10, 0)
    batches.act([batches], constant(0.6))
    ((seen, targets),) = batches.take(10)
    assert batches.left == 0
    passes = seen.view(2, 120, 4)
    assert not torch.equal(passes[0], passes[1])
    assert all(sorted(map(tuple, each.tolist())) == sorted(map(tuple, passes[0].tolist())) for each in passes)
    advantages = targets.view(2, 120, 5)[0, :, ppo.ADVANTAGE].double()
    assert advantages.mean().abs() < 1e-5
    assert advantages.std(correction=0) == pytest.approx(1, rel=1e-3)
    assert targets[..., -1].unique().numel() == 1
    before = seen
    batches.act([batches], constant(0.6))
    assert not torch.equal(batches.take(10)[0][0], before)


def test_old_probabilities_are_those_of_the_policy_that_acted():
    batches = level().batches()
    batches.act([batches], constant(0.5 + math.log(3) / 100))  # log-odds of log 3 for the second action
    ((_, targets),) = batches.take(5)
    action = targets[..., ppo.ACTION]
    wanted = torch.where(action == 1, math.log(0.75), math.log(0.25))
    torch.testing.assert_close(targets[..., ppo.LOG_PROBABILITY], wanted)
    assert 0.65 < action.mean() < 0.85


def test_chunks_are_the_batches_one_by_one_and_a_stream_resumes_within_a_rollout():
    single, chunked, resumed = (level().batches() for _ in range(3))
    for each in (single, chunked):
        each.act([each], constant(0.4))
    expected = [next(single) for _ in range(10)]
    ((seen, targets),) = chunked.take(4)
    assert torch.equal(seen, torch.stack([x for x, _ in expected[:4]]))
    assert torch.equal(targets, torch.stack([y for _, y in expected[:4]]))
    resumed.load_state_dict({name: value.clone() for name, value in chunked.state_dict().items()})
    for each in (chunked, resumed):
        assert each.left == 6
        assert torch.equal(each.take(6)[0][1], torch.stack([y for _, y in expected[4:]]))
        each.act([each], constant(0.4))
    assert torch.equal(chunked.take(3)[0][0], resumed.take(3)[0][0])


def test_the_probe_is_of_random_actions_at_the_level():
    task = level(horizon=100, environments=4, batch_size=20)
    seen, targets = task.probe()
    assert seen.shape == (256, 4)
    assert ((seen.double() - task.shift)[:, [0, 2]].abs() < 2.5).all()
    assert 0.3 < targets[:, ppo.ACTION].mean() < 0.7
    assert torch.equal(task.probe()[0], level(horizon=100, environments=4, batch_size=20).probe()[0])


# -- agents


class Agents:
    """Agents at one level, which are trained by a program, or step by step."""

    def __init__(self, seeds=(0, 1), *, by_program=False, lr=1e-2, dtype=torch.float64, **fields):
        tasks = [level(seed, **fields) for seed in seeds]
        self.streams, self.task = [task.batches() for task in tasks], tasks[0]
        inputs, targets = next(tasks[0].batches())
        self.learner = StackLearner(
            build=lambda generator: NETWORK.build((4,), 3, generator=generator),
            seeds=seeds,
            methods=[],
            optimizer=Adam(lr=lr),
            example=inputs,
            targets=targets,
            outputs=3,
            head=NETWORK.head,
            layers=NETWORK.layers,
            dtype=dtype,
        )
        self.learner.begin_task(1, tasks, first=True, reset_optimizer=False, zero_head=False)
        self.actor, self.program = Actor(self.learner), None
        if by_program:
            period = [tuple(part.expand(len(seeds), *part.shape) for part in (inputs, targets))]
            assert why_not(self.learner, tasks[0], period) is None
            self.program = Program(self.learner, tasks[0], period, unroll=5, compiled=False)

    def learn(self, rollouts):
        """Return the mean score of each replica in each rollout, ``(rollouts, R)``."""
        found = []
        for _ in range(rollouts):
            every = self.actor.act(self.streams)
            if self.program is None:
                taken = [self.learner.step([next(each) for each in self.streams]).scores for _ in range(every)]
                found.append(taken[0])
                continue
            parts = zip(*(each.take(every)[0] for each in self.streams), strict=True)
            found.append(self.program.advance(self.learner, [tuple(parts)]).scores[0])
        return torch.stack(found)


def test_agents_learn_to_balance():
    agents = Agents(seeds=(0, 1, 2), by_program=True, dtype=torch.float32, horizon=100, passes=4, batch_size=30)
    found = agents.learn(15)
    assert found.shape == (15, 3)
    early, late = found[:3].mean(dim=0), found[-5:].mean(dim=0)
    assert (late > 1.5 * early).all(), (early, late)


@pytest.mark.parametrize("by_program", [False, True])
def test_agents_beside_others_are_as_each_alone(by_program):
    together, alone = Agents(seeds=(0, 1, 2), by_program=by_program), Agents(seeds=(1,))
    torch.testing.assert_close(together.learn(3)[:, 1:2], alone.learn(3))
    for name, value in alone.learner.view.parameters.items():
        torch.testing.assert_close(together.learner.view.parameters[name][1:2], value, rtol=1e-5, atol=1e-6)


def test_a_method_that_looks_ahead_sees_what_the_networks_do_at_the_coming_level():
    agents = Agents(seeds=(0, 1))
    coming = [level(seed, 2) for seed in (0, 1)]
    boundary = agents.learner.boundary
    boundary.tasks = coming
    with boundary.crossing(Dash()):
        seen = list(boundary.coming(None))
    assert len(seen) == 5  # one pass
    streams = [task.batches() for task in coming]
    assert agents.actor.act(streams) == 10
    for inputs, targets in seen:
        wanted = zip(*(next(each) for each in streams), strict=True)
        for part, other in zip((inputs, targets), wanted, strict=True):
            torch.testing.assert_close(part.float(), torch.stack(other))


# -- the protocol


def test_profiles_are_as_published_and_calibrated():
    published, lite = (parse_scenario("cartpole", profile).build() for profile in ("c_chain", "lite"))
    for each in (published, lite):
        assert (each.tasks, each.actions, each.horizon, each.passes, each.batch_size) == (10, 800, 400, 5, 32)
        assert (each.shift, each.steps_per_rollout, each.head_policy) == (2.0, 125, "keep")
        assert each.recipe("actor_critic").reference == "adam:lr=1e-3"
        assert each.late_tasks == range(1, 10)  # all levels but the first
    assert (published.steps_per_task, lite.steps_per_task) == (25_000, 12_500)


@pytest.mark.parametrize(("profile", "width", "activation"), [("c_chain", 256, "LeakyReLU"), ("lite", 64, "ReLU")])
def test_the_default_network_is_a_policy_and_a_value_of_three_layers(profile, width, activation):
    scenario = parse_scenario("cartpole", profile).build()
    architecture = ComponentSpec.parse("architectures", scenario.default_architecture).build()
    network = architecture.build((4,), 3, generator=torch.Generator().manual_seed(0))
    one = 4 * width + 2 * width**2 + 3 * width
    assert sum(each.numel() for each in network.parameters()) == 2 * one + 3 * width + 3
    assert sum(type(each).__name__ == activation for each in network.modules()) == 6


@pytest.mark.parametrize(("fields", "late"), [("tasks=5", 4), ("tasks=2", 1), ("tasks=5,late=3", 3), ("late=0", 9)])
def test_the_first_level_is_never_scored(fields, late):
    scenario = parse_scenario(f"cartpole:{fields}").build()
    assert (scenario.late, len(scenario.late_tasks)) == (late, late)
    assert 0 not in scenario.late_tasks


def test_records_hold_how_many_levels_are_scored():
    fields = {profile: parse_scenario("cartpole", profile).fields["late"] for profile in CartPole.profiles}
    assert fields == {"c_chain": 9, "lite": 9, "smoke": 5}


@pytest.mark.parametrize("late", [5, 9])
def test_scoring_the_first_level_is_refused(late):
    with pytest.raises(InvalidInputError, match=f"late must be less than tasks, .* got late={late} and tasks=5; leave"):
        parse_scenario(f"cartpole:tasks=5,late={late}")


def test_fields_that_do_not_fit_are_refused_before_training():
    for size, nearest in ((25, 24), (70, 60), (500, 120)):
        told = f"environments times horizon, 120, got batch_size={size}; the nearest is batch_size={nearest}"
        with pytest.raises(InvalidInputError, match=told):
            CartPole(**{**SMALL, "batch_size": size})
    with pytest.raises(
        InvalidInputError, match=r"steps_per_task follows from rollouts.* and is 30, got 31; leave it out"
    ):
        CartPole(**SMALL, steps_per_task=31)
    with pytest.raises(InvalidInputError, match="shift must be at least 0, got -1"):
        CartPole(shift=-1)
    with pytest.raises(UnsupportedError, match="at least 2 outputs, not 1; use mlp"):
        NETWORK.build((4,), 1, generator=torch.Generator())
