"""Keeps the process as it is while code of others runs: what it leaves changed is put back, and told in words.

A plugin runs in our process, and whatever it changes there would change the runs of others. What can be read and set
stands in tables, a line each: `lopbench.core.process`, and torch's in `lopbench.core.globals`; code that was replaced
is found by comparing modules and classes, in `lopbench.core.namespaces`.

This is a guard against carelessness and mischief in Python, and no prison. It cannot see what is written into memory
past Python (`ctypes`), what `os.putenv` hides from ``os.environ``, threads and exit handlers that a plugin leaves
behind, operators registered in torch's dispatcher, or our objects on which a plugin comes by `gc`. Nobody can put back
a hard limit or a priority that was lowered: the sentence says so. What ends the process is survived by workers alone.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from lopbench.core.errors import LopbenchError, PluginError
from lopbench.core.namespaces import Finder, Namespaces
from lopbench.core.process import PROCESS, RANDOM, Setting, ignored

if TYPE_CHECKING:
    from lopbench.core.registry import Registry


def _of_libraries() -> Sequence[Setting]:
    """Return the settings of torch and numpy, none where they are not imported."""
    if "torch" not in sys.modules:
        return ()
    from lopbench.core.globals import SETTINGS  # imports torch

    return SETTINGS


def _registry() -> Sequence[Setting]:
    """Return the setting that the registry of components is: it may grow; none where no plugins are loaded yet."""
    from lopbench.core.manager import plugins  # which loads plugins under guard

    if not plugins.cache_info().currsize:
        return ()
    registry = plugins().registry

    def change(before: Registry, after: Registry) -> str:
        return "" if after.holds(before) else "a component in it is gone or another one"

    return (Setting("registry of components", registry.copy, registry.become, change),)


class _Snapshot:
    """What holds for the process.

    Args:
        code: Whether to compare modules and classes as well, which takes milliseconds.
    """

    def __init__(self, *, code: bool) -> None:
        self._has_libraries = "torch" in sys.modules
        settings = (*PROCESS, *_of_libraries(), *((RANDOM, *_registry()) if code else ()))
        self._settings = [(each, each.read()) for each in settings]
        self._code = Namespaces() if code else None

    def note(self, name: str) -> None:
        """Look at a module that has just been imported, and, if it is torch, at its settings."""
        if self._code is not None:
            self._code.note(name)
        if not self._has_libraries and name == "torch":
            self._has_libraries = True
            self._settings += [(each, each.read()) for each in _of_libraries()]

    def code_put_back(self) -> list[str]:
        """Put back code that was replaced; returns it in words."""
        return [] if self._code is None else self._code.put_back()

    def settings_put_back(self) -> list[str]:
        """Put back settings that have changed; returns them in words, as they stand in the table."""
        found = []
        for setting, before in self._settings:
            try:
                change = setting.change(before, setting.read())
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # what is read is a thing of theirs
                change = f"and cannot be read any more ({type(error).__name__})"
            if change:
                found.append(f"the {setting.name} changed, {change}")
            if change or setting.change is ignored:
                try:
                    setting.put_back(before)
                except (OSError, ValueError, RuntimeError) as error:
                    found.append(f"the {setting.name} changed for good: it cannot be put back ({error})")
        return found


class Interrupts:
    """Tells an interrupt by the user from a `KeyboardInterrupt` that a plugin raises.

    Whoever handles interrupts in another way than Python lists them at the handler, as ``caught``; of other handlers
    nobody knows.
    """

    def __init__(self) -> None:
        self._usual = signal.getsignal(signal.SIGINT)
        self._notes = (
            self._usual is signal.default_int_handler and threading.current_thread() is threading.main_thread()
        )
        if self._notes:
            self._caught: list[int] | None = []
            caught = self._caught

            def note(number: int, frame: FrameType | None) -> None:
                caught.append(number)
                signal.default_int_handler(number, frame)

            note.caught = caught  # type: ignore[attr-defined]
            note.raises = True  # type: ignore[attr-defined]
            signal.signal(signal.SIGINT, note)
        else:
            self._caught = [] if self._usual is signal.SIG_IGN else getattr(self._usual, "caught", None)
        raises = self._notes or getattr(self._usual, "raises", False)
        self._before = len(self._caught) if raises and self._caught is not None else None

    @property
    def may_be_theirs(self) -> bool:
        """Whether the user has interrupted, or nobody knows."""
        return self._caught is None or bool(self._caught)

    @property
    def is_due(self) -> bool:
        """Whether the user has interrupted since, and this was to be raised: in a ``__del__`` Python drops what is."""
        return self._before is not None and self._caught is not None and len(self._caught) > self._before

    def close(self) -> None:
        """Have interrupts handled as before."""
        if self._notes:
            signal.signal(signal.SIGINT, self._usual)


class Guard:
    """Puts back what the code of others changes for the duration.

    Args:
        who: What a refusal begins with, where nobody else says whose doing it is.
        code: Whether to compare modules and classes as well; to be said where plugins are imported, and of whole runs.
        refuses: Whether to refuse who leaves something changed.
    """

    def __init__(self, who: str = "", *, code: bool = False, refuses: bool = True) -> None:
        self._who, self._with_code, self._refuses = who, code, refuses
        #: What was changed, in words; known afterwards.
        self.found: list[str] = []

    def __enter__(self) -> Guard:
        self._interrupts = Interrupts()
        self._before = _Snapshot(code=self._with_code)
        self._finder = Finder(self._before.note) if self._with_code else None
        return self

    # No context manager made of a generator: those call functions of Python, which somebody may have replaced.
    # For the same reason it asks the class of the error, and not `isinstance`.
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        code = self._before.code_put_back()
        if self._finder is not None:
            self._finder.close()
        self.found += code + self._before.settings_put_back()
        self._interrupts.close()
        if kind is not None and KeyboardInterrupt in kind.__mro__ and not self._interrupts.may_be_theirs:
            raise PluginError(f"{self._who}it raised KeyboardInterrupt, and nobody has interrupted it") from error
        if error is None and self._interrupts.is_due:
            raise KeyboardInterrupt
        # An error tells more than what it leaves behind, unless replaced code may have led to it.
        if self.found and self._refuses and (error is None or (code and not _is_told(error))):
            raise PluginError(
                f"{self._who}it left {self.found[0]}, which every run after it would notice; leave it as it is, or put "
                "it back"
            ) from error


def _is_told(error: BaseException) -> bool:
    return isinstance(error, LopbenchError | KeyboardInterrupt)


def left_alone(who: str = "", *, code: bool = False) -> Guard:
    """Put back what is left changed for the duration, and refuse who did it.

    Args:
        who: What the sentence begins with, where nobody else says whose doing it is.
        code: Whether to compare modules and classes as well.

    Raises:
        PluginError: At the end, if something was changed, with how it was and how it is.
    """
    return Guard(who, code=code)


def kept(*, code: bool = False) -> Guard:
    """Put back what is left changed for the duration, and refuse nobody: its turn comes."""
    return Guard(code=code, refuses=False)
