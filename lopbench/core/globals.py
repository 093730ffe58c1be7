"""The settings of torch and numpy that change numbers, and the usual values at which all runs begin.

Whoever changes one changes the numbers of every run that comes after it. Runs therefore begin with the same values
whatever was set before, and `lopbench.core.guard` refuses a hook that leaves another one behind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as modules
from torch.overrides import _get_current_function_mode_stack

from lopbench.core.process import Setting

#: A denormal number, which a processor may be told to take for zero, and one to multiply it by.
_DENORMAL, _ONE = 5e-324, 1.0

#: An attribute that torch's stubs lack.
_FILL = "fill_uninitialized_memory"


def _deterministic() -> tuple[bool, bool, bool]:
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), only_warns, getattr(torch.utils.deterministic, _FILL)


def _set_deterministic(before: tuple[bool, bool, bool]) -> None:
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    setattr(torch.utils.deterministic, _FILL, before[2])


def _autocast() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple((torch.is_autocast_enabled(each), torch.get_autocast_dtype(each)) for each in ("cpu", "cuda"))


def _set_autocast(before: tuple[tuple[bool, torch.dtype], ...]) -> None:
    for device, (enabled, dtype) in zip(("cpu", "cuda"), before, strict=True):
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _cudnn() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


def _set_cudnn(before: tuple[bool, ...]) -> None:
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


def _modes() -> list[Any]:
    """Return the modes that see every function of torch; the default device is one, and a setting of its own."""
    return [mode for mode in _get_current_function_mode_stack() if type(mode).__name__ != "DeviceContext"]


def _leave_modes(before: list[Any]) -> None:
    while len(_modes()) > len(before):
        torch._C._pop_torch_function_stack()


def _leave_dispatch(before: int) -> None:
    while torch._C._len_torch_dispatch_stack() > before:
        torch._C._pop_torch_dispatch_stack(None)


def _saving() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _leave_saving(before: Any) -> None:
    while _saving() != before:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _module_hooks() -> dict[str, dict[Any, Any]]:
    found = {name: value for name, value in vars(modules).items() if name.startswith("_global_")}
    return {name: dict(value) for name, value in found.items() if isinstance(value, dict)}


def _set_module_hooks(before: dict[str, dict[Any, Any]]) -> None:
    for name, value in before.items():
        hooks = getattr(modules, name)
        hooks.clear()
        hooks.update(value)


def _changed_count(before: Any, after: Any) -> str:
    return "" if before == after else "another one is there"


def _default_device(before: torch.device) -> None:
    torch.set_default_device(None if before == torch.device("cpu") else before)


#: Blocks of inference mode that last: torch leaves one when nobody refers to it any more.
_lasting: list[torch.inference_mode] = []


def _inference_mode(before: bool) -> None:
    _lasting.append(torch.inference_mode(before))
    _lasting[-1].__enter__()


_SEED = "global seed of torch"

#: Settings of torch and numpy; all of them can be looked at in a few microseconds.
SETTINGS = (
    Setting("default dtype of torch", torch.get_default_dtype, torch.set_default_dtype),
    Setting("default device of torch", torch.get_default_device, _default_device),
    Setting("modes of torch's functions", _modes, _leave_modes, _changed_count),
    Setting("modes of torch's dispatcher", torch._C._len_torch_dispatch_stack, _leave_dispatch, _changed_count),
    Setting("hooks of saved tensors in torch", _saving, _leave_saving, _changed_count),
    Setting("inference mode of torch", torch.is_inference_mode_enabled, _inference_mode),
    Setting("gradient mode of torch", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("anomaly mode of torch", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Setting("autocast of torch", _autocast, _set_autocast),
    Setting("matmul precision of torch", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Setting("deterministic algorithms of torch", _deterministic, _set_deterministic),
    Setting("switches of cudnn in torch", _cudnn, _set_cudnn),
    Setting("switch of mkldnn in torch", torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    Setting("number of threads of torch", torch.get_num_threads, torch.set_num_threads),
    Setting("flushing of denormals of torch", lambda: _DENORMAL * _ONE == 0, torch.set_flush_denormal),
    Setting(_SEED, torch.initial_seed, torch.manual_seed),
    Setting("hooks of all modules of torch", _module_hooks, _set_module_hooks, _changed_count),
    Setting("handling of errors in numpy", np.geterr, lambda before: np.seterr(**before)),
)


@contextmanager
def usual_globals() -> Iterator[None]:
    """Have everything at its usual value for the duration, and afterwards as it was before.

    Global random numbers start at the same place each time. Only the number of threads is left as it is.

    Denormal numbers, below 1.2e-38 in single precision, are taken for zero. A processor is up to 20 times as slow with
    them, and the moments of Adam end there in every weight whose gradient has become zero: those of dead units, and all
    of a network that has memorised its data.
    """
    with kept_globals(), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_anomaly_enabled(False)
        torch.set_autocast_enabled("cpu", False)
        torch.set_flush_denormal(True)
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        yield


@contextmanager
def kept_globals() -> Iterator[None]:
    """Have everything afterwards as it was before, global random numbers included, whatever is done meanwhile."""
    before = [(each, each.read()) for each in SETTINGS if each.name != _SEED]
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # and so the seed
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for setting, value in before:
                if setting.change(value, setting.read()):
                    setting.put_back(value)
