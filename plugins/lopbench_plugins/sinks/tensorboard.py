"""Event files for TensorBoard, written by torch's SummaryWriter; ``pip install 'lopbench[tensorboard]'``.

``tensorboard --logdir results/tensorboard`` shows them. The files hold numbers in single precision.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lopbench import Sink, SinkRun, SinkWriter, UnsupportedError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, kw_only=True)
class TensorBoard(Sink):
    """Writes a folder of event files for each run, a scalar for each name, with its spec as a text.

    Where a run goes on after it was killed, what was written of later steps is void, and TensorBoard leaves it out.

    Args:
        folder: Folder of the runs' folders; ``tensorboard`` in the results folder if none.
    """

    name: ClassVar[str] = "tensorboard"
    positional: ClassVar[str] = "folder"
    folder: str | None = None

    def check(self) -> None:
        """Raise if TensorBoard is not installed."""
        if find_spec("tensorboard") is None:
            raise UnsupportedError(
                "the sink 'tensorboard' needs a package that is not installed; pip install 'lopbench[tensorboard]'"
            )

    def open(self, run: SinkRun) -> SinkWriter:
        """Return what writes the event files of a run."""
        self.check()
        from torch.utils.tensorboard import SummaryWriter

        folder = run.results / "tensorboard" if self.folder is None else Path(self.folder)
        events = SummaryWriter(str(folder / run.name), purge_step=run.step)
        events.add_text("run", f"{run.label}\n\n    {json.dumps(run.spec)}", run.step)
        return _Events(events)


class _Events(SinkWriter):
    """The event file of one run."""

    def __init__(self, events: "SummaryWriter") -> None:
        self._events = events

    def write(self, step: int, task: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()  # a kill loses nothing that was told, and a dashboard shows it now

    def close(self, outcome: str) -> None:
        self._events.close()
