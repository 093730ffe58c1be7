"""Fields of components that must be multiples or divisors of others."""

import math

from lopbench import InvalidInputError


def check_multiple(who: str, of: str, unit: int, **field: int) -> None:
    """Refuse a field that is no multiple of another one.

    Args:
        who: Name of the component.
        of: Name of the other field.
        unit: Its value, at least 1.
        field: The one field by name, and its value, at least 1.

    Raises:
        InvalidInputError: If it is none; naming the nearest value that is one.
    """
    ((name, value),) = field.items()
    if value % unit:
        nearest = max(1, (value + unit // 2) // unit) * unit
        raise InvalidInputError(
            f"{who}: {name} must be a multiple of {of}, got {name}={value} and {of}={unit}; the nearest is "
            f"{name}={nearest}"
        )


def divisors(number: int) -> list[int]:
    """Return all divisors of a number of at least 1, in no order."""
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return [*small, *(number // each for each in small)]
