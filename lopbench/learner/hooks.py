"""Calls the hooks of methods: what they return is held against what was asked for, and what they do wrong is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from torch import Tensor

from lopbench.core.errors import InvalidInputError, LopbenchError, PluginError, UnsupportedError
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import Perturbation
from lopbench.core.text import told
from lopbench.learner.changes import Watch
from lopbench.learner.memory import MethodState
from lopbench.learner.optimizers import Caller
from lopbench.learner.view import View


class Acting(NamedTuple):
    """A method with its memory."""

    method: Perturbation
    state: MethodState


class Hooks:
    """The hooks of the methods that are on, in order.

    Args:
        acting: The methods and their memories.
        built_in: Those of them that have changed the network when it was built.
        labels: What each is called in its reports; its name if there are none.
    """

    def __init__(
        self, acting: Iterable[Acting], built_in: Collection[Perturbation] = (), labels: Sequence[str] = ()
    ) -> None:
        self.acting = tuple(acting)
        self._labels = tuple(labels) or tuple(each.method.name for each in self.acting)
        #: Whether each of them has changed something, in a replica at least.
        self.acted = [any(each.method is other for other in built_in) for each in self.acting]
        self._having: dict[str, tuple[Acting, ...]] = {}
        self._called: set[tuple[int, str]] = set()

    def having(self, hook: str) -> tuple[Acting, ...]:
        """Return the methods that implement ``hook``."""
        if hook not in self._having:
            self._having[hook] = tuple(each for each in self.acting if each.method.has(hook))
        return self._having[hook]

    @property
    def in_steps(self) -> bool:
        """Whether a method takes part in training steps."""
        return any(map(self.having, ("batch", "loss", "penalty", "after_backward", "update", "after_step")))

    def run(self, hook: str, view: View) -> None:
        """Call ``hook`` of each method that has it, for what it changes."""
        for acting in self.having(hook):
            self.call(acting, hook, view)

    def call(self, acting: Acting, hook: str, view: View) -> None:
        """Call ``hook`` of one method, for what it changes."""
        with self.calling(acting, hook, view):
            returned = getattr(acting.method, hook)(view, acting.state)
            if returned is not None:
                raise InvalidInputError(f"it changes tensors in place and returns nothing, got {in_words(returned)}")

    @contextmanager
    def calling(self, acting: Acting, hook: str, view: View) -> Iterator[None]:
        """Name the method in errors for the duration, and note whether it changes something."""
        place = self._place(acting)
        view.optimizer.caller = Caller(place, acting.method.name, acting.method.has("on_task_start"))
        with self._naming(acting, hook):
            if self.acted[place]:
                yield
                return
            with Watch(lambda: _changes(view), view.module).watching() as watch:
                yield
            self.acted[place] = self.acted[place] or watch.changed

    def _naming(self, acting: Acting, hook: str) -> AbstractContextManager[None]:
        """Name the method in errors, and see at its first call whether the hook leaves the process as it is.

        What comes later shows when the run is over: looking takes microseconds, and steps are many.
        """
        key = self._place(acting), hook
        if key in self._called:
            return naming(acting.method, hook)
        self._called.add(key)
        return _leaving_all_alone(acting.method, hook)

    def _place(self, acting: Acting) -> int:
        return next(place for place, each in enumerate(self.acting) if each.state is acting.state)

    def _note(self, acting: Acting, changed: bool) -> None:
        if changed:
            self.acted[self._place(acting)] = True

    def batch(self, view: View, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch to train on, given the stream's."""
        for acting in self.having("batch"):
            method, state = acting
            with self.calling(acting, "batch", view), _left_alone("the batch", inputs, targets):
                size = inputs.shape[1]
                returned = method.batch(view, state, inputs, targets)
                if not (isinstance(returned, tuple) and len(returned) == 2 and all(map(_is_tensor, returned))):
                    raise InvalidInputError(f"it returns inputs and targets, two tensors, got {in_words(returned)}")
                self._note(acting, returned[0] is not inputs or returned[1] is not targets)
                inputs, targets = returned
                for what, tensor in (("inputs", inputs), ("targets", targets)):
                    if tensor.shape[:2] != (view.replicas, inputs.shape[1]):
                        raise InvalidInputError(
                            f"{what} must be ({view.replicas}, N, ...), a row for each replica, got "
                            f"{tuple(tensor.shape)}"
                        )
                if inputs.shape[1] > size and not method.uses_replay:
                    raise UnsupportedError(
                        f"the batch has grown from {size} to {inputs.shape[1]} samples; a method that trains on "
                        "samples that it kept declares uses_replay = True"
                    )
        return inputs, targets

    def loss(self, view: View, loss: Tensor) -> Tensor:
        """Return the loss ``(R,)`` to train on, penalties included."""
        for acting in self.having("loss"):
            with self.calling(acting, "loss", view), _left_alone("the loss", loss):
                before, loss = loss, _per_replica(acting.method.loss(view, acting.state, loss), view.replicas)
                self._note(acting, loss is not before)
        for acting in self.having("penalty"):
            with self.calling(acting, "penalty", view):
                loss = loss + _per_replica(acting.method.penalty(view, acting.state), view.replicas)
                self._note(acting, changed=True)
        return loss

    def evaluated(self, view: View) -> dict[str, Tensor]:
        """Return the parameters and buffers to evaluate where they are not the trained ones, by name."""
        found: dict[str, Tensor] = {}
        for acting in self.having("evaluated"):
            with self._naming(acting, "evaluated"):
                returned = acting.method.evaluated(view, acting.state)
                if not isinstance(returned, Mapping):
                    raise InvalidInputError(f"it returns tensors by name, got {in_words(returned)}")
                for name, value in returned.items():
                    known = view.parameters.get(name, view.buffers.get(name))
                    if known is None:
                        raise InvalidInputError(f"the network has no parameter or buffer {name!r}")
                    if not isinstance(value, Tensor) or value.shape != known.shape:
                        raise InvalidInputError(
                            f"{name!r} must be of shape {tuple(known.shape)}, got {in_words(value)}"
                        )
                    found[name] = value
                self._note(acting, bool(returned))
        return found

    def report(self, view: View) -> Iterator[tuple[str, Tensor]]:
        """Yield the numbers that methods tell of themselves, ``(R,)`` each, as ``label.name``."""
        for acting in self.having("report"):
            method, state = acting
            with self._naming(acting, "report"):
                returned = method.report(view, state)
                if not isinstance(returned, Mapping):
                    raise InvalidInputError(f"it returns numbers by name, got {in_words(returned)}")
                for name, value in returned.items():
                    yield f"{self._labels[self._place(acting)]}.{name}", _per_replica(value, view.replicas)


