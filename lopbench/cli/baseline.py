"""Plain learning as lists and ``show`` present it: it is no component, and every method has to beat its row."""

from __future__ import annotations

from typing import Any

NAME = "none"

#: Its row in the list of methods.
ROW = {"name": NAME, "summary": "plain learning, without any method", "track": "boundary-free"}


def described() -> dict[str, Any]:
    """Return for plain learning what `lopbench.cli.show.describe` returns for a component."""
    from importlib.metadata import version

    from lopbench.core.spec import NUMBERS

    return {
        "kind": "methods",
        "name": NAME,
        "summary": ROW["summary"],
        "distribution": f"lopbench {version('lopbench')}",
        "version": NUMBERS,
        "source": "",
        "description": "The network under its optimizer alone, which every table has: a method has to beat the best of "
        "its rows. It is written in the place of a method, takes no fields and composes with nothing.",
        "equation": "theta = theta + what the optimizer adds",
        "deviations": [],
        "validated": ["bit for bit equal to a training loop of torch written by hand"],
        "exempt": {},
        "fields": [],
        "family": "control",
        "track": ROW["track"],
        "needs": [],
        "grid": {},
        "cost": {},
        "presets": {},
    }
