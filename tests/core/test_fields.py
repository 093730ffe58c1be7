"""Fields: what they accept, what they say otherwise, and what else is read from them."""

import math
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import ClassVar, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.component import Component
from lopbench.core.errors import InvalidInputError
from lopbench.core.fields import later, number, numbers, recorded, swept, types_of, whole, zeros
from lopbench.core.perturbation import Perturbation


@dataclass(frozen=True, kw_only=True)
class Sample(Component):
    name: ClassVar[str] = "sample"
    strength: float = number(1e-4, least=0, zero=0, swept=True)
    rate: float = number(0.5, above=0, below=1)
    share: float = number(0.5, least=0, most=1, swept=True)
    units: int = whole(3, least=1, most=20)
    width: int = whole(4, above=-1, below=9, zero=0)
    betas: tuple[float, float] = numbers((0.9, 0.999), least=0, below=1)
    channels: tuple[int, ...] = numbers((8, 16), least=1)
    free: float = 0.0
    count: int = 0
    kind: Literal["weight", "random"] = "weight"
    size: Literal[8, 16] = 8
    policy: Literal["keep"] = "keep"
    limit: float | None = number(None, least=0)  # type: ignore[arg-type]
    text: str = ""
    flag: bool = True


@dataclass(frozen=True, kw_only=True)
class Grown(Component):
    name: ClassVar[str] = "grown"
    width: int = 1
    depth: int = later(whole(2, least=1))
    text: str = later("")


def in_order(text: str) -> str:
    """Return the text as a regular expression that matches it alone."""
    return f"^{text}$".replace("(", r"\(").replace(")", r"\)")


BOUNDED = [
    ("strength", 0, math.inf, True, True),
    ("rate", 0, 1, False, False),
    ("share", 0, 1, True, True),
    ("limit", 0, math.inf, True, True),
]


@pytest.mark.parametrize(("field", "low", "high", "with_low", "with_high"), BOUNDED)
@given(value=st.one_of(st.floats(), st.integers(), st.sampled_from([0, 1, 0.0, 1.0, -0.0, 1 + 2**-52, -5e-324])))
def test_number_is_accepted_if_and_only_if_it_is_finite_and_within_the_bounds(
    field, low, high, with_low, with_high, value
):
    within = (low <= value if with_low else low < value) and (value <= high if with_high else value < high)
    if within and (isinstance(value, int) or math.isfinite(value)):
        assert getattr(Sample(**{field: value}), field) == float(value)
    else:
        with pytest.raises(InvalidInputError, match=rf"^sample: {field} must be "):
            Sample(**{field: value})


@given(value=st.one_of(st.integers(-3, 30), st.floats(), st.booleans()))
def test_whole_number_is_accepted_if_and_only_if_it_is_whole_and_within_the_bounds(value):
    for field, accepted in (("units", range(1, 21)), ("width", range(9))):
        if type(value) is int and value in accepted:
            assert getattr(Sample(**{field: value}), field) == value
        else:
            with pytest.raises(InvalidInputError, match=rf"^sample: {field} must be "):
                Sample(**{field: value})


@given(values=st.lists(st.floats(-0.5, 1.5) | st.just(math.nan), max_size=4).map(tuple))
def test_tuple_is_accepted_if_and_only_if_it_has_its_length_and_every_number_is_within_the_bounds(values):
    if len(values) == 2 and all(0 <= each < 1 for each in values):
        assert Sample(betas=values).betas == values
    else:
        with pytest.raises(InvalidInputError, match=r"^sample: betas must be "):
            Sample(betas=values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": -1.0}, "strength must be at least 0, got -1.0; 0 means none"),
        ({"strength": math.nan}, "strength must be a finite number, got nan; 0 means none"),
        ({"strength": math.inf}, "strength must be a finite number, got inf; 0 means none"),
        ({"strength": "1"}, "strength must be a number, got '1'; 0 means none"),
        ({"strength": None}, "strength must be a number, got None; 0 means none"),
        ({"strength": True}, "strength must be a number, got True; 0 means none"),
        ({"rate": 1}, "rate must be above 0 and below 1, got 1"),
        ({"share": 1.5}, "share must be at least 0 and at most 1, got 1.5"),
        ({"free": math.nan}, "free must be a finite number, got nan"),
        ({"units": 2.0}, "units must be a whole number, got 2.0"),
        ({"units": True}, "units must be a whole number, got True"),
        ({"count": 2.5}, "count must be a whole number, got 2.5"),
        ({"betas": (0.9, 1.0)}, "betas must be at least 0 and below 1 each, got (0.9, 1.0)"),
        ({"betas": (0.9,)}, "betas must be a tuple of 2, got (0.9,)"),
        ({"betas": 0.9}, "betas must be a tuple, got 0.9"),
        ({"channels": ()}, "channels must be a tuple of at least one number, got ()"),
        ({"channels": (8, 0)}, "channels must be at least 1 each, got (8, 0)"),
        ({"channels": (8.5,)}, "channels must be a whole number each, got (8.5,)"),
        ({"kind": "weigth"}, "kind must be one of weight, random, got 'weigth'"),
        ({"kind": None}, "kind must be one of weight, random, got None"),
        ({"size": 8.0}, "size must be one of 8, 16, got 8.0"),
        ({"policy": "zero"}, "policy must be keep, got 'zero'"),
        ({"limit": -1.0}, "limit must be at least 0 or none, got -1.0"),
        ({"text": 3}, "text must be text, got 3"),
        ({"flag": 1}, "flag must be true or false, got 1"),
    ],
)
def test_refusal_names_component_field_bound_and_value(given, message):
    with pytest.raises(InvalidInputError, match=in_order(f"sample: {message}")):
        Sample(**given)


