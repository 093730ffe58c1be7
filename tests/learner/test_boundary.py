from typing import Any

import pytest
import torch
from learner_toys import (
    BATCH_NORM,
    DROPOUT,
    MOMENTUM,
    REFERENCE,
    SMALL,
    Recycler,
    Restart,
    ToyTask,
    cross,
    equal,
    make,
    method,
    snapshot,
    tasks_of,
    train,
)

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Learner, Perturbation, State
from lopbench.learner.learner import StackLearner

SEEDS = pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one", "two"])


def test_only_a_method_that_acts_at_boundaries_is_told_of_one() -> None:
    told: list[str] = []

    def on_task_start(self: Perturbation, learner: Learner, state: State) -> None:
        assert not torch.is_grad_enabled()
        told.append("on_task_start")

    at_boundaries = method(on_task_start=on_task_start)
    assert at_boundaries.track == "boundary-aware"
    assert Recycler().track == "boundary-free"
    learner = make(methods=[Recycler(), at_boundaries])
    cross(learner, 0, first=True, zero_head=True)
    assert told == []
    for index in (1, 2):
        cross(learner, index, zero_head=True)
    assert told == ["on_task_start"] * 2


@pytest.mark.parametrize("first", [True, False])
@SEEDS
def test_a_boundary_zeroes_the_head_and_keeps_all_else(seeds: tuple[int, ...], first: bool) -> None:
    learner = make(BATCH_NORM, seeds)
    train(learner, range(3))
    before = snapshot(learner.state_dict())
    cross(learner, 1, first=first, zero_head=True)
    assert learner.view.head == ("out.weight", "out.bias")
    after = learner.state_dict()
    assert before["optimizer/out.weight/exp_avg"].any()
    for name, value in before.items():
        if name in ("parameter/out.weight", "parameter/out.bias"):
            assert not after[name].any()
        else:
            assert torch.equal(after[name], value)


def test_the_head_is_kept_where_the_protocol_keeps_it() -> None:
    learner = make()
    before = snapshot(learner.state_dict())
    cross(learner, 1)
    assert equal(learner.state_dict(), before)


def test_the_reset_policy_clears_the_optimizer_at_later_tasks() -> None:
    learner = make()
    train(learner, range(3))
    cross(learner, 0, first=True, reset_optimizer=True)
    assert learner.optimizer.state_dict()
    cross(learner, 1, reset_optimizer=True)
    assert not learner.optimizer.state_dict()


# --- becoming the fresh reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", [(Restart(),), (Recycler(), Restart())], ids=["plain", "resets"])
@pytest.mark.parametrize("architecture", [SMALL, BATCH_NORM, DROPOUT], ids=["none", "batch", "dropout"])
def test_a_restart_is_the_fresh_reference_bit_for_bit(architecture: Any, methods: tuple[Perturbation, ...]) -> None:
    learner = make(architecture, seeds=(3,), methods=methods, optimizer=MOMENTUM)
    train(learner, range(3))
    cross(learner, 5, zero_head=True)
    fresh = make(architecture, seeds=(3,), optimizer=REFERENCE, init_index=5)
    cross(fresh, 5, first=True, zero_head=True)
    assert learner.optimizer.lr.tolist() == [REFERENCE.lr]
    steps = range(2)  # fewer than the recycler waits for
    for ours, theirs in zip(train(learner, steps, index=5), train(fresh, steps, index=5), strict=True):
        assert torch.equal(ours.losses, theirs.losses)
    assert equal(learner.view.parameters, fresh.view.parameters)
    assert equal(learner.view.buffers, fresh.view.buffers)
    assert equal(learner.optimizer.state_dict(), fresh.optimizer.state_dict())


def test_boundaries_act_on_every_replica_alike() -> None:
    together = make(seeds=(4, 9), methods=[Restart()])
    apart = [make(seeds=(seed,), methods=[Restart()]) for seed in (4, 9)]
    for learner in (together, *apart):
        train(learner, range(3))
        cross(learner, 1, zero_head=True)
    for replica, learner in enumerate(apart):
        for name in learner.view.parameters:
            assert torch.equal(together.view.parameters[name][replica], learner.view.parameters[name][0])


def restarts(self: Perturbation, learner: Learner, state: State) -> None:
    learner.restart()


@pytest.mark.parametrize("hook", ["begin", "after_backward", "after_step"])
def test_a_restart_is_refused_inside_of_tasks(hook: str) -> None:
    learner = make(methods=[method(**{hook: restarts})], waiting=True)
    sentence = f"^method 'method', hook {hook}: learner.restart may be called only in the hook on_task_start$"

    def act() -> None:
        learner.turn_on()
        train(learner, range(1))

    with pytest.raises(UnsupportedError, match=sentence):
        act()


def clears(self: Perturbation, learner: Learner, state: State) -> None:
    learner.optimizer.clear()


