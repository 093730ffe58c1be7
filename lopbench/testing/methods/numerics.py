"""Types, devices, and inputs on which careless arithmetic breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lopbench.core.interfaces import Component
from lopbench.learner import evaluation
from lopbench.testing.bench import Bench
from lopbench.testing.check import Mismatch, check
from lopbench.testing.comparing import listed
from lopbench.testing.methods.common import RUN, method_of


@check("Parameters, gradients and what is remembered stay on their device and in their type.")
def device_and_dtype_are_kept(component: Component) -> None:
    """Train in float32 and float64, and on a GPU if there is one."""
    method = method_of(component)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for dtype in (torch.float32, torch.float64):
            bench = Bench(method, dtype=dtype, device=device)
            for problem in bench.problems:
                problem.batch = _moved(problem.batch, device)  # type: ignore[method-assign]
            learner = bench.run(RUN).learner
            for name, value in {**learner.view.parameters, **evaluation.replica(learner, 0)[0]}.items():
                if value.dtype != dtype or value.device.type != device:
                    raise Mismatch(f"{name} in {dtype} on {device}", f"{value.dtype} on {value.device.type}")
            for state in learner.states:
                for key, value in state.tensors.items():
                    if value.device.type != device:
                        raise Mismatch(f"state[{key!r}] on {device}", value.device.type)


def _moved(batch: Any, device: str) -> Any:
    return lambda step: tuple(tensor.to(device) for tensor in batch(step))


@check(
    "Weights stay finite on a constant input, a batch of one, and with a dead layer.",
    lesson="METHODS F12: utilities and scores divide by sums that may be zero",
)
def hard_inputs_stay_finite(component: Component) -> None:
    """Train on each for some steps."""
    method = method_of(component)
    cases: Mapping[str, dict[str, Any]] = {
        "a constant input": {"constant": True},
        "a batch of one": {"size": 1},
        "a dead layer": {"kill": True},
    }
    for name, options in cases.items():
        kill = options.pop("kill", False)
        bench = Bench(method, **options)
        for key, value in bench.learner.view.parameters.items():
            if kill and key not in bench.learner.view.head and value.ndim == 2:
                value.fill_(-100.0)  # silences ReLU; tanh saturates
        bench.run(RUN)
        wrong = [key for key, value in bench.snapshot().items() if value.is_floating_point() and _infinite(key, value)]
        if wrong:
            raise Mismatch(f"finite weights on {name}", f"{listed(wrong)} are not")


def _infinite(name: str, value: Tensor) -> bool:
    return name.split("/")[0] in ("parameter", "evaluated", "buffer") and not bool(value.isfinite().all())
