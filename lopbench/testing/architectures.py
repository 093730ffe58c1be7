"""The checks of architectures."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, LopbenchError, UnsupportedError
from lopbench.core.interfaces import Architecture, Component
from lopbench.learner.discovery import discover
from lopbench.learner.head import find_head
from lopbench.learner.network import activation_layers
from lopbench.testing.check import Check, Mismatch, check
from lopbench.testing.comparing import listed, same
from lopbench.testing.shared import SHARED, alternatives

#: Shapes of samples: images, a small and a grey one, and vectors, or sequences of tokens.
_SHAPES = ((3, 32, 32), (1, 16, 16), (3, 64, 64), (21,))


def _architecture(component: Component) -> Architecture:
    assert isinstance(component, Architecture)
    return component


def _build(architecture: Architecture, shape: tuple[int, ...], *, outputs: int = 7, seed: int = 0) -> nn.Module:
    return architecture.build(shape, outputs, generator=rng.derive(seed, "conformance", "architecture"))


def _example(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Return zeros ``(2, *shape)``, which are tokens where the network embeds some."""
    tokens = any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules())
    return torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32)


def _some(architecture: Architecture) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the network for the first shape that the architecture takes."""
    for shape in _SHAPES:
        try:
            return _build(architecture, shape), shape
        except UnsupportedError:
            continue
    raise Mismatch(f"a network for one of the shapes {_SHAPES}", "UnsupportedError for all of them")


@check("It builds networks for several shapes and numbers of outputs, or refuses with UnsupportedError.")
def several_sizes_are_built(component: Component) -> None:
    """Build and run networks."""
    architecture = _architecture(component)
    _some(architecture)
    for shape in _SHAPES:
        for outputs in (1, 10):
            try:
                module = _build(architecture, shape, outputs=outputs)
            except UnsupportedError:
                continue
            result = module(_example(module, shape))
            # Of sequences the outputs may be those of the whole, or of each place.
            fits = isinstance(result, Tensor) and result.shape in {(2, outputs), (2, shape[0], outputs)}
            if not fits or (result.ndim == 3 and len(shape) != 1):
                raise Mismatch(f"a tensor (2, {outputs}) for samples {shape}", str(getattr(result, "shape", result)))
            if not bool(result.isfinite().all()):
                raise Mismatch(f"finite outputs for samples {shape}", "some that are not")


@check("Impossible requests are refused with InvalidInputError.")
def nonsense_sizes_are_refused(component: Component) -> None:
    """Ask for no outputs, and for samples without extent."""
    architecture = _architecture(component)
    _, shape = _some(architecture)
    for asked, outputs in ((shape, 0), ((0, *shape[1:]), 3)):
        try:
            _build(architecture, asked, outputs=outputs)
        except (InvalidInputError, UnsupportedError):
            continue
        raise Mismatch("InvalidInputError", f"a network for samples {asked} and {outputs} outputs")


@check(
    "The network is a function of the generator alone: same generator, same weights; the global one is not touched.",
    lesson="METHODS 0.3(b); `reset_parameters` draws from the global generator unless it is isolated",
)
def weights_come_from_the_generator(component: Component) -> None:
    """Build twice, from two global seeds, and from another generator."""
    architecture = _architecture(component)
    _, shape = _some(architecture)
    built = []
    for place, seed in enumerate((0, 0, 1)):
        torch.manual_seed(place)
        before = torch.get_rng_state()
        built.append(_build(architecture, shape, seed=seed).state_dict())
        if not torch.equal(before, torch.get_rng_state()):
            raise Mismatch("torch's global generator left alone", "it has advanced; use rng.isolated(generator)")
    wrong = [name for name in built[0] if not same(built[0][name], built[1][name])]
    if wrong:
        raise Mismatch("the same weights from the same generator", f"others in {listed(wrong)}")
    if all(same(built[0][name], built[2][name]) for name in built[0]):
        raise Mismatch("other weights from another generator", "the same")


@check("The network comes in training mode, in float32 on the CPU, all of it trained, with a linear head.")
def network_is_ready_to_train(component: Component) -> None:
    """Look at it."""
    architecture = _architecture(component)
    module, shape = _some(architecture)
    if not module.training:
        raise Mismatch("training mode", "evaluation mode")
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu" or not parameter.requires_grad:
            raise Mismatch(
                f"{name} to be float32 on the CPU and trained",
                f"{parameter.dtype} on {parameter.device.type}, requires_grad={parameter.requires_grad}",
            )
    find_head(module, 7, _example(module, shape), named=architecture.head(module))


@check("The probed layers exist, and each is called once in a forward pass.")
def probed_layers_are_called(component: Component) -> None:
    """Run the network with hooks."""
    architecture = _architecture(component)
    module, shape = _some(architecture)
    chosen = architecture.layers(module)
    names = activation_layers(module) if chosen is None else list(chosen)
    calls = dict.fromkeys(names, 0)

    def count(name: str) -> Any:
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    for name in names:
        module.get_submodule(name).register_forward_hook(count(name))
    module(_example(module, shape))
    wrong = [f"{name} ({number} calls)" for name, number in calls.items() if number != 1]
    if wrong:
        raise Mismatch("one call of each probed layer", listed(wrong))


@check("The units that methods may reset are found.", lesson="METHODS 0.4: graphs wired by hand miss norms and skips")
def units_are_found(component: Component) -> str:
    """Trace the network."""
    module, shape = _some(_architecture(component))
    groups = discover(module, _example(module, shape)).groups
    return f"{len(groups)} groups, {sum(group.size for group in groups)} units"


@check("Every field changes the network; none is ignored.", lesson="METHODS F7: unknown or unread keys run the default")
def fields_matter(component: Component) -> None:
    """Change each field and compare parameters, outputs and layers."""
    architecture = _architecture(component)
    _, shape = _some(architecture)
    settings = [architecture]
    for example in type(architecture).examples:
        try:
            settings.append(type(architecture)(**example))
        except TypeError:
            continue
    pictures = [(setting, _picture(setting, shape)) for setting in settings]
    for field in dataclasses.fields(architecture):
        others = [(before, other) for setting, before in pictures for other in alternatives(setting, field.name)]
        # A text that may be anything has no alternatives that could be guessed.
        if others and all(_picture(other, shape) in (before, None) for before, other in others):
            raise Mismatch("each field to change the network at some value", f"{field.name} changes nothing")


def _picture(architecture: Architecture, shape: tuple[int, ...]) -> object:
    try:
        module = _build(architecture, shape)
    except LopbenchError:
        return None
    generator = rng.derive(0, "conformance", "input")
    x = torch.randn(3, *shape, generator=generator)
    if not _example(module, shape).is_floating_point():
        x = torch.randint(7, x.shape, generator=generator)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = module(x)
    return repr(module), [float(value) for value in outputs.flatten()]


CHECKS: tuple[Check, ...] = (
    *SHARED,
    several_sizes_are_built,
    nonsense_sizes_are_refused,
    weights_come_from_the_generator,
    network_is_ready_to_train,
    probed_layers_are_called,
    units_are_found,
    fields_matter,
)