@pytest.mark.parametrize("hook", ["begin", "after_backward", "after_step"])
def test_only_methods_that_act_at_boundaries_clear_the_whole_optimizer(hook: str) -> None:
    learner = make(methods=[method(**{hook: clears})], waiting=True)
    sentence = f"^method 'method', hook {hook}: clearing the whole optimizer is for methods that act at boundaries"

    def act(learner: StackLearner) -> None:
        learner.turn_on()
        train(learner, range(1))

    with pytest.raises(UnsupportedError, match=sentence):
        act(learner)
    act(make(methods=[method(**{hook: clears, "on_task_start": clears})], waiting=True))


def test_the_protocol_clears_the_optimizer_beside_any_method() -> None:
    learner = make(methods=[method(after_step=lambda self, learner, state: None)])
    train(learner, range(3))
    cross(learner, 1, reset_optimizer=True)
    assert not any(bool(value.any()) for value in learner.optimizer.state_dict().values() if value.is_floating_point())


# --- data of the task that begins -----------------------------------------------------------------------------------


def looks(steps: int | None, **others: Any) -> Perturbation:
    """A method that keeps what it sees of the coming task."""

    def look(self: Perturbation, learner: Learner, state: State) -> None:
        inputs, targets = zip(*learner.coming(steps), strict=True)
        state["inputs"], state["targets"] = torch.stack(inputs), torch.stack(targets)

    return method(on_task_start=look, **others)


@SEEDS
def test_coming_data_are_the_batches_of_the_task_and_counted(seeds: tuple[int, ...]) -> None:
    learner = make(seeds=seeds, methods=[looks(3, uses_data=True)])
    assert learner.boundary.samples_ahead == 0
    cross(learner, 2)
    inputs, targets = learner.states[0]["inputs"], learner.states[0]["targets"]
    assert inputs.shape[:3] == (3, len(seeds), 12)
    for replica, task in enumerate(tasks_of(learner, 2)):
        stream = task.batches()
        for step in range(3):
            x, y = next(stream)
            assert torch.equal(inputs[step, replica], x)
            assert torch.equal(targets[step, replica], y)
    assert learner.boundary.samples_ahead == 3 * 12
    cross(learner, 3)
    assert learner.boundary.samples_ahead == 2 * 3 * 12
    resumed = make(seeds=seeds, methods=[looks(3, uses_data=True)])
    resumed.load_state_dict(learner.state_dict())
    assert resumed.boundary.samples_ahead == 2 * 3 * 12


def test_coming_data_are_of_the_type_of_the_run() -> None:
    learner = make(methods=[looks(1, uses_data=True)], dtype=torch.float64)
    cross(learner, 1)
    assert learner.states[0]["inputs"].dtype == torch.float64
    assert learner.states[0]["targets"].dtype == torch.int64


def test_none_is_one_pass_over_the_data_of_a_task() -> None:
    class Repeating(ToyTask):
        epoch = 4

    learner = make(methods=[looks(None, uses_data=True)])
    learner.begin_task(1, [Repeating(0, 1)], first=False, reset_optimizer=False, zero_head=False)
    assert len(learner.states[0]["inputs"]) == 4
    with pytest.raises(
        UnsupportedError, match=r"^method 'method', hook on_task_start: the samples of this stream neve"
    ):
        cross(learner, 2)


def test_coming_data_are_for_methods_that_say_so() -> None:
    with pytest.raises(
        UnsupportedError, match=r"^method 'method', hook on_task_start: learner\.coming .* uses_data = True$"
    ):
        cross(make(methods=[looks(1)]), 1)


def test_coming_data_are_refused_inside_of_tasks() -> None:
    def look(self: Perturbation, learner: Learner, state: State) -> None:
        learner.coming(1)  # refused when it is asked for, and not only when it is looked at

    learner = make(methods=[method(after_step=look, uses_data=True)])
    with pytest.raises(
        UnsupportedError, match=r"^method 'method', hook after_step: learner\.coming may be called only"
    ):
        train(learner, range(1))
    assert learner.boundary.samples_ahead == 0


def test_coming_data_cannot_be_kept_for_later() -> None:
    kept: list[Any] = []

    def keep(self: Perturbation, learner: Learner, state: State) -> None:
        kept.append(learner.coming(2))
        next(kept[-1])

    learner = make(methods=[method(on_task_start=keep, uses_data=True)])
    cross(learner, 1)
    with pytest.raises(UnsupportedError, match=r"learner\.coming may be called only in the hook on_task_start"):
        next(kept[-1])
    assert learner.boundary.samples_ahead == 12


def test_the_data_of_another_method_are_not_for_all() -> None:
    learner = make(methods=[looks(1, uses_data=True), looks(1)])
    with pytest.raises(UnsupportedError, match="uses_data = True"):
        cross(learner, 1)
    assert learner.boundary.samples_ahead == 12
