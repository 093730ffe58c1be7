"""Traces functions into graphs, and compiles these with Inductor: each once per process, with a cache on disk."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

#: Compiled graphs of this process, by their code, the number of threads, and the shapes and types of their inputs.
_compiled: dict[object, Callable[..., Sequence[Tensor]]] = {}


@dataclass(frozen=True)
class Compiled:
    """A graph as a function, compiled or as it is.

    Args:
        call: The function.
        seconds: Seconds that compiling took, 0 if this process had compiled the graph before; None if ``call`` is not
            compiled.
        error: Why compiling failed; None if it succeeded or was not tried.
    """

    call: Callable[..., Sequence[Tensor]]
    seconds: float | None = None
    error: str | None = None


def trace_graph(function: Callable[..., Any], *arguments: Tensor) -> torch.fx.GraphModule:
    """Return ``function`` as a graph, traced with ``arguments`` as examples and without operations in place.

    Raises:
        Exception: Of many types, if the function reads a value, or uses a tensor that is no argument.
    """
    # Not `function` itself: of a bound method torch counts `self` among the arguments, and refuses.
    return make_fx(functionalize(lambda *tensors: function(*tensors)), tracing_mode="fake")(*arguments)


def compile_graph(
    graph: torch.fx.GraphModule, arguments: Sequence[Tensor], device: torch.device, announce: Callable[[], object]
) -> Compiled:
    """Compile ``graph`` for arguments like ``arguments``, or return it uncompiled if the compiler fails.

    On a GPU the kernels of a call are launched together, as a CUDA graph.

    Args:
        graph: The graph. Its results must be new tensors, none of its arguments.
        arguments: Contiguous tensors on ``device``, as examples of shape and type.
        device: The device.
        announce: Called before the compiler, unless this process has compiled the same before.
    """
    shapes = [(tuple(t.shape), t.dtype, t.device) for t in arguments]
    key = (graph.code, torch.get_num_threads(), *shapes)
    known = None if _has_constants(graph) else _compiled.get(key)
    if known is not None:
        return Compiled(known, 0.0)
    announce()
    from torch import _inductor  # here, since this import takes seconds

    began = time.perf_counter()
    # `torch.compile` would trace the graph again, check guards at each call and call it from Python. A call for one
    # replica would take two to three times as long.
    options = {"cpp_wrapper": True} if device.type == "cpu" else {"triton.cudagraphs": True}
    try:
        with torch.no_grad():
            function = _inductor.compile(copy.deepcopy(graph), [*arguments], options=options)
            function(*arguments)
    except Exception as error:
        # Compilers fail in many ways, and the uncompiled graph computes the same.
        return Compiled(graph, None, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    _compiled[key] = function
    return Compiled(function, time.perf_counter() - began)


def _has_constants(graph: torch.fx.GraphModule) -> bool:
    return any(node.op == "get_attr" for node in graph.graph.nodes)


def folder_of_compiled(folder: str) -> str:
    """Return where compiled programs are kept between processes: ``folder``, or what TORCHINDUCTOR_CACHE_DIR says."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # Modules of torch set the variable to torch's default when they are imported. That is no choice of the user's.
    return folder if chosen in (None, default_cache_dir()) else chosen


def cache_compiled(folder: str) -> None:
    """Keep compiled programs in ``folder`` from now on, for this process and those that it starts."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
