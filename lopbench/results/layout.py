"""Tables of text, in no format yet, and how they come into a terminal, into Markdown, LaTeX and HTML."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from lopbench.core.grid import LEAST_NAME, Column, Grid
from lopbench.results.seed_scores import AXES

if TYPE_CHECKING:
    from rich.console import Console

#: Headings that a terminal breaks.
_BROKEN: Mapping[str, str] = {"generalisation": "generali-\nsation"}

_NO_ROWS = "There are no rows."

#: What LaTeX would take for commands.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}

#: Columns of names as the command line takes them.
_NAMES = ("method", "optimizer", "architecture", "field")

#: Headings of other columns that are flush left.
_LEFT = ("lr", "track", *AXES)


@dataclass(frozen=True)
class Table:
    """A table in no format yet: rank, method and track come first, what follows are numbers.

    Args:
        title: What all rows share.
        headings: One for each column.
        rows: Cells.
        notes: What is particular about it.
        legend: What its words and signs mean, one thing a line. What several tables share is said once, after the last.
        meanings: What its headings mean, a few words each, likewise.
        warning: A line in bold under the table; None for none.
        controls: Places of the rows that are controls, which nothing competes with.
        leaving: Headings of the columns that a narrow terminal may leave out, in that order.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    legend: Sequence[str] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    warning: str | None = None
    controls: frozenset[int] = frozenset()
    leaving: Sequence[str] = ()


def printed(tables: Sequence[Table], console: "Console", *, told: bool = False) -> None:
    """Print tables with their notes under them, and at the end what their words mean.

    Args:
        tables: The tables.
        console: Where to print.
        told: Whether the warnings were shown already, so that they are left out.
    """
    from rich.text import Text

    if not tables:
        console.print(Text(_NO_ROWS))
        return
    for number, each in enumerate(tables):
        if number:
            console.print()
        console.print(Text(each.title, style="italic"))
        columns = [_column(heading, [row[place] for row in each.rows]) for place, heading in enumerate(each.headings)]
        styles = dict.fromkeys(each.controls, "bright_black")
        width = console.width
        Grid.or_whole_blocks(columns, width, leaving=each.leaving, name="method", gap=1, styles=styles).show(console)
        for note in each.notes:
            console.print(Text(note), style="dim")
        if each.warning and not told:
            console.print(Text(each.warning), style="bold yellow")
    if len(tables) > 1:
        console.print()
    for line in legend(tables):
        console.print(Text(line), style="dim")


def legend(tables: Iterable[Table]) -> list[str]:
    """Return what the words of some tables mean, each once: a line of all headings, then one for each other thing."""
    headings: dict[str, None] = {}
    lines: dict[str, None] = {}
    for each in tables:
        headings |= dict.fromkeys(f"{heading}: {meaning}" for heading, meaning in each.meanings.items())
        lines |= dict.fromkeys(each.legend)
    text = "; ".join(headings)
    return [*([f"{text[:1].upper()}{text[1:]}."] if text else []), *lines]


def said_of(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what is to be said of rows, one line for all of which the same is; of rows without a text nothing is.

    Args:
        facts: Name and text of each row.
    """
    names: dict[str, list[str]] = {}
    for name, text in facts:
        if text:
            names.setdefault(text, []).append(name)
    yield from (f"{', '.join(of)}: {text}" for text, of in names.items())


def _column(heading: str, cells: Sequence[str]) -> Column:
    if heading in _NAMES:
        return Column(heading, cells, least=LEAST_NAME)
    broken = _BROKEN.get(heading) or re.sub(r"([-/])| ", r"\1\n", heading)
    return Column(heading, cells, right=heading not in _LEFT, broken=broken)


def in_markdown(tables: Sequence[Table], *, explained: bool = True) -> str:
    """Return tables in Markdown: for each a heading line, a table, and notes.

    Args:
        tables: The tables.
        explained: Whether what their words mean follows, as `legend` returns it.
    """
    lines: list[str] = []
    for each in tables:
        lines += [_markdown(each.title), "", f"| {' | '.join(each.headings)} |", "|" + "---|" * len(each.headings)]
        for row in each.rows:
            cells = [
                _code(cell) if heading in _NAMES else cell for heading, cell in zip(each.headings, row, strict=True)
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"- {_markdown(note)}" for note in each.notes)]
        if each.warning:
            lines.append(f"- **{each.warning}**")
        lines.append("")
    words = [f"- {_markdown(line)}" for line in legend(tables)] if explained else []
    if len(tables) == 1:
        lines.pop()  # one list
    return "\n".join([*lines, *words, *([""] if words or len(tables) == 1 else [])]) or f"{_NO_ROWS}\n"


def in_latex(tables: Sequence[Table]) -> str:
    """Return tables in LaTeX, in the style of the package ``booktabs``, notes and legends in the captions."""
    lines: list[str] = []
    for each in tables:
        notes = [f"{each.title}.", *each.notes, *([each.warning] if each.warning else []), *legend([each])]
        alignment = "".join("l" if heading in (*_NAMES, *_LEFT) else "r" for heading in each.headings)
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{_latex(' '.join(notes))}}}"]
        lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
        lines += [rf"{' & '.join(map(_latex, each.headings))} \\", r"\midrule"]
        lines += [rf"{' & '.join(map(_latex, row))} \\" for row in each.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines) or f"{_NO_ROWS}\n"


def in_html(tables: Sequence[Table]) -> str:
    """Return tables as parts of a page in HTML: for each a heading, a table, and notes; then what their words mean."""
    lines: list[str] = []
    for each in tables:
        head = "".join(f"<th>{escape(heading)}</th>" for heading in each.headings)
        lines += [
            "<section>",
            f"<h2>{escape(each.title)}</h2>",
            "<table>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
        ]
        for row in each.rows:
            cells = [
                f"<td>{f'<code>{escape(cell)}</code>' if heading in _NAMES else escape(cell)}</td>"
                for heading, cell in zip(each.headings, row, strict=True)
            ]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines += ["</tbody>", "</table>", "<ul>", *(f"<li>{escape(note)}</li>" for note in each.notes)]
        if each.warning:
            lines.append(f"<li><strong>{escape(each.warning)}</strong></li>")
        lines += ["</ul>", "</section>"]
    if words := legend(tables):
        lines += ["<ul>", *(f"<li>{escape(line)}</li>" for line in words), "</ul>"]
    return "\n".join(lines or [f"<p>{_NO_ROWS}</p>"]) + "\n"


def _code(text: str) -> str:
    """Return ``text`` as code in a cell of a Markdown table."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def _markdown(text: str) -> str:
    """Return ``text`` such that Markdown shows it as it is."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", text.replace("&", "&amp;"))


def _latex(text: str) -> str:
    """Return ``text`` such that LaTeX shows it as it is."""
    return "".join(_LATEX.get(character, character) for character in text)
