"""Rewrites traced graphs, so that they are shorter and matrix products lie in memory as they are read later."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
#: Numbers in a vector register of single precision (AVX-512).
_REGISTER = 16
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


def turn_thin(graph: GraphModule) -> None:
    """Turn products ``A B^T`` of few rows by more into ``(B A^T)^T``, on the CPU: the same sums, in another layout.

    A linear layer multiplies a batch, which has few rows, by its transposed weight. Where the rows of the batch fill
    vector registers, the library for matrix products (MKL) takes 1.2 to 1.6 times as long for that as for the weight
    times the transposed batch. With other numbers of rows the first is as fast or faster.
    """
    for node in list(graph.graph.nodes):
        if node.target is not _aten.bmm.default or not _value(node).is_cpu:
            continue
        left, right = node.args
        transposed = _reshaped(right)
        if transposed is None or not _is_transpose(transposed):
            continue
        rows, columns = _value(node).shape[1:]
        if rows % _REGISTER or rows > columns:
            continue
        with graph.graph.inserting_before(node):
            across = graph.graph.call_function(_aten.transpose.int, (left, 1, 2))
            made = graph.graph.call_function(_aten.bmm.default, (transposed.args[0], across))
            turned = graph.graph.call_function(_aten.transpose.int, (made, 1, 2))
            # A copy, which the compiler joins with what comes next: a later view may need rows in a row.
            copy = graph.graph.call_function(_aten.clone.default, (turned,), {"memory_format": torch.contiguous_format})
        across.meta["val"] = _value(left).transpose(1, 2)
        made.meta["val"] = _value(node).transpose(1, 2).contiguous()
        turned.meta["val"] = made.meta["val"].transpose(1, 2)
        copy.meta["val"] = _value(node)
        node.replace_all_uses_with(copy)


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
