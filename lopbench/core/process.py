"""What is set for the whole process and can be put back: a table, a line each.

Those of torch and numpy stand in `lopbench.core.globals`.
"""

from __future__ import annotations

import gc
import io
import locale
import os
import random
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple


def differs(before: object, after: object) -> str:
    """Return in words how a value differs from what it was; nothing if it does not."""
    return "" if before == after else f"from {before} to {after}"


def sank(before: float, after: float) -> str:
    """Return how a limit was lowered; raising one harms nobody."""
    return differs(before, after) if after < before else ""


def ignored(before: object, after: object) -> str:
    """Return nothing: what is put back without a word, as anybody may change it."""
    return ""


class Setting(NamedTuple):
    """Something that holds for the whole process.

    Args:
        name: What it is called in sentences.
        read: Returns its value.
        put_back: Sets it to a value that was read.
        change: Returns in words how a value differs from an earlier one, nothing where that does not matter.
    """

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    change: Callable[[Any, Any], str] = differs


# -- files and streams


class _Descriptors:
    """What stands behind the descriptors 0 to 2; keeps copies of them as long as it lives."""

    def __init__(self) -> None:
        self.behind: list[tuple[int, int] | None] = []
        self.copies: list[int] = []
        for number in range(3):
            behind, copy = None, -1
            with suppress(OSError):  # closed, as for a daemon, or no descriptor is left for a copy
                found = os.fstat(number)
                behind = found.st_dev, found.st_ino
                copy = os.dup(number)
            self.behind.append(behind)
            self.copies.append(copy)

    def __del__(self) -> None:
        for copy in self.copies:
            if copy >= 0:
                with suppress(OSError):
                    os.close(copy)

    def put_back(self) -> None:
        for number, (behind, copy) in enumerate(zip(self.behind, self.copies, strict=True)):
            if copy >= 0:
                os.dup2(copy, number)
            elif behind is None:
                with suppress(OSError):
                    os.close(number)

    @staticmethod
    def change(before: _Descriptors, after: _Descriptors) -> str:
        wrong = [str(n) for n, then, now in zip(range(3), before.behind, after.behind, strict=True) if then != now]
        return f"{' and '.join(wrong)} now lead elsewhere" if wrong else ""


_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def _streams() -> list[tuple[object, bool]]:
    return [(stream, _is_open(stream)) for stream in (getattr(sys, name) for name in _STREAMS)]


def _is_open(stream: object) -> bool:
    try:
        return not getattr(stream, "closed", False)
    except BaseException:  # of a stream that is none
        return False


def _put_back_streams(before: Sequence[tuple[object, bool]]) -> None:
    made: dict[int, object] = {}
    for name, (stream, was_open) in zip(_STREAMS, before, strict=True):
        if was_open and not _is_open(stream):
            if id(stream) not in made:
                made[id(stream)] = _reopened(name)
            stream = made[id(stream)]
        setattr(sys, name, stream)


def _reopened(name: str) -> object:
    """Return a new standard stream for one that was closed; the descriptors are there again by now."""
    number = _STREAMS.index(name) % 3
    try:
        return open(number, "w" if number else "r", buffering=1, errors="backslashreplace", closefd=False)
    except OSError:
        return io.StringIO()


def _changed_streams(before: Sequence[tuple[object, bool]], after: Sequence[tuple[object, bool]]) -> str:
    for name, (then, was_open), (now, is_open) in zip(_STREAMS, before, after, strict=True):
        if then is not now:
            return f"sys.{name} is another one"
        if was_open and not is_open:
            return f"sys.{name} is closed"
    return ""


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  (a path object would cost ten times as much)
    except OSError:  # it was removed
        return None


def _put_back_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


# -- the environment

_ENVIRON = os.environ

#: Variables that libraries set by themselves.
_BY_LIBRARIES = frozenset(
    {
        "CUBLAS_WORKSPACE_CONFIG",
        "CUDA_MODULE_LOADING",
        "KMP_DUPLICATE_LIB_OK",
        "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_CACHE_DIR",
        "TRITON_LIBDEVICE_PATH",
        "TRITON_PTXAS_PATH",
        "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR",  # an address, which a process that another starts inherits
    }
)

