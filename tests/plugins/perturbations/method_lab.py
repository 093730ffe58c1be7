"""Networks that tests of several methods build, and what a method adds to gradients."""

import torch
from torch import nn

from lopbench.core import rng
from lopbench.learner.view import Named

CLASSES = 3


def convolutional(generator):
    with rng.isolated(generator):
        return nn.Sequential(
            nn.Conv2d(1, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(80, 6),
            nn.LayerNorm(6),
            nn.ReLU(),
            nn.Linear(6, CLASSES),
        )


def rectified(generator):
    with rng.isolated(generator):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, CLASSES)
        )


def pull(trained):
    """Return what the learner's only method adds to gradients that are zero, by name, ``(R, ...)``."""
    view, (method, *_), (state, *_) = trained.learner.view, trained.learner.methods, trained.learner.states
    view.descended(lambda: Named({name: torch.zeros_like(value) for name, value in view.parameters.items()}))
    with torch.no_grad():
        method.after_backward(view, state)
    return dict(view.gradients)
