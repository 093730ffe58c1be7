"""One run: what it records however it ends, and what it leaves behind."""

import itertools

import torch

from lopbench.runner import run

FEW_STEPS = "tinyimagenet40:tasks=6,steps_per_task=2,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"


class Clock:
    """Stands for the module `time`; a second passes at each look."""

    def __init__(self):
        ticks = itertools.count()
        self.perf_counter = lambda: float(next(ticks))


def test_checkpoints_are_taken_though_every_task_is_shorter_than_their_interval(make_study, monkeypatch):
    saved = []
    monkeypatch.setattr(run, "save_checkpoint", lambda path, tensors, header: saved.append(dict(header["progress"])))
    monkeypatch.setattr(run, "time", Clock())
    planned = make_study(scenario=FEW_STEPS)
    run.execute(
        planned.specs, results=planned.results, data=planned.images, device=torch.device("cpu"), checkpoint_s=15
    )
    assert len({progress["place"] for progress in saved}) > 1
