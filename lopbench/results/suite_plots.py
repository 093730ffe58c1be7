"""The figure of a suite: what each method keeps in each scenario."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lopbench.results.drawing import CHANCE_STYLE, REFERENCE_STYLE, axes_grid, named
from lopbench.results.looks import looks
from lopbench.results.overall import Entry
from lopbench.results.plots import CHANCE
from lopbench.results.plotted import REFERENCE, spread
from lopbench.results.sheet import dress
from lopbench.results.suite import Suite, mean_band, members

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How scenarios are drawn, besides colour and marker.
_DOTS: Mapping[str, Any] = {"linestyle": "none", "markersize": 4, "alpha": 0.8}

#: How the mean over scenarios is drawn, with its interval.
_MEAN: Mapping[str, Any] = {"color": "0.1", "linestyle": "none", "marker": "_", "markersize": 9}


def suite_scores(suite: Suite, entries: Iterable[Entry]) -> "Figure":
    """Return the retention of each method in each scenario, and its mean over all of them with the 95% interval.

    Methods stand in the order of the suite's table. One that lacks cells has no mean.

    Args:
        suite: The suite.
        entries: Rows of a leaderboard.

    Raises:
        ResultsError: As `members`.
    """
    found = members(suite, entries)
    drawn = looks(cell.scenario for cell in suite.cells if any(cell.scenario in member.scores for member in found))
    places = range(len(found))
    seeds = [len(cell.seeds) for cell in suite.cells]
    with axes_grid() as (figure, (axes,)):
        axes.axhline(1.0, **REFERENCE_STYLE)
        axes.axhline(0.0, **CHANCE_STYLE)
        keys = []
        for name, look in drawn.items():
            known = [(place, member.means[name]) for place, member in enumerate(found) if name in member.scores]
            style: dict[str, Any] = {**_DOTS, "color": look.colour, "marker": look.marker}
            axes.plot(*zip(*known, strict=True), **style)
            keys.append(named(name, style))
        whole = [(place, *mean_band(member.scores)) for place, member in enumerate(found) if member.is_whole]
        for place, mean, low, high in whole:
            axes.errorbar(place, mean, yerr=[[mean - low], [high - mean]], elinewidth=1.2, **_MEAN)
        axes.set(ylabel="plasticity retention, clipped", xlim=(-0.7, len(found) - 0.3))
        labels = [member.entry.spec.family.method_label for member in found]
        axes.set_xticks(places, labels=labels)
        axes.tick_params(axis="x", labelrotation=90)
        axes.grid(visible=False, axis="x")
        keys += [named("mean of scenarios", _MEAN)] if whole else []
        keys += [named(REFERENCE, REFERENCE_STYLE), named(CHANCE, CHANCE_STYLE)]
        tuned = f", tuned by {suite.tuning}" if suite.tuning else ""
        what = spread(min(seeds), max(seeds))
        shown = what if whole else what.partition(",")[0]  # without a mean there is no interval
        dress(figure, f"suite {suite.name}{tuned}\n{shown}", keys)
    return figure
