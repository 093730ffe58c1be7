"""The built-in study files: claims of the literature, and figures of the paper, each a TOML file."""

from pathlib import Path

from lopbench import hookimpl


@hookimpl
def lopbench_studies() -> Path:
    """Return this folder."""
    return Path(__file__).parent
