"""What the rows of the page are called, what they look like, and where their records are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lopbench.report.summary import Row, Table
from lopbench.results.looks import fields_of, looks
from lopbench.results.record import Record


def names_of(table: Table) -> list[str]:
    """Return what the rows are called: the method, and the optimizer where rows have several."""
    several = has_several_optimizers(table)
    return [row.line["method"] + (f", {row.line['optimizer']}" if several else "") for row in table.rows]


def labels_of(table: Table) -> list[str]:
    """Return the names of the rows; where two rows share a name, the code of their methods is added."""
    names = names_of(table)
    count = Counter(names)
    return [
        name if count[name] == 1 else f"{name} ({row.entry.code})" for name, row in zip(names, table.rows, strict=True)
    ]


def has_several_optimizers(table: Table) -> bool:
    """Return whether the rows of a table differ in their optimizer."""
    return len({row.line["optimizer"] for row in table.rows}) > 1


def key_of(row: Row) -> str:
    """Return what a row is called in links to a state of the page, whatever else the page shows."""
    return f"{row.line['protocol_id'].rpartition('+')[2][:6]}{row.line['entry_id'][:6]}"


def looks_of(tables: Sequence[Table]) -> tuple[dict[str, tuple[str, str]], list[list[tuple[str, str]]]]:
    """Return how rows are drawn: as a figure of all rows of their table draws them.

    Args:
        tables: The tables of the page.

    Returns:
        The colours by name, each on white and on dark paper; and for each row of each table the name of its colour and
        its marker.
    """
    names: dict[tuple[str, str], str] = {}
    found = []
    for table in tables:
        several, labels = has_several_optimizers(table), labels_of(table)
        fields = {label: fields_of(row.spec, optimizer=several) for label, row in zip(labels, table.rows, strict=True)}
        light, dark = looks(labels, fields), looks(labels, fields, dark=True)
        pairs = [(light[label].colour, dark[label].colour) for label in labels]
        colours = [names.setdefault(pair, f"m{len(names)}") for pair in pairs]
        found.append([(colour, light[label].marker) for colour, label in zip(colours, labels, strict=True)])
    return {name: pair for pair, name in names.items()}, found


class Places:
    """The folders of records, as the page links them: only those below its own, so that page and records move together.

    Args:
        page: The folder of the page; None if no record is linked.
    """

    def __init__(self, page: Path | None) -> None:
        self._page = page
        self._known: dict[Path, int | None] = {}
        self.links: list[str] = []  #: Each as the start of an address, from the page.

    def of(self, record: Record) -> int | None:
        """Return the place in `links` of the folder of a record; None if the record is not linked."""
        folder = record.path.parent
        if folder not in self._known:
            link = self._link(folder)
            if link is not None and link not in self.links:
                self.links.append(link)
            self._known[folder] = None if link is None else self.links.index(link)
        return self._known[folder]

    def _link(self, folder: Path) -> str | None:
        if self._page is None or not folder.is_dir():  # as of a packed set
            return None
        try:
            below = folder.resolve().relative_to(self._page)
        except ValueError:
            return None
        return "".join(f"{quote(part)}/" for part in (".", *below.parts))
