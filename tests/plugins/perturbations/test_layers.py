"""Dropout and layer normalisation: what they build into a network."""

import copy

import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.learner.network import activation_layers
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.timm import Timm
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.perturbations.dropout import Dropout
from lopbench_plugins.perturbations.layernorm import LayerNorm

SHAPE = (3, 16, 16)


def configured(method, module, shape=SHAPE):
    return method.configure(module, example=torch.zeros(2, *shape), generator=rng.derive(0, "configure"))


def built(architecture, shape=SHAPE):
    return architecture.build(shape, 5, generator=rng.derive(0, "init"))


def images(count=4, seed=0):
    return torch.randn(count, *SHAPE, generator=rng.derive(seed, "images"))


class OneActivation(nn.Module):
    """Uses one activation module twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.activation = nn.ReLU()
        self.alias = self.activation

    def forward(self, x):
        return self.out(self.alias(self.second(self.activation(self.first(x)))))


@pytest.mark.parametrize("architecture", [MLP(), CNN(), ViT()])
def test_dropout_stands_behind_every_activation_function_and_nowhere_else(architecture):
    module = built(architecture)
    functions = activation_layers(module)
    configured(Dropout(p=0.25), module)
    for name in functions:
        sequence = module.get_submodule(name)
        assert activation_layers(sequence) == ["function"]
        assert sequence[1].p == 0.25
    assert sum(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in module.modules()) == len(functions)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    module = built(MLP())
    plain = copy.deepcopy(module).eval()
    dropped = configured(Dropout(p=0.25), module)
    assert torch.equal(dropped.eval()(images()), plain(images()))
    dropped.train()
    kept = dropped.layers[0](images().flatten(1)) != 0
    alive = plain.layers[0](images().flatten(1)) != 0
    assert not torch.equal(kept, alive)
    assert 0.6 < (kept.sum() / alive.sum()).item() < 0.9


def test_dropout_does_not_disturb_the_global_generator(runner):
    before = torch.get_rng_state()
    runner([Dropout()]).run(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_leaves_the_initialisation_as_it_is(runner):
    ours, theirs = runner([Dropout()]).learner.view.parameters, runner([]).learner.view.parameters
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_dropout_reaches_a_shared_activation_function_under_all_its_names():
    module = configured(Dropout(), OneActivation(), shape=(4,))
    assert module.activation is module.alias
    assert isinstance(module.activation[1], nn.Dropout)


@pytest.mark.parametrize("method", [Dropout(), LayerNorm()])
def test_network_without_activation_modules_is_refused(method):
    with pytest.raises(UnsupportedError, match="no activation function"):
        configured(method, nn.Sequential(nn.Flatten(), nn.Linear(768, 5)))


def test_dropout_on_dropout_is_refused():
    with pytest.raises(UnsupportedError, match=r"dropout already .*p=0.1"):
        configured(Dropout(), built(MLP(dropout=0.1)))


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_dropout_rate_out_of_range_is_refused(p):
    with pytest.raises(InvalidInputError, match=r"p must be .*got"):
        Dropout(p=p)


def test_layer_normalisation_of_the_mlp_is_the_architectures_own():
    ours = configured(LayerNorm(), built(MLP()))
    theirs = built(MLP(normalization="layer"))
    parameters = {n.replace(".activation.norm.", ".norm."): p for n, p in ours.named_parameters()}
    theirs.load_state_dict(parameters)
    torch.testing.assert_close(ours(images()), theirs(images()))


def test_feature_maps_are_normalised_in_one_group_and_feature_vectors_by_layer():
    module = configured(LayerNorm(), built(CNN()))
    norms = [module.get_submodule(name.replace("function", "norm")) for name in activation_layers(module)]
    assert [type(norm) for norm in norms] == [nn.GroupNorm, nn.GroupNorm, nn.GroupNorm, nn.LayerNorm]
    assert all(norm.num_groups == 1 for norm in norms[:3])
    assert module(images()).shape == (4, 5)


def test_inputs_of_every_activation_function_are_normalised():
    module = configured(LayerNorm(), built(MLP()))
    seen = []
    for name in activation_layers(module):
        module.get_submodule(name).register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    module(3 * images() + 1)
    assert len(seen) == 5
    for features in seen:
        torch.testing.assert_close(features.mean(dim=1), torch.zeros(4), rtol=0, atol=1e-5)
        torch.testing.assert_close(features.var(dim=1, correction=0), torch.ones(4), rtol=0, atol=1e-2)


def test_scaling_a_layer_does_not_change_a_normalised_network_without_biases():
    module = configured(LayerNorm(), built(MLP())).double()
    with torch.no_grad():
        for layer in module.layers:
            layer.linear.bias.zero_()
            layer.activation.norm.eps = 0.0
        before = module(images().double())
        module.layers[1].linear.weight *= 7.0
        torch.testing.assert_close(module(images().double()), before)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU()), (3, 9), nn.GroupNorm),
        (nn.Sequential(nn.Linear(6, 6), nn.ReLU()), (9, 6), nn.LayerNorm),
        (nn.Sequential(nn.Conv3d(3, 6, 1), nn.ReLU()), (3, 4, 4, 4), nn.GroupNorm),
    ],
)
def test_normalisation_is_over_features_wherever_they_stand(module, shape, expected):
    norm = configured(LayerNorm(), module, shape)[1].norm
    assert type(norm) is expected
    assert norm.weight.shape == (6,)


def test_probing_shapes_leaves_network_and_randomness_alone():
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 5))
    module[2].eval()
    before = torch.get_rng_state()
    configured(LayerNorm(), module)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training
    assert not module[2].training
    assert not any(layer._forward_pre_hooks for layer in module.modules())


@pytest.mark.parametrize(
    "architecture",
    [MLP(normalization="batch"), ResNet18(normalization="group"), ViT(normalization="layer"), Timm(model="resnet18")],
)
def test_normalised_network_is_refused(architecture):
    with pytest.raises(UnsupportedError, match="normalises its features already"):
        configured(LayerNorm(), built(architecture))


def test_normalisation_of_another_maker_is_recognised():
    class RmsNorm(nn.Module):
        def forward(self, x):
            return x / x.square().mean(dim=1, keepdim=True).sqrt()

    with pytest.raises(UnsupportedError, match="RmsNorm"):
        configured(LayerNorm(), nn.Sequential(nn.Linear(4, 4), RmsNorm(), nn.ReLU(), nn.Linear(4, 2)), shape=(4,))


def test_weight_normalisation_is_no_normalisation_of_features():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    module = configured(LayerNorm(), nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2)), shape=(4,))
    assert isinstance(module[1].norm, nn.LayerNorm)


def test_activation_function_at_several_places_is_refused():
    with pytest.raises(UnsupportedError, match="used at 2 places"):
        configured(LayerNorm(), OneActivation(), shape=(4,))


def test_layer_normalisation_and_dropout_compose(runner):
    trained = runner([LayerNorm(), Dropout()]).run(2)
    assert "2.norm.weight" in trained.learner.view.parameters
    assert activation_layers(trained.learner.network.module) == ["2.function.function", "4.function.function"]
