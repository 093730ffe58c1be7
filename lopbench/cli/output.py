"""What the commands share: where they write, and how numbers look."""

import json
import math
import os
import re
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import rich_click as click

from lopbench.core.errors import ResultsError
from lopbench.core.text import between_words, counted, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from rich.console import Console

#: Width, in characters, of what goes to a file or a pipe: no line of it is broken.
_PIPE_WIDTH = 100_000

#: Width of a terminal that does not tell it, and the least that any is taken to have.
_USUAL_WIDTH, _LEAST_WIDTH = 80, 20

#: Most records that are told one by one where they are left out.
_MOST_PROBLEMS = 20

#: Most characters of a message.
_MOST_TEXT = 20_000


def format_choice(*formats: str, text: str = "How to print it") -> "Callable[[Callable[..., Any]], Callable[..., Any]]":
    """Return what adds ``--format`` to a command, as the argument ``output_format``.

    Args:
        formats: The formats, the usual one first.
        text: The help, without a full stop.
    """
    return choice_option("--format", "output_format", choices=formats, text=text, default=formats[0])


def choice_option(
    *names: str, choices: "Sequence[str]", text: str, default: str | None = None
) -> "Callable[[Callable[..., Any]], Callable[..., Any]]":
    """Return what adds an option with several choices to a command; they stand in its help, where no word is broken.

    Args:
        names: Names of the option, and of its argument.
        choices: What it can be.
        text: The help, without a full stop.
        default: The choice that is taken if the option is left out.
    """
    return click.option(
        *names,
        type=click.Choice(choices),
        metavar=names[0].strip("-").upper(),
        default=default,
        show_default=default is not None,
        help=f"{text}: {', '.join(choices[:-1])} or {choices[-1]}.",
    )


#: Adds ``--format table|json`` to a command.
format_option = format_choice("table", "json")


class Finite(click.FloatRange):
    """A number in a range; infinity and NaN are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return what was given as a number; fail if it is none."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def console(*, stderr: bool = False) -> "Console":
    """Return a rich console on stdout or stderr: as wide as the terminal, and where there is none, as wide as any line.

    COLUMNS, where it is a number above 0, is the width of both. What is printed is `plain`, whoever wrote it.
    """
    from rich.console import Console

    from lopbench.cli.hygiene import Plain

    file: TextIO = sys.stderr if stderr else sys.stdout
    made = Console(file=file, width=_width(file), highlight=False, markup=False, emoji=False)
    made.push_render_hook(Plain())
    return made


def _width(file: TextIO) -> int | None:
    """Return how wide a console is; None for a terminal that is asked whenever something is printed."""
    asked = os.environ.get("COLUMNS")
    if asked is not None and asked.isdecimal() and len(asked) < 6 and int(asked):
        return max(int(asked), _LEAST_WIDTH)
    if not file.isatty():
        return _PIPE_WIDTH
    if asked is None:
        return None
    return _terminal_width(file)  # rich would believe what stands there


def _terminal_width(file: TextIO) -> int:
    """Return how wide the terminal behind a file says it is."""
    with suppress(OSError):
        return max(os.get_terminal_size(file.fileno()).columns, _LEAST_WIDTH)
    return _USUAL_WIDTH


def reading() -> "AbstractContextManager[object]":
    """Show on a terminal that records are being read."""
    err = console(stderr=True)
    return err.status("reading records") if err.is_terminal else nullcontext()


def echo(message: object, *, err: bool = False, nl: bool = True, items: bool = False) -> None:
    """Print a message, `plain` and cut to a length that somebody reads; with ``err`` on stderr.

    On a terminal its sentences are broken between words, and names longer than a line stay whole. Lines that begin with
    a blank are commands, to be copied, and stay as they are, unless they are ``items`` of a list. So does all of a
    message without ``nl``, a document.
    """
    text = plain(str(message))
    text = text if len(text) <= _MOST_TEXT or not err else f"{text[:_MOST_TEXT]}..."
    file = sys.stderr if err else sys.stdout
    if nl and file.isatty():
        text = _in_lines(text, _width(file) or _terminal_width(file), items=items)
    click.echo(text, err=err, nl=nl)


def tell(out: "Console", sentence: str, style: str = "") -> None:
    """Print sentences on a console, broken between words alone: a path longer than a line stays whole."""
    from rich.text import Text

    out.print(Text(_in_lines(sentence, out.width, items=True), style), overflow="ignore", crop=False)


def _in_lines(text: str, width: int, *, items: bool) -> str:
    """Return a text with its lines broken between words, those that begin with a blank too if they are ``items``."""
    lines = (between_words(line, width) if items or line[:1] != " " else [line] for line in text.split("\n"))
    return "\n".join(chain.from_iterable(lines))


def tell_saved(path: Path, missing: str) -> None:
    """Say on stderr where a figure is, and which characters its font does not have."""
    echo(f"Written to {path}.", err=True)
    if missing:
        echo(f"The font has no {' '.join(missing)}: each is drawn as a box.", err=True)


def tell_left_out(problems: Iterable[object]) -> None:
    """Say on stderr which records were left out, and why: of the first ones each, of the others their number."""
    listed = list(problems)
    for problem in listed[:_MOST_PROBLEMS]:
        echo(f"Left out: {problem}", err=True)
    more = len(listed) - _MOST_PROBLEMS
    if more > 0:
        echo(f"Left out: {counted(more, 'more record')}.", err=True)


def check_all_used(problems: "Sequence[object]", shows: str) -> None:
    """Refuse records that were left out, now that what the others give is printed.

    Args:
        problems: Why each was left out.
        shows: What the others give: "the table shows the others".

    Raises:
        ResultsError: If any was.
    """
    if problems:
        raise ResultsError(f"{counted(len(problems), 'record')} could not be used; {shows}.")


def write_json(value: object) -> None:
    """Print ``value`` on stdout as JSON; what a terminal would obey is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    click.echo(re.sub(r"[^\n -~]", lambda found: _escaped(found[0]), text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def roughly(seconds: float, word: str = "about") -> str:
    """Return a forecast time in words, with no more digits than a forecast deserves.

    As "about 45 s", "about 20 min", "about 1 h 15 min", "about 38 h" and "about 2 days"; ``word`` stands in front.
    """
    for most, unit, step, name in _ROUGHLY:
        count = max(1, round(seconds / unit / step)) * step
        if count < most:
            hours, minutes = divmod(count, 60)
            text = f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{count} {name}"
            return f"{word} {text}".strip()
    return f"{word} {int(float(f'{seconds / 86400:.2g}'))} days".strip()


#: How `roughly` rounds: below so many of a unit, the unit's seconds, what is rounded to, and its name.
_ROUGHLY = (
    (10, 1, 1, "s"),
    (60, 1, 5, "s"),
    (10, 60, 1, "min"),
    (60, 60, 5, "min"),
    (180, 60, 15, "min"),
    (48, 3600, 1, "h"),
)


def write_frame(frame: "pd.DataFrame") -> None:
    """Print the rows of ``frame`` on stdout as JSON; NaN is null."""
    write_json(json.loads(frame.to_json(orient="records", double_precision=15)))
