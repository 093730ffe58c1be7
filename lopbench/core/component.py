"""What a component is: a frozen dataclass whose fields are its hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench.core import fields


@dataclass(frozen=True, kw_only=True)
class Component:
    """What the registry holds: a named, versioned, immutable set of hyperparameters.

    Subclasses are frozen keyword-only dataclasses. Each field is checked by its type and its bounds, which
    `lopbench.core.fields` writes; a ``__post_init__`` is for what concerns several fields, and calls that of its base
    first. ``version`` is raised whenever the same fields give other numbers.
    """

    #: What users type, unique in its kind.
    name: ClassVar[str]
    #: Raised whenever the same fields give other numbers; part of the identity of every run.
    version: ClassVar[int] = 1
    #: The field that ``name:value`` without a ``field=`` sets, as in ``timm:resnet18``.
    positional: ClassVar[str | None] = None
    #: Settings, or compositions with others, that comparisons have as rows of their own: as written on the command line
    #: -> summary. Lists show them under the component.
    presets: ClassVar[Mapping[str, str]] = {}
    #: The rule in one line of plain mathematics.
    equation: ClassVar[str] = ""
    #: What the implementation was validated against: recorded runs, theorems, properties.
    validated: ClassVar[tuple[str, ...]] = ()
    #: Settings in which the conformance kit sees the component act within some 25 steps or on a small network.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({},)
    #: Checks of the conformance kit that cannot hold, by name, each with the reason.
    exempt: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Check the fields, and make whole numbers floats where floats belong.

        Raises:
            InvalidInputError: If one is not of its type or not within its bounds.
        """
        fields.check(self)
        fields.unify(self)
