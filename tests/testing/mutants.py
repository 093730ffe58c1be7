"""Broken methods, each a built-in with one bug that published code has or could have; the kit must catch every one.

``MUTANTS`` gives, for each, the check that must fail.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Perturbation
from lopbench_plugins.perturbations.cbp import ContinualBackprop
from lopbench_plugins.perturbations.crelu import CReLU
from lopbench_plugins.perturbations.dropout import Dropout
from lopbench_plugins.perturbations.head_reset import HeadReset
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.layernorm import LayerNorm
from lopbench_plugins.perturbations.noisy_sgd import NoisySGD
from lopbench_plugins.perturbations.shrink_and_perturb import ShrinkAndPerturb
from lopbench_plugins.perturbations.shrink_and_perturb_step import ShrinkAndPerturbStep

CBP = {"replacement_rate": 0.05, "maturity": 5}


class Replacing(ContinualBackprop):
    """Continual backprop that says what it replaced."""

    def replaced(self, learner, state):
        """Yield each group with the mask of the units that the last step replaced."""
        masks = (state["age"] == 0).split([group.size for group in learner.units], dim=1)
        yield from zip(learner.units, masks, strict=True)


class StaleMoments(Replacing):
    """Units are replaced and the optimizer remembers the old ones (METHODS F8)."""

    def after_step(self, learner, state):
        before = {name: value.clone() for name, value in learner.optimizer.state_dict().items()}
        super().after_step(learner, state)
        learner.optimizer.load_state_dict(before)


class ForgetsTooMuch(Replacing):
    """The whole optimizer starts afresh, layer by layer, whenever a unit is replaced."""

    def after_step(self, learner, state):
        super().after_step(learner, state)
        if (state["age"] == 0).any():
            for name in learner.parameters:
                learner.optimizer.clear(name)


class InertTransfer(Replacing):
    """The running mean is set to zero before it is moved into the bias (finding 7)."""

    def _measure(self, groups, state):
        super()._measure(groups, state)
        state["mean_activation"].zero_()


class UncorrectedMean(Replacing):
    """The running mean that is moved into the bias is not corrected for its start at zero (METHODS F5)."""

    def _correction(self, state):
        return torch.ones_like(state["utility"])


class WrongLaw(Replacing):
    """Rows are redrawn with Kaiming's gain, whatever the layer was made with (METHODS F6)."""

    def after_step(self, learner, state):
        super().after_step(learner, state)
        for group, mask in self.replaced(learner, state):
            learner.parameters[f"{group.name}.weight"][mask] *= 6**0.5


class NormalLaw(Replacing):
    """Rows are redrawn from a normal law of the right variance, where the layer's is uniform."""

    def after_step(self, learner, state):
        super().after_step(learner, state)
        for group, mask in self.replaced(learner, state):
            weight = learner.parameters[f"{group.name}.weight"]
            std = (3 * weight[0, 0].numel()) ** -0.5
            weight[mask] = (state.normal(weight) * std)[mask]


class DrawsIntoACopy(Replacing):
    """Advanced indexing gives a copy, and the initialiser fills that (finding 6)."""

    def after_step(self, learner, state):
        before = {name: value.clone() for name, value in learner.parameters.items()}
        super().after_step(learner, state)
        for group, mask in self.replaced(learner, state):
            name = f"{group.name}.weight"
            learner.parameters[name][mask] = before[name][mask]


class ZeroesAllBiases(Replacing):
    """Replacing one unit zeroes the biases of the whole layer (finding 6)."""

    def after_step(self, learner, state):
        super().after_step(learner, state)
        for group, mask in self.replaced(learner, state):
            name = f"{group.name}.bias"
            if mask.any() and name in learner.parameters:
                learner.parameters[name].zero_()


class AtLeastOne(Replacing):
    """At least one unit goes in every step in which some are mature, whatever the rate (finding 6)."""

    def _count(self, state, sizes):
        ages = state["age"].split(list(sizes), dim=1)
        mature = torch.stack([(age > self.maturity).any(dim=1) for age in ages], dim=1)
        return torch.where(mature, super()._count(state, sizes).clamp(min=1), 0)


class OffByOneMaturity(Replacing):
    """Units are replaced at the age of maturity, not beyond it."""

    def _early(self):
        made = copy.copy(self)
        object.__setattr__(made, "maturity", self.maturity - 1)
        return made

    def begin(self, learner, state):
        ContinualBackprop.begin(self._early(), learner, state)

    def after_step(self, learner, state):
        ContinualBackprop.after_step(self._early(), learner, state)