#: What the variables begin with that change what we, Python or the libraries below do, so that adding one is a change.
_OF_CONSEQUENCE = ("LOPBENCH", "PYTHON", "OMP_", "MKL_", "CUDA_", "CUBLAS_", "LD_", "TORCH_", "HOME", "TMP", "TZ")


def _put_back_environment(before: dict[str, str]) -> None:
    os.environ = _ENVIRON  # noqa: B003  (it was there before)
    for name in [name for name in _ENVIRON if name not in before and name not in _BY_LIBRARIES]:
        del _ENVIRON[name]
    for name, value in before.items():
        if _ENVIRON.get(name) != value:
            _ENVIRON[name] = value


def _changed_environment(before: dict[str, str], after: dict[str, str]) -> str:
    if os.environ is not _ENVIRON:
        return "os.environ is another one"
    if before == after:
        return ""
    for name in sorted(before.keys() | after.keys()):
        then, now = before.get(name), after.get(name)
        if then != now and name not in _BY_LIBRARIES and (then is not None or name.startswith(_OF_CONSEQUENCE)):
            return f"{name}, from {then!r} to {now!r}"
    return ""


# -- signals and time

_SIGNALS = sorted(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP))
_TIMERS = {
    "ITIMER_REAL": signal.ITIMER_REAL,
    "ITIMER_VIRTUAL": signal.ITIMER_VIRTUAL,
    "ITIMER_PROF": signal.ITIMER_PROF,
}


def _put_back_handlers(before: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        if handler is not None and signal.getsignal(number) is not handler:
            with suppress(ValueError):  # only the main thread may
                signal.signal(number, handler)


def _changed_handlers(before: list[Any], after: list[Any]) -> str:
    for number, then, now in zip(_SIGNALS, before, after, strict=True):
        # A second interrupt by the user is not put off: the usual handler is there again.
        if then is not now and then != now and not (number == signal.SIGINT and now is signal.default_int_handler):
            return f"that of {getattr(number, 'name', number)} is another one"
    return ""


def _changed_timers(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> str:
    started = [name for name, then, now in zip(_TIMERS, before, after, strict=True) if now[0] and not then[0]]
    return f"{started[0]} is running" if started else ""


def _put_back_timers(before: list[tuple[float, float]]) -> None:
    for number, (left, _), now in zip(_TIMERS.values(), before, map(signal.getitimer, _TIMERS.values()), strict=True):
        if now[0] and not left:
            signal.setitimer(number, 0)


# -- the interpreter


def _changed_path(before: list[Any], after: list[Any]) -> str:
    """Return what is wrong with a search path: it may grow at its end."""
    return "" if after[: len(before)] == before else f"{next(_new(before, after), 'an entry')} stands before the others"


def _new(before: list[Any], after: list[Any]) -> Iterator[str]:
    yield from (repr(each) if isinstance(each, str) else type(each).__name__ for each in after if each not in before)


def _changed_finders(before: list[Any], after: list[Any]) -> str:
    """Return what is wrong with the finders of modules: libraries add theirs, and none may go or lead the others."""
    known = [each for each in after if any(each is other for other in before)]
    if len(known) != len(before) or any(a is not b for a, b in zip(known, before, strict=True)):
        return "one of them is gone"
    for each in after[: after.index(before[0])] if before else ():
        if _origin(each) not in _LIBRARIES:
            return f"{type(each).__name__} stands before the others"
    return ""


#: Libraries that put a finder of modules before the others when they are imported.
_LIBRARIES = frozenset({"_distutils_hack", "setuptools", "six", "torch", "_pytest"})


def _origin(thing: object) -> str:
    module = getattr(thing, "__module__", "") or ""
    return str(module).partition(".")[0]


def _put_back_list(name: str) -> Callable[[tuple[list[Any], list[Any]]], None]:
    def put_back(before: tuple[list[Any], list[Any]]) -> None:
        theirs, content = before
        theirs[:] = content
        setattr(sys, name, theirs)

    return put_back


def _list_of(name: str, change: Callable[[list[Any], list[Any]], str], words: str) -> Setting:
    """Return the setting that a list of `sys` is: which one it is, and what is in it."""

    def changed(before: tuple[list[Any], list[Any]], after: tuple[list[Any], list[Any]]) -> str:
        return f"sys.{name} is another one" if before[0] is not after[0] else change(before[1], after[1])

    return Setting(words, lambda: (getattr(sys, name), list(getattr(sys, name))), _put_back_list(name), changed)


def _changed_filters(before: list[Any], after: list[Any]) -> str:
    """Return what is wrong with the filters of warnings: more may be hidden, and none made an error."""
    if before == after:
        return ""
    if any(each not in after for each in before):
        return "one of them is gone"
    return "warnings are errors" if any(each[0] == "error" and each not in before for each in after) else ""


def _put_back_filters(before: list[Any]) -> None:
    if warnings.filters != before:
        warnings.filters[:] = before  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]


def _put_back_tracing(before: tuple[Any, Any]) -> None:
    sys.settrace(before[0])
    sys.setprofile(before[1])


def _changed_tracing(before: tuple[Any, Any], after: tuple[Any, Any]) -> str:
    return "" if all(a is b for a, b in zip(before, after, strict=True)) else "a function of its own is called"


def _collection() -> tuple[bool, tuple[int, int, int], int]:
    return gc.isenabled(), gc.get_threshold(), gc.get_debug()


def _put_back_collection(before: tuple[bool, tuple[int, int, int], int]) -> None:
    (gc.enable if before[0] else gc.disable)()
    gc.set_threshold(*before[1])
    gc.set_debug(before[2])


# -- what the system allows

_LIMITS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}


