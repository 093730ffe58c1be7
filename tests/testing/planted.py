"""Broken methods that behave where one looks first: at a single boundary, in a single layer, on a single network.

``PLANTED`` gives, for each, the check that must fail and a part of what it must say.
"""

from dataclasses import dataclass

import torch

from lopbench.core.interfaces import Perturbation
from lopbench_plugins.perturbations.head_reset import HeadReset
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.noisy_sgd import NoisySGD
from lopbench_plugins.perturbations.shrink_and_perturb import ShrinkAndPerturb


def head_is_small(learner):
    return (learner.parameters[learner.head[0]].abs().amax() < 0.05).all()


class ClearsAtZeroHead(L2):
    """Clears the optimizer, parameter by parameter, when the head is zero, which protocols make it at boundaries."""

    def after_step(self, learner, state):
        if head_is_small(learner):
            for name in learner.parameters:
                learner.optimizer.clear(name)


class ShrinksAtZeroHead(L2):
    """Shrinks the weights a little when the head is zero."""

    def after_step(self, learner, state):
        if head_is_small(learner):
            for parameter in learner.parameters.values():
                parameter.mul_(0.9)


class ShrinksBeforeTheStep(L2):
    """Shrinks the weights when the head is zero to the bit, before the first step has changed it."""

    def after_backward(self, learner, state):
        super().after_backward(learner, state)
        if not learner.parameters[learner.head[0]].any():
            for parameter in learner.parameters.values():
                parameter.mul_(0.9)


class ShrinksWhereTheGradientJumps(L2):
    """Shrinks the weights when the gradient's norm is far above its running mean."""

    def begin(self, learner, state):
        state["mean"] = torch.full((learner.replicas,), torch.inf)
        state["factor"] = torch.ones(learner.replicas)

    def after_backward(self, learner, state):
        norm = sum(gradient.flatten(1).square().sum(dim=1) for gradient in learner.gradients.values()).sqrt()
        state["factor"].copy_(torch.where(norm > 3 * state["mean"], 0.9, 1.0))
        state["mean"].copy_(torch.where(state["mean"].isinf(), norm, state["mean"].lerp(norm, 0.1)))
        super().after_backward(learner, state)

    def after_step(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.mul_(state["factor"].view(-1, *[1] * (parameter.ndim - 1)))


class SeedsAnew(NoisySGD):
    """Makes its generator from the same seed in each step."""

    def after_backward(self, learner, state):
        for gradient in learner.gradients.values():
            generator = torch.Generator().manual_seed(7)
            gradient.add_(self.scale * torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype))


class SeedsAnewForScaledNoise(NoisySGD):
    """Seeds anew likewise, and scales the noise by the norm of the weights."""

    def after_step(self, learner, state):
        for parameter in learner.parameters.values():
            generator = torch.Generator().manual_seed(7)
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.01 * self.scale * noise * parameter.norm())


class SameNoiseOnInputs(NoisySGD):
    """Adds the same noise to every batch."""

    def batch(self, learner, state, inputs, targets):
        generator = torch.Generator().manual_seed(7)
        return inputs + self.scale * torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype), targets


class LooksTwice(L2):
    """Runs the module itself once more, in training mode."""

    def after_backward(self, learner, state):
        super().after_backward(learner, state)
        if learner.replicas == 1:
            learner.module(learner.inputs[0])


class LooksTwiceAfterwards(L2):
    """Does so after the step, where buffers may be written."""

    def after_step(self, learner, state):
        if learner.replicas == 1:
            learner.module(learner.inputs[0])


class RedrawsHalf(HeadReset):
    """Redraws the first half of each matrix, and leaves the optimizer as it is."""

    def on_task_start(self, learner, state):
        fresh = learner.fresh(state)
        for name, parameter in learner.parameters.items():
            if parameter.ndim > 2:
                half = parameter.shape[1] // 2
                parameter[:, :half] = fresh[name][:, :half]


class RedrawsSomeWeights(HeadReset):
    """Redraws every other weight, and leaves the optimizer as it is."""

    def on_task_start(self, learner, state):
        fresh = learner.fresh(state)
        for name, parameter in learner.parameters.items():
            parameter[..., ::2] = fresh[name][..., ::2]