class IgnoredMaturity(Replacing):
    """The configured maturity is never read; it is 3 (finding 8, METHODS F7)."""

    def begin(self, learner, state):
        ContinualBackprop.begin(self._always(), learner, state)

    def after_step(self, learner, state):
        ContinualBackprop.after_step(self._always(), learner, state)

    def _always(self):
        made = copy.copy(self)
        object.__setattr__(made, "maturity", 3)
        return made


class KeepsOutgoing(Replacing):
    """Replaced units keep their outgoing weights."""

    def after_step(self, learner, state):
        before = {name: value.clone() for name, value in learner.parameters.items()}
        super().after_step(learner, state)
        for group, mask in self.replaced(learner, state):
            for consumer in group.group.consumers:
                new, old = (
                    torch.unflatten(tensors[consumer.weight], 2, (group.size, consumer.expansion)).movedim(2, 1)
                    for tensors in (learner.parameters, before)
                )
                new[mask] = old[mask]


class WrongColumn(Replacing):
    """Behind a flattened feature map column c is erased for channel c, not its H*W columns (METHODS 0.4)."""

    def after_step(self, learner, state):
        before = {name: value.clone() for name, value in learner.parameters.items()}
        super().after_step(learner, state)
        for group, mask in self.replaced(learner, state):
            for consumer in group.group.consumers:
                if consumer.expansion > 1 and mask.any():
                    weight = learner.parameters[consumer.weight]
                    weight.copy_(before[consumer.weight])
                    weight[:, :, : group.size].masked_fill_(mask.unsqueeze(1), 0.0)


class OneConsumer(Replacing):
    """Only the first layer that reads a unit forgets it."""

    def after_step(self, learner, state):
        before = {name: value.clone() for name, value in learner.parameters.items()}
        super().after_step(learner, state)
        for group in learner.units:
            for consumer in group.group.consumers[1:]:
                learner.parameters[consumer.weight].copy_(before[consumer.weight])


class ForgottenStatistics(Replacing):
    """Batch normalisation keeps the running statistics of the old channel (METHODS 0.4)."""

    def after_step(self, learner, state):
        before = {name: value.clone() for name, value in learner.buffers.items()}
        super().after_step(learner, state)
        for name, value in learner.buffers.items():
            value.copy_(before[name])


class SilentWithoutUnits(L2):
    """A network without units is trained as if there were no method."""

    def after_step(self, learner, state):
        try:
            units = learner.units
        except UnsupportedError:
            return
        for group in units:
            group.reset(learner.parameters[f"{group.name}.weight"].flatten(2).norm(dim=2) < self.strength)


class FrozenInPrograms(L2):
    """Counts steps on the host, in an attribute: a program that is traced holds the number of that moment for ever."""

    def after_backward(self, learner, state):
        step = self.__dict__.get("step", 0)
        object.__setattr__(self, "step", step + 1)
        for name, gradient in learner.gradients.items():
            gradient.add_(learner.parameters[name], alpha=self.strength * 0.9**step)


class ReadsOnTheHost(L2):
    """Reads a number on the host: it cannot be traced, which is no bug."""

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            gradient.add_(learner.parameters[name] * (float(gradient.abs().max()) > 0) * self.strength)


class DoesNothingInPrograms(ContinualBackprop):
    """Looks whether the steps are traced, and replaces nothing there."""

    def after_step(self, learner, state):
        if type(state.noise).__name__ != "_TracedNoise":
            super().after_step(learner, state)


class GlobalRandomness(NoisySGD):
    """Draws from the global generator."""

    def after_backward(self, learner, state):
        for gradient in learner.gradients.values():
            gradient.add_(self.scale * torch.randn_like(gradient))


class NumpyRandomness(NoisySGD):
    """Draws from NumPy's global generator."""

    def after_backward(self, learner, state):
        import numpy

        for gradient in learner.gradients.values():
            gradient.add_(self.scale * float(numpy.random.standard_normal()))


class FixedSeed(NoisySGD):
    """Seeds the global generator at each step, so that it is private in nobody's sense."""

    def after_backward(self, learner, state):
        torch.manual_seed(0)
        for gradient in learner.gradients.values():
            gradient.add_(self.scale * torch.randn_like(gradient))


class NormOfTheStack(NoisySGD):
    """The norm that scales the noise is that of all replicas together."""

    def after_backward(self, learner, state):
        for gradient in learner.gradients.values():
            gradient.add_(self.scale * torch.linalg.vector_norm(gradient) * state.normal(gradient))


