"""Calls the hooks of methods, checks what they return, and names method and hook in errors."""

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
        built_in: The methods among them that changed the network when it was built.
        labels: What each is called in its reports; none for their names.
    """

    def __init__(
        self, acting: Iterable[Acting], built_in: Collection[Perturbation] = (), labels: Sequence[str] = ()
    ) -> None:
        self.acting = tuple(acting)
        self._labels = tuple(labels) or tuple(each.method.name for each in self.acting)
        #: Whether each method has changed something so far, in at least one replica.
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
        """Call a hook that changes tensors in place, of each method that has it."""
        for acting in self.having(hook):
            self.call(acting, hook, view)

    def call(self, acting: Acting, hook: str, view: View) -> None:
        """Call a hook that changes tensors in place, of one method."""
        with self.calling(acting, hook, view):
            returned = getattr(acting.method, hook)(view, acting.state)
            if returned is not None:
                raise InvalidInputError(f"it must change tensors in place and return nothing, got {in_words(returned)}")

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
        """Name the method in errors, and check at a hook's first call that it leaves the settings of the process alone.

        Later calls are not checked one by one, since a check takes microseconds. What they change is found when the
        run is over.
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
        """Return the batch to train on: ``inputs`` and ``targets`` of the stream, as methods change them."""
        for acting in self.having("batch"):
            method, state = acting
            with self.calling(acting, "batch", view), _left_alone("the batch", inputs, targets):
                size = inputs.shape[1]
                returned = method.batch(view, state, inputs, targets)
                if not (isinstance(returned, tuple) and len(returned) == 2 and all(map(_is_tensor, returned))):
                    raise InvalidInputError(f"it must return inputs and targets, two tensors, got {in_words(returned)}")
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
        """Return the parameters and buffers that methods put in the place of trained ones for evaluation, by name."""
        found: dict[str, Tensor] = {}
        for acting in self.having("evaluated"):
            with self._naming(acting, "evaluated"):
                returned = acting.method.evaluated(view, acting.state)
                if not isinstance(returned, Mapping):
                    raise InvalidInputError(f"it must return tensors by name, got {in_words(returned)}")
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
        """Yield the numbers that methods report of themselves: ``label.name`` and the values ``(R,)``."""
        for acting in self.having("report"):
            method, state = acting
            with self._naming(acting, "report"):
                returned = method.report(view, state)
                if not isinstance(returned, Mapping):
                    raise InvalidInputError(f"it must return numbers by name, got {in_words(returned)}")
                for name, value in returned.items():
                    yield f"{self._labels[self._place(acting)]}.{name}", _per_replica(value, view.replicas)


def labels_of(methods: Iterable[Perturbation]) -> list[str]:
    """Return a label for each method: its name, with "#2" appended for the second of that name, and so on."""
    counts: Counter[str] = Counter()
    labels = []
    for method in methods:
        counts[method.name] += 1
        count = counts[method.name]
        labels.append(method.name if count == 1 else f"{method.name}#{count}")
    return labels


@contextmanager
def naming(method: Perturbation, hook: str) -> Iterator[None]:
    """Name method and hook in errors that the hook raises, or that its misuse of the interface causes."""
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
            # To the runner such an error has another meaning, such as a full results folder or a run that has a record.
            raise UnsupportedError(f"method {method.name!r}, hook {hook}: it raised {told(error)}") from error
        error.add_note(f"in {method.name}, hook {hook}")
        raise


@contextmanager
def _leaving_all_alone(method: Perturbation, hook: str) -> Iterator[None]:
    """Do as `naming`, and refuse a hook that leaves a setting of the process changed."""
    with naming(method, hook), left_alone():
        yield


@contextmanager
def _left_alone(what: str, *tensors: Tensor) -> Iterator[None]:
    """Refuse a hook that changes ``tensors`` in place, because others read them as well."""
    before = [tensor._version for tensor in tensors]
    yield
    if [tensor._version for tensor in tensors] != before:
        raise InvalidInputError(f"it changed {what} in place, which is measured as well; return a new tensor")


def _changes(view: View) -> int:
    """Return how often the optimizer was told something or torch has counted an in-place change of a tensor."""
    parts = (view.parameters, view.buffers, view.gradients, view.updates)
    return view.optimizer.touched + sum(tensor._version for part in parts for tensor in part.values())


def _per_replica(value: object, replicas: int) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != (replicas,):
        raise InvalidInputError(f"it must return a number for each replica, shape ({replicas},), got {in_words(value)}")
    return value


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def in_words(value: object) -> str:
    """Return a short description of what a hook returned, for an error."""
    if value is None:
        return "nothing"
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
