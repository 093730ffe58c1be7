"""Fields of a scenario that follow from its others: records hold them, and nobody need give them."""

from lopbench import InvalidInputError, Scenario


def derive(scenario: Scenario, field: str, value: int, sources: str) -> None:
    """Fill in a field that follows from others.

    Args:
        scenario: The scenario, while it is made.
        field: Name of the field; 0 where it was not given.
        value: What it is.
        sources: What it follows from, in words.

    Raises:
        InvalidInputError: If another value was given.
    """
    given = getattr(scenario, field)
    if given not in (0, value):
        raise InvalidInputError(
            f"{scenario.name}: {field} follows from {sources} and is {value}, got {given}; leave it out"
        )
    # The dataclass is frozen; records must hold what is derived.
    object.__setattr__(scenario, field, value)
