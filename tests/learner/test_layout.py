"""Products of matrices in a traced graph give what is wanted in the layout in which it is wanted."""

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lopbench.learner.layout import turn_thin, untranspose

aten = torch.ops.aten


def products(x: Tensor, gradient: Tensor) -> Tensor:
    """A weight's gradient, as autograd gives it under `vmap`: ``(R, N, I)`` and ``(R, N, O)`` give ``(R, O, I)``."""
    made = torch.bmm(x.view(x.shape).transpose(1, 2), gradient)
    return made.view(made.shape).transpose(1, 2) + 1


def test_a_transposed_product_is_made_as_it_is_wanted_and_equal():
    x, gradient = torch.randn(3, 7, 5, dtype=torch.float64), torch.randn(3, 7, 4, dtype=torch.float64)
    graph = make_fx(products, tracing_mode="fake")(x, gradient)
    untranspose(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    (product,) = [node for node in calls if node.target is aten.bmm.default]
    assert len([node for node in calls if node.target is aten.transpose.int]) == 1  # of the gradient, which is read so
    assert product.meta["val"].shape == (3, 4, 5)
    torch.testing.assert_close(graph(x, gradient), products(x, gradient), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: torch.bmm(x, y).transpose(1, 2),  # nothing is saved
        lambda x, y: torch.bmm(x.transpose(1, 2), y.transpose(1, 2)),
        lambda x, y: torch.bmm(x.transpose(1, 2), y.transpose(1, 2)).transpose(0, 1),  # another transpose
        lambda x, y: torch.bmm(x.transpose(1, 2), y.transpose(1, 2)).view(4, 5, 5).transpose(1, 2).transpose(0, 2),
    ],
)
def test_other_products_are_left_alone_or_right(function):
    x, y = torch.randn(4, 5, 5), torch.randn(4, 5, 5)
    graph = make_fx(function, tracing_mode="fake")(x, y)
    untranspose(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    torch.testing.assert_close(graph(x, y), function(x, y))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """A layer's outputs, ``(R, N, I)`` and ``(R, O, I)`` give ``(R, N, O)``, of which rows are joined."""
    return (torch.bmm(x, weight.transpose(1, 2)) + 1).view(-1, weight.shape[1])


@pytest.mark.parametrize(
    ("rows", "columns", "turned"), [(16, 20, True), (32, 32, True), (32, 20, False), (8, 20, False), (17, 20, False)]
)
def test_a_product_of_few_rows_is_turned_if_they_fill_registers_and_equal(
    rows: int, columns: int, turned: bool
) -> None:
    x, weight = torch.randn(3, rows, 5, dtype=torch.float64), torch.randn(3, columns, 5, dtype=torch.float64)
    graph = make_fx(linear, tracing_mode="fake")(x, weight)
    turn_thin(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    (product,) = [node for node in graph.graph.nodes if node.target is aten.bmm.default]
    assert product.meta["val"].shape == ((3, columns, rows) if turned else (3, rows, columns))
    made = graph(x, weight)
    assert made.is_contiguous()
    torch.testing.assert_close(made, linear(x, weight), rtol=1e-14, atol=1e-14)


def test_a_product_that_is_not_by_a_transposed_matrix_is_not_turned() -> None:
    x, weight = torch.randn(3, 16, 5), torch.randn(3, 5, 20)
    graph = make_fx(torch.bmm, tracing_mode="fake")(x, weight)
    turn_thin(graph)
    assert len([node for node in graph.graph.nodes if node.op == "call_function"]) == 1
