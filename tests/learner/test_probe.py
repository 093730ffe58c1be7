"""What the learner's probe offers beside activations: functions of the network, further modules, and what it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.profile import Partition, Profile
from lopbench.learner import probing
from lopbench.learner.learner import StackLearner
from lopbench.learner.network import evaluating
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers import sgd

SHAPE = (3, 4, 4)


@dataclass(frozen=True)
class ToyTask:
    """Random images and labels."""

    classes: Tensor | None = None

    def probe(self) -> tuple[Tensor, Tensor]:
        generator = rng.derive(0, "toy")
        return torch.randn(9, *SHAPE, generator=generator), torch.randint(4, (9,), generator=generator)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


def make(architecture: Any = None, seeds: tuple[int, ...] = (0,), profile: Profile | None = None) -> StackLearner:
    architecture = architecture or MLP(width=6, depth=2, normalization="batch")
    learner = StackLearner(
        build=lambda generator: architecture.build(SHAPE, 4, generator=generator),
        seeds=seeds,
        optimizer=sgd.SGD(lr=0.1),
        example=torch.zeros(2, *SHAPE),
        outputs=4,
        layers=architecture.layers,
    )
    learner.profile = profile
    return learner


def state(learner: StackLearner) -> Mapping[str, Tensor]:
    return {n: v.clone() for n, v in (*learner.view.parameters.items(), *learner.view.buffers.items())}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["alone", "stacked"])
def test_loss_is_that_of_the_probe_as_a_function_of_the_parameters(seeds):
    learner, task = make(seeds=seeds), ToyTask()
    index = len(seeds) - 1
    before = state(learner)
    probe = learner.probe(index, task)
    at = {name: value.clone().requires_grad_() for name, value in probe.parameters.items()}
    loss = probe.loss(at)
    torch.testing.assert_close(loss.detach(), task.loss(probe.outputs, task.probe()[1]))
    for (name, gradient), value in zip(
        probe.gradients.items(), torch.autograd.grad(loss, list(at.values())), strict=True
    ):
        torch.testing.assert_close(gradient, value, msg=name)
    assert probe.loss({name: value * 0 for name, value in at.items()}).item() == pytest.approx(torch.tensor(4.0).log())
    assert learner.network.module.training
    assert all(torch.equal(value, before[name]) for name, value in state(learner).items())


def test_loss_is_computed_in_the_precision_of_the_parameters():
    probe = make().probe(0, ToyTask())
    wide = probe.loss({name: value.double() for name, value in probe.parameters.items()})
    assert wide.dtype == torch.float64
    assert wide.item() == pytest.approx(probe.loss(probe.parameters).item(), rel=1e-6)


def test_loss_can_be_differentiated_where_gradients_are_off():
    probe = make().probe(0, ToyTask())
    with torch.no_grad():
        assert probe.loss(
            {name: value.clone().requires_grad_() for name, value in probe.parameters.items()}
        ).requires_grad


def test_any_module_can_be_probed():
    learner = make()
    probe = learner.probe(0, ToyTask())
    names = ["flatten", "layers.0.linear", "layers.0.norm", "layers.0.activation", "layers.1", "out"]
    flatten, linear, norm, activation, block, out = probe.modules(names)
    assert [layer.name for layer in (flatten, linear, norm, activation, block, out)] == names
    with evaluating(learner.network.module), torch.no_grad():
        inputs = ToyTask().probe()[0].flatten(1)
        first = learner.network.module.get_submodule("layers.0")
        torch.testing.assert_close(linear.activation, first.linear(inputs))
        torch.testing.assert_close(norm.activation, first.norm(first.linear(inputs)))
    assert torch.equal(flatten.activation, inputs)
    assert not flatten.gradient.any()  # no parameter comes before it
    assert torch.equal(probe.modules(["flatten"])[0].activation, inputs)
    assert probe.modules([]) == ()
    for same, layer in ((activation, probe.layers[0]), (block, probe.layers[1])):
        assert torch.equal(same.activation, layer.activation)
        assert torch.equal(same.gradient, layer.gradient)
    torch.testing.assert_close(out.activation, probe.outputs)
    torch.testing.assert_close(norm.gradient, activation.gradient * (norm.activation > 0))


class InPlace(nn.Sequential):
    """Its activation overwrites what the linear layer returned."""

    def __init__(self, generator: torch.Generator) -> None:
        with rng.isolated(generator):
            super().__init__(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(inplace=True), nn.Linear(5, 4))


def test_a_module_that_works_in_place_changes_no_probe_before_it():
    learner = StackLearner(
        build=InPlace,
        seeds=(0,),
        optimizer=sgd.SGD(lr=0.1),
        example=torch.zeros(2, *SHAPE),
        outputs=4,
    )
    linear, relu = learner.probe(0, ToyTask()).modules(["1", "2"])
    assert linear.activation.min() < 0
    assert torch.equal(linear.activation.relu(), relu.activation)
    assert torch.equal(linear.gradient, relu.gradient * (linear.activation > 0))


def test_a_module_without_a_tensor_is_left_out():
    network = nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(48, 4)
    )
    learner = StackLearner(
        build=lambda generator: network,
        seeds=(0,),
        optimizer=sgd.SGD(lr=0.1),
        example=torch.zeros(2, *SHAPE),
        outputs=4,
    )
    assert [layer.name for layer in learner.probe(0, ToyTask()).modules(["1.self_attn", "1.norm1", "nowhere"])] == [
        "1.norm1"
    ]


def test_layers_are_told_what_is_a_clone_of_what_in_them():
    clones = Partition.clones(3, 2)
    profile = Profile({}, {"layers.0.activation": clones, "layers.1.activation": Partition.clones(4, 2)}, {})
    probe = make(profile=profile).probe(0, ToyTask())
    assert probe.profile is profile
    assert [layer.clones for layer in probe.layers] == [clones, None]  # the second partition is of other units
    assert probe.modules(["layers.0.norm", "layers.0.activation"])[1].clones == clones


def test_a_network_that_was_not_cloned_has_no_clones():
    probe = make().probe(0, ToyTask())
    assert probe.profile is None
    assert [layer.clones for layer in probe.layers] == [None, None]


def test_outputs_are_a_function_of_parameters_and_inputs() -> None:
    learner = make()
    probe = learner.probe(0, ToyTask())
    before = state(learner)
    assert torch.equal(probe.forward(probe.parameters, probe.inputs), probe.outputs)
    wide = {name: value.double() for name, value in probe.parameters.items()}
    outputs = probe.forward(wide, probe.inputs[2:5])
    assert outputs.dtype == torch.float64
    torch.testing.assert_close(outputs.float(), probe.outputs[2:5])
    assert learner.network.module.training
    assert all(torch.equal(value, before[name]) for name, value in state(learner).items())


def test_functions_of_the_network_can_be_transformed() -> None:
    probe = make().probe(0, ToyTask())

    def summed(parameters: Mapping[str, Tensor], row: Tensor) -> Tensor:
        return probe.forward(parameters, probe.inputs[row[None]]).sum()

    rows = torch.arange(len(probe.inputs))
    found = vmap(grad(summed), (None, 0))(dict(probe.parameters), rows)
    at = {name: value.clone().requires_grad_() for name, value in probe.parameters.items()}
    for row, output in enumerate(probe.forward(at, probe.inputs)):
        for name, value in zip(
            at, torch.autograd.grad(output.sum(), list(at.values()), retain_graph=True), strict=True
        ):
            torch.testing.assert_close(found[name][row], value, rtol=1e-4, atol=1e-6)


def test_loss_of_some_rows_is_that_of_these_samples() -> None:
    probe = make().probe(0, ToyTask())
    rows = torch.tensor([1, 4])
    expected = F.cross_entropy(probe.outputs[rows], probe.targets[rows])
    torch.testing.assert_close(probe.loss(probe.parameters, rows).detach(), expected)
    parts = [probe.loss(probe.parameters, row[None]).detach() for row in torch.arange(9)]
    torch.testing.assert_close(torch.stack(parts).mean(), probe.loss(probe.parameters).detach())


def test_only_outputs_that_count_are_probed() -> None:
    @dataclass(frozen=True)
    class TwoOfFour(ToyTask):
        def probe(self) -> tuple[Tensor, Tensor]:
            inputs, targets = super().probe()
            return inputs, targets % 2

    learner, classes = make(), torch.tensor([3, 1])
    everything = learner.probe(0, ToyTask()).outputs
    probe = learner.probe(0, TwoOfFour(classes=classes))
    assert torch.equal(probe.outputs, everything[:, classes])
    torch.testing.assert_close(
        probe.loss(probe.parameters).detach(), F.cross_entropy(everything[:, classes], probe.targets)
    )
    assert not probe.gradients["out.bias"][[0, 2]].any()
    assert probe.gradients["out.bias"][[1, 3]].all()


def test_the_network_at_the_previous_probe_is_kept_once_a_metric_reads_it() -> None:
    learner, task = make(), ToyTask()
    learner.probe(0, task)  # nothing reads it
    first = learner.probe(0, task)
    assert first.previous is None
    assert first.previous is None
    then = state(learner)
    for value in (*learner.view.parameters.values(), *learner.view.buffers.values()):
        value.add_(1)
    learner.probe(0, task)  # moves nothing on
    second = learner.probe(0, task)
    previous = second.previous
    assert previous is second.previous
    assert previous is not None
    assert previous.keys() == then.keys()
    assert all(torch.equal(value, then[name][0]) for name, value in previous.items())
    torch.testing.assert_close(second.forward(previous, second.inputs), first.outputs)
    third = learner.probe(0, task).previous
    assert third is not None
    assert all(torch.equal(value, state(learner)[name][0]) for name, value in third.items())


def test_replicas_have_a_memory_each() -> None:
    learner, task = make(seeds=(0, 1)), ToyTask()
    assert learner.probe(0, task).previous is None
    assert learner.probe(1, task).previous is None
    previous = learner.probe(1, task).previous
    assert previous is not None
    assert all(torch.equal(previous[name], value[1]) for name, value in state(learner).items())


def test_memory_survives_its_state_and_costs_nothing_unless_asked_for() -> None:
    memory = probing.LastProbes()
    assert memory.state_dict() == {}
    value = torch.ones(2)
    assert memory.swap(1, {"a.b": value}) is None
    value.zero_()
    other = probing.LastProbes()
    other.load_state_dict(memory.state_dict(), torch.device("cpu"))
    memory.swap(1, {"a.b": value})
    found = other.swap(1, {})
    assert found is not None
    assert found["a.b"].tolist() == [1, 1]
    assert other.swap(0, {}) is None


def test_a_learner_that_goes_on_from_a_checkpoint_remembers_its_last_probe() -> None:
    learner, task = make(), ToyTask()
    assert "previous" not in {name.split("/")[0] for name in learner.state_dict()}
    assert learner.probe(0, task).previous is None
    saved = {name: value.clone() for name, value in learner.state_dict().items()}
    resumed = make()
    resumed.load_state_dict(saved)
    for each in (learner, resumed):
        previous = each.probe(0, task).previous
        assert previous is not None
        assert all(torch.equal(value, state(learner)[name][0]) for name, value in previous.items())


def test_a_zero_head_blocks_the_layers_before_it() -> None:
    learner, task = make(), ToyTask()
    probe = learner.probe(0, task)
    assert not probe.blocked
    assert not any(layer.blocked for layer in probe.layers)
    learner.view.parameters["out.weight"].zero_()
    probe = learner.probe(0, task)
    assert probe.blocked
    assert all(layer.blocked for layer in (*probe.layers, *probe.modules(["layers.0.linear"])))
    assert not probe.modules(["out"])[0].blocked


def test_dead_layers_are_no_zero_head() -> None:
    learner = make(MLP(width=6, depth=2))
    learner.view.parameters["layers.1.linear.bias"].fill_(-1e6)
    probe = learner.probe(0, ToyTask())
    assert not any(layer.gradient.any() for layer in probe.layers[:1] if layer.gradient is not None)
    assert not any(layer.blocked for layer in probe.layers)


class Tokens(nn.Module):
    """Embeds tokens, one output for each at each place."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x).cumsum(1))  # type: ignore[no-any-return]


class Text:
    """A few sequences of tokens, each of which is to be copied."""

    classes: Tensor | None = None

    def probe(self) -> tuple[Tensor, Tensor]:
        tokens = torch.arange(12).reshape(3, 4) % 5
        return tokens, tokens

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def test_tokens_are_never_cast() -> None:
    module = Tokens(rng.derive(0, "tokens"))
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    subject = probing.Subject(module=module, parameters=parameters, buffers={}, layers=("embed",), tokens=True)
    probe = probing.take(subject, Text(), initial=parameters, head=("out.weight", "out.bias"), lr=0.5)
    assert probe.outputs.shape == (3, 4, 5)
    assert probe.lr == 0.5
    assert probe.forward({n: v.double() for n, v in parameters.items()}, probe.inputs).dtype == torch.float64
    assert [layer.activation.shape for layer in probe.layers] == [(12, 3)]
