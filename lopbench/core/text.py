"""Texts that others wrote, on their way to a terminal or a page."""

import re
from collections.abc import Callable, Sequence

#: Longest text of an error, in characters.
MOST_TEXT = 2_000

#: After what a text is broken into lines: between words, else between the parts of a list, else inside a name.
_BREAKS = tuple(map(re.compile, (r"(?<= )", r"(?<=[,+/;])", r"(?<=:)", r"(?<=[=_])")))


def plain(text: str) -> str:
    """Return a text without what a terminal would obey or an encoding refuse: "?" stands for it; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def text_of(error: BaseException) -> str:
    """Return what an error says; one that cannot be told, whatever it does when it is asked, says so."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "(an error that cannot be told)"


def told(error: BaseException) -> str:
    """Return kind and text of an error, of a length that somebody reads."""
    return f"{type(error).__name__}: {text_of(error)}"[:MOST_TEXT]


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return how many there are of something: "1 record", "2 records", "1,200 runs".

    Args:
        number: How many, at least 0.
        noun: What, in the singular; its last word takes the s.
        plural: The plural, where that is another.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def line(text: str) -> str:
    """Return the first line of a text, `plain`."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    return plain(first)


def broken(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Return a text in lines that fit, as far as it can be broken: between words, else in lists, else inside names.

    Args:
        text: One line.
        fits: Returns whether a line fits.
    """
    return [each.rstrip() for each in whole_lines(text, fits)] or [""]


def between_words(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` characters, broken between words alone; a longer word stays whole.

    Lines after the first stand as far to the right as it does.
    """
    words = text.lstrip(" ")
    indent = text[: len(text) - len(words)]
    lines = whole_lines(words, lambda line: len(indent) + len(line) <= width, _BREAKS[:1])
    return [indent + each.rstrip() for each in lines] or [""]


def whole_lines(text: str, fits: Callable[[str], bool], breaks: Sequence[re.Pattern[str]] = _BREAKS) -> list[str]:
    """Return the same with the blanks at the ends of lines, so that they are the text when they are joined.

    Args:
        text: One line.
        fits: Returns whether a line fits.
        breaks: After what it may be broken; the first are better.
    """
    lines = [""]
    for part in breaks[0].split(text):
        if fits((lines[-1] + part).rstrip()):
            lines[-1] += part
        elif len(breaks) == 1 or fits(part.rstrip()):
            lines.append(part)
        else:
            lines += whole_lines(part, fits, breaks[1:])
    return [each for each in lines if each]
