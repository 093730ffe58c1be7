"""Certificates: what holds passes, what is broken is named with the condition it breaks."""

import copy
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from lopbench.cloning.certify import Check, certify, certify_clone, certify_frozen
from lopbench.cloning.widen import widen_network
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Cloner
from lopbench.core.profile import Partition, Profile
from lopbench.core.spec import ComponentSpec

CONDITIONS = ("function", "forward", "backward", "gradient", "interface", "persistence")


@dataclass(frozen=True, kw_only=True)
class Changed(Cloner):
    """Interleaved clones that ``change`` spoils afterwards."""

    name: ClassVar[str] = "changed"
    change: object = None

    def clone(self, module, factor, *, example, generator):
        wide, profile = widen_network(module, factor, example=example, layout="interleave")
        if self.change is not None:
            with torch.no_grad():
                profile = self.change(wide, profile) or profile
        return wide, profile


def conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(),
        nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip


def mlp(*middle):
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), *middle, nn.Linear(6, 3))


def run(network, shape, change=None, factor=2, optimizer="sgd:lr=1e-2", **keywords):
    spec = ComponentSpec.parse("optimizers", optimizer)
    example = torch.zeros(2, *shape)
    return certify(network, Changed(change=change), factor, example=example, optimizer=spec, **keywords)


def broken(certificate):
    return {report.module: set(report.broken) for report in certificate.modules if report.broken}


