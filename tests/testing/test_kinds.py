"""The kit catches broken architectures, scenarios, cloners and sinks."""

from dataclasses import dataclass

import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench.core.interfaces import Sink, SinkWriter
from lopbench.testing import checks
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.cloners.interleave import Interleave
from lopbench_plugins.scenarios.augmentation import normalize
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetStream, TinyImageNetTask


def made(cls, **fields):
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


class GlobalInit(MLP):
    """Draws from the global generator."""

    def build(self, input_shape, outputs, *, generator):
        module = super().build(input_shape, outputs, generator=generator)
        module.out.reset_parameters()
        return module


class Frozen(MLP):
    """Comes in evaluation mode."""

    def build(self, input_shape, outputs, *, generator):
        return super().build(input_shape, outputs, generator=generator).eval()


class IgnoresDepth(MLP):
    """Has one hidden layer, whatever is asked for."""

    def build(self, input_shape, outputs, *, generator):
        return MLP(width=self.width, depth=1).build(input_shape, outputs, generator=generator)


class SharedActivation(MLP):
    """One activation module for all layers, of which a hook sees the last alone."""

    def build(self, input_shape, outputs, *, generator):
        module = super().build(input_shape, outputs, generator=generator)
        for layer in module.layers:
            layer.activation = module.layers[0].activation
        return module


class OneOutput(MLP):
    """Always has ten outputs."""

    def build(self, input_shape, outputs, *, generator):
        return super().build(input_shape, 10, generator=generator)


class _Task(TinyImageNetTask):
    def batches(self):
        torch.rand(1)
        return super().batches()


class _AllOutputs(TinyImageNetTask):
    classes = property(lambda self: None)


class _Stuck(TinyImageNetStream):
    def task(self, index):
        return super().task(0)


def scenario(task=None, stream=None, cls=TinyImageNet40):
    class Broken(cls):
        """Broken.

        Args:
            tasks: Tasks.
        """

        def stream(self, seed, *, data, device):
            made = (stream or TinyImageNetStream)(self, seed, data, device)
            if task is not None:
                whole = made.task

                def broken(index):
                    found = whole(index)
                    found.__class__ = task
                    return found

                made.task = broken
            return made

    return made(Broken, **TinyImageNet40.profiles["smoke"], profile="smoke")


class _Forgets(TinyImageNet40):
    """Streams whose batches are given another state than the one that was saved."""

    def stream(self, seed, *, data, device):
        stream = super().stream(seed, data=data, device=device)
        whole = stream.task

        def broken(index):
            task = whole(index)
            batches = task.batches

            def forgetful():
                found = batches()
                self.spoil(found, task)
                return found

            task.batches = forgetful
            return task

        stream.task = broken
        return stream


class ForgetsAll(_Forgets):
    """Streams that forget where they are."""

    def spoil(self, batches, task):
        batches.load_state_dict = lambda state: None


class SameSeed(TinyImageNet40):
    """Ignores the seed."""

    def stream(self, seed, *, data, device):
        return super().stream(0, data=data, device=device)


class ScoresTooMany(TinyImageNet40):
    """Scores more steps than a task has."""

    def scored(self, task):
        return self.steps(task) + 1


class FallsTooLate(TinyImageNet40):
    """Has another learning rate after the last step of a task."""

    def rate_factors(self, task):
        return [(1, 0.5), (self.steps(task), 0.25)]


class TurnsBack(TinyImageNet40):
    """Has its steps in no order."""

    def rate_factors(self, task):
        return [(2, 0.5), (1, 0.25)]


class StandsStill(TinyImageNet40):
    """Ends with a learning rate of zero."""

    def rate_factors(self, task):
        return [(1, 0.5), (2, 0.0)]


class Validating(TinyImageNet40):
    """Validates twice in a task, on samples that its task makes."""

    def validate_every(self, task):
        return self.steps(task) // 2


class ValidatesNever(TinyImageNet40):
    """Has a number of steps that is none."""

    def validate_every(self, task):
        return -1


class Breaks(Interleave):
    """Forgets to divide: the outputs grow."""

    def clone(self, module, factor, *, example, generator):
        wide, profile = super().clone(module, factor, example=example, generator=generator)
        with torch.no_grad():
            for parameter in wide.parameters():
                parameter *= 1.1
        return wide, profile


class ChangesTheBase(Interleave):
    """Works on the network it was given."""

    def clone(self, module, factor, *, example, generator):
        with torch.no_grad():
            next(module.parameters()).mul_(0.5)
        return super().clone(module, factor, example=example, generator=generator)


