"""Texts that others wrote, on their way to a terminal or a page."""

#: Longest text of an error, in characters.
MOST_TEXT = 2_000


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
