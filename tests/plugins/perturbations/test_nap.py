"""Normalize and project: the norms that stay, and the outputs that do not notice."""

import pytest
import torch
from method_lab import rectified
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.nap import NormalizeAndProject

HIDDEN = ("1.weight", "3.weight")


def norms(parameters, names):
    return torch.stack([parameters[name].flatten(1).norm(dim=1) for name in names])


@pytest.mark.parametrize("scales", ["project", "remove"])
def test_norms_of_hidden_weights_stay_and_that_of_the_head_does_not(scales, runner):
    method = NormalizeAndProject(scales=scales)
    trained = runner([method], seeds=(0, 1), dtype=torch.float64, build=rectified, optimizer=Adam(lr=0.05))
    view = trained.learner.view
    before, head = norms(view.initial, HIDDEN), norms(view.initial, ["5.weight"])
    for _ in range(10):
        trained.run(3)
        torch.testing.assert_close(norms(view.parameters, HIDDEN), before, rtol=1e-13, atol=0)
    assert (norms(view.parameters, ["5.weight"]) / head - 1).abs().min() > 0.05
    assert all(not torch.equal(view.parameters[name], view.initial[name]) for name in HIDDEN)


def test_projected_scales_and_shifts_keep_the_root_of_their_number(runner):
    trained = runner([NormalizeAndProject()], dtype=torch.float64, build=rectified, optimizer=Adam(lr=0.05)).run(20)
    parameters = trained.learner.view.parameters
    for place, size in (("2", 8), ("4", 7)):
        gain, shift = parameters[f"{place}.norm.weight"], parameters[f"{place}.norm.bias"]
        assert shift.norm() > 0.1
        assert (gain.square().sum() + shift.square().sum()).item() == pytest.approx(size, rel=1e-13)


def test_projecting_weights_changes_no_output(runner):
    method = NormalizeAndProject(scales="remove")
    trained = runner([method], seeds=(0, 1), dtype=torch.float64, build=rectified).run(3)
    learner = trained.learner
    for layer in learner.network.module.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.eps = 0.0
    for factor, name in zip((3.0, 0.2), HIDDEN, strict=True):
        learner.view.parameters[name].mul_(factor)
    inputs = torch.stack([task.batch(99)[0] for task in trained.tasks])
    with torch.no_grad():
        before = learner.view.forward(inputs).outputs
        method.after_step(learner.view, learner.states[0])
        after = learner.view.forward(inputs).outputs
    torch.testing.assert_close(norms(learner.view.parameters, HIDDEN), norms(learner.view.initial, HIDDEN))
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", [MLP(), CNN()])
def test_layers_in_front_of_a_normalisation_lose_their_biases_and_the_head_keeps_its(architecture):
    module = architecture.build((3, 16, 16), 5, generator=rng.derive(0, "init"))
    method = NormalizeAndProject(scales="remove")
    method.configure(module, example=torch.zeros(2, 3, 16, 16), generator=rng.derive(0))
    assert [name for name, _ in module.named_parameters() if name.endswith("bias")] == ["out.bias"]


def test_a_weight_of_zeros_stays_free(runner):
    def build(generator):
        module = rectified(generator)
        nn.init.zeros_(module[3].weight)
        return module

    method = NormalizeAndProject()
    learner = runner([method], build=build).learner
    weight = learner.view.parameters["3.weight"]
    for value in (0.0, 2.0):
        weight.fill_(value)
        method.after_step(learner.view, learner.states[0])
        assert torch.equal(weight, torch.full_like(weight, value))


@pytest.mark.parametrize(
    ("scales", "architecture", "reason"),
    [
        ("project", MLP(activation="tanh"), "nap:scales=remove"),
        ("remove", ViT(depth=1), "nap: the network normalises its features already"),
        ("project", MLP(normalization="layer"), "nap: the network normalises its features already"),
    ],
)
def test_networks_that_it_cannot_serve_are_refused(scales, architecture, reason):
    module = architecture.build((3, 16, 16), 5, generator=rng.derive(0, "init"))
    with pytest.raises(UnsupportedError, match=reason):
        NormalizeAndProject(scales=scales).configure(module, example=torch.zeros(2, 3, 16, 16), generator=rng.derive(0))