class SharedNoise(NoisySGD):
    """All replicas get the noise of the first."""

    def after_backward(self, learner, state):
        for gradient in learner.gradients.values():
            gradient.add_(self.scale * state.normal(gradient)[:1])


class RemembersOnItself(NoisySGD):
    """Counts steps in an attribute, which no checkpoint holds."""

    def after_backward(self, learner, state):
        step = self.__dict__.get("step", 0)
        object.__setattr__(self, "step", step + 1)
        for gradient in learner.gradients.values():
            gradient.add_(self.scale * 0.9**step * state.normal(gradient))


class NeverQuiteZero(ShrinkAndPerturbStep):
    """A guard against division leaves a little noise at strength zero."""

    active: ClassVar[bool] = True

    def after_step(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.add_(state.normal(parameter), alpha=max(self.std, 1e-7))


class ReplacesParameters(ShrinkAndPerturbStep):
    """Assigns to ``.data``: the optimizer goes on with other memory than the method reads."""

    def after_step(self, learner, state):
        for leaf in learner.module.parameters():
            leaf.data = leaf.data + self.std


class ReplacesModules(ShrinkAndPerturb):
    """Registers new parameters in the network at a boundary; the optimizer does not know them."""

    def on_task_start(self, learner, state):
        head = next(m for m in reversed(list(learner.module.modules())) if isinstance(m, nn.Linear))
        head.weight = nn.Parameter(head.weight.detach() * self.shrink)


class AliasedCopy(L2):
    """Pulls towards a copy of the initial weights that is none (METHODS F1)."""

    def begin(self, learner, state):
        for name, parameter in learner.parameters.items():
            state[name] = parameter

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            gradient.add_(0.5 * learner.parameters[name] - state[name], alpha=self.strength)


class LateCapture(L2):
    """Pulls towards the initial weights as they are after the first step (METHODS F2)."""

    def after_step(self, learner, state):
        for name, parameter in learner.parameters.items():
            if name not in state:
                state[name] = parameter.clone()
            parameter.lerp_(state[name], self.strength)


class OverwritesInitial(L2):
    """Forgets where it started: the initial weights follow the weights."""

    def after_step(self, learner, state):
        for name, initial in learner.initial.items():
            initial.copy_(learner.parameters[name])


class PenaltyOfTheStack(L2):
    """Adds the penalties of all replicas up."""

    def penalty(self, learner, state):
        return self.strength * sum(value.square().sum() for value in learner.differentiable.values())


class PeeksAtBoundaries(L2):
    """Looks up the index of the task, of which it was never told."""

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            gradient.add_(learner.parameters[name], alpha=self.strength * (1 + learner._host.task_index))


class InfersBoundaries(ShrinkAndPerturbStep):
    """Resets everything when the optimizer has just been cleared, which protocols do at boundaries."""

    def begin(self, learner, state):
        state["steps"] = torch.zeros((), dtype=torch.int64)

    def after_step(self, learner, state):
        state["steps"] += 1
        head = learner.parameters[learner.head[0]]
        if state["steps"] > 5 and head.abs().max() < 0.05:  # zeroed a step ago
            for name, parameter in learner.parameters.items():
                parameter.copy_(learner.initial[name])


class UndeclaredBoundaries(HeadReset):
    """Acts at boundaries, and says that it does not."""


# In the class body it would be refused at once.
UndeclaredBoundaries.track = property(lambda method: "boundary-free")


class StaleHead(HeadReset):
    """The head is redrawn and its moments stay."""

    def on_task_start(self, learner, state):
        fresh = learner.fresh(state)
        for name in self._names(learner):
            learner.parameters[name].copy_(fresh[name])


class SkipsConvolutions(L2):
    """Acts on linear layers and passes over all others in silence (METHODS F10)."""

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            if gradient.ndim < 4:
                gradient.add_(learner.parameters[name], alpha=self.strength)


class DividesByZero(L2):
    """Scales by what may be zero (METHODS F12)."""

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            size = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (gradient.ndim - 1))
            gradient.add_(learner.parameters[name] * (gradient / size), alpha=self.strength)


