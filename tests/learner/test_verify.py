"""The test in numbers finds readers that no graph shows; what only its own outgoing weights read passes it."""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core.errors import UnsupportedError
from lopbench.core.rng import derive
from lopbench.learner.discovery import discover
from lopbench.learner.groups import Consumer, Norm, UnitGroup
from lopbench.learner.trial import noisy_copy
from lopbench.learner.verify import verify

_SPEC = importlib.util.spec_from_file_location("lopbench_networks", Path(__file__).with_name("networks.py"))
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)
Parts, parts = networks.Parts, networks.parts

BATCH = torch.randn(16, 12, generator=derive(0, "x"))
TOKENS = torch.randint(7, (4, 5), generator=derive(0, "tokens"))


def names(module: nn.Module, batch: Tensor = BATCH) -> list[str]:
    return [group.name for group in discover(module, batch).groups]


@torch.no_grad()
def without_gradient(layer: nn.Module, h: Tensor) -> Tensor:
    return layer(h)


def twice(read: Callable[[Parts, Tensor], Tensor], **layers: nn.Module) -> Parts:
    """Return a network whose hidden units `b` reads, and `read` as well."""
    layers = {"c": nn.Linear(6, 3)} | layers
    return parts(lambda m, x: (lambda h: m.b(h) + read(m, h))(m.a(x).relu()), **layers)


def masked(m: Parts, x: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
    h = m.a(x).relu()
    return m.b(h * keep(h.detach()))


# --- readers that the graph does not show ---------------------------------------------------------------------------

UNSEEN = {
    "detached": twice(lambda m, h: m.c(h.detach())),
    "detached, a few units": twice(lambda m, h: m.c(h[:, 4:].detach()), c=nn.Linear(2, 3)),
    "detached, one unit": twice(lambda m, h: h[:, 2:3].detach()),
    "detached, behind a layer of units": twice(
        lambda m, h: m.d(m.c(h.detach()).relu()), c=nn.Linear(6, 4), d=nn.Linear(4, 3)
    ),
    "data": twice(lambda m, h: m.c(h.data)),
    "without gradients": twice(lambda m, h: without_gradient(m.c, h)),
    "without gradients, as a number": twice(lambda m, h: torch.full((1,), h.mean().item())),
    "through numpy": twice(lambda m, h: torch.from_numpy(h.detach().cpu().numpy()).mean(1, keepdim=True)),
    "gate": twice(lambda m, h: m.b(h) * torch.sigmoid(m.c(h.detach()))),
    "gate of the units themselves": parts(lambda m, x: masked(m, x, lambda h: torch.sigmoid(h.mean(1, keepdim=True)))),
    "scale of the input": parts(lambda m, x: m.b(m.a(x).relu()) * m.a(x).relu().detach().norm(dim=1, keepdim=True)),
    "top k": parts(lambda m, x: masked(m, x, lambda h: h >= h.topk(3).values[:, -1:])),
    "top k over the batch": parts(lambda m, x: masked(m, x, lambda h: h >= h.flatten().topk(9).values[-1])),
    "winner takes all": parts(lambda m, x: masked(m, x, lambda h: F.one_hot(h.argmax(1), 6))),
    "threshold at the mean": parts(lambda m, x: masked(m, x, lambda h: h > h.mean(1, keepdim=True))),
    "embedding of the winner": twice(lambda m, h: m.e(h.argmax(1)), e=nn.Embedding(6, 3)),
    "embedding of a sign": twice(lambda m, h: m.e((h.sum(1) > 2).long()), e=nn.Embedding(2, 3)),
    "sorted by a unit": twice(lambda m, h: m.c(h)[h[:, 0].argsort()] - m.c(h), c=nn.Linear(6, 3)),
    "branch on a number": twice(lambda m, h: torch.ones(1) if h.detach().amax() > 4 else torch.zeros(1)),
    "incoming weights a second time": parts(lambda m, x: m.b(m.a(x).relu()) + F.linear(x, m.a.weight)[:, :3].detach()),
    "incoming weights in a scale": parts(lambda m, x: m.b(m.a(x).relu()) * m.a.weight.detach().norm()),
    "incoming bias": parts(lambda m, x: m.b(m.a(x).relu()) + m.a.bias.detach().sum()),
    "outgoing weights a second time": parts(lambda m, x: m.b(m.a(x).relu()) + F.linear(x[:, :6], m.b.weight.detach())),
}


@pytest.mark.parametrize("module", UNSEEN.values(), ids=UNSEEN)
def test_units_with_a_reader_that_autograd_does_not_see_are_left_out(module: nn.Module) -> None:
    found = discover(module, BATCH)
    assert "a" not in [group.name for group in found.groups]
    assert "a" in found.left_out


@pytest.mark.parametrize("start", ["zero", "tiny"])
def test_a_branch_that_starts_closed_hides_nothing(start: str) -> None:
    module = twice(lambda m, h: m.alpha * m.c(h.detach()))
    module.alpha = nn.Parameter(torch.tensor(0.0 if start == "zero" else 1e-5))
    assert names(module) == []


def test_a_zeroed_head_hides_nothing() -> None:
    module = twice(lambda m, h: m.c(h.detach()))
    for layer in (module.b, module.c):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert names(module) == []


def test_only_the_group_that_is_read_is_left_out() -> None:
    widths = [12, *[20] * 8, 3]

    class Deep(nn.Module):
        def __init__(self, read: int | None) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
            self.read = read
            self.side = nn.Linear(20, 20)

        def forward(self, x: Tensor) -> Tensor:
            side = torch.zeros(1)
            for index, layer in enumerate(self.layers[:-1]):
                x = layer(x).relu()
                if index == self.read:
                    side = self.side(x.detach())
            return self.layers[-1](x) + side.mean(-1, keepdim=True)

    everything = [f"layers.{i}" for i in range(8)]
    assert names(Deep(None)) == everything
    for read in range(8):
        assert names(Deep(read)) == [name for name in everything if name != f"layers.{read}"]


def test_all_groups_are_tested_at_once() -> None:
    calls: list[bool] = []

    class Counted(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(self.training)
            return super().forward(x)

    widths = [12, *[20] * 8]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU())]
    assert len(names(Counted(*layers, nn.Linear(20, 3)))) == 8
    assert calls.count(True) == 4  # two networks, two halves of the units
    assert calls.count(False) <= 4 + 3