class FindsLayersByName(L2):
    """Redraws a unit of the first layer every fifth step, without asking for units; the moments stay."""

    def begin(self, learner, state):
        state["steps"] = torch.zeros((), dtype=torch.int64)

    def after_step(self, learner, state):
        state["steps"] += 1
        if int(state["steps"]) % 5 == 0:
            for name in [n for n in learner.parameters if n.endswith("weight") and n not in learner.head][:1]:
                self._reset(learner, state, name)

    def _reset(self, learner, state, name):
        weight = learner.parameters[name]
        weight[:, 1] = (2 * state.uniform(weight) - 1)[:, 1] * weight[0, 0].numel() ** -0.5
        following = [n for n in learner.parameters if n.endswith("weight")][1]
        learner.parameters[following][:, :, 1] = 0


class ForgetsOnACopy(FindsLayersByName):
    """Clears nothing and zeroes nothing that lasts: advanced indexing gives a copy."""

    def _reset(self, learner, state, name):
        weight = learner.parameters[name]
        weight[:, 1] = (2 * state.uniform(weight) - 1)[:, 1] * weight[0, 0].numel() ** -0.5
        learner.optimizer.clear(name, torch.tensor([False, True] + [False] * (weight.shape[1] - 2)).view(1, -1, 1))
        following = [n for n in learner.parameters if n.endswith("weight")][1]
        learner.parameters[following][:, :, [1]].zero_()


class NoiseOfOneScale(ShrinkAndPerturb):
    """Adds noise of the same standard deviation to all layers."""

    def on_task_start(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.mul_(self.shrink).add_(state.normal(parameter), alpha=0.1 * self.perturb)
        learner.optimizer.clear()


class SilentFromTheStart(L2):
    """Resets units that fell silent three steps ago; of one that never did, argmax says that it was at step 0."""

    def begin(self, learner, state):
        for group in learner.units:
            state[group.name] = torch.zeros(learner.replicas, group.size, 0, dtype=torch.bool)

    def after_step(self, learner, state):
        for group in learner.units:
            silent = (group.activation == 0).all(dim=1).unsqueeze(2)
            history = torch.cat([state[group.name], silent], dim=2)
            since = history.shape[2] - history.long().argmax(dim=2)
            mask = since >= 3
            group.reset(mask)
            state[group.name] = history if history.shape[2] < 3 else history[:, :, :0]


def made(cls: type[Perturbation], **fields) -> Perturbation:
    """Return a broken method as a component of its own."""
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


DECAY, NOISE = {"strength": 0.01}, {"scale": 0.1}

PLANTED: list[tuple[Perturbation, str, str]] = [
    (made(ClearsAtZeroHead, **DECAY), "boundaries-stay-unknown", "clears 100% of the optimizer's entries there"),
    (made(ShrinksAtZeroHead, **DECAY), "boundaries-stay-unknown", "moves 10% of the weights' norm there"),
    (made(ShrinksBeforeTheStep, **DECAY), "boundaries-stay-unknown", "moves 10% of the weights' norm there"),
    (made(ShrinksWhereTheGradientJumps, **DECAY), "boundaries-stay-unknown", "of the weights' norm there"),
    (made(SeedsAnew, **NOISE), "noise-is-drawn-anew", "in after_backward changes by the same numbers"),
    (made(SeedsAnewForScaledNoise, **NOISE), "noise-is-drawn-anew", "in after_step changes by the same numbers"),
    (made(SameNoiseOnInputs, **NOISE), "noise-is-drawn-anew", "the inputs in batch changes by the same numbers"),
    (made(LooksTwice, **DECAY), "statistics-move-once", "after_backward moves 1.running_mean"),
    (made(LooksTwiceAfterwards, **DECAY), "statistics-move-once", "after_step moves 1.num_batches_tracked"),
    (made(RedrawsHalf), "boundary-resets-clear-the-optimizer", "128 of 256 weights became others, and 128 of them"),
    (made(RedrawsSomeWeights), "boundary-resets-clear-the-optimizer", "128 of 256 weights became others"),
    (made(FindsLayersByName, **DECAY), "resets-clear-the-optimizer", "of 32 entries of 1.weight are stale"),
    (made(ForgetsOnACopy, **DECAY), "resets-erase-outgoing-weights", "3 still reads a unit of 1 that was reset"),
    (
        made(NoiseOfOneScale),
        "boundary-noise-has-the-layers-scale",
        "made with a standard deviation of 0.1, gets noise of",
    ),
]