def _limits() -> list[tuple[float, float]]:
    return [tuple(map(_finite, resource.getrlimit(number))) for number in _LIMITS.values()]  # type: ignore[misc]


def _finite(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _put_back_limits(before: list[tuple[float, float]]) -> None:
    for number, values in zip(_LIMITS.values(), before, strict=True):
        soft, hard = (resource.RLIM_INFINITY if each == float("inf") else int(each) for each in values)
        if resource.getrlimit(number) != (soft, hard):
            resource.setrlimit(number, (soft, hard))


def _changed_limits(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> str:
    for name, then, now in zip(_LIMITS, before, after, strict=True):
        if now[0] < then[0] or now[1] < then[1]:
            return f"{name}, from {then} to {now}"
    return ""


#: All that is the process's own. A few dozen microseconds read it. Priority and processors are left out: users and
#: batch systems change them while a process runs, and no number depends on them.
PROCESS = (
    Setting("standard descriptors", _Descriptors, _Descriptors.put_back, _Descriptors.change),
    Setting("standard streams", _streams, _put_back_streams, _changed_streams),
    Setting("working directory", _folder, _put_back_folder),
    Setting("mask of new files", _umask, os.umask),
    Setting("environment", lambda: dict(_ENVIRON), _put_back_environment, _changed_environment),
    Setting("signal handlers", lambda: [*map(signal.getsignal, _SIGNALS)], _put_back_handlers, _changed_handlers),
    Setting(
        "blocked signals",
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        lambda before: signal.pthread_sigmask(signal.SIG_SETMASK, before),
    ),
    Setting("timers", lambda: [*map(signal.getitimer, _TIMERS.values())], _put_back_timers, _changed_timers),
    Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit, sank),
    Setting("limit on digits", sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    Setting("switch interval of threads", sys.getswitchinterval, sys.setswitchinterval),
    Setting("tracing", lambda: (sys.gettrace(), sys.getprofile()), _put_back_tracing, _changed_tracing),
    Setting("tracing of threads", lambda: threading.gettrace(), threading.settrace),
    _list_of("path", _changed_path, "search path of modules"),
    _list_of("meta_path", _changed_finders, "finders of modules"),
    Setting("name of the interpreter", lambda: sys.executable, lambda before: setattr(sys, "executable", before)),
    Setting("garbage collection", _collection, _put_back_collection),
    Setting("filters of warnings", lambda: list(warnings.filters), _put_back_filters, _changed_filters),
    Setting("locale", lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    Setting("limits of the process", _limits, _put_back_limits, _changed_limits),
)

#: Drawing from it is nobody's fault. It is put back where plugins are imported; runs have their own.
RANDOM = Setting("random numbers of Python", random.getstate, random.setstate, ignored)
