"""Says in one line why steps cannot be a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.learner.learner import StackLearner
from lopbench.learner.tracing import ReadOnHostError

#: What torch calls the ways in which a value is read while there is none, by the names of its errors.
_READS = ("DataDependentOutputException", "GuardOnDataDependentSymNode", "LocalScalarDense", ReadOnHostError.__name__)
_READING = ("item()", "_local_scalar_dense", "data-dependent control flow")
_SHAPES = ("DynamicOutputShapeException",)


@contextmanager
def reason_of(learner: StackLearner) -> Iterator[None]:
    """Turn whatever tracing raises into an `UnsupportedError` that says which method cannot be traced, and why.

    Raises:
        UnsupportedError: If the steps cannot be a program.
        InvalidInputError: If a hook misuses its interface; it would step by step as well.
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
        raise UnsupportedError(f"{_who(learner, error)} {_what(error)}: its seeds train one after another") from error


def _who(learner: StackLearner, error: BaseException) -> str:
    """Return the method whose hook failed, or the network."""
    notes = getattr(error, "__notes__", ())
    for method, _ in learner.hooks.acting:
        if any(note.startswith(f"in {method.name},") for note in notes):
            return method.name
    return type(learner.network.module).__name__


def _what(error: Exception) -> str:
    kind = type(error).__name__
    if kind in _READS or any(words in str(error) for words in _READING):
        return "reads a value on the host"
    if kind in _SHAPES:
        return "makes tensors whose shape depends on values"
    return f"cannot be traced ({kind}: {str(error).partition(chr(10))[0]})"
