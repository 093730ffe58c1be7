"""Rewrites traced graphs, so that they are shorter and matrix products lie in memory as they are read later."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
_RESHAPES = (_aten.view.default, _aten._unsafe_view.default, _aten.expand.default)


def untranspose(graph: GraphModule) -> None:
    """Turn ``(A^T B)^T`` of stacks of matrices into ``B^T A``: the same products, summed over the same index.

    A linear layer multiplies by its transposed weight. Autograd therefore computes the transposed gradient, and
    transposes it at the end. The optimizer would read such a gradient across its rows. Under Adam this took more than
    half of a compiled step of a small network.
    """
    for node in list(graph.graph.nodes):
        product = _reshaped(node.args[0]) if _is_transpose(node) else None
        if product is None or product.target is not _aten.bmm.default:
            continue
        left, right = product.args
        first = _reshaped(left)
        if first is None or not _is_transpose(first):
            continue
        with graph.graph.inserting_before(node):
            turned = graph.graph.call_function(_aten.transpose.int, (right, 1, 2))
            made = graph.graph.call_function(_aten.bmm.default, (turned, first.args[0]))
        turned.meta["val"] = _value(right).transpose(1, 2)
        made.meta["val"] = _value(node)
        node.replace_all_uses_with(made)


def shorten(graph: GraphModule) -> None:
    """Remove operations that change neither shape nor values. `torch.vmap` adds many: half of a small graph."""
    for node in list(graph.graph.nodes):
        if node.target in _RESHAPES or (node.target is _aten.mul.Scalar and node.args[1] == 1):
            before, after = _value(node.args[0]), _value(node)
            if (before.shape, before.dtype) == (after.shape, after.dtype):
                node.replace_all_uses_with(node.args[0])
    graph.graph.eliminate_dead_code()


def _reshaped(node: object) -> Node | None:
    """Return the node that ``node`` equals when reshapes that keep the shape are skipped; None if it is no node."""
    while isinstance(node, Node) and node.target in _RESHAPES:
        before = node.args[0]
        if _value(before).shape != _value(node).shape:
            return node
        node = before
    return node if isinstance(node, Node) else None


def _is_transpose(node: Node) -> bool:
    """Return whether ``node`` transposes each matrix of a stack of them."""
    return node.target is _aten.transpose.int and set(node.args[1:]) in ({1, 2}, {-1, -2}) and _value(node).ndim == 3


def _value(node: object) -> torch.Tensor:
    """Return the example value of a node, for its shape and type."""
    assert isinstance(node, Node)
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor)
    return value