class ChangesWhileEvaluating(ShrinkAndPerturbStep):
    """Evaluates smoothed weights, and trains on from them."""

    def evaluated(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.mul_(0.9)
        return learner.parameters


class SinglePrecision(L2):
    """What it remembers lies on another device."""

    def evaluated(self, learner, state):
        return {name: value.float() for name, value in learner.parameters.items()}


class StartsOver(LayerNorm):
    """Rebuilding a layer draws its weights anew, and comparisons are no longer paired."""

    def configure(self, module, *, example, generator):
        module = super().configure(module, example=example, generator=generator)
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data.normal_(generator=generator)
        return module


class BeginsWithANudge(ShrinkAndPerturbStep):
    """Perturbs as soon as it is turned on."""

    def begin(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.mul_(0.99)


class DoesNothing(L2):
    """Makes new gradients instead of changing those there are."""

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            gradient = gradient + self.strength * learner.parameters[name]


@dataclass(frozen=True, kw_only=True)
class AcceptsNaN(L2):
    """Compares in the way that lets NaN through.

    Args:
        strength: Strength.
    """

    def __post_init__(self):
        if self.strength < 0:
            raise InvalidInputError("negative")


@dataclass(kw_only=True, frozen=True)
class Undocumented(Dropout):
    """Drops."""

    rate: float = 0.1


class MovesDropout(L2):
    """Draws from the stream of the network's dropout."""

    def after_backward(self, learner, state):
        super().after_backward(learner, state)
        torch.rand(1, generator=learner.network.generator)


class FlipsLabelsInPlace(L2):
    """Writes noisy labels into the batch that it was given, which is the data set's."""

    def batch(self, learner, state, inputs, targets):
        targets[:, 0] = 0
        return inputs, targets


class CutsInputs(L2):
    """Trains on inputs of another shape."""

    def batch(self, learner, state, inputs, targets):
        return inputs[..., :2], targets


class ScalesInputsInPlace(L2):
    """Scales the inputs where they lie."""

    def batch(self, learner, state, inputs, targets):
        return inputs.mul_(2), targets


class MixesReplicas(L2):
    """Mixes each sample with one of another replica."""

    def batch(self, learner, state, inputs, targets):
        return (1 - self.strength) * inputs + self.strength * inputs.flip(0), targets


class LossAnew(L2):
    """Computes the loss from the outputs, and drops what it was given."""

    def loss(self, learner, state, loss):
        return (1 + self.strength) * learner.loss(learner.outputs, learner.targets)


class LossOfTheStack(L2):
    """Weighs each replica's loss by the mean over all."""

    def loss(self, learner, state, loss):
        return loss * (1 + self.strength * loss.mean())


class ScalesLossInPlace(L2):
    """Scales the loss where it lies: the one that is recorded, too."""

    def loss(self, learner, state, loss):
        return loss.mul_(1 + self.strength)


class LossWithoutGradient(L2):
    """Reads the number and forgets where it is from."""

    def loss(self, learner, state, loss):
        return loss.detach() * self.strength


class UpdateOfTheStack(L2):
    """Bounds the update by the norm of all replicas' updates together."""

    def update(self, learner, state):
        for update in learner.updates.values():
            update.div_(1 + self.strength * update.norm())


class UpdatesWithoutStrength(L2):
    """Is on at strength zero, and takes the steps in an order of operations of its own."""

    active: ClassVar[bool] = True

    def update(self, learner, state):
        for name, update in learner.updates.items():
            update.add_(learner.parameters[name], alpha=1e-6 + self.strength)


class ReportOfTheStack(NoisySGD):
    """Reports the mean over all replicas as the number of each."""

    def report(self, learner, state):
        return {"norm": learner.parameters[learner.head[0]].mean().expand(learner.replicas)}


class ReportsOneNumber(NoisySGD):
    """Reports a number without the axis of replicas."""

    def report(self, learner, state):
        return {"norm": learner.parameters[learner.head[0]].norm()}


class DrawsForReports(NoisySGD):
    """Looks at some random directions, drawn from the stream of its noise."""

    def report(self, learner, state):
        weight = learner.parameters[learner.head[0]]
        return {"slope": (weight * state.normal(weight)).flatten(1).sum(dim=1)}


class SharesItsMemory(L2):
    """Counts steps in the module, for all methods of the process."""

    steps: ClassVar[list[int]] = []

    def after_backward(self, learner, state):
        self.steps.append(1)
        for name, gradient in learner.gradients.items():
            gradient.add_(learner.parameters[name], alpha=self.strength / len(self.steps))


class GridOfNoField(L2):
    """Is tuned over what is no field of it."""

    grid: ClassVar = {"weight_decay": (1e-3, 1e-4)}


class GridOfRefusedValues(L2):
    """Is tuned over a value that its field refuses."""

    grid: ClassVar = {"strength": (-0.1, 0.1)}


class GridWithNothing(L2):
    """Is tuned over a setting in which it is off."""

    grid: ClassVar = {"strength": (0.0, 0.1)}


class GridOfTooMany(ShrinkAndPerturbStep):
    """Is tuned over six settings, and others over four."""

    grid: ClassVar = {"weight_decay": (0.1, 0.01), "std": (0.1, 0.01, 0.001)}


class GridOfOneTwice(L2):
    """Is tuned over a value that stands there twice."""

    grid: ClassVar = {"strength": (0.1, 0.1)}


class CostOfNoKind(L2):
    """Says what it costs in words that nobody reads."""

    cost: ClassVar = {"time": 1.1, "energy": 1.2}


class CostOfNothing(L2):
    """Says that it takes no time, which is that of the step beside it."""

    cost: ClassVar = {"time": 0.0}


class CostInPercent(L2):
    """Says what it costs as a text."""

    cost: ClassVar = {"memory": "110%"}


class CostOfNoProgram(ReadsOnTheHost):
    """Says what it costs in a program, which it cannot be."""

    cost: ClassVar = {"program": 1.1}


class PresetOfNoField(L2):
    """Has a row of its own for a field that it does not have."""

    presets: ClassVar = {"l2:decay=0.1": "as published"}


class PresetOfRefusedValue(L2):
    """Has a row of its own at a strength that it refuses."""

    presets: ClassVar = {"l2:strength=-0.1": "the other way"}


class PresetOfNobody(L2):
    """Has a row of its own beside a method that does not exist."""

    presets: ClassVar = {"l2:strength=0.1+no_such_method": "together"}


class PresetOfAnother(L2):
    """Has a row of its own in which it does not take part."""

    presets: ClassVar = {"layernorm+snr": "strong"}


class PresetTwice(L2):
    """Has one setting in two rows."""

    presets: ClassVar = {"l2:strength=1e-1": "strong", "l2:strength=0.1": "strong"}


class PresetWithoutSummary(L2):
    """Has a row of its own, and nothing to say of it."""

    presets: ClassVar = {"l2:strength=0.1": " "}


class PresetThatExcludesItself(CReLU):
    """Has a row of its own in which two put something in the place of every ReLU."""

    presets: ClassVar = {"crelu+activation:leaky_relu": "both"}


def made(cls: type[Perturbation], **fields) -> Perturbation:
    """Return a mutant as a component of its own."""
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


NOISE, DECAY, STEP = {"scale": 0.1}, {"strength": 0.1}, {"weight_decay": 0.1, "std": 0.01}

MUTANTS: list[tuple[Perturbation, str]] = [
    (made(StaleMoments, **CBP), "resets-clear-the-optimizer"),
    (made(ForgetsTooMuch, **CBP), "resets-clear-the-optimizer"),
    (made(InertTransfer, **CBP), "transferred-means-arrive"),
    (made(UncorrectedMean, **CBP), "transferred-means-arrive"),
    (made(WrongLaw, **CBP), "resets-follow-the-law-of-construction"),
    (made(NormalLaw, **CBP), "resets-follow-the-law-of-construction"),
    (made(DrawsIntoACopy, **CBP), "resets-redraw-incoming-weights"),
    (made(ZeroesAllBiases, **CBP), "resets-touch-nothing-else"),
    (made(AtLeastOne, **CBP), "replacement-rate-is-kept"),
    (made(OffByOneMaturity, **CBP), "units-are-safe-until-mature"),
    (made(IgnoredMaturity, **CBP), "fields-matter"),
    (made(IgnoredMaturity, **CBP), "units-are-safe-until-mature"),
    (made(KeepsOutgoing, **CBP), "resets-erase-outgoing-weights"),
    (made(WrongColumn, **CBP), "resets-erase-outgoing-weights"),
    (made(OneConsumer, **CBP), "resets-erase-outgoing-weights"),
    (made(ForgottenStatistics, **CBP), "resets-renew-normalisations"),
    (made(SilentWithoutUnits, **DECAY), "networks-without-units-are-refused"),
    (made(DoesNothingInPrograms, **CBP), "traced-equals-steps"),
    (made(FrozenInPrograms, **DECAY), "traced-equals-steps"),
    (made(GlobalRandomness, **NOISE), "private-randomness"),
    (made(NumpyRandomness, **NOISE), "private-randomness"),
    (made(FixedSeed, **NOISE), "private-randomness"),
    (made(NormOfTheStack, **NOISE), "replicas-are-independent"),
    (made(SharedNoise, **NOISE), "replicas-are-independent"),
    (made(RemembersOnItself, **NOISE), "resumes"),
    (made(NeverQuiteZero, **STEP), "zero-is-none"),
    (made(ReplacesParameters, **STEP), "parameters-stay-the-same-objects"),
    (made(ReplacesModules), "parameters-stay-the-same-objects"),
    (made(AliasedCopy, **DECAY), "copies-share-no-memory"),
    (made(LateCapture, **DECAY), "initial-weights-are-captured-first"),
    (made(OverwritesInitial, **DECAY), "initial-weights-are-captured-first"),
    (made(PenaltyOfTheStack, **DECAY), "penalty-is-per-replica"),
    (made(CutsInputs, **DECAY), "batch-is-replaced"),
    (made(MixesReplicas, **DECAY), "replicas-are-independent"),
    (made(LossAnew, **DECAY), "loss-is-passed-on"),
    (made(LossOfTheStack, **DECAY), "loss-is-passed-on"),
    (made(LossWithoutGradient, **DECAY), "loss-is-passed-on"),
    (made(UpdateOfTheStack, **DECAY), "replicas-are-independent"),
    (made(UpdatesWithoutStrength, **DECAY), "zero-is-none"),
    (made(UpdatesWithoutStrength, **DECAY), "composes"),
    (made(ReportOfTheStack, **NOISE), "reports-are-free"),
    (made(ReportsOneNumber, **NOISE), "reports-are-free"),
    (made(DrawsForReports, **NOISE), "reports-are-free"),
    (made(SharesItsMemory, **DECAY), "composes"),
    (made(PeeksAtBoundaries, **DECAY), "boundaries-stay-unknown"),
    (made(InfersBoundaries, **STEP), "boundaries-stay-unknown"),
    (made(UndeclaredBoundaries), "track-follows-from-the-hooks"),
    (made(StaleHead), "boundary-resets-clear-the-optimizer"),
    (made(SkipsConvolutions, **DECAY), "layers-are-served-or-refused"),
    (made(DividesByZero, **DECAY), "hard-inputs-stay-finite"),
    (made(ChangesWhileEvaluating, **STEP), "evaluation-is-free"),
    (made(SinglePrecision, **DECAY), "device-and-dtype-are-kept"),
    (made(StartsOver), "moves-no-other-stream"),
    (made(MovesDropout, **DECAY), "moves-no-other-stream"),
    (made(BeginsWithANudge, **STEP), "begin-changes-nothing"),
    (made(DoesNothing, **DECAY), "acts"),
    (made(GridOfNoField, **DECAY), "grid-can-be-searched"),
    (made(GridOfRefusedValues, **DECAY), "grid-can-be-searched"),
    (made(GridWithNothing, **DECAY), "grid-can-be-searched"),
    (made(GridOfTooMany, **STEP), "grid-can-be-searched"),
    (made(GridOfOneTwice, **DECAY), "grid-can-be-searched"),
    (made(CostOfNoKind, **DECAY), "cost-is-told-in-multiples"),
    (made(CostOfNothing, **DECAY), "cost-is-told-in-multiples"),
    (made(CostInPercent, **DECAY), "cost-is-told-in-multiples"),
    (made(CostOfNoProgram, **DECAY), "cost-is-told-in-multiples"),
    (made(PresetOfNoField, **DECAY), "presets-can-be-run"),
    (made(PresetOfRefusedValue, **DECAY), "presets-can-be-run"),
    (made(PresetOfNobody, **DECAY), "presets-can-be-run"),
    (made(PresetOfAnother, **DECAY), "presets-can-be-run"),
    (made(PresetTwice, **DECAY), "presets-can-be-run"),
    (made(PresetWithoutSummary, **DECAY), "presets-can-be-run"),
    (made(PresetThatExcludesItself), "presets-can-be-run"),
    (AcceptsNaN(strength=0.1), "nonsense-is-refused"),
    (Undocumented(), "is-documented"),
    (Undocumented(), "fields-matter"),
]

#: Mutants that the learner refuses, and a check that runs into it.
REFUSED = [
    (made(FlipsLabelsInPlace, **DECAY), "batch-is-replaced"),
    (made(ScalesInputsInPlace, **DECAY), "batch-is-replaced"),
    (made(ScalesLossInPlace, **DECAY), "online-score-is-of-the-stream"),
]
