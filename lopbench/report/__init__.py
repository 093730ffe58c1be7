"""Results as one self-contained page that opens from disk.

This package is a function as well, ``lopbench.report("results", output="report.html")``: a public name, and that of the
package, which importing any part of it would put in its place.
"""

import os
import sys
from pathlib import Path
from types import ModuleType


class _Report(ModuleType):
    def __call__(self, *results: str | os.PathLike[str], output: str | os.PathLike[str] = "report.html") -> Path:
        """Write all results as one HTML page, as ``lopbench report`` does, and return where it is.

        Args:
            results: Results folders or packed sets, at least one.
            output: The page; what is there is overwritten.

        Raises:
            ResultsError: If there are no runs that can be used, or the file cannot be written.
        """
        from lopbench.report.page import write_report

        write_report(output, *results)
        return Path(output)


sys.modules[__name__].__class__ = _Report