@pytest.mark.parametrize("optimizer", ["sgd:lr=1e-2", "sgd:lr=1e-2,momentum=0.9,weight_decay=0.1", "adam:lr=1e-3"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_clone_is_certified(factor, optimizer):
    certificate = run(conv_net(), (3, 4, 4), factor=factor, optimizer=optimizer)
    assert certificate.passed
    assert certificate.verdict.startswith("Certified")
    assert [r.module for r in certificate.modules] == [str(index) for index in range(9)]
    for report in certificate.modules:
        assert all(getattr(report, name).passed for name in CONDITIONS)
        measured = [name for name in CONDITIONS if getattr(report, name).deviation is not None]
        assert measured == list(CONDITIONS) if report.kind in ("Conv2d", "Linear", "BatchNorm2d") else CONDITIONS[:3]


def double_one_weight(wide, profile):
    wide[3].weight[0, 0] *= 2


def forget_to_divide(wide, profile):
    wide[6].weight *= 2


def shift_a_bias(wide, profile):
    wide[0].bias[1] += 1


def unequal_columns(wide, profile):
    wide[6].weight[:, 0] += 0.1
    wide[6].weight[:, 16] -= 0.1


def double_a_running_mean(wide, profile):
    wide[1].running_mean += 1


@pytest.mark.parametrize(
    ("change", "module", "conditions"),
    [
        # A row and a column of its block get another sum, and only the first channel of two.
        (double_one_weight, "3", {"function", "forward", "backward"}),
        # Clones stay equal to each other, and are not the base's.
        (forget_to_divide, "6", {"function"}),
        (shift_a_bias, "0", {"function", "forward"}),
        # Of the pixel's two clones, one adds what the other takes away: rows keep their sums.
        (unequal_columns, "6", {"backward"}),
        (double_a_running_mean, "1", {"function"}),
    ],
)
def test_a_wrong_clone_is_named_with_what_it_breaks(change, module, conditions):
    certificate = run(conv_net(), (3, 4, 4), change)
    assert not certificate.passed
    assert [report.module for report in certificate.culprits] == [module]
    assert broken(certificate)[module] - {"persistence"} == conditions
    assert certificate.verdict.startswith(f"{module} (")
    assert all(found <= {"persistence"} for name, found in broken(certificate).items() if name != module)


def test_dropout_is_named_as_what_breaks_the_clones():
    certificate = run(mlp(nn.Dropout(0.5)), (5,))
    assert [report.module for report in certificate.culprits] == ["4"]
    assert broken(certificate)["4"] == {"forward", "backward"}
    assert certificate.verdict == (
        "4 (Dropout) breaks MC1 (forward preservation), MC2 (backward preservation): it draws a mask for each clone."
    )


def test_dropout_inside_attention_is_found_in_the_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.num_heads, self.qkv, self.out = 2, nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
            dropped = 0.5 if self.training else 0.0
            x = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
            return self.out(x.transpose(1, 2).flatten(2))

    certificate = run(nn.Sequential(nn.Linear(5, 8), Attention(), nn.Flatten(), nn.Linear(32, 3)), (4, 5))
    assert [(r.module, r.kind) for r in certificate.culprits] == [("1", "Attention")]
    # Its last layer sums over the heads with equal weights, so that the outputs stay equal; the gradients do not.
    assert "gradient" in broken(certificate)["1"]


def relabel(wide, profile):
    outputs = {**profile.outputs, "2": Partition.clones(6, 2, 6)}
    parameters = {**profile.parameters, "2.weight": (outputs["2"], profile.parameters["2.weight"][1])}
    return Profile(profile.inputs, outputs, {**parameters, "2.bias": (outputs["2"],)})


def test_profiles_that_do_not_match_are_named_at_the_interface():
    certificate = run(mlp(), (5,), relabel)
    assert "interface" in broken(certificate)["4"]  # it reads what 2 does not make
    assert "2" in broken(certificate)
    assert "interface" not in broken(certificate)["2"]


def test_a_clone_whose_shapes_do_not_fit_is_named_too():
    network = mlp()
    wide, profile = widen_network(network, 2, example=torch.zeros(2, 5), layout="interleave")
    wide[4] = nn.Linear(11, 3)
    profile = Profile(profile.inputs, profile.outputs, {**profile.parameters, "4.weight": (None, None)})
    certificate = certify_clone(network, wide, profile, example=torch.zeros(2, 5))
    assert not certificate.passed
    assert certificate.function.deviation == float("inf")
    assert [report.module for report in certificate.culprits] == ["4"]
    json.dumps(certificate.to_json(), allow_nan=False)


def test_an_optimizer_that_moves_clones_apart_fails_persistence_alone():
    def redistribute(wide, profile):
        # On blocks of 3 x 3 with equal sums; Adam with decay inside does not keep them.
        wide[2].weight[:3, :3] += torch.tensor([[2.0, -1, -1], [-1, 0, 1], [-1, 1, 0]])

    kept = run(mlp(), (5,), redistribute, factor=3, optimizer="adam:lr=1e-2")
    assert kept.passed
    certificate = run(mlp(), (5,), redistribute, factor=3, optimizer="adam:lr=1e-2,weight_decay=0.1")
    assert set.union(*broken(certificate).values()) == {"persistence"}
    assert "persistence in training" in certificate.verdict


def test_networks_and_random_state_are_left_alone():
    network = mlp(nn.Dropout(0.5), nn.BatchNorm1d(6))
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    run(network, (5,))
    certify_frozen(network, example=torch.zeros(2, 5))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(p.grad is None for p in network.parameters())


def test_the_same_seed_gives_the_same_certificate():
    network = mlp(nn.Dropout(0.5))
    first, again, other = (run(network, (5,), seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [r.forward for r in first.modules] != [r.forward for r in other.modules]


def test_no_steps_test_no_training():
    certificate = run(mlp(), (5,), steps=0)
    assert certificate.passed
    with pytest.raises(InvalidInputError, match="got -1"):
        run(mlp(), (5,), steps=-1)


def test_json_holds_every_number_and_the_verdict():
    value = json.loads(json.dumps(run(mlp(nn.Dropout(0.5)), (5,)).to_json(), allow_nan=False))
    assert value["culprits"] == ["4"]
    assert not value["passed"]
    row = next(row for row in value["modules"] if row["module"] == "4")
    assert row["forward"]["deviation"] > 0.1
    assert not row["forward"]["passed"]


def test_a_check_fails_beyond_its_tolerance():
    assert Check.of(0.9e-9).passed
    assert not Check.of(1.1e-9).passed
    assert not Check.of(float("nan")).passed


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.1,momentum=0.9", "adam:lr=1e-2"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ReLU6, nn.Hardswish])
def test_frozen_units_get_no_gradient_and_do_not_move(activation, optimizer):
    network = nn.Sequential(
        nn.Linear(5, 6), activation(), nn.Linear(6, 4), nn.LayerNorm(4), activation(), nn.Linear(4, 3)
    )
    certificate = certify_frozen(
        network, example=torch.zeros(2, 5), optimizer=ComponentSpec.parse("optimizers", optimizer)
    )
    assert certificate.passed
    assert [(r.module, r.units, r.frozen, r.gradient, r.drift) for r in certificate.layers] == [
        ("0", 6, 3, 0.0, 0.0),
        ("2", 4, 2, 0.0, 0.0),
    ]


def test_an_activation_that_is_nowhere_flat_has_no_frozen_units():
    network = nn.Sequential(nn.Linear(5, 6), nn.LeakyReLU(0.1), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    certificate = certify_frozen(network, example=torch.zeros(2, 5))
    assert [report.passed for report in certificate.layers] == [False, True]
    assert certificate.verdict.startswith("0 breaks the frozen manifold")


def test_weight_decay_moves_frozen_units():
    spec = ComponentSpec.parse("optimizers", "sgd:lr=0.1,weight_decay=0.01")
    certificate = certify_frozen(mlp(), example=torch.zeros(2, 5), optimizer=spec, steps=1)
    assert all(report.gradient == 0 and report.drift > 0 for report in certificate.layers)
    assert "0 breaks persistence" in certificate.verdict


def test_networks_without_units_of_their_own_have_none_to_freeze():
    with pytest.raises(UnsupportedError, match="no hidden units"):
        certify_frozen(nn.Linear(5, 3), example=torch.zeros(2, 5))
    normalised = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 3))
    assert [report.frozen for report in certify_frozen(normalised, example=torch.zeros(2, 5)).layers] == [0]
