"""How images are presented: the same wherever it is done, and the standardisation that papers mean."""

import pytest
import torch

from lopbench.learner.compiling import compile_graph, trace_graph
from lopbench_plugins.scenarios.five_plus_one import FivePlusOne
from lopbench_plugins.scenarios.incremental import Incremental
from lopbench_plugins.scenarios.labelled_images import CHANNELS
from lopbench_plugins.scenarios.random_labels import RandomLabels

CPU = torch.device("cpu")
SMALL = {"tasks": 2, "images": 64, "steps_per_task": 8, "batch_size": 16}


@pytest.fixture
def task(numbered):
    def made(data="mnist", scale="signed"):
        images = numbered(data)
        return RandomLabels(data=data, scale=scale, **SMALL).stream(0, data=images, device=CPU).task(0)

    return made


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
@pytest.mark.parametrize("scale", ["unit", "signed", "standard"])
def test_pixels_are_standardised_as_the_scale_says(task, data, scale):
    found = task(data, scale)
    pixels = found.stored(torch.arange(20))[0]
    assert pixels.dtype == torch.uint8
    mean, std = {"unit": ((0.0,), (1.0,)), "signed": ((0.5,), (0.5,)), "standard": CHANNELS[data]}[scale]
    mean, std = (torch.tensor(each, dtype=torch.float64).view(-1, 1, 1) for each in (mean, std))
    wanted = (pixels.double() / 255 - mean) / std
    assert found.presented(pixels).dtype == torch.float32
    torch.testing.assert_close(found.presented(pixels).double(), wanted, rtol=0, atol=1e-6)
    assert torch.equal(found.presented(pixels.view(4, 5, *pixels.shape[1:])).flatten(0, 1), found.presented(pixels))


@pytest.mark.parametrize(("data", "scale"), [("mnist", "signed"), ("cifar10", "standard")])
def test_a_compiled_program_presents_the_same_bits(task, data, scale):
    found = task(data, scale)
    # Each value that a pixel can have.
    pixels = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, *found.stream.input_shape).contiguous()
    graph = trace_graph(lambda inputs: (found.presented(inputs),), pixels)
    compiled = compile_graph(graph, [pixels], CPU, lambda: None)
    assert compiled.error is None
    assert torch.equal(compiled.call(pixels)[0], found.presented(pixels))


@pytest.mark.parametrize(
    ("scenario", "data"),
    [
        (RandomLabels(**SMALL), "mnist"),
        (FivePlusOne(profile="x", tasks=2, images_per_class=20, steps_per_task=8, abruptness=3), "cifar100"),
        (Incremental(profile="x", tasks=2, classes_per_task=5, images_per_class=20, augment=True), "cifar100"),
    ],
    ids=["plain", "mixed", "augmented"],
)
def test_what_is_stored_is_presented_as_the_batches_are(numbered, scenario, data):
    images = numbered(data, classes=100 if data == "cifar100" else 10)
    found = scenario.stream(0, data=images, device=CPU).task(1)
    single, chunked = found.batches(), found.batches()
    for count in (2, 4):
        ((inputs, targets),) = chunked.take_stored(count)
        assert inputs.dtype == torch.uint8
        for shown, labels in zip(found.presented(inputs), targets, strict=True):
            x, y = next(single)
            assert torch.equal(shown, x)
            assert torch.equal(labels, y)