class Jitters(Interleave):
    """Draws from the global generator."""

    def clone(self, module, factor, *, example, generator):
        wide, profile = super().clone(module, factor, example=example, generator=generator)
        with torch.no_grad():
            next(wide.parameters()).add_(torch.randn(()))
        return wide, profile


class Narrow(Interleave):
    """Widens nothing."""

    def clone(self, module, factor, *, example, generator):
        if factor < 1:
            raise InvalidInputError("factor")
        return super().clone(module, 1, example=example, generator=generator)


class AnyFactor(Interleave):
    """Takes a factor of zero for one."""

    def clone(self, module, factor, *, example, generator):
        return super().clone(module, max(1, factor), example=example, generator=generator)


class _MemoryTested(TinyImageNetTask):
    """Tests on the images that it trains on."""

    @property
    def _held_out(self):
        return normalize(torch.cat(self._train)), self._labels(self._train)


class _Summed(TinyImageNetTask):
    """Sums the loss over the batch."""

    def loss(self, outputs, targets):
        return super().loss(outputs, targets) * len(outputs)


class _OneProbe(TinyImageNetTask):
    """Probes one image, repeated."""

    def probe(self):
        images, labels = super().probe()
        return images[:1].expand_as(images), labels


class ForgetsTheEpoch(_Forgets):
    """Resumes in the first pass over the data, whichever it was in."""

    def spoil(self, batches, task):
        load = batches.load_state_dict
        batches.load_state_dict = lambda state: load({**state, "position": state["position"] % task.epoch})


class SameTasks(TinyImageNet40):
    """Takes the same classes and images for every seed, in another order of samples."""

    def stream(self, seed, *, data, device):
        stream = super().stream(0, data=data, device=device)
        stream.seed = 0
        whole = stream.task

        def broken(index):
            task = whole(index)
            task._seed = seed
            return task

        stream.task = broken
        return stream


class _PresentsOthers(TinyImageNetTask):
    """Presents stored inputs otherwise than the stream does."""

    def presented(self, inputs):
        return inputs / 2


class _PresentsByATensor(TinyImageNetTask):
    """Presents stored inputs with a tensor of its own, which is none of a program's."""

    ones = torch.ones(1)

    def presented(self, inputs):
        return inputs * self.ones


class _HoldsNothingOut(_AllOutputs):
    """Has a chance that is none, and nothing held out on which it is scored."""

    def held_out(self):
        return iter(())


class _ValidatedOnTraining(TinyImageNetTask):
    """Validates on images that it trains on."""

    def validation(self):
        yield next(self.batches())


class _ValidatedOnTest(TinyImageNetTask):
    """Validates on the held-out images."""

    def validation(self):
        yield from self.held_out()


class _ValidatedOnOthers(TinyImageNetTask):
    """Validates on other images each time."""

    def validation(self):
        images, labels = self.probe()
        yield torch.rand(images.shape), labels


class _ValidatedOnTooMany(TinyImageNetTask):
    """Has more labels than images."""

    def validation(self):
        images, labels = self.probe()
        yield images[1:], labels


def validating(task=TinyImageNetTask):
    return scenario(task=task, cls=Validating)


SMOKE = {**TinyImageNet40.profiles["smoke"], "profile": "smoke"}
BROKEN = [
    (made(GlobalInit, width=8, depth=2), "weights-come-from-the-generator"),
    (made(Frozen, width=8, depth=2), "network-is-ready-to-train"),
    (made(IgnoresDepth, width=8, depth=2), "fields-matter"),
    (made(SharedActivation, width=8, depth=2), "probed-layers-are-called"),
    (made(OneOutput, width=8, depth=2), "several-sizes-are-built"),
    (made(OneOutput, width=8, depth=2), "nonsense-sizes-are-refused"),
    (scenario(task=_Task), "stream-depends-on-the-seed-alone"),
    (made(SameSeed, **SMOKE), "stream-depends-on-the-seed-alone"),
    (scenario(task=_AllOutputs), "chance-is-as-declared"),
    (scenario(task=_HoldsNothingOut), "chance-is-as-declared"),
    (scenario(stream=_Stuck), "tasks-are-as-declared"),
    (made(ForgetsAll, **SMOKE), "batches-resume"),
    (scenario(task=_PresentsOthers), "batches-resume"),
    (scenario(task=_PresentsByATensor), "batches-resume"),
    (scenario(task=_MemoryTested), "held-out-samples-are-not-trained-on"),
    (scenario(task=_Summed), "loss-is-a-mean"),
    (scenario(task=_OneProbe), "probe-is-diverse"),
    (made(ForgetsTheEpoch, **SMOKE), "batches-resume"),
    (made(SameTasks, **SMOKE), "tasks-differ-between-seeds"),
    (made(ScoresTooMany, **SMOKE), "protocol-is-complete"),
    (made(FallsTooLate, **SMOKE), "protocol-is-complete"),
    (made(TurnsBack, **SMOKE), "protocol-is-complete"),
    (made(StandsStill, **SMOKE), "protocol-is-complete"),
    (made(ValidatesNever, **SMOKE), "protocol-is-complete"),
    (validating(), "validation-samples-are-set-aside"),
    (validating(_ValidatedOnTraining), "validation-samples-are-set-aside"),
    (validating(_ValidatedOnTest), "validation-samples-are-set-aside"),
    (validating(_ValidatedOnOthers), "validation-samples-are-set-aside"),
    (validating(_ValidatedOnTooMany), "shapes-are-as-declared"),
    (made(Breaks), "clones-are-certified"),
    (made(ChangesTheBase), "cloning-is-a-function"),
    (made(Jitters), "cloning-is-a-function"),
    (made(Narrow), "clones-are-wider"),
    (made(AnyFactor), "nonsense-factors-are-refused"),
]


