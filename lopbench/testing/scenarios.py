"""The checks of scenarios."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lopbench.core import rng
from lopbench.core.interfaces import ActingBatches, Batches, ChunkedBatches, Component, Scenario, Stream, Task
from lopbench.core.spec import ComponentSpec, digest, make
from lopbench.core.text import told
from lopbench.learner.compiling import trace_graph
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.samples import (
    held_out_samples_are_not_trained_on,
    inputs_have_a_scale,
    loss_is_a_mean,
    probe_is_diverse,
    steps_past_an_epoch,
    tasks_differ_between_seeds,
    validation_samples_are_set_aside,
)
from lopbench.testing.shared import SHARED, alternatives
from lopbench.testing.streams import (
    BATCHES,
    act,
    batches_of,
    depends_on_the_learner,
    equal,
    first,
    looked_at,
    of_task,
    opened,
    output_shape,
    scenario_of,
    take,
)

#: Learning rates at which the lead of fresh references is asked for.
_RATES = (1e-30, 1e-4, 0.01, 1.0, 1e30)


@check(
    "The stream is a function of scenario, data and seed alone: same seed, same batches, whatever else draws.",
    lesson="METHODS 0.3(b), B2: data order from a global generator differs between methods, nothing is paired",
)
def stream_depends_on_the_seed_alone(component: Component) -> None:
    """Compare streams of two seeds, from two global seeds, and tasks asked for in another order."""
    scenario = scenario_of(component)
    for task in looked_at(scenario):
        found = []
        for place in (1, 2):
            torch.manual_seed(place)
            before = torch.get_rng_state()
            found.append(batches_of(scenario, task))
            if not torch.equal(before, torch.get_rng_state()):
                raise Mismatch("torch's global generator left alone", "it has advanced; use rng.derive(seed, ...)")
        if not equal(*found):
            raise Mismatch(f"the same batches of task {task} for the same seed", "others")
        if equal(found[0], batches_of(scenario, task, seed=1)):
            raise Mismatch(f"other batches of task {task} for another seed", "the same")
    stream = opened(scenario)
    last = scenario.tasks - 1
    for task in (last, 0, last):
        if not equal(first(stream, task), batches_of(scenario, task)):
            raise Mismatch("tasks that do not depend on which were asked for before", f"task {task} differs")


@check("Batches have the declared shapes, labels stand for outputs, and a network's loss and score can be taken.")
def shapes_are_as_declared(component: Component) -> None:
    """Take some batches of the first and the last tasks."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    for index in looked_at(scenario):
        task = stream.task(index)
        batches = task.batches()
        kinds = {"training": take(batches, stream.outputs, 1), "probe": [task.probe()]}
        kinds["held-out"] = list(itertools.islice(task.held_out(), 1))  # an agent's stream may have none
        kinds["validation"] = list(itertools.islice(task.validation(), 1))
        for name, found in kinds.items():
            for inputs, targets in found:
                _check_inputs(name, inputs, targets, stream)
                _check_numbers(task, inputs, targets, stream.outputs)
                # Targets of a stream that depends on the learner are what came of its outputs.
                if scenario.score == "accuracy" and not depends_on_the_learner(batches):
                    _check_range("labels", targets, stream.outputs if task.classes is None else len(task.classes))


def _check_inputs(name: str, inputs: Tensor, targets: Tensor, stream: Stream) -> None:
    if inputs.shape[1:] != torch.Size(stream.input_shape) or len(inputs) != len(targets) or len(inputs) == 0:
        raise Mismatch(
            f"{name} samples of shape {tuple(stream.input_shape)}",
            f"inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}",
        )
    if stream.inputs == "tokens":
        _check_range("tokens", inputs, stream.outputs)
    elif not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        raise Mismatch('inputs that are numbers, or a stream whose `inputs` are "tokens"', str(inputs.dtype))


def _check_numbers(task: Task, inputs: Tensor, targets: Tensor, outputs: int) -> None:
    """Take loss and scores of random outputs."""
    generator = rng.derive(0, "conformance", "outputs")
    whole = torch.randn(output_shape(targets, outputs), generator=generator)
    counted = of_task(task, whole)
    loss, score = task.loss(counted, targets), task.score(counted, targets)
    if loss.shape != () or not bool(loss.isfinite()):
        raise Mismatch("a finite scalar loss", f"shape {tuple(loss.shape)}, {loss}")
    for key, value in {"score": score, **task.held_out_scores(whole, targets)}.items():
        if value.shape != (len(inputs),):
            raise Mismatch(f"one {key} for each of {len(inputs)} samples", f"shape {tuple(value.shape)}")


