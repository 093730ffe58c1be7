"""The errors a user can cause; anything else that escapes is a bug of ours."""

from typing import ClassVar


class LopbenchError(Exception):
    """A mistake outside lopbench, told in one sentence: what happened, with which value, what to do next."""

    exit_code: ClassVar[int] = 1


class UsageError(LopbenchError):
    """A request that names something that does not exist or gives a value of the wrong form."""

    exit_code: ClassVar[int] = 2


class UnknownError(UsageError):
    """A name that no component has."""


class InvalidInputError(LopbenchError, ValueError):
    """A value of the right form that is out of range, or an array of the wrong shape."""


class GivenValueError(InvalidInputError, UsageError):
    """A value that the user gave for this request and that is out of range: a mistake of usage, as a wrong name is."""


class PluginError(LopbenchError):
    """A plugin that cannot be loaded or registers something unusable."""


class DataError(LopbenchError):
    """A data set that is absent, incomplete or damaged."""


class UnsupportedError(LopbenchError):
    """A component that cannot serve the network, data or device it is asked to work on."""


class ResultsError(LopbenchError):
    """A results folder or record that cannot be written, read or compared."""
