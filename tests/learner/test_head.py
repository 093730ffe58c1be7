import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core.errors import UnsupportedError
from lopbench.core.rng import derive
from lopbench.learner.head import find_head

_SPEC = importlib.util.spec_from_file_location("lopbench_networks", Path(__file__).with_name("networks.py"))
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)
Parts, parts = networks.Parts, networks.parts

BATCH = torch.randn(8, 12, generator=derive(0, "x"))


class HeadFirst(nn.Module):
    """Defines its head before a hidden layer of as many outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 3)
        self.first = nn.Linear(12, 8)
        self.hidden = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(F.relu(self.first(x)))))


def test_a_head_that_is_defined_before_a_hidden_layer_is_found() -> None:
    assert find_head(HeadFirst(), 3, BATCH) == "out"
    assert find_head(HeadFirst(), 3, torch.zeros(2, 12)) == "out"


def test_a_head_that_starts_at_zero_is_found() -> None:
    module = HeadFirst()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    assert find_head(module, 3, BATCH) == "out"


HEADS: dict[str, tuple[Callable[[Parts, Tensor], Tensor], str]] = {
    "an unused layer": (lambda m, x: m.b(m.a(x)), "b"),
    "called in another order": (lambda m, x: m.c(F.pad(m.b(m.a(x)), (0, 3))), "c"),
    "reshaped": (lambda m, x: m.b(m.a(x)).unsqueeze(2).flatten(1), "b"),
    "a temperature": (lambda m, x: m.b(m.a(x)) / 0.3, "b"),
    "a learned temperature": (lambda m, x: m.b(m.a(x)) * m.coefficients[0], "b"),
    "log softmax": (lambda m, x: F.log_softmax(m.b(m.a(x)), 1), "b"),
    "softmax in place": (lambda m, x: m.b(m.a(x)).relu_(), "b"),
    "a pooled sequence": (lambda m, x: m.b(m.a(x.unsqueeze(1).expand(-1, 4, -1))).mean(1), "b"),
    "the last of a sequence": (lambda m, x: m.b(m.a(x.unsqueeze(1).expand(-1, 4, -1)))[:, -1], "b"),
    "a skip without weights": (lambda m, x: m.b(m.a(x)) + x[:, :3], "b"),
    "an auxiliary head that is called last": (lambda m, x: (m.b(m.a(x)), m.c(m.a(x)))[0], "b"),
    "called at each place": (lambda m, x: torch.stack([m.b(m.a(x)), m.b(m.a(x + 1))], 1), "b"),
}


@pytest.mark.parametrize(("forward", "head"), HEADS.values(), ids=HEADS)
def test_the_head_is_the_layer_whose_output_is_the_networks(
    forward: Callable[[Parts, Tensor], Tensor], head: str
) -> None:
    module = parts(forward, c=nn.Linear(6, 3), d=nn.Linear(3, 3))
    assert find_head(module, 3, BATCH) == head


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.conv(m.b(m.a(x)).unsqueeze(2)).flatten(1),
        lambda m, x: F.linear(m.b(m.a(x)), m.free.view(3, 2)[:, :1].expand(3, 3)),
        lambda m, x: m.b(m.a(x)) + m.a(x)[:, :3],
        lambda m, x: m.b(m.a(x)) + m.c(m.a(x)),
        lambda m, x: m.a(x)[:, :3],
        lambda m, x: x[:, :3],
    ],
    ids=["convolution after it", "matrix after it", "skip with weights", "two heads", "never called", "no layer"],
)
def test_a_network_whose_output_is_made_otherwise_is_refused(forward: Callable[[Parts, Tensor], Tensor]) -> None:
    module = parts(forward, c=nn.Linear(6, 3), conv=nn.Conv1d(3, 3, 1))
    module.free = nn.Parameter(torch.ones(3, 2))
    with pytest.raises(UnsupportedError, match=r"no linear layer of Parts with 3 outputs makes the network's output"):
        find_head(module, 3, BATCH)


def test_the_number_of_outputs_tells_heads_apart() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 5))
    assert find_head(module, 5, BATCH[:, :4]) == "2"
    with pytest.raises(UnsupportedError, match="no linear layer with 7 outputs"):
        find_head(module, 7, BATCH[:, :4])


def test_the_architecture_has_the_last_word() -> None:
    module = nn.Sequential(nn.Linear(12, 3), nn.Unflatten(1, (3, 1)), nn.Conv1d(3, 3, 1), nn.Flatten())
    assert find_head(module, 3, BATCH, named="2") == "2"
    for wrong in ("7", ""):
        with pytest.raises(UnsupportedError, match="has no such layer"):
            find_head(module, 3, BATCH, named=wrong)


@pytest.mark.parametrize(("model", "size"), [("resnet18", 64), ("vit_tiny_patch16_224", 224), ("convnext_atto", 32)])
def test_heads_of_timm_are_found(model: str, size: int) -> None:
    module = timm.create_model(model, pretrained=False, num_classes=11)
    head = find_head(module, 11, torch.zeros(2, 3, size, size))
    assert module.get_submodule(head) is module.get_classifier()


def test_two_heads_whose_mean_is_the_output_are_refused() -> None:
    module = timm.create_model("levit_128s", pretrained=False, num_classes=11)
    with pytest.raises(UnsupportedError, match=r"there are head.linear, head_dist.linear"):
        find_head(module, 11, torch.zeros(2, 3, 224, 224))


def test_the_head_of_a_token_model_is_found() -> None:
    module = nn.Sequential(nn.Embedding(7, 7), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 7))
    assert find_head(module, 7, torch.zeros(2, 5, dtype=torch.int64)) == "3"


def test_looking_for_the_head_leaves_no_trace() -> None:
    module = nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 3)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    assert find_head(module, 3, BATCH) == "3"
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None and not m._forward_hooks for m in module for parameter in m.parameters())


def test_a_network_that_does_not_run_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="head of Linear cannot be found, because its forward pass fails"):
        find_head(nn.Linear(4, 3), 3, BATCH)