def test_default_is_the_fields_and_a_number_without_one_is_required():
    @dataclass(frozen=True, kw_only=True)
    class Required(Component):
        name: ClassVar[str] = "required"
        rate: float = number(above=0)

    assert Sample().strength == 1e-4
    assert Required(rate=1.0).rate == 1.0
    with pytest.raises(TypeError, match="rate"):
        Required()


@dataclass(frozen=True, kw_only=True)
class Mixed(Component):
    """Fields in which whole numbers may stand."""

    name: ClassVar[str] = "mixed"
    rate: float = number(0.5, least=0)
    maybe: float | None = None
    pair: tuple[float, float] = (0.5, 0.5)
    some: tuple[float, ...] | None = None
    count: int = 1
    counts: tuple[int, ...] = (1,)
    either: int | float = 1
    choice: Literal[1, 2] | float = 1
    flag: bool = True


def test_a_whole_number_in_a_field_of_floats_is_a_float():
    made = Mixed(rate=1, maybe=2, pair=(1, 2.5), some=(1, 2), count=3, counts=(4, 5), either=6, choice=1)
    found = [getattr(made, field.name) for field in fields(made)]
    assert repr(found) == "[1.0, 2.0, (1.0, 2.5), (1.0, 2.0), 3, (4, 5), 6, 1, True]"
    assert repr(Mixed()) == repr(replace(Mixed(rate=1), rate=0.5))
    assert type(replace(made, rate=3).rate) is float


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_whole_number_beyond_all_floats_is_not_finite(value):
    with pytest.raises(InvalidInputError, match="mixed: maybe must be a finite number"):
        Mixed(maybe=value)


def test_replaced_value_is_checked_and_fields_stay_frozen():
    assert replace(Sample(), strength=2).strength == 2
    with pytest.raises(InvalidInputError):
        replace(Sample(), strength=-2)
    with pytest.raises(FrozenInstanceError):
        Sample().strength = 2.0  # type: ignore[misc]


def test_bounds_hold_in_a_subclass_with_another_default_until_it_states_others():
    @dataclass(frozen=True, kw_only=True)
    class Other(Sample):
        strength: float = 0.5
        units: int = whole(2, least=2, zero=2)
        more: float = number(1.0, least=1)

    assert Other().strength == 0.5
    assert zeros(Other) == {"strength": 0, "units": 2, "width": 0}
    assert swept(Other) == ("strength", "share")
    for wrong in ({"strength": -1.0}, {"units": 1}, {"more": 0.0}, {"rate": 0.0}):
        with pytest.raises(InvalidInputError):
            Other(**wrong)
    assert Other(units=21).units == 21


def test_post_init_of_several_fields_comes_after_the_check_of_each():
    @dataclass(frozen=True, kw_only=True)
    class Ordered(Component):
        name: ClassVar[str] = "ordered"
        low: float = number(0.0, least=0)
        high: float = 1.0

        def __post_init__(self):
            super().__post_init__()
            if self.low > self.high:
                raise InvalidInputError("ordered: low must be at most high")

    with pytest.raises(InvalidInputError, match="low must be at least 0"):
        Ordered(low=-1.0, high=-2.0)
    with pytest.raises(InvalidInputError, match="low must be at most high"):
        Ordered(low=2.0)


def test_zeros_and_swept_fields_are_what_the_fields_say():
    assert zeros(Sample) == {"strength": 0, "width": 0}
    assert swept(Sample) == ("strength", "share")
    assert list(types_of(Sample)) == [f.name for f in fields(Sample)]


def test_tensor_passes_where_replicas_may_differ_and_nowhere_else():
    rates = torch.tensor([0.1, -1.0])
    assert Sample(strength=rates).strength is rates
    with pytest.raises(InvalidInputError, match="rate must be a number"):
        Sample(rate=rates)


def test_method_is_active_unless_all_its_strengths_are_zero():
    @dataclass(frozen=True, kw_only=True)
    class Shrink(Perturbation):
        name: ClassVar[str] = "shrink"
        shrink: float = number(0.4, least=0, most=1, zero=1)
        perturb: float = number(0.1, least=0, zero=0, swept=True)
        decay: float = 0.5

    @dataclass(frozen=True, kw_only=True)
    class Bare(Perturbation):
        name: ClassVar[str] = "bare"
        rate: float = 0.0

    assert not Shrink(**zeros(Shrink)).active
    assert not Shrink(shrink=1, perturb=0.0).active
    assert Shrink(shrink=1).active
    assert Shrink(perturb=0.0).active
    assert Shrink(shrink=1, perturb=torch.zeros(2)).active
    assert Bare().active


# -- fields that came later


def test_a_field_that_came_later_is_recorded_where_it_is_set_and_keeps_its_bounds() -> None:
    assert recorded(Grown()) == recorded(Grown(depth=2, text="")) == {"width": 1}
    assert recorded(Grown(depth=3, text="x")) == {"width": 1, "depth": 3, "text": "x"}
    with pytest.raises(InvalidInputError, match="grown: depth must be at least 1, got 0"):
        Grown(depth=0)
