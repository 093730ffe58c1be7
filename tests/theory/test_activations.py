import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lopbench.core.errors import UnsupportedError, UsageError
from lopbench.theory.activations import elementwise, label, names

POINTS = np.linspace(-4, 4, 33)


@pytest.mark.parametrize("name", [name for name in names() if name != "threshold"])
def test_every_name_is_torchs_function_with_its_defaults(name):
    torch_name = {"leakyrelu": "leaky_relu"}.get(name, name)
    function = getattr(torch, torch_name, None) or getattr(functional, torch_name)
    more = [torch.tensor([0.25])] if name == "prelu" else [0.01] if name == "leakyrelu" else []
    expected = function(torch.tensor(POINTS), *(m.double() if torch.is_tensor(m) else m for m in more))
    np.testing.assert_allclose(elementwise(name)(POINTS), expected.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leaky_relu:negative_slope=0.1", nn.LeakyReLU(0.1)),
        ("LeakyReLU:negative_slope=0.1", nn.LeakyReLU(0.1)),
        ("gelu:approximate=tanh", nn.GELU("tanh")),
        ("threshold:threshold=0.5,value=2", nn.Threshold(0.5, 2)),
        ("relu:inplace=true", nn.ReLU()),
    ],
)
def test_arguments_are_torchs(text, expected):
    np.testing.assert_array_equal(elementwise(text)(POINTS), expected(torch.tensor(POINTS)).numpy())


def test_a_module_is_evaluated_in_float64_and_left_as_it_was():
    module = nn.PReLU(init=0.1).train()
    values = elementwise(module)(np.array([-1.0, 1.0]))
    assert values.tolist() == [-float(np.float32(0.1)), 1.0]
    assert module.training
    assert module.weight.dtype == torch.float32


def test_what_works_in_place_changes_no_input():
    points = POINTS.copy()
    elementwise(nn.ReLU(inplace=True))(points)
    assert (points == POINTS).all()


def test_chance_in_training_is_no_chance_here_and_draws_nothing():
    state = torch.get_rng_state()
    np.testing.assert_allclose(elementwise(nn.RReLU(0.1, 0.3).train())(np.array([-1.0])), [-0.2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", [torch.tanh, lambda x: np.tanh(x.numpy()), nn.Tanh()], ids=label)
def test_callables_of_torch_and_numpy_will_do(function):
    np.testing.assert_allclose(elementwise(function)(POINTS), np.tanh(POINTS), rtol=1e-12)


@pytest.mark.parametrize(
    ("mixing", "reason"),
    [
        (nn.Softmax(dim=0), "not elementwise"),
        (lambda x: x - x.mean(), "not elementwise"),
        (torch.rand_like, "depends on chance"),
        (nn.GLU(dim=0), "cannot be applied"),
        (nn.PReLU(3), "cannot be applied"),
        (lambda x: x.sum(), "not elementwise"),
        (lambda x: float(x), "cannot be applied"),
    ],
    ids=["softmax", "centred", "random", "glu", "prelu of channels", "sum", "scalar only"],
)
def test_what_is_not_elementwise_is_refused(mixing, reason):
    with pytest.raises(UnsupportedError, match=reason):
        elementwise(mixing)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rleu", r"Unknown activation 'rleu'\. Did you mean 'relu'"),
        ("softmax", "Unknown activation 'softmax'"),
        ("leaky_relu:slope=0.1", r"slope.*those of torch\.nn\.LeakyReLU"),
        ("threshold", r"missing.*those of torch\.nn\.Threshold"),
        ("sin:amplitude=2", "sin takes no arguments"),
        ("relu:", "is not a component"),
    ],
)
def test_a_wrong_name_says_what_there_is(text, reason):
    with pytest.raises(UsageError, match=reason):
        elementwise(text)
