"""Texts that others wrote, on their way to a terminal or a page."""


def plain(text: str) -> str:
    """Return a text without what a terminal would obey or an encoding refuse: "?" stands for it; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def line(text: str) -> str:
    """Return the first line of a text, likewise."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    return plain(first)
