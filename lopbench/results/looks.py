"""How methods look in a figure: a method has one colour and marker everywhere, and its strengths are shades of it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lopbench.core.spec import RunSpec

#: Colours on white, and the same ones on dark paper. On either, any two of them, and the grey of plain learning, differ
#: by 20 units of CIELAB or more in any colour vision.
COLOURS = ("#005ab4", "#d28700", "#a52d00", "#3c96e1", "#69965a", "#4b005a", "#b487b4", "#8700ff")
DARK_COLOURS = ("#4b96f0", "#f0a52d", "#b43c2d", "#a5d2ff", "#0fe196", "#3c5ad2", "#a578b4", "#871eff")
#: Of plain learning; the others are for figures that have it more than once, as of several networks.
GREYS = ("#6b6b6b", "#a6a6a6", "#3a3a3a")
DARK_GREYS = ("#b0b0b0", "#7c7c7c", "#dcdcdc")
PLAIN = GREYS[0]
MARKERS = "sD^vP*X<>"

#: What is hashed with a name: with this number the eight methods that are compared most have eight colours and markers.
_SALT = 43042

#: How far the ends of a ramp are from its colour, towards white and towards black: on white, and on dark paper.
_ENDS, _DARK_ENDS = (0.5, 0.6), (0.6, 0.35)

#: Relative luminance above which, on white, and below which, on dark paper, a colour is the faint end of its own ramp.
_PALE, _DIM = 0.4, 0.25

#: What is told of a label: numbers and texts by name.
Fields = Mapping[str, object]


class Look(NamedTuple):
    """What a method is drawn with.

    Args:
        colour: A colour.
        marker: A marker of matplotlib.
    """

    colour: str
    marker: str


def looks(labels: Iterable[str], fields: Mapping[str, Fields] | None = None, *, dark: bool = False) -> dict[str, Look]:
    """Return a look for each label: a method has the same in all figures, unless two of one figure would share it.

    Plain learning is grey, with circles. Any other has colour and marker by a hash of its first component's name, so
    that a method that is added elsewhere moves none. Where there are more methods than colours, the colours that are
    used least are used again, with other markers. Labels that differ in one number alone, such as strengths or learning
    rates, are a ramp: the larger the number, the more its shade stands out from the paper.

    Args:
        labels: What stands in the legend, as "cbp:maturity=7, adam:lr=0.001".
        fields: What labels stand for, as `fields_of` returns it; where it is missing, what they say themselves.
        dark: Whether the paper is dark. The colours differ, and who shares one does not.

    Returns:
        The looks, in the order in which a legend shows them: plain learning first, each ramp from faint to strong.
    """
    colours, greys = (DARK_COLOURS, DARK_GREYS) if dark else (COLOURS, GREYS)
    told = {label: (fields or {}).get(label) or _said(label) for label in labels}
    found: dict[str, Look] = {}
    taken: Counter[str] = Counter()
    marked: Counter[str] = Counter()
    for ramp in _ramps(told):
        name = re.split(r"[:+, ]", ramp[0])[0]
        plain = name == "none" and not taken[greys[0]]
        first = int.from_bytes(hashlib.sha256(f"{name}{_SALT}".encode()).digest()[:4])
        tried = [colours[(first + step) % len(colours)] for step in range(len(colours))]
        tried = [*greys, *tried] if name == "none" else tried
        colour = min(tried, key=taken.__getitem__)
        taken[colour] += 1
        for label, shade in zip(ramp, shades(colour, len(ramp), dark=dark), strict=True):
            marks = ["o"] * (plain and label == ramp[0])
            marks += [MARKERS[(first // len(COLOURS) + step) % len(MARKERS)] for step in range(len(MARKERS))]
            # With as few of its colour as can be, and then as few at all.
            marker = min(marks, key=lambda each: (marked[colour + each], marked[each]))
            marked.update((colour + marker, marker))
            found[label] = Look(shade, marker)
    return found


def shades(colour: str, count: int, *, dark: bool = False) -> list[str]:
    """Return a ramp of ``count`` shades of a colour; the colour itself if it is one.

    Args:
        colour: As "#005ab4".
        count: Number of shades, at least 1.
        dark: Whether the paper is dark: the ramp then goes from dark to light, and on white from light to dark.
    """
    if count == 1:
        return [colour]
    channels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    luminance = sum(
        weight * (channel / 255) ** 2.2 for weight, channel in zip((0.2126, 0.7152, 0.0722), channels, strict=True)
    )
    white, black = _DARK_ENDS if dark else _ENDS
    if dark:
        start, end = (0.0 if luminance < _DIM else black), -white
    else:
        start, end = (0.0 if luminance > _PALE else -white), black
    found = []
    for index in range(count):
        share = start + (end - start) * index / (count - 1)
        to = 255 if share < 0 else 0
        found.append("#" + "".join(f"{round(each + (to - each) * abs(share)):02x}" for each in channels))
    return found


def fields_of(spec: RunSpec, *, optimizer: bool = False, architecture: bool = False) -> Fields:
    """Return what the label of a run stands for, with the fields that are at their defaults.

    Args:
        spec: The run.
        optimizer: Whether the label names the optimizer.
        architecture: Whether it names the architecture.
    """
    parts = [*spec.methods, *([spec.optimizer] * optimizer), *([spec.architecture] * architecture)]
    fields = {
        f"{part.name}.{key}": "/".join(map(str, value)) if isinstance(value, list | tuple) else value
        for part in parts
        for key, value in part.fields.items()
    }
    return {"": "+".join(part.name for part in parts), "start": spec.start, **fields}


def _said(label: str) -> Fields:
    """Return what a label says of itself: the numbers and texts of its fields, and all the rest as one text."""
    found: dict[str, object] = {}
    rest = []
    for index, part in enumerate(re.split(r"[,+ ]+", label)):
        key, equals, value = part.rpartition("=")
        name, colon, key = key.rpartition(":")
        rest.append(f"{name}{colon}{key}" if equals else part)
        if equals:
            found[f"{index}.{key}"] = _number(value)
    return {"": " ".join(rest), **found}


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _ramps(told: Mapping[str, Fields]) -> list[list[str]]:
    """Return the labels that differ in one number alone, each such ramp in its order; most stand alone."""
    families: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for label, fields in told.items():
        texts = sorted((key, str(value)) for key, value in fields.items() if not _is_number(value))
        numbers = sorted(key for key, value in fields.items() if _is_number(value))
        families[(*texts, *numbers)].append(label)
    ramps: list[list[str]] = []
    for labels in families.values():
        distinct = {key: {told[label][key] for label in labels} for key in sorted(told[labels[0]])}
        varied = [key for key in distinct if len(distinct[key]) > 1]
        ramp = max(varied, key=lambda key: len(distinct[key]), default="")
        members: dict[tuple[object, ...], list[str]] = defaultdict(list)
        for label in labels:
            members[tuple(told[label][key] for key in varied if key != ramp)].append(label)
        ramps += [sorted(each, key=lambda label: (_size(told[label].get(ramp)), label)) for each in members.values()]
    return sorted(ramps, key=_place)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _size(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _place(ramp: Sequence[str]) -> tuple[bool, str]:
    return re.split(r"[:+, ]", ramp[0])[0] != "none", ramp[0]
