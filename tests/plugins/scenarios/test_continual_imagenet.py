from dataclasses import replace

import pytest
import torch
from small_images_lab import passes, places

from lopbench.core.errors import DataError
from lopbench.core.spec import parse_scenario
from lopbench_plugins.scenarios.continual_imagenet import ContinualImageNet

CPU = torch.device("cpu")
NAME = "downsampled-imagenet-32"

#: Of each class 12 images to train on and 5 held out, of 20.
SMALL = {"data": NAME, "tasks": 9, "images_per_class": 12, "held_out_images": 5, "batch_size": 6, "scale": "unit"}


@pytest.fixture
def stream(numbered):
    images = numbered(NAME, train=20, classes=7)

    def made(seed=0, **fields):
        return ContinualImageNet(**{**SMALL, **fields}).stream(seed, data=images, device=CPU)

    return made


# -- the samples


def test_a_pass_is_over_all_images_of_two_classes_in_a_new_order(stream):
    found = stream()
    task = found.task(1)
    assert task.epoch == 4
    first, second = passes(task, 4, 2)
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(dict(first)) == 24
    classes = found.class_order[2:4]
    assert all(found.images.train_labels[place] == classes[label] for place, label in first)


def test_held_out_images_are_further_ones_of_the_same_classes(stream):
    found = stream()
    task = found.task(2)
    trained = dict(passes(task, 4)[0])
    ((inputs, labels),) = task.held_out()
    held_out = dict(zip(places(inputs), labels.tolist(), strict=True))
    assert len(held_out) == 10
    assert not held_out.keys() & trained.keys()
    assert all(found.images.train_labels[place] == found.class_order[4:6][label] for place, label in held_out.items())


def test_held_out_images_can_be_those_of_the_other_split(stream):
    found = stream(held_out_images=0, images_per_class=0)
    task = found.task(0)
    assert task.epoch == 7  # 40 images
    ((inputs, labels),) = task.held_out()
    for label, name in enumerate(found.class_order[:2]):
        expected = torch.tensor(found.images.test_images[7 * name : 7 * name + 7])
        assert torch.equal((inputs[labels == label] * 255).round().to(torch.uint8), expected)


def test_the_order_of_the_classes_begins_again_when_they_are_used_up(stream):
    found = stream()
    tasks = [sorted(passes(found.task(index), 4)[0]) for index in range(9)]
    order = found.class_order
    assert {found.images.train_labels[place] for place, _ in tasks[3]} == {order[6], order[0]}
    assert tasks[7] == tasks[0]
    assert len({str(task) for task in tasks}) == 7


def test_order_and_images_are_of_the_seed(stream):
    ours, again, theirs = (stream(seed) for seed in (0, 0, 1))
    assert passes(ours.task(4), 4) == passes(again.task(4), 4)
    assert ours.class_order != theirs.class_order
    assert set(ours.drawn(3, 12)) != set(theirs.drawn(3, 12))


def test_the_head_has_as_many_outputs_as_a_task_has_classes(stream):
    found = stream(classes_per_task=3)
    task = found.task(0)
    assert (found.outputs, task.chance, task.classes) == (3, 1 / 3, None)
    assert task.probe()[1].bincount().tolist() == [12] * 3


# -- the protocol


def test_dohare_is_the_published_protocol():
    found = parse_scenario("continual_imagenet", "dohare").build()
    assert (found.data, found.tasks, found.classes_per_task) == (NAME, 2000, 2)
    assert (2 * found.images_per_class, 2 * found.held_out_images) == (1200, 200)
    assert found.steps_per_task * found.batch_size == 250 * 1200
    assert (found.default_architecture, found.headline, found.head_policy) == ("convnet", "generalisation", "zero")
    assert found.recipe("convnet").reference == "sgd:lr=0.01,momentum=0.9"


def test_lite_is_the_protocol_that_was_measured():
    lite = parse_scenario("continual_imagenet").build()
    assert (lite.profile, lite.data, lite.tasks, lite.classes_per_task) == ("lite", "tiny-imagenet-200", 50, 2)
    assert (lite.images_per_class, lite.held_out_images, lite.steps_per_task, lite.batch_size) == (200, 0, 100, 50)
    assert lite.default_architecture == "convnet:channels=16/16,kernels=5/5,hidden=100/100"
    assert lite.recipe("convnet").reference == "sgd:lr=0.03,momentum=0.9"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"images_per_class": 16},
            r"needs 21 training images of each class, .* has 20 of c\d; lower images_per_cla",
        ),
        ({"classes_per_task": 8}, f"needs 8 classes, {NAME} has 7; lower classes_per_task"),
    ],
)
def test_what_the_data_set_has_not_is_refused_before_training(stream, fields, told):
    with pytest.raises(DataError, match=told):
        stream(**fields)


@pytest.mark.parametrize(
    ("fields", "test", "told", "subset", "whole"),
    [
        (
            {"held_out_images": 0},
            0,
            r"needs 1 held-out images of each class, .* has 0 of c\d; ",
            "complete the data set",
            "take another data set",
        ),
        (
            {"images_per_class": 16},
            2,
            r"has 20 of c\d; lower images_per_class or held_out_images",
            " or complete the data set",
            "",
        ),
    ],
)
def test_only_a_subset_can_be_completed(numbered, fields, test, told, subset, whole):
    scenario = ContinualImageNet(**{**SMALL, **fields})
    images = numbered(NAME, train=20, test=test, classes=7)
    with pytest.raises(DataError, match=f"{told}{subset}$"):
        scenario.stream(0, data=images, device=CPU)
    with pytest.raises(DataError, match=f"{told}{whole}$"):
        scenario.stream(0, data=replace(images, subset=False), device=CPU)
