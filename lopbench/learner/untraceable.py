"""Says in one sentence why steps cannot be a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.measuring import MetricFailure, in_metric
from lopbench.core.metric import TrainingMetric
from lopbench.learner.learner import StackLearner
from lopbench.learner.tracing import ReadOnHostError

#: Errors with which torch refuses to read a value that a traced tensor does not have, by name or by words in them.
_READS = ("DataDependentOutputException", "GuardOnDataDependentSymNode", "LocalScalarDense", ReadOnHostError.__name__)
_READING = ("item()", "_local_scalar_dense", "data-dependent control flow")
_SHAPES = ("DynamicOutputShapeException",)


@contextmanager
def reason_of(learner: StackLearner, metrics: Sequence[TrainingMetric] = ()) -> Iterator[None]:
    """Turn what tracing raises into an `UnsupportedError` that says which method, metric or network fails, and why.

    Raises:
        UnsupportedError: If the steps cannot be a program.
        InvalidInputError: If a hook misuses its interface. Single steps would raise the same.
    """
    refused = next((m.name for m, _ in learner.hooks.acting if not m.as_program), None)
    if refused is not None:
        raise UnsupportedError(f"{refused} declares as_program = False: its seeds train one after another")
    if learner.network.stochastic:
        raise UnsupportedError("the network draws random numbers: its seeds train one after another")
    try:
        yield
    except InvalidInputError:
        raise
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}; its seeds train one after another") from error
    except Exception as error:
        cause = error.__cause__ if isinstance(error, MetricFailure) else error
        told = f"{_who(learner, metrics, cause)} {_what(cause)}" if isinstance(cause, Exception) else str(error)
        raise UnsupportedError(f"{told}: its seeds train one after another") from error


def _who(learner: StackLearner, metrics: Sequence[TrainingMetric], error: Exception) -> str:
    """Return the name of the method or metric that failed, else that of the network's class."""
    notes = getattr(error, "__notes__", ())
    for method, _ in learner.hooks.acting:
        if any(note.startswith(f"in {method.name},") for note in notes):
            return method.name
    for metric in metrics:
        if in_metric(metric) in notes:
            return f"metric {metric.name!r}"
    return type(learner.network.module).__name__


def _what(error: Exception) -> str:
    """Return what went wrong, as the end of a sentence."""
    kind = type(error).__name__
    if kind in _READS or any(words in str(error) for words in _READING):
        return "reads a value on the host"
    if kind in _SHAPES:
        return "makes tensors whose shape depends on values"
    return f"cannot be traced ({kind}: {str(error).partition(chr(10))[0]})"
