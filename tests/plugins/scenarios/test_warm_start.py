from itertools import pairwise

import pytest
import torch
from small_images_lab import passes

from lopbench.core.errors import DataError, InvalidInputError
from lopbench.core.spec import parse_scenario
from lopbench_plugins.scenarios.warm_start import WarmStart

CPU = torch.device("cpu")

#: Five parts of 30, 60, ... of 150 of the 300 images, two passes each.
SMALL = {"tasks": 5, "first_share": 0.2, "images": 150, "epochs": 2, "batch_size": 10, "scale": "unit"}


@pytest.fixture
def stream(numbered):
    images = numbered("cifar10")

    def made(seed=0, **fields):
        return WarmStart(**{**SMALL, **fields}).stream(seed, data=images, device=CPU)

    return made


# -- the samples


def test_each_part_has_the_images_of_the_last_one_and_more(stream, numbered):
    found, truth = stream(), numbered("cifar10").train_labels
    parts = [dict(passes(found.task(index), 3 * (index + 1))[0]) for index in range(5)]
    assert list(map(len, parts)) == [30, 60, 90, 120, 150]
    for smaller, larger in pairwise(parts):
        assert smaller.items() < larger.items()
    assert all(truth[place] == label for place, label in parts[-1].items())


def test_a_pass_is_over_all_images_in_a_new_order(stream):
    task = stream().task(1)
    first, second = passes(task, 6, 2)
    assert task.epoch == 6
    assert first != second
    assert sorted(first) == sorted(second)


def test_another_seed_has_other_images(stream):
    ours, again, theirs = (passes(stream(seed).task(0), 3)[0] for seed in (0, 0, 1))
    assert ours == again
    assert set(ours) != set(theirs)


def test_wrong_labels_become_fewer_and_held_out_ones_are_right(stream, numbered):
    images = numbered("cifar10")
    found = stream(label_noise=1.0)
    wrong = []
    for index in range(5):
        labels = dict(passes(found.task(index), 3 * (index + 1))[0])
        wrong.append({place for place, label in labels.items() if images.train_labels[place] != label})
        held_out = torch.cat([true for _, true in found.task(index).held_out()])
        assert held_out.tolist() == images.test_labels.tolist()
    assert len(wrong[0]) > 20  # 27 of 30 are expected
    assert wrong[4] == set()
    for index, (before, after) in enumerate(pairwise(wrong)):
        old = {place for place, _ in passes(found.task(index), 3 * (index + 1))[0]}
        assert after & old <= before  # none of the old ones becomes wrong


def test_held_out_images_are_the_first_of_each_class(stream, numbered):
    images = numbered("cifar10")
    ((inputs, labels),) = stream(held_out_images=2).task(3).held_out()
    assert labels.bincount().tolist() == [2] * 10
    expected = torch.tensor(images.test_images).view(10, 7, 3, 32, 32)[:, :2].flatten(0, 1)
    assert torch.equal((inputs * 255).round().to(torch.uint8), expected)


def test_the_probe_has_as_many_of_each_class_as_there_are(stream):
    inputs, labels = stream(images=300).task(4).probe()
    assert labels.bincount().tolist() == [30] * 10
    assert inputs.shape == (300, 3, 32, 32)


# -- the protocol


def test_tasks_last_for_as_many_passes_or_as_many_steps():
    assert [WarmStart(**SMALL).steps(task) for task in range(5)] == [6, 12, 18, 24, 30]
    assert [WarmStart(**SMALL, length="steps").steps(task) for task in range(5)] == [30] * 5
    assert WarmStart(**{**SMALL, "images": 151}).steps(4) == 32  # a pass ends with a whole batch


def test_label_noise_falls_as_published():
    ramp = parse_scenario("warm_start", "noise_ramp").build()
    assert [ramp.noise(task) for task in range(10)] == [0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0]
    assert {parse_scenario("warm_start", "chunks").build().noise(task) for task in range(10)} == {0.0}


@pytest.mark.parametrize(
    ("profile", "images", "steps"),
    [
        ("ash", [16_666, 33_333], [350 * 131, 350 * 261]),
        ("fire", [5_000, 50_000], [2_000, 19_600]),
        ("chunks", [5_000 * part for part in range(1, 11)], None),
        ("noise_ramp", [5_000 * part for part in range(1, 11)], [1_960] * 10),
    ],
)
def test_profiles_are_the_published_protocols(profile, images, steps):
    found = parse_scenario("warm_start", profile).build()
    assert [found.count(task) for task in range(found.tasks)] == images
    assert steps is None or [found.steps(task) for task in range(found.tasks)] == steps
    assert found.default_architecture == "resnet18:normalization=batch"
    assert (found.headline, found.optimizer_policy, found.head_policy) == ("generalisation", "reset", "keep")
    assert found.recipe("resnet18").reference == "adam:lr=1e-3"


def test_lite_is_the_protocol_that_was_measured():
    lite = parse_scenario("warm_start").build()
    assert (lite.profile, lite.data, lite.epochs, lite.batch_size) == ("lite", "cifar10", 20, 64)
    assert [lite.count(task) for task in range(lite.tasks)] == [200 * part for part in range(1, 11)]
    assert (lite.noise(0), lite.scale, lite.held_out_images, lite.optimizer_policy) == (0, "standard", 200, "reset")
    assert lite.default_architecture == "convnet:channels=16/16,kernels=5/5,hidden=100/100"


def test_more_images_than_there_are_are_refused_before_training(stream):
    with pytest.raises(DataError, match=r"needs 301 training images for a task, cifar10 as it is found has 300; lower"):
        stream(images=301)


def test_a_class_without_held_out_images_is_refused_before_training(numbered):
    with pytest.raises(DataError, match=r"needs 1 held-out images of each class, cifar10 as it is found has 0 of c0;"):
        WarmStart(**SMALL).stream(0, data=numbered("cifar10", test=0), device=CPU)


@pytest.mark.parametrize("share", [0.04, 0.25, 0.999])
def test_a_share_of_wrong_labels_that_is_no_tenth_is_refused(share):
    with pytest.raises(InvalidInputError, match=f"label_noise={share} is in tenths"):
        WarmStart(label_noise=share)


def test_steps_that_do_not_follow_are_refused():
    with pytest.raises(InvalidInputError, match=r"steps_per_task follows from .* and is 30, got 31; leave it out"):
        WarmStart(**SMALL, steps_per_task=31)