def _check_range(what: str, values: Tensor, count: int) -> None:
    if values.is_floating_point():
        raise Mismatch(f"{what} that are whole numbers", str(values.dtype))
    if not 0 <= int(values.min()) <= int(values.max()) < count:
        raise Mismatch(f"{what} from 0 to {count - 1}", f"{int(values.min())} to {int(values.max())}")


@check("A task lasts as many steps as declared, and tasks differ.")
def tasks_are_as_declared(component: Component) -> None:
    """Run through a short task; compare the first two."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    task = stream.task(0)
    batches = task.batches()
    for step in range(min(scenario.steps(0), 300)):
        act(batches, stream.outputs, step)
        try:
            next(batches)
        except StopIteration:
            raise Mismatch(f"{scenario.steps(0)} batches", f"{step}") from None
    counts = {None if found.classes is None else len(found.classes) for found in map(stream.task, looked_at(scenario))}
    if len(counts) > 1:
        raise Mismatch("as many outputs that count in every task", " and ".join(map(str, counts)))
    if scenario.boundaries and scenario.tasks > 1 and equal(batches_of(scenario, 0), batches_of(scenario, 1)):
        raise Mismatch("another problem in the second task", "the batches of the first")


@check("The training stream can be saved and resumed in the middle, and taken in chunks.")
def batches_resume(component: Component) -> None:
    """Save after some batches, and compare what comes then."""
    scenario = scenario_of(component)
    task = opened(scenario).task(0)
    batches, outputs, taken = task.batches(), opened(scenario).outputs, 0
    for place in sorted({BATCHES, steps_past_an_epoch(scenario, task) or BATCHES}):
        take(batches, outputs, place - taken, start=taken)
        saved = {name: value.clone() for name, value in batches.state_dict().items()}
        ahead = take(batches, outputs, start=place)
        resumed = opened(scenario).task(0).batches()
        resumed.load_state_dict(saved)
        if not equal(take(resumed, outputs, start=place), ahead):
            late = place > BATCHES
            raise Mismatch(
                "the batches that would have come",
                f"others after resuming {'in the second pass over the data; save the epoch' if late else ''}".rstrip(),
            )
        taken = place + BATCHES
    chunked = task.batches()
    if isinstance(chunked, ChunkedBatches):
        _check_chunks(chunked, task.batches(), outputs)
        stored = task.batches()
        assert isinstance(stored, ChunkedBatches)
        _check_stored(stored, task.batches(), task, outputs)


def _check_chunks(chunked: ChunkedBatches, batches: Batches, outputs: int) -> None:
    """Compare some periods of a stream, taken at once, with the same batches one by one."""
    if isinstance(chunked, ActingBatches) and chunked.every < 4 * len(chunked.sizes):
        return  # so few come at once that there is no chunk
    for each in (chunked, batches):
        act(each, outputs, 0)
    sizes = tuple(chunked.sizes)
    parts = chunked.take(2)
    if tuple(inputs.shape[:2] for inputs, _ in parts) != tuple((2, size) for size in sizes):
        shapes = ", ".join(str(tuple(inputs.shape)) for inputs, _ in parts)
        raise Mismatch(f"batches (2, N, ...) of the sizes {', '.join(map(str, sizes))}", shapes)
    for _ in range(2):  # a chunk, then the one that follows it
        found = [(inputs[period], targets[period]) for period in range(2) for inputs, targets in parts]
        if not equal(found, [next(batches) for _ in found]):
            raise Mismatch("a chunk of the batches one by one", "others")
        parts = chunked.take(2)


def _check_stored(stored: ChunkedBatches, batches: Batches, task: Task, outputs: int) -> None:
    """Compare a period of a stream as it is stored, and then presented, with the same batches one by one."""
    for each in (stored, batches):
        act(each, outputs, 0)
    parts = stored.take_stored(1)
    # With one axis more, since a program presents the batches of all replicas at once.
    shown = [(task.presented(inputs.unsqueeze(0))[0, 0], targets[0]) for inputs, targets in parts]
    if not equal(shown, [next(batches) for _ in parts]):
        raise Mismatch("batches as they are stored, of which `Task.presented` makes those of the stream", "others")
    try:
        trace_graph(task.presented, parts[0][0])
    except Exception as error:
        raise Mismatch("`Task.presented` that a program can trace, with numbers as constants", told(error)) from error


@check(
    "The chance level is what guessing scores.",
    lesson="accuracy over all 200 outputs against a chance of 1 in 5 (PROTOCOLS finding 5)",
)
def chance_is_as_declared(component: Component) -> None:
    """Score random outputs on the held-out samples, or on those that are trained on where there are no others."""
    scenario = scenario_of(component)
    if scenario.score != "accuracy":
        raise NotApplicable("errors have no chance level")
    stream = opened(scenario)
    task = stream.task(0)
    generator = rng.derive(0, "conformance", "guesses")
    scores = []
    batches = task.batches()
    held_out = [] if depends_on_the_learner(batches) else list(task.held_out())
    for _, targets in held_out or take(batches, stream.outputs, 100):
        for _ in range(100 if held_out else 1):
            outputs = torch.randn(output_shape(targets, stream.outputs), generator=generator)
            scores.append(task.score(of_task(task, outputs), targets).double())
    found = torch.cat(scores)
    slack = 5 * (task.chance * (1 - task.chance) / len(found)) ** 0.5
    if abs(float(found.mean()) - task.chance) > slack:
        raise Mismatch(f"{task.chance:.4f} within {slack:.4f}", f"{float(found.mean()):.4f} from random outputs")


@check(
    "The protocol's hash is stable, and every field changes it; all profiles can be made.",
    lesson="METHODS B1: flip_one or all bits, a default off in one repository and on in another, under one name",
)
def every_field_is_in_the_protocol(component: Component) -> None:
    """Hash the scenario with each field changed."""
    scenario = scenario_of(component)
    fields = {f.name: getattr(scenario, f.name) for f in dataclasses.fields(scenario)}
    if any(not f.init for f in dataclasses.fields(scenario)):
        raise Mismatch("fields that all stand in the protocol", "one with init=False")
    wanted = _hash(scenario, fields)
    if wanted != _hash(dataclasses.replace(scenario), fields):
        raise Mismatch("the same hash twice", "another one")
    for name in fields:
        for other in alternatives(scenario, name):
            if _hash(other, {f: getattr(other, f) for f in fields}) == wanted:
                raise Mismatch("another hash for another protocol", f"{name}={getattr(other, name)} leaves it alone")
    for profile, values in type(scenario).profiles.items():
        make(type(scenario), {**values, "profile": profile})
    if type(scenario).default_profile not in type(scenario).profiles:
        raise Mismatch("the default profile among the profiles", type(scenario).default_profile)


def _hash(scenario: Scenario, fields: Mapping[str, object]) -> str:
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
    return digest(ComponentSpec("scenarios", scenario.name, scenario.version, "", values).to_json(), 16)


@check(
    "Recipe, lengths, schedule of rates, validations, growth, late tasks and the lead of fresh references make sense."
)
def protocol_is_complete(component: Component) -> None:
    """Parse and compare them."""
    scenario = scenario_of(component)
    for name in (scenario.default_architecture, "another"):
        recipe = scenario.recipe(name)
        for each in (recipe, recipe.transformers or recipe):
            ComponentSpec.parse("optimizers", each.optimizer)
            ComponentSpec.parse("optimizers", each.reference)
    for lr in _RATES:
        lead = scenario.reference_lead(lr)
        if not 0 <= lead <= scenario.late_tasks.start:
            raise Mismatch(f"a lead of 0 to {scenario.late_tasks.start} tasks at lr={lr}", str(lead))
    lengths = [scenario.steps(task) for task in range(scenario.tasks)]
    if min(lengths, default=0) < 1:
        raise Mismatch("at least one task, each of at least one step", f"tasks of {lengths} steps")
    for task, steps in enumerate(lengths):
        if not 1 <= scenario.scored(task) <= steps:
            raise Mismatch(f"1 to {steps} scored steps of task {task}", str(scenario.scored(task)))
        if scenario.validate_every(task) < 0:
            raise Mismatch(f"at least 0 steps between validations of task {task}", str(scenario.validate_every(task)))
        factors = list(scenario.rate_factors(task))
        bounds = itertools.pairwise([-1, *(begin for begin, _ in factors), steps])
        if not (all(one < other for one, other in bounds) and all(0 < factor < math.inf for _, factor in factors)):
            expected = f"steps of task {task} from 0 to {steps - 1}, in order, and a factor above 0 for each"
            raise Mismatch(expected, str(factors))
    growth = scenario.growth
    if growth is not None and not (1 <= growth.task <= scenario.late_tasks.start and growth.factor >= 1):
        raise Mismatch(f"growth before a task from 1 to {scenario.late_tasks.start}, by at least 1", str(growth))


CHECKS: tuple[Check, ...] = (
    *SHARED,
    stream_depends_on_the_seed_alone,
    shapes_are_as_declared,
    tasks_are_as_declared,
    batches_resume,
    chance_is_as_declared,
    every_field_is_in_the_protocol,
    protocol_is_complete,
    held_out_samples_are_not_trained_on,
    validation_samples_are_set_aside,
    tasks_differ_between_seeds,
    loss_is_a_mean,
    probe_is_diverse,
    inputs_have_a_scale,
)
