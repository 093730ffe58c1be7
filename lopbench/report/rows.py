"""What the rows of the page are called, what they look like, and where their records are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from lopbench.core.reading import real_path
from lopbench.report.summary import Row, Table
from lopbench.results.looks import Fields, fields_of, looks
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


#: Name of a colour of the page, and marker.
Dress = tuple[str, str]


class Dresses:
    """How the rows of tables are drawn, as figures of all rows of a table draw them."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    @property
    def palette(self) -> dict[str, tuple[str, str]]:
        """The colours by name, each on white and on dark paper."""
        return {name: pair for pair, name in self._names.items()}

    def of_rows(self, table: Table) -> list[Dress]:
        """Return how each row is drawn beside the others."""
        several, labels = has_several_optimizers(table), labels_of(table)
        fields = {label: fields_of(row.spec, optimizer=several) for label, row in zip(labels, table.rows, strict=True)}
        return self._of(labels, fields)

    def of_methods(self, table: Table) -> list[Dress]:
        """Return how the method of each row is drawn, which all rows of the method share."""
        return self._of([row.line["method"] for row in table.rows])

    def _of(self, labels: Sequence[str], fields: Mapping[str, Fields] | None = None) -> list[Dress]:
        light, dark = looks(labels, fields), looks(labels, fields, dark=True)
        pairs = [(light[label].colour, dark[label].colour) for label in labels]
        colours = [self._names.setdefault(pair, f"m{len(self._names)}") for pair in pairs]
        return [(colour, light[label].marker) for colour, label in zip(colours, labels, strict=True)]


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
            below = real_path(folder).relative_to(self._page)
        except ValueError:
            return None
        return "".join(f"{quote(part)}/" for part in (".", *below.parts))
