"""Where files are kept that belong to no results."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return where decoded and downloaded data live: ``$LOPBENCH_CACHE``, else the user's cache directory."""
    if given := os.environ.get("LOPBENCH_CACHE"):
        return Path(given).expanduser()
    import platformdirs  # lazily: a run that names its directories needs it not

    return Path(platformdirs.user_cache_dir("lopbench"))
