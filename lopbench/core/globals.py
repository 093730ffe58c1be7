"""What holds for the whole process and changes numbers: settings of torch, and the global random numbers.

Whoever changes one changes the numbers of every run that comes after it. Runs therefore begin with the same values
whatever was set before, and a hook that leaves another one behind is refused by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from lopbench.core.errors import InvalidInputError

#: A denormal number, which a processor may be told to take for zero, and one to multiply it by.
_DENORMAL, _ONE = 5e-324, 1.0


class Globals(NamedTuple):
    """The settings of torch that change numbers, and the seed of its random numbers; each field is its name in words.

    All of them can be looked at in a few microseconds.
    """

    default_dtype: torch.dtype
    default_device: torch.device
    gradient_mode: bool
    inference_mode: bool
    anomaly_mode: bool
    autocast: bool
    matmul_precision: str
    deterministic_algorithms: bool
    warnings_of_them_only: bool
    number_of_threads: int
    flushing_of_denormals: bool
    global_seed: int

    @classmethod
    def now(cls) -> Globals:
        """Return what is set."""
        return cls(
            default_dtype=torch.get_default_dtype(),
            default_device=torch.get_default_device(),
            gradient_mode=torch.is_grad_enabled(),
            inference_mode=torch.is_inference_mode_enabled(),
            anomaly_mode=torch.is_anomaly_enabled(),
            autocast=torch.is_autocast_enabled("cpu"),
            matmul_precision=torch.get_float32_matmul_precision(),
            deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
            warnings_of_them_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            number_of_threads=torch.get_num_threads(),
            flushing_of_denormals=_DENORMAL * _ONE == 0,
            global_seed=torch.initial_seed(),
        )


@contextmanager
def usual_globals() -> Iterator[None]:
    """Have everything at its usual value for the duration, and afterwards as it was before.

    Global random numbers start at the same place each time. Only the number of threads is left as it is.
    """
    with kept_globals(), torch.inference_mode(False), torch.enable_grad():
        _set(torch.float32, None, anomaly=False, autocast=False, flush=False)
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        yield


@contextmanager
def kept_globals() -> Iterator[None]:
    """Have everything afterwards as it was before, global random numbers included, whatever is done meanwhile."""
    before, device = Globals.now(), _chosen_device()
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_num_threads(before.number_of_threads)
            torch.set_grad_enabled(before.gradient_mode)
            torch.set_float32_matmul_precision(before.matmul_precision)
            torch.use_deterministic_algorithms(before.deterministic_algorithms, warn_only=before.warnings_of_them_only)
            _set(
                before.default_dtype,
                device,
                anomaly=before.anomaly_mode,
                autocast=before.autocast,
                flush=before.flushing_of_denormals,
            )


@contextmanager
def left_alone(who: str = "") -> Iterator[None]:
    """Refuse that what is called for the duration leaves a setting changed.

    Args:
        who: What the sentence begins with, where nobody else says whose doing it is.

    Raises:
        InvalidInputError: If it does, naming the setting with both values.
    """
    before = Globals.now()
    yield
    after = Globals.now()
    for name, then, now in zip(Globals._fields, before, after, strict=True):
        if then != now:
            raise InvalidInputError(
                f"{who}it left the {name.replace('_', ' ')} of torch changed, from {then} to {now}, which would change "
                "the numbers of every run after it; leave it as it is, or put it back"
            )


def _chosen_device() -> torch.device | None:
    """Return the default device that somebody has set, None for torch's own."""
    return None if torch.get_default_device() == torch.device("cpu") else torch.get_default_device()


def _set(dtype: torch.dtype, device: torch.device | None, *, anomaly: bool, autocast: bool, flush: bool) -> None:
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    torch.set_anomaly_enabled(anomaly)
    torch.set_autocast_enabled("cpu", autocast)
    torch.set_flush_denormal(flush)