# --- layers that change their weight inside forward -----------------------------------------------------------------


class Standardised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(1, keepdim=True)
        return F.linear(x, weight / (weight.std(1, keepdim=True) + 1e-5), self.bias)


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1), self.bias)


class UnitRows(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.normalize(self.weight, dim=1), self.bias)


class Noisy(nn.Linear):
    """Noise on the weights (Fortunato et al. 2018, arXiv:1706.10295v3), in training mode only."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out)
        self.sigma = nn.Parameter(torch.full((fan_out, fan_in), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        noise = self.sigma * torch.randn_like(self.weight) if self.training else 0.0
        return F.linear(x, self.weight + noise, self.bias)


class Centred(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(-1, keepdim=True).detach())


class Gained(nn.Linear):
    """A factor for each unit it makes."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out)
        self.gain = nn.Parameter(torch.ones(fan_out))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class Scaled(nn.Linear):
    """One factor for the whole layer."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


@pytest.mark.parametrize("kind", [Standardised, Cosine, UnitRows, Noisy, Centred])
def test_readers_that_change_what_they_read_with_are_left_out(kind: type[nn.Linear]) -> None:
    module = parts(lambda m, x: m.b(m.a(x).relu()), b=kind(6, 3))
    found = discover(module, BATCH)
    assert found.groups == ()
    assert "when 'b' no longer reads them" in found.left_out["a"]
    assert "first at 'b'" in found.left_out["a"]


def test_a_plain_subclass_is_taken_for_what_it_is() -> None:
    module = parts(lambda m, x: m.b(m.a(x).relu()), a=Scaled(12, 6), b=Scaled(6, 3))
    assert names(module) == ["a"]


@pytest.mark.parametrize("kind", [Gained, Noisy])
def test_makers_with_a_number_for_each_unit_that_no_reset_knows_are_left_out(kind: type[nn.Linear]) -> None:
    found = discover(parts(lambda m, x: m.b(m.a(x).relu()), a=kind(12, 6)), BATCH)
    assert found.groups == ()
    assert "which no reset would change" in found.left_out["a"]


def test_a_norm_with_a_number_for_each_unit_that_no_reset_knows_is_left_out() -> None:
    class Shifted(nn.BatchNorm1d):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.shift = nn.Parameter(torch.zeros(size))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.shift

    assert names(parts(lambda m, x: m.b(m.n(m.a(x)).relu()), n=nn.BatchNorm1d(6))) == ["a"]
    assert names(parts(lambda m, x: m.b(m.n(m.a(x)).relu()), n=Shifted(6))) == []


def test_layers_that_standardise_their_weights_are_left_out_of_a_network_of_timm() -> None:
    found = discover(timm.create_model("nf_resnet26", pretrained=False), torch.zeros(2, 3, 64, 64))
    assert found.groups == ()


class StandardisedConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, padding=self.padding)


@pytest.mark.parametrize(("reader", "expected"), [(nn.Conv2d, ["0", "2"]), (StandardisedConv, ["2"])])
def test_a_standardised_convolution_reads_more_than_its_weights_say(reader: type[nn.Conv2d], expected: list) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 9, 3, padding=1),
        nn.ReLU(),
        reader(9, 10, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(160, 3),
    )
    assert names(module, torch.randn(4, 3, 4, 4, generator=derive(0, "x"))) == expected


# --- modes ----------------------------------------------------------------------------------------------------------


def in_mode(training: bool, read: Callable[[Parts, Tensor], Tensor]) -> Parts:
    return twice(lambda m, h: read(m, h) if m.training == training else torch.zeros(1))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "read",
    [
        lambda m, h: m.c(h),
        lambda m, h: h[:, 1:2],
        lambda m, h: m.c(h.detach()),
        lambda m, h: m.b(h.flip(1)),
        lambda m, h: m.b(h) * h.mean(),
    ],
    ids=["layer", "one unit", "detached", "the same layer again", "scale"],
)
def test_a_reader_that_exists_in_one_mode_only_is_found(
    training: bool, read: Callable[[Parts, Tensor], Tensor]
) -> None:
    found = discover(in_mode(training, read), BATCH)
    assert found.groups == ()
    if training:  # the graph is that of evaluation mode
        assert "in training mode" in found.left_out["a"]


def test_batch_norm_and_dropout_differ_between_the_modes_and_read_nothing() -> None:
    module = parts(
        lambda m, x: m.b(m.e(m.d(m.n(m.a(x))).relu())), n=nn.BatchNorm1d(6), d=nn.Dropout(0.3), e=nn.AlphaDropout(0.2)
    )
    assert names(module) == ["a"]
    assert names(module, BATCH[:1]) == ["a"]  # a batch of one is repeated


# --- what passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm(16),
        nn.LayerNorm(16, elementwise_affine=False),
        nn.LayerNorm(16, bias=False),
        nn.GroupNorm(1, 16),
        nn.GroupNorm(4, 16),
        nn.GroupNorm(4, 16, affine=False),
        nn.BatchNorm1d(16),
        nn.BatchNorm1d(16, affine=False),
        nn.BatchNorm1d(16, track_running_stats=False),
    ],
    ids=str,
)
def test_statistics_of_a_normalisation_are_no_reader(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(12, 16), norm, nn.GELU(), nn.Linear(16, 3))
    assert names(module) == ["0"]
    image = nn.Sequential(nn.Conv2d(3, 16, 3), _image_norm(norm), nn.GELU(), nn.Conv2d(16, 5, 2), nn.Flatten())
    assert names(image, torch.randn(4, 3, 4, 4, generator=derive(0, "x"))) == ["0"]


def _image_norm(norm: nn.Module) -> nn.Module:
    if isinstance(norm, nn.LayerNorm):
        return timm.layers.LayerNorm2d(16)
    return nn.InstanceNorm2d(16, affine=True) if isinstance(norm, nn.BatchNorm1d) else norm


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6)], ids=str)
def test_a_reader_behind_a_normalisation_is_found(norm: nn.Module) -> None:
    def forward(m: Parts, x: Tensor) -> Tensor:
        h = m.n(m.a(x)).relu()
        return m.b(h) + m.c(h.detach())

    assert names(parts(forward, n=norm, c=nn.Linear(6, 3))) == []


def test_units_of_a_network_that_only_runs_in_its_own_precision_are_tested() -> None:
    class Single(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x.float(), self.weight, self.bias)

    def forward(m: Parts, x: Tensor) -> Tensor:
        return m.b(m.a(x).relu().float() + torch.zeros(1, dtype=torch.float32))

    assert names(parts(forward, a=Single(12, 6))) == ["a"]
    assert names(twice(lambda m, h: m.c(h.detach()), a=Single(12, 6))) == []


def test_state_that_a_network_keeps_from_pass_to_pass_is_no_reader() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 6), nn.Linear(6, 3)
            self.register_buffer("calls", torch.zeros(()))
            self.count = 0
            self.past: list[float] = []
            self.generator = torch.Generator().manual_seed(1)

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            self.calls = self.calls + 1
            self.past.append(1.0)
            self.last = x
            noise = torch.rand(1, generator=self.generator, dtype=x.dtype)
            return self.b(self.a(x).tanh()) * (self.count + self.calls + sum(self.past)) + noise

    module = Counting()
    state = module.generator.get_state()
    assert names(module) == ["a"]
    assert (module.count, module.calls.item(), module.past, hasattr(module, "last")) == (0, 0, [], False)
    assert torch.equal(module.generator.get_state(), state)


def test_what_a_network_keeps_of_its_graph_is_no_hindrance() -> None:
    """As the biases of attention that several networks of timm keep in evaluation mode."""

    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 6), nn.Linear(6, 3)
            self.scale = nn.Parameter(torch.ones(3))
            self.cache: dict[str, Tensor] = {}

        def forward(self, x: Tensor) -> Tensor:
            self.cache.setdefault("scale", self.scale.exp())
            return self.b(self.a(x).relu()) * self.cache["scale"]

    assert names(Caching()) == ["a"]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 12), reads=st.sets(st.integers(0, 11), max_size=3))
def test_any_unit_that_is_read_is_found(seed: int, width: int, reads: set[int]) -> None:
    columns = sorted(unit for unit in reads if unit < width)
    torch.manual_seed(seed)
    module = twice(
        lambda m, h: h[:, columns].detach().sum(1, keepdim=True) if columns else torch.zeros(1),
        a=nn.Linear(12, width),
        b=nn.Linear(width, 3),
    )
    alive = BATCH[(module.a(BATCH)[:, columns] > 0).any(1)] if columns else BATCH
    expected = [] if columns and len(alive) else ["a"]
    if not columns or len(alive):
        assert names(module) == expected


def test_a_single_unit_is_tested() -> None:
    assert names(parts(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(12, 1), b=nn.Linear(1, 3))) == ["a"]
    module = twice(lambda m, h: m.c(h.detach()), a=nn.Linear(12, 1), b=nn.Linear(1, 3), c=nn.Linear(1, 3))
    assert names(module) == []


# --- tokens ---------------------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    def __init__(self, read: Callable[["Tokens", Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 7), nn.Linear(16, 7)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.int64
        h = self.a(self.embedding(x)).relu()
        return self.b(h) if self.read is None else self.b(h) + self.read(self, h)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=self.head.weight.dtype)
        return self.head(self.blocks(self.embedding(x), mask=mask))


def test_units_behind_an_embedding_are_found() -> None:
    assert names(Tokens(), TOKENS) == ["a"]
    assert names(Tokens(), torch.zeros(2, 5, dtype=torch.int64)) == ["a"]
    assert names(Transformer(), TOKENS) == ["blocks.layers.0.linear1", "blocks.layers.1.linear1"]


@pytest.mark.parametrize(
    "read",
    [
        lambda m, h: m.c(h.detach()),
        lambda m, h: m.embedding(h.argmax(2) % 7)[..., :7],
        lambda m, h: m.c(h.detach().roll(1, 1)),
    ],
    ids=["detached", "as tokens", "at the next place"],
)
def test_other_readers_of_units_behind_an_embedding_are_found(read: Callable[[Tokens, Tensor], Tensor]) -> None:
    assert names(Tokens(read), TOKENS) == []


def test_tokens_are_given_to_the_network_as_they_are() -> None:
    seen: list[Tensor] = []

    class Watched(Tokens):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return super().forward(x)

    discover(Watched(), TOKENS)
    assert seen
    assert all(torch.equal(x, TOKENS) for x in seen)


def test_numbers_are_given_to_the_network_as_they_are() -> None:
    seen: list[Tensor] = []

    def forward(m: Parts, x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return m.b(m.a(x).relu())

    discover(parts(forward), BATCH)
    assert seen
    assert all(torch.equal(x, BATCH[: len(x)].to(x)) for x in seen)
    seen.clear()
    discover(parts(forward), torch.zeros(2, 12))
    assert all(x.any() for x in seen)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_the_refusal_names_the_reader() -> None:
    class MyNet(Parts):
        pass

    module = MyNet(lambda m, x: (lambda h: m.b(h) + m.c(h.detach()))(m.a(x).relu()))
    module.a, module.b, module.c = nn.Linear(12, 6), nn.Linear(6, 3), nn.Linear(6, 3)
    found = discover(module, BATCH)
    assert found.refusal.startswith(
        "MyNet has no units with private outgoing weights that could be reset: the output still depends on units of "
        "'a' when 'b' no longer reads them (another reader, such as a gate, or a layer that changes its weight inside "
        "forward); seen first at 'c' in training mode"
    )


def test_a_network_without_hidden_layers_has_a_refusal() -> None:
    found = discover(nn.Sequential(nn.Linear(12, 3)), BATCH)
    assert found.refusal == (
        "Sequential has no units with private outgoing weights that could be reset: units of '0' leave the network as "
        "its outputs"
    )
    deep = discover(nn.Sequential(*(nn.Sequential(nn.Linear(12, 12), nn.Softmax(1)) for _ in range(6))), BATCH)
    assert deep.refusal.endswith("; and likewise for 3 more layers")


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_does_not_run_in_a_mode_is_refused(training: bool) -> None:
    def forward(m: Parts, x: Tensor) -> Tensor:
        if m.training == training:
            raise ValueError("needs targets")
        return m.b(m.a(x))

    with pytest.raises(UnsupportedError, match="needs targets"):
        discover(parts(forward), BATCH)


# --- the test by itself ---------------------------------------------------------------------------------------------


def group(**changes: object) -> UnitGroup:
    given = {"name": "a", "size": 6, "weight": "a.weight", "bias": "a.bias", "norms": ()}
    return UnitGroup(**(given | {"consumers": (Consumer("b", "b.weight", None),)} | changes))


def test_a_consumer_or_norm_that_was_forgotten_is_found() -> None:
    """The graph is not needed for it: a wrong group fails as well."""
    module = noisy_copy(twice(lambda m, h: m.c(h)))
    assert "first at 'c'" in verify(module, BATCH, [group()])["a"]
    both = (Consumer("b", "b.weight", "b.bias"), Consumer("c", "c.weight", "c.bias"))
    assert verify(module, BATCH, [group(consumers=both)]) == {}
    assert verify(module, BATCH, []) == {}

    normed = noisy_copy(parts(lambda m, x: m.b(m.n(m.a(x)).relu()), n=nn.LayerNorm(6)))
    assert "a" in verify(normed, BATCH, [group()])
    assert verify(normed, BATCH, [group(norms=(Norm("n", "n.weight", "n.bias", None, None),))]) == {}


def test_columns_of_other_units_are_found() -> None:
    module = noisy_copy(parts(lambda m, x: m.b(m.a(x).relu().flip(1))))
    assert list(verify(module, BATCH, [group()])) == ["a"]
