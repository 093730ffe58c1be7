"""Compiling of graphs by Inductor, once for each graph, and kept from one process to the next."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Compiled graphs of this process, by their text and the shapes of their inputs.
_compiled: dict[object, Callable[..., Sequence[Tensor]]] = {}


@dataclass(frozen=True)
class Compiled:
    """What runs.

    Args:
        call: The function.
        seconds: Seconds that compiling took; None if nothing was compiled.
        error: Why nothing was compiled although it was to be.
    """

    call: Callable[..., Sequence[Tensor]]
    seconds: float | None = None
    error: str | None = None


def compile_graph(
    graph: torch.fx.GraphModule, arguments: Sequence[Tensor], device: torch.device, announce: Callable[[], object]
) -> Compiled:
    """Compile ``graph`` for arguments such as ``arguments``; where that fails, the graph runs as it is.

    On a GPU the kernels of a call are launched together, as a CUDA graph.

    Args:
        graph: The graph, whose results are new tensors.
        arguments: Contiguous tensors.
        device: Where they are.
        announce: Called before the compiler is; not where the same was compiled before.
    """
    shapes = [(tuple(t.shape), t.dtype, t.device) for t in arguments]
    key = (graph.code, torch.get_num_threads(), *shapes)
    known = None if _has_constants(graph) else _compiled.get(key)
    if known is not None:
        return Compiled(known, 0.0)
    announce()
    from torch import _inductor  # takes seconds, and nothing else needs it

    began = time.perf_counter()
    # The graph needs no tracing again, and its calls no guards: with these and a wrapper in Python, a call for one
    # replica takes two to three times as long.
    options = {"cpp_wrapper": True} if device.type == "cpu" else {"triton.cudagraphs": True}
    try:
        with torch.no_grad():
            function = _inductor.compile(copy.deepcopy(graph), [*arguments], options=options)
            function(*arguments)
    except Exception as error:
        # Compilers fail in many ways, and the graph computes the same without one.
        return Compiled(graph, None, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    _compiled[key] = function
    return Compiled(function, time.perf_counter() - began)


def _has_constants(graph: torch.fx.GraphModule) -> bool:
    return any(node.op == "get_attr" for node in graph.graph.nodes)


def folder_of_compiled(folder: str) -> str:
    """Return where compiled programs are kept between processes: ``folder``, unless the user chose another."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # What is imported on the way to tracing may have put torch's own choice there already.
    return folder if chosen in (None, default_cache_dir()) else chosen


def cache_compiled(folder: str) -> None:
    """Let compiled programs be kept in ``folder``."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