def labels_of(methods: Iterable[Perturbation]) -> list[str]:
    """Return what methods are called beside each other: their names, the second of one name with "#2" behind it."""
    counts: Counter[str] = Counter()
    labels = []
    for method in methods:
        counts[method.name] += 1
        count = counts[method.name]
        labels.append(method.name if count == 1 else f"{method.name}#{count}")
    return labels


@contextmanager
def naming(method: Perturbation, hook: str) -> Iterator[None]:
    """Let an error that a hook's misuse of its interface raises name method and hook."""
    try:
        yield
    except (InvalidInputError, PluginError, UnsupportedError) as error:
        start = f"method {method.name!r}"
        if str(error).startswith((start, f"{method.name}: ")):
            raise
        raise type(error)(f"{start}, hook {hook}: {error}") from error
    except Exception as error:
        # Not `isinstance`, which the hook may have replaced.
        if LopbenchError in type(error).__mro__ or type(error).__module__.startswith("lopbench.runner."):
            # It would mean something else to who runs it: that the results folder is full, that the run is recorded.
            raise UnsupportedError(f"method {method.name!r}, hook {hook}: it raised {told(error)}") from error
        error.add_note(f"in {method.name}, hook {hook}")
        raise


@contextmanager
def _leaving_all_alone(method: Perturbation, hook: str) -> Iterator[None]:
    """As `naming`; and refuse a hook that leaves a setting of the process changed."""
    with naming(method, hook), left_alone():
        yield


@contextmanager
def _left_alone(what: str, *tensors: Tensor) -> Iterator[None]:
    """Refuse that tensors which others read as well are changed in place."""
    before = [tensor._version for tensor in tensors]
    yield
    if [tensor._version for tensor in tensors] != before:
        raise InvalidInputError(f"it changed {what} in place, which is measured as well; return a new tensor")


def _changes(view: View) -> int:
    """Return how often the optimizer was told something, or a tensor was changed in place, as torch counts."""
    parts = (view.parameters, view.buffers, view.gradients, view.updates)
    return view.optimizer.touched + sum(tensor._version for part in parts for tensor in part.values())


def _per_replica(value: object, replicas: int) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != (replicas,):
        raise InvalidInputError(f"it returns a number for each replica, shape ({replicas},), got {in_words(value)}")
    return value


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def in_words(value: object) -> str:
    """Return in words what a hook returned."""
    if value is None:
        return "nothing"
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
