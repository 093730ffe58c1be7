"""What a method remembers, and what belongs to the network: checkpoints, storage, initial weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component, Learner
from lopbench.testing.bench import OPTIMIZERS, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.comparing import differing, listed, same
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.networks import NETWORKS
from lopbench.testing.watching import watched

#: What `begin` may ask of the optimizer: another learning rate, and parameters that are left out.
_RATES = ("optimizer/scale", "optimizer/held")


@check(
    "A run that is saved and resumed goes on bit for bit as one that was not.",
    lesson="METHODS 0.3(c); counters kept on the method itself, outside the state, start again at zero",
)
def resumes(component: Component) -> None:
    """Save at several places and go on in a new learner."""
    method = method_of(component)
    for network, optimizer in (("plain", "adam"), ("normalised", "momentum")):
        options: dict[str, Any] = {"network": NETWORKS[network], "optimizer": OPTIMIZERS[optimizer]}
        try:
            whole = Bench(method, **options)
        except UnsupportedError:
            continue
        for steps in (1, 9):
            saved = whole.run(steps).snapshot()
            resumed = Bench(method, **options)
            resumed.learner.load_state_dict({k: v for k, v in saved.items() if not k.startswith("evaluated/")})
            resumed.step = whole.step
            ahead = whole.run(RUN // 2).snapshot()
            wrong = differing(resumed.run(RUN // 2).snapshot(), ahead)
            if wrong:
                raise Mismatch(
                    f"the same bits {RUN // 2} steps after resuming",
                    f"{network} network: {listed(wrong)} differ; keep all that is remembered in `state`",
                )


@check(
    "Parameters stay the same objects, in the network and in the optimizer.",
    lesson="PyTorch 101, and yet: a parameter that is replaced is trained no more",
)
def parameters_stay_the_same_objects(component: Component) -> None:
    """Compare objects and storage before and after a run."""
    method = method_of(component)
    bench = Bench(method)
    learner = bench.learner
    leaves = dict(learner.leaves)
    places = {name: leaf.data_ptr() for name, leaf in leaves.items()}
    bench.run(RUN)
    registered = dict(learner.network.module.named_parameters())
    for name, leaf in leaves.items():
        for where, found in (
            ("the network", registered.get(name)),
            ("the learner", learner.leaves.get(name)),
            ("the optimizer", learner.optimizer.leaves.get(name)),
        ):
            if found is not leaf:
                raise Mismatch(f"{name} to be one object from beginning to end", f"another one in {where}")
        if leaf.data_ptr() != places[name] or learner.view.parameters[name].data_ptr() != places[name]:
            raise Mismatch(f"{name} to be changed in place", "its storage is another; use copy_ and the like")


@check(
    "What the method remembers shares no memory with parameters, buffers, gradients, the optimizer or itself.",
    lesson="Hare & Tortoise's code sets fast.data = slow.data: from then on there is one network (METHODS F1)",
)
def copies_share_no_memory(component: Component) -> None:
    """Compare the storage of all tensors after the beginning, a step and a run."""
    method = method_of(component)
    bench = Bench(method)
    for steps in (0, 1, RUN - 1):
        bench.run(steps)
        learner = bench.learner
        owners: dict[int, str] = {}
        sections: dict[str, Mapping[str, Tensor]] = {
            "parameter": learner.view.parameters,
            "initial weights": learner.view.initial,
            "buffer": learner.view.buffers,
            "optimizer's": learner.optimizer.state_dict(),
            **{f"state[{key!r}]": {"": value} for state in learner.states for key, value in state.tensors.items()},
        }
        for section, tensors in sections.items():
            for name, tensor in tensors.items():
                if tensor.numel() == 0:
                    continue
                what = f"{section} {name}".strip()
                place = tensor.untyped_storage().data_ptr()
                other = owners.setdefault(place, what)
                if other != what:
                    raise Mismatch("memory of its own for each tensor", f"{what} shares that of {other}; clone it")


@check(
    "Initial weights are captured before the first step, and never change.",
    lesson="weight-clipping's decoupled L2-Init captures them after the first step (METHODS F2)",
)
def initial_weights_are_captured_first(component: Component) -> None:
    """Look in the state for the weights as they were after a step."""
    method = method_of(component)
    moments = []

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        moments.append({name: value.clone() for name, value in learner.parameters.items()})
        yield
        moments.append({name: value.clone() for name, value in learner.parameters.items()})

    bench = Bench(watched(method, ("after_step",), around), optimizer=OPTIMIZERS["sgd"])
    learner = bench.learner
    built = {name: value.clone() for name, value in learner.view.parameters.items()}
    known = {key for state in learner.states for key in state.tensors}
    for _ in range(3):
        bench.run(1)
        moments.append({name: value.clone() for name, value in learner.view.parameters.items()})
        for state in learner.states:
            for key in state.tensors.keys() - known:
                for moment in moments:
                    for name, value in moment.items():
                        if same(state[key].reshape(-1), value.reshape(-1)) and not same(value, built[name]):
                            raise Mismatch(
                                "weights to be remembered as they were built",
                                f"state[{key!r}] is {name} as it was after a step; fill it in `begin`, or read "
                                "`learner.initial`",
                            )
    wrong = [name for name, value in built.items() if not same(learner.view.initial[name], value)]
    if wrong:
        raise Mismatch("learner.initial to stay as built", f"{listed(wrong)} was changed")


@check("`begin` changes no weights and works in the middle of a run.")
def begin_changes_nothing(component: Component) -> None:
    """Turn the method on after some steps."""
    method = method_of(component)
    if method.has("configure"):
        raise NotApplicable("it is built into the network")
    bench = Bench(method, network=Bench(method).network, waiting=True).run(5)
    before = bench.snapshot()
    wrong = differing(before, Bench(None, network=bench.network).run(5).snapshot(), "parameter", "optimizer", "buffer")
    bench.learner.turn_on()
    after = differing(bench.snapshot(), before, "parameter", "optimizer", "buffer")
    wrong = wrong or [name for name in after if name not in _RATES]
    if wrong:
        raise Mismatch("the network to stay as it is until the next step", f"{listed(wrong)} changed")
    bench.run(5)


@check("Evaluating between steps leaves training as it is, and gives finite scores of the right parameters.")
def evaluation_is_free(component: Component) -> None:
    """Compare a run with evaluations and probes to one without."""
    method = method_of(component)
    bench = Bench(method)
    for _ in range(RUN):
        bench.run(1)
        bench.learner.evaluate(0, bench.problems[0])
        bench.learner.probe(0, bench.problems[0])
    theirs = Bench(method).run(RUN).snapshot()
    wrong = differing(bench.snapshot(), theirs)
    if wrong:
        raise Mismatch("the same bits with and without evaluations in between", f"{listed(wrong)} differ")
