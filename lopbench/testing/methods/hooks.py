"""What hooks are given, and what they return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Component, Learner, Perturbation, State
from lopbench.core.perturbation import Hook
from lopbench.testing.bench import Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.comparing import close, differing, listed, same
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.networks import NETWORKS
from lopbench.testing.watching import IN_STEPS, replaced, watched

#: Seeds of replicas side by side.
_SEEDS = (3, 4)


@check(
    "A method that changes the batch leaves the stream's own tensors alone, and keeps shape and type of the inputs.",
    lesson="labels that are flipped in place stay flipped in the data set, for all epochs to come",
)
def batch_is_replaced(component: Component) -> None:
    """Compare what is returned with the tensors of the stream; the learner itself refuses changes of those in place."""
    method = method_of(component)
    if not method.has("batch"):
        raise NotApplicable("it does not change the batch")

    def batch(original: Any, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        made: tuple[Tensor, Tensor] = original(learner, state, inputs, targets)
        if made[0].shape[2:] != inputs.shape[2:] or made[0].dtype != inputs.dtype:
            raise Mismatch(
                f"inputs (R, N, ...) of samples {tuple(inputs.shape[2:])} in {inputs.dtype}",
                f"shape {tuple(made[0].shape)} in {made[0].dtype}",
            )
        return made

    Bench(replaced(method, batch=batch)).run(RUN)


@check(
    "Loss and score of a step are those of the stream's own batch, before the update, without penalties and noise.",
    lesson="a score on a batch half of which was replayed is that of tasks long gone",
)
def online_score_is_of_the_stream(component: Component) -> None:
    """Compare them with a forward pass of the parameters before the step."""
    method = method_of(component)
    bench = _bench(method)
    for _ in range(RUN):
        view = bench.learner.view
        inputs, targets = bench.batch()
        with torch.no_grad():
            expected = view.loss_and_score(view.pass_to_score(bench.learner.cast(inputs)), targets)
        taken = bench.learner.step([problem.batch(bench.step) for problem in bench.problems])
        bench.step += 1
        for what, found, wanted in zip(("loss", "score"), (taken.losses, taken.scores), expected, strict=True):
            close(found, wanted, 1e-8, f"the {what} of the stream's batch at step {bench.step}")


@check(
    "A penalty is one number for each replica, differentiable in the parameters.",
    lesson="METHODS F9, F10: factors of 1/2, sums of norms and means over entries are all called L2-Init",
)
def penalty_is_per_replica(component: Component) -> None:
    """Look at its shape and its gradient."""
    method = method_of(component)
    if not method.has("penalty"):
        raise NotApplicable("it adds no penalty")

    def penalty(original: Any, learner: Learner, state: State) -> Tensor:
        value: Tensor = original(learner, state)
        _check_term("penalty", value, learner)
        return value

    _bench(replaced(method, penalty=penalty)).run(RUN)


@check(
    "A loss that a method changes is one number for each replica, and made of the loss that it was given.",
    lesson="a loss that is computed anew drops what the methods before it have done to it",
)
def loss_is_passed_on(component: Component) -> None:
    """Look at its shape and its gradients."""
    method = method_of(component)
    if not method.has("loss"):
        raise NotApplicable("it does not change the loss")

    def loss(original: Any, learner: Learner, state: State, given: Tensor) -> Tensor:
        value: Tensor = original(learner, state, given)
        _check_term("loss", value, learner)
        (grad,) = torch.autograd.grad(value.sum(), [given], allow_unused=True, retain_graph=True)
        if value is not given and (grad is None or not bool(grad.all())):
            raise Mismatch("a loss made of the loss that was given", "one that does not depend on it")
        return value

    _bench(replaced(method, loss=loss)).run(RUN)


def _check_term(name: str, value: Tensor, learner: Learner) -> None:
    """Refuse a term of the loss that is not one number for each replica, or depends on the parameters of another."""
    replicas = learner.replicas
    if value.shape != (replicas,):
        raise Mismatch("shape (R,)", f"shape {tuple(value.shape)} with {replicas} replicas")
    if not value.requires_grad:
        raise Mismatch(f"a {name} that has a gradient", "one without; compute it from learner.differentiable")
    parameters = [parameter for parameter in learner.differentiable.values() if parameter.requires_grad]
    if replicas == 1:
        return
    grads = torch.autograd.grad(value[0], parameters, allow_unused=True, retain_graph=True)
    if any(grad is not None and bool(grad[1].any()) for grad in grads):
        raise Mismatch(f"the first replica's {name} to depend on its own weights", "it depends on the other's too")


@check(
    "What a method reports is one finite number for each replica, of that replica alone, and asking changes nothing.",
    lesson="a number that is averaged over the stack is recorded for every seed as its own",
)
def reports_are_free(component: Component) -> None:
    """Compare runs with and without reports, and replicas side by side with each alone."""
    method = method_of(component)
    if not method.has("report"):
        raise NotApplicable("it reports nothing")
    asked = _bench(method)
    reports = _reports(asked)
    for _ in range(RUN):
        reports = _reports(asked.run(1))
    wrong = differing(asked.snapshot(), _bench(method).run(RUN).snapshot())
    if wrong:
        raise Mismatch("the same bits whether it is asked for reports", f"{listed(wrong)} differ")
    for name, values in reports.items():
        if not bool(values.isfinite().all()):
            raise Mismatch(f"a finite number as {name}", str(values.tolist()))
    for replica, problem in enumerate(asked.problems):
        for name, values in _reports(_bench(method, (problem.seed,)).run(RUN)).items():
            close(reports[name][replica], values[0], 1e-6, f"{name} of seed {problem.seed} alone")


@check(
    "The statistics of normalisations move once in a step, in the training step's own forward pass.",
    lesson="a second forward pass in training mode moves the running means of batch normalisation again",
)
def statistics_move_once(component: Component) -> None:
    """Look at the buffers around each hook of a step, in a network that has some."""
    method = method_of(component)
    hooks: list[Hook] = [hook for hook in (*IN_STEPS, "evaluated", "report") if method.has(hook)]
    looked = False
    for seeds in (_SEEDS[:1], _SEEDS):
        for hook in hooks:
            made = watched(method, (hook,), partial(_buffers_kept, hook))
            try:
                bench = Bench(made, network=NETWORKS["normalised"], seeds=seeds).run(RUN // 3)
            except UnsupportedError:
                continue
            bench.learner.evaluate(0, bench.problems[0])
            _reports(bench)
            looked = True
    if not looked:
        raise NotApplicable("no hook acts in steps, or it refuses networks with batch normalisation")


@contextmanager
def _buffers_kept(hook: str, learner: Learner) -> Iterator[None]:
    """Refuse that a hook moves buffers; after a step some may be written, and none counts one more batch."""
    before = {name: value.clone() for name, value in learner.buffers.items()}
    yield
    for name, value in learner.buffers.items():
        counts = name.endswith("num_batches_tracked")
        moved = bool((value > before[name]).any()) if counts else not same(value, before[name])
        if moved and (counts or hook != "after_step"):
            raise Mismatch(
                "the buffers of the network left alone",
                f"{hook} moves {name}, as a forward pass of `learner.module` does; use `learner.forward`, which has no "
                "side effects",
            )


def _reports(bench: Bench) -> dict[str, Tensor]:
    try:
        return {name: values.clone() for name, values in bench.learner.reports().items()}
    except InvalidInputError as error:
        raise Mismatch("one number (R,) for each name", str(error)) from error


def _bench(method: Perturbation, seeds: tuple[int, ...] = _SEEDS) -> Bench:
    """Return a bench of several replicas in float64, or of one where the method refuses several."""
    options: dict[str, Any] = {"dtype": torch.float64, "dead": True}
    try:
        Bench(method, seeds=seeds, **options).run(1)  # some refuse in their first step
    except UnsupportedError:
        seeds = seeds[:1]
    return Bench(method, seeds=seeds, **options)