def test_the_scale_of_inputs_is_told():
    (check,) = [check for check in checks(scenario()) if check.name == "inputs-have-a-scale"]
    outcome = check.run(scenario())
    assert outcome.status == "measured"
    assert outcome.detail.startswith("mean 0.16, standard deviation 0.78, from -2")


@pytest.mark.parametrize(
    ("component", "name"), BROKEN, ids=[f"{type(component).__name__}-{name}" for component, name in BROKEN]
)
def test_the_kit_catches_the_broken_component(component, name):
    (check,) = [check for check in checks(component) if check.name == name]
    outcome = check.run(component)
    assert outcome.status == "failed", f"{outcome.status}: {outcome.detail}"
    assert outcome.expected != "no error", outcome.found


def test_a_tensor_in_what_presents_stored_inputs_is_found():
    (check,) = [check for check in checks(scenario()) if check.name == "batches-resume"]
    assert check.run(scenario()).status == "passed"
    assert "FakeTensor" in check.run(scenario(task=_PresentsByATensor)).found


class _Writer(SinkWriter):
    def __init__(self, path):
        self.path = path

    def write(self, step, task, values):
        with self.path.open("a") as file:
            file.write(f"{step} {values}\n")

    def close(self, outcome):
        self.path.with_suffix(".end").write_text(outcome)


class Lines(Sink):
    """Writes lines."""

    name = "lines"

    def open(self, run):
        return _Writer(run.results / run.name)


class OneAtATime(Lines):
    """Has one file for all runs, which it makes anew."""

    def open(self, run):
        (run.results / "open").touch(exist_ok=False)
        made = super().open(run)
        made.close = lambda outcome: (run.results / "open").unlink()
        return made


class OnceOnly(Lines):
    """Refuses a run that it knows."""

    def open(self, run):
        (run.results / run.name).touch(exist_ok=False)
        return super().open(run)


class WholeNumbers(Lines):
    """Takes no NaN."""

    def open(self, run):
        made = super().open(run)
        made.write = lambda step, task, values: [int(value) for value in values.values()]
        return made


class Doubles(Lines):
    """Computes in double precision from now on."""

    def open(self, run):
        torch.set_default_dtype(torch.float64)
        return super().open(run)


class NoWriter(Lines):
    """Returns itself."""

    def open(self, run):
        return self


@pytest.mark.parametrize(
    ("cls", "failed"),
    [
        (Lines, set()),
        (OneAtATime, {"runs-stand-side-by-side"}),
        (OnceOnly, {"runs-go-on"}),
        (WholeNumbers, {"runs-are-taken", "runs-stand-side-by-side", "runs-go-on", "globals-are-left-alone"}),
        (Doubles, {"globals-are-left-alone"}),
        (NoWriter, {"runs-are-taken", "runs-stand-side-by-side", "runs-go-on", "globals-are-left-alone"}),
    ],
)
def test_sinks_that_are_broken_are_caught(cls, failed):
    sink, dtype = made(cls), torch.get_default_dtype()
    try:
        found = [(check.name, torch.set_default_dtype(dtype), check.run(sink).status) for check in checks(sink)]
    finally:
        torch.set_default_dtype(dtype)
    assert {name for name, _, status in found if status == "failed"} == failed
