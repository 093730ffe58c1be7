"""Methods that are watched as they act."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from lopbench.core.interfaces import Learner, Perturbation
from lopbench.core.perturbation import Hook


def replaced(method: Perturbation, **functions: Callable[..., object]) -> Perturbation:
    """Return the method with other functions for hooks, which are given the method's own hook, then its arguments."""

    def hook(function: Callable[..., object], original: Callable[..., object]) -> Callable[..., object]:
        def called(self: Perturbation, *arguments: object) -> object:
            return function(functools.partial(original, self), *arguments)

        return called

    cls = type(method)
    body = {name: hook(function, getattr(cls, name)) for name, function in functions.items()}
    made = copy.copy(method)
    object.__setattr__(made, "__class__", types.new_class(cls.__name__, (cls,), {}, lambda names: names.update(body)))
    return made


Around = Callable[[Learner], AbstractContextManager[None]]

#: The hooks of a training step.
IN_STEPS: tuple[Hook, ...] = ("batch", "loss", "penalty", "after_backward", "update", "after_step")


def watched(method: Perturbation, hooks: Sequence[Hook], around: Around) -> Perturbation:
    """Return the method with ``around(learner)`` entered around each call of those of ``hooks`` that it has."""

    def watch(original: Callable[..., object], learner: Learner, *arguments: object) -> object:
        with around(learner):
            return original(learner, *arguments)

    return replaced(method, **{hook: watch for hook in hooks if method.has(hook)})
