"""A published figure from runs: what each of its marks is drawn of."""

from __future__ import annotations

from collections.abc import Mapping

from lopbench.core.errors import LopbenchError
from lopbench.results.claims import EntryName
from lopbench.results.figures import Drawn, FigureData, drawn
from lopbench.runner.claimed import Meant, Rows, Tables, check_measured, meant


def entries_of(data: FigureData, tables: Tables) -> dict[EntryName, Meant]:
    """Return what the entries of a figure mean in the tables of its study.

    Raises:
        LopbenchError: If one means nothing, or several things, or its runs do not measure what is drawn of them.
    """
    entries = {each: meant(each, tables, data.where) for each in data.names}
    for panel in data.panels:
        for quantity in panel.quantities:
            check_measured(quantity, (entries[mark.entry] for mark in panel.marks), data.where)
    return entries


def panels_of(data: FigureData, entries: Mapping[EntryName, Meant], rows: Rows) -> list[list[Drawn]]:
    """Return what each panel of a figure shows.

    Args:
        data: The figure.
        entries: What its entries mean.
        rows: The runs.

    Raises:
        LopbenchError: If an entry has no runs, or the log of its tuning is missing. No figure is drawn in parts.
    """
    groups = {}
    for name, each in entries.items():
        group = rows.group(each, data.where)
        if group is None:
            raise LopbenchError(
                f"{data.where}: no run of {name} can be used, so nothing is drawn. The lines above say why they are "
                "left out"
            )
        groups[name] = group
    seeds = {name: list(each.seeds) for name, each in entries.items()}
    return [drawn(panel, groups, seeds) for panel in data.panels]
