import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from learner_toys import (
    DROPOUT,
    SGD,
    SMALL,
    Noise,
    Recycler,
    ToyTask,
    cross,
    equal,
    make,
    method,
    train,
    train_by_program,
)
from torch import Tensor

from lopbench.core.errors import InvalidInputError, LopbenchError, PluginError, UnsupportedError
from lopbench.core.interfaces import Learner, Perturbation, State
from lopbench_plugins.perturbations.cbp import ContinualBackprop

SEEDS = pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one", "two"])

# --- order ----------------------------------------------------------------------------------------------------------


def recorder(log: list[str], label: str, **others: Any) -> Perturbation:
    """A method that writes down which of its hooks is called."""

    def act(hook: str) -> Callable[..., None]:
        def called(self: Perturbation, learner: Learner, state: State) -> None:
            assert not torch.is_grad_enabled()
            log.append(f"{label} {hook}")

        return called

    def batch(self: Perturbation, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> Any:
        assert not torch.is_grad_enabled()
        log.append(f"{label} batch")
        return inputs, targets

    def loss(self: Perturbation, learner: Learner, state: State, loss: Tensor) -> Tensor:
        assert torch.is_grad_enabled()
        assert loss.requires_grad
        log.append(f"{label} loss")
        return loss

    def penalty(self: Perturbation, learner: Learner, state: State) -> Tensor:
        assert torch.is_grad_enabled()
        assert all(value.requires_grad for value in learner.differentiable.values())
        log.append(f"{label} penalty")
        return torch.zeros(learner.replicas)

    def after_backward(self: Perturbation, learner: Learner, state: State) -> None:
        assert set(learner.gradients) == set(learner.parameters)
        act("after_backward")(self, learner, state)

    def update(self: Perturbation, learner: Learner, state: State) -> None:
        assert set(learner.updates) == set(learner.parameters)
        act("update")(self, learner, state)

    def told(hook: str) -> Callable[..., Mapping[str, Tensor]]:
        def called(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
            act(hook)(self, learner, state)
            return {}

        return called

    def configure(self: Perturbation, module: Any, **others: Any) -> Any:
        log.append(f"{label} configure")
        return module

    simple = {hook: act(hook) for hook in ("begin", "on_task_start", "after_step")}
    told_of = {hook: told(hook) for hook in ("evaluated", "report")}
    in_steps = {"batch": batch, "loss": loss, "penalty": penalty, "after_backward": after_backward, "update": update}
    return method(configure=configure, **simple, **told_of, **in_steps, **others)


@SEEDS
def test_hooks_act_in_their_order_left_to_right(seeds: tuple[int, ...]) -> None:
    log: list[str] = []
    learner = make(seeds=seeds, methods=[recorder(log, "a"), recorder(log, "b")])
    assert log == ["a configure", "b configure"] * len(seeds) + ["a begin", "b begin"]
    log.clear()
    cross(learner, 1)
    train(learner, range(1))
    learner.evaluate(0, ToyTask(0))
    learner.reports()
    hooks = [
        *("on_task_start", "batch", "loss", "penalty", "after_backward", "update", "after_step", "evaluated", "report")
    ]
    assert log == [f"{label} {hook}" for hook in hooks for label in "ab"]


@SEEDS
def test_a_method_at_strength_zero_is_never_called(seeds: tuple[int, ...]) -> None:
    log: list[str] = []
    learner = make(seeds=seeds, methods=[recorder(log, "a", active=False)])
    plain = make(seeds=seeds)
    for each in (learner, plain):
        train(each, range(2))
        cross(each, 1, zero_head=True)
        train(each, range(2), index=1)
    assert learner.evaluate(0, ToyTask(0)) == plain.evaluate(0, ToyTask(0))
    assert learner.reports() == {}
    assert log == []
    assert equal(learner.view.parameters, plain.view.parameters)


# --- misuse is one sentence that names method and hook --------------------------------------------------------------


def returns(value: Any) -> Callable[..., Any]:
    """A hook that returns ``value``, or what a function makes of the learner."""
    return lambda self, learner, *others: value(learner) if callable(value) else value


def assigns(what: str, name: str = "out.weight") -> Callable[..., None]:
    def hook(self: Perturbation, learner: Learner, state: State) -> None:
        tensors: Any = getattr(learner, what)
        tensors[name] = torch.zeros_like(tensors[name])

    return hook


def keeps_a_number(self: Perturbation, learner: Learner, state: State) -> None:
    state["k"] = 0  # type: ignore[assignment]


def grows(self: Perturbation, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> Any:
    return torch.cat([inputs, inputs], 1), torch.cat([targets, targets], 1)


def nameless(self: Perturbation, learner: Learner, state: State) -> None:
    learner.optimizer.hold("out.wieght")


MISUSES: dict[str, tuple[str, Any, str]] = {
    "parameter": ("after_step", assigns("parameters"), r"'out\.weight' cannot be assigned: .* in place"),
    "gradient": ("after_backward", assigns("gradients"), r"'out\.weight' cannot be assigned: .* in place"),
    "update": ("update", assigns("updates"), r"'out\.weight' cannot be assigned: .* in place"),
    "new": ("begin", lambda self, learner, state: learner.parameters.update(w=1), "neither added nor removed"),
    "number": ("begin", keeps_a_number, r"state\['k'\] must be a tensor, got int; .* state\.host\['k'\]"),
    "number in a step": ("after_step", keeps_a_number, r"state\['k'\] must be a tensor, got int"),
    "penalty shape": (
        "penalty",
        returns(lambda learner: torch.zeros(learner.replicas, 1)),
        r"it must return a number for each replica, shape \((\d),\), got shape \(\1, 1\)",
    ),
    "penalty scalar": ("penalty", returns(torch.zeros(())), r"shape \(\d,\), got shape \(\)"),
    "penalty None": ("penalty", returns(None), "it must return a number for each replica, .* got nothing"),
    "penalty number": ("penalty", returns(0.0), "it must return a number for each replica, .* got float"),
    "loss shape": ("loss", returns(lambda learner: torch.zeros(5)), r"for each replica, .* got shape \(5,\)"),
    "loss None": ("loss", returns(None), "it must return a number for each replica, .* got nothing"),
    "batch None": ("batch", returns(None), "it must return inputs and targets, two tensors, got nothing"),
    "batch alone": ("batch", returns(lambda learner: learner.inputs), r"two tensors, got shape \(\d, 12, 3, 4, 4\)"),
    "batch rows": (
        "batch",
        returns(lambda learner: (learner.inputs[0], learner.targets)),
        r"inputs must be \(\d, N, \.\.\.\), a row for each replica, got \(12, 3, 4, 4\)",
    ),
    "batch sizes": (
        "batch",
        returns(lambda learner: (learner.inputs, learner.targets[:, :3])),
        r"targets must be \((\d), N, \.\.\.\), a row for each replica, got \(\1, 3\)",
    ),
    "batch in place": (
        "batch",
        lambda self, learner, state, inputs, targets: (inputs.mul_(2), targets),
        "it changed the batch in place, which is measured as well; return a new tensor",
    ),
    "loss in place": (
        "loss",
        lambda self, learner, state, loss: loss.mul_(2),
        "it changed the loss in place, which is",
    ),
    "batch grew": ("batch", grows, "the batch has grown from 12 to 24 samples; .* declares uses_replay = True"),
    "begin": ("begin", returns(3), "it must change tensors in place and return nothing, got int"),
    "on_task_start": ("on_task_start", returns(lambda learner: learner.parameters), "return nothing, got Named"),
    "after_backward": ("after_backward", returns({}), "it must change tensors in place and return nothing, got dict"),
    "update returned": ("update", returns(torch.zeros(2)), r"and return nothing, got shape \(2,\)"),
    "after_step": ("after_step", returns(False), "and return nothing, got bool"),
    "evaluated unknown": (
        "evaluated",
        returns({"out.wieght": torch.zeros(1)}),
        r"the network has no parameter or buffer 'out\.wieght'",
    ),
    "evaluated shape": (
        "evaluated",
        returns({"out.bias": torch.zeros(4)}),
        r"'out\.bias' must be of shape \(\d, 4\), got shape \(4,\)",
    ),
    "evaluated number": ("evaluated", returns({"out.bias": 0.0}), r"'out\.bias' must be of shape .* got float"),
    "evaluated None": ("evaluated", returns(None), "it must return tensors by name, got nothing"),
    "report None": ("report", returns(None), "it must return numbers by name, got nothing"),
    "report tensor": ("report", returns(torch.zeros(1)), r"it must return numbers by name, got shape \(1,\)"),
    "report shape": ("report", returns({"n": torch.zeros(7)}), r"for each replica, shape \(\d,\), got shape \(7,\)"),
    "report number": ("report", returns({"n": 0.5}), "for each replica, .* got float"),
    "optimizer": ("begin", nameless, r"the optimizer has no parameter 'out\.wieght'; see learner\.parameters"),
}


def use(learner_of: Callable[[], Any], steps: Callable[..., Any]) -> None:
    """Call every hook once."""
    learner = learner_of()
    cross(learner, 1)
    steps(learner, range(2))
    learner.evaluate(0, ToyTask(0))
    learner.reports()


@pytest.mark.parametrize("misuse", MISUSES)
@SEEDS
def test_misuse_is_one_sentence_that_names_method_and_hook(misuse: str, seeds: tuple[int, ...]) -> None:
    hook, function, sentence = MISUSES[misuse]
    with pytest.raises(LopbenchError, match=rf"^method 'method', hook {hook}: .*{sentence}") as caught:
        use(lambda: make(seeds=seeds, methods=[Noise(), method(**{hook: function})]), train)
    assert isinstance(caught.value, InvalidInputError | UnsupportedError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_the_same_sentence_in_a_program(misuse: str) -> None:
    hook, function, sentence = MISUSES[misuse]
    with pytest.raises(LopbenchError, match=rf"^method 'method', hook {hook}: .*{sentence}"):
        use(lambda: make(seeds=(0, 1), methods=[Noise(), method(**{hook: function})]), train_by_program)


def test_a_batch_may_grow_where_samples_are_kept() -> None:
    learner = make(methods=[method(batch=grows, uses_replay=True)])
    train(learner, range(1))
    assert learner.view.inputs.shape[1] == 24
    assert learner.methods[0].track == "replay"


def test_an_error_of_the_methods_own_is_left_as_it_is_and_says_where() -> None:
    def broken(self: Perturbation, learner: Learner, state: State) -> None:
        raise KeyError("mine")

    learner = make(methods=[Noise(), method(after_step=broken)])
    with pytest.raises(KeyError, match="mine") as caught:
        train(learner, range(1))
    assert caught.value.__notes__ == ["in method, hook after_step"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("after_steps", "after_step"), ("on_task_begin", None), ("on_task_starts", "on_task_start"), ("losses", "loss")],
)
def test_a_misspelt_hook_is_refused_where_it_is_defined(name: str, meant: str | None) -> None:
    def define() -> object:
        return type("Typo", (Perturbation,), {"name": "typo", name: lambda self, learner, state: None})

    if meant is None:
        define()  # like no hook, and so a function of the method's own
        return
    sentence = rf"^Typo has '{name}', which is no hook and is never called\. Did you mean '{meant}'\?"
    with pytest.raises(PluginError, match=sentence):
        define()


# --- who acted ------------------------------------------------------------------------------------------------------


def idle_everywhere() -> Perturbation:
    """A method that looks at everything and changes nothing."""

    def look(self: Perturbation, learner: Learner, state: State) -> None:
        for tensors in (learner.parameters, learner.buffers):
            for tensor in tensors.values():
                tensor.abs().sum()
        state["seen"] = learner.parameters["out.bias"].clone()

    def hooks() -> dict[str, Any]:
        return dict.fromkeys(("begin", "on_task_start", "after_backward", "update", "after_step"), look)

    return method(
        **hooks(),
        batch=lambda self, learner, state, inputs, targets: (inputs, targets),
        loss=lambda self, learner, state, loss: loss,
        evaluated=lambda self, learner, state: {},
        report=lambda self, learner, state: {"seen": state["seen"].sum(1)},
    )


def changes(what: str) -> Callable[..., None]:
    def hook(self: Perturbation, learner: Learner, state: State) -> None:
        getattr(learner, what)["out.bias"].mul_(0.5)

    return hook


def clears_in_batch(self: Perturbation, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> Any:
    learner.optimizer.clear("out.bias")
    return inputs, targets


ACTS: dict[str, Any] = {
    "gradients": {"after_backward": changes("gradients")},
    "updates": {"update": changes("updates")},
    "parameters": {"after_step": changes("parameters")},
    "batch": {"batch": lambda self, learner, state, inputs, targets: (2 * inputs, targets)},
    "targets": {"batch": lambda self, learner, state, inputs, targets: (inputs, targets.flip(1))},
    "loss": {"loss": lambda self, learner, state, loss: 2 * loss},
    "penalty": {"penalty": lambda self, learner, state: 0 * learner.outputs.flatten(1).sum(1)},
    "optimizer": {"after_backward": lambda self, learner, state: learner.optimizer.clear("out.bias")},
    "optimizer in batch": {"batch": clears_in_batch},
}
STEPS = pytest.mark.parametrize("steps", [train, train_by_program], ids=["eager", "program"])


@STEPS
@pytest.mark.parametrize("acts", ACTS)
def test_a_method_that_changes_something_has_acted(acts: str, steps: Callable[..., Any]) -> None:
    learner = make(seeds=(0, 1), methods=[idle_everywhere(), method(**ACTS[acts]), idle_everywhere()])
    assert learner.hooks.acted == [False, False, False]
    steps(learner, range(2))
    cross(learner, 1)
    learner.evaluate(0, ToyTask(0))
    learner.reports()
    assert learner.hooks.acted == [False, True, False]
    resumed = make(seeds=(0, 1), methods=[idle_everywhere(), method(**ACTS[acts]), idle_everywhere()])
    resumed.load_state_dict(learner.state_dict())
    assert resumed.hooks.acted == [False, True, False]


@SEEDS
def test_a_method_that_evaluates_something_else_has_acted(seeds: tuple[int, ...]) -> None:
    def evaluated(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
        return {"out.bias": learner.parameters["out.bias"] * 2}

    learner = make(seeds=seeds, methods=[idle_everywhere(), method(evaluated=evaluated)])
    train(learner, range(1))
    assert learner.hooks.acted == [False, False]
    learner.evaluate(0, ToyTask(0))
    assert learner.hooks.acted == [False, True]


@SEEDS
def test_a_method_that_acts_at_a_boundary_has_acted_then(seeds: tuple[int, ...]) -> None:
    learner = make(seeds=seeds, methods=[method(on_task_start=changes("parameters"))])
    train(learner, range(2))
    cross(learner, 0, first=True)
    assert learner.hooks.acted == [False]
    cross(learner, 1)
    assert learner.hooks.acted == [True]


@STEPS
def test_a_method_that_resets_units_has_acted_when_one_was_reset(steps: Callable[..., Any]) -> None:
    methods = [idle_everywhere(), ContinualBackprop(replacement_rate=0.13, maturity=4)]
    learner = make(seeds=(0, 1), methods=methods, optimizer=SGD)
    steps(learner, range(4))
    assert learner.hooks.acted == [False, False]  # no unit is mature yet
    steps(learner, range(4, 16))
    assert (learner.states[1]["age"] < 16).any()
    assert learner.hooks.acted == [False, True]


def each_parameter(act: Callable[[Tensor], object]) -> Callable[..., None]:
    def hook(self: Perturbation, learner: Learner, state: State) -> None:
        for value in learner.parameters.values():
            act(value)

    return hook


def set_data(tensor: Tensor) -> None:
    tensor.data = tensor * 0.5


AROUND: dict[str, Callable[[Tensor], object]] = {
    "data": lambda tensor: tensor.data.mul_(0.5),
    "other data": set_data,
    "numpy": lambda tensor: np.multiply(tensor.numpy(), 0.5, out=tensor.numpy()),
    "array": lambda tensor: np.asarray(tensor).fill(0.5),
    "storage": lambda tensor: tensor.untyped_storage().fill_(0),
    "detached": lambda tensor: tensor.detach().mul_(0.5),
}


@SEEDS
@pytest.mark.parametrize("way", AROUND)
@pytest.mark.parametrize("hook", ["begin", "on_task_start", "after_step"])
def test_a_way_along_which_torch_counts_no_change_is_acting(hook: str, way: str, seeds: tuple[int, ...]) -> None:
    learner = make(seeds=seeds, methods=[idle_everywhere(), method(**{hook: each_parameter(AROUND[way])})])
    train(learner, range(1))
    cross(learner, 1)
    assert learner.hooks.acted == [False, True]


@STEPS
def test_inside_a_step_data_is_such_a_way(steps: Callable[..., Any]) -> None:
    learner = make(seeds=(0, 1), methods=[idle_everywhere(), method(after_step=each_parameter(AROUND["data"]))])
    steps(learner, range(2))
    assert learner.hooks.acted == [False, True]


def test_a_method_that_changes_the_module_has_acted() -> None:
    def hook(self: Perturbation, learner: Learner, state: State) -> None:
        dropout = next(each for each in learner.module.modules() if isinstance(each, torch.nn.Dropout))
        dropout.p = 0.5

    learner = make(DROPOUT, methods=[idle_everywhere(), method(on_task_start=hook)])
    train(learner, range(1))
    assert learner.hooks.acted == [False, False]
    cross(learner, 1)
    assert learner.hooks.acted == [False, True]


def replaced(module: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(module)


def halved(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        next(module.parameters()).mul_(0.5)
    return module


def halved_around(module: torch.nn.Module) -> torch.nn.Module:
    next(module.parameters()).data.mul_(0.5)
    return module


def with_attribute(module: torch.nn.Module) -> torch.nn.Module:
    module.extra = 1
    return module


def with_parameter(module: torch.nn.Module) -> torch.nn.Module:
    module.register_parameter("extra", torch.nn.Parameter(torch.zeros(2)))
    return module


def with_hook(module: torch.nn.Module) -> torch.nn.Module:
    module.register_forward_hook(lambda module, inputs, output: output * 2)
    return module


def untouched(module: torch.nn.Module) -> torch.nn.Module:
    next(module.parameters()).abs().sum()
    return module


CONFIGURES: dict[str, tuple[Callable[[torch.nn.Module], torch.nn.Module], bool]] = {
    each.__name__: (each, each is not untouched)
    for each in (replaced, halved, halved_around, with_attribute, with_parameter, with_hook, untouched)
}


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("how", CONFIGURES)
def test_what_is_built_into_the_network_counts_if_it_changes_it(how: str, waiting: bool) -> None:
    change, acts = CONFIGURES[how]

    def configure(self: Perturbation, module: torch.nn.Module, **others: Any) -> torch.nn.Module:
        return change(module)

    learner = make(
        methods=[method(configure=configure), method(report=lambda self, learner, state: {})], waiting=waiting
    )
    if waiting:
        learner.turn_on()
    assert learner.hooks.acted == [acts, False]


def test_a_method_that_reaches_the_host_acts_when_it_does() -> None:
    learner = make(methods=[Recycler()])
    train(learner, range(2))
    assert learner.hooks.acted == [False]
    train(learner, range(2, 3))
    assert learner.hooks.acted == [True]


def test_a_component_is_told_from_its_twin_by_its_memory() -> None:
    """Two methods that are equal as values are still two."""
    learner = make(SMALL, methods=[Noise(), Noise()])
    assert dataclasses.replace(learner.methods[0]) == learner.methods[1]
    train(learner, range(1))
    assert learner.hooks.acted == [True, True]
