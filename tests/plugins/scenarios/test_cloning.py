import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lopbench.core.errors import DataError, InvalidInputError
from lopbench.core.interfaces import Growth, Recipe, Scenario
from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench.data import ImageSet
from lopbench_plugins.scenarios.cloning import PREPARATIONS, Cloning

SHAPES = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "tiny-imagenet-200": (3, 64, 64)}


def image_set(data="cifar10", train=7, test=3, classes=None):
    """Images of noise, each with its place among all as its first pixels, in base 250."""
    count, shape = classes or PREPARATIONS[data].classes, SHAPES[data]
    draws = np.random.default_rng(0)

    def draw(each):
        pixels = draws.integers(1, 256, (count * each, *shape), dtype=np.uint8)
        numbers = np.arange(count * each)
        pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = numbers // 250 + 1, numbers % 250 + 1
        return pixels, np.repeat(np.arange(count), each)

    (images, labels), (test_images, test_labels) = draw(train), draw(test)
    return ImageSet(
        name=data,
        content_hash="0" * 64,
        subset=True,
        classes=tuple(f"c{k:03}" for k in range(count)),
        train_images=images,
        train_labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        real=False,
        notice="",
        terms="",
    )


IMAGES = image_set()


def stream(seed=0, images=IMAGES, **fields):
    scenario = Cloning(**{"images_per_class": 5, "batch_size": 16, "base_epochs": 2, "epochs": 5, **fields})
    return scenario.stream(seed, data=images, device=torch.device("cpu"))


def epoch(found, index=0):
    """Return all inputs and labels of an epoch, in order."""
    batches = found.task(index).batches()
    parts = [next(batches) for _ in range(found.scenario.steps_per_task)]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def pixels(found, normalised):
    """Return normalised images as the 8-bit ones that they were made from."""
    kind = found.preparation
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (kind.mean, kind.std))
    return ((normalised * std + mean) * 255).round().to(torch.uint8)


def numbers(images):
    """Return the places that are written into unaugmented images of 8 bits."""
    return ((images[:, 0, 0, 0].long() - 1) * 250 + images[:, 0, 0, 1] - 1).tolist()


# -- the protocol


def test_full_is_the_protocol_of_the_paper():
    full = parse_scenario("cloning", "full").build()
    assert (full.growth, full.epochs, full.batch_size) == (Growth(task=20, factor=2, cloner="interleave"), 500, 128)
    assert (full.tasks, full.steps_per_task) == (520, 391)
    assert full.recipe("mlp") == full.recipe("vit") == Recipe(optimizer="sgd:lr=0.01", reference="sgd:lr=0.01")
    assert list(full.late_tasks) == list(range(416, 520))


@pytest.mark.parametrize(("data", "steps"), [("cifar100", 391), ("mnist", 424), ("procedural-mnist", 424)])
def test_an_epoch_has_the_images_of_the_data_set_unless_told_otherwise(data, steps):
    assert Cloning(data=data, images_per_class=0).steps_per_task == steps


@pytest.mark.parametrize("profile", list(Cloning.profiles))
def test_every_profile_scores_clones_only_and_names_optimizers_that_exist(profile):
    scenario = parse_scenario("cloning", profile).build()
    assert isinstance(scenario, Scenario)
    assert scenario.late_tasks.start >= scenario.growth.task
    assert not scenario.boundaries
    for architecture in ("mlp", "vit", "another"):
        assert ComponentSpec.parse("optimizers", scenario.recipe(architecture).optimizer).name == "sgd"


def test_scenario_made_from_its_own_fields_is_itself():
    made = Cloning(images_per_class=0)
    assert dataclasses.replace(made) == made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "imagenet"}, "data must be one of cifar10,.*got 'imagenet'"),
        ({"base_epochs": 0}, "base_epochs must be at least 1, got 0"),
        ({"factor": 1}, "factor must be at least 2, got 1"),
        ({"images_per_class": -1}, "images_per_class must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"head_policy": "zero"}, "head_policy must be keep, got 'zero'"),
        ({"optimizer_policy": "reset"}, "optimizer_policy must be carry"),
        ({"tasks": 7}, "tasks follows from base_epochs and epochs and is 120, got 7"),
        ({"steps_per_task": 7}, "steps_per_task follows from images_per_class and batch_size and is 71, got 7"),
        ({"base_epochs": 3, "epochs": 4}, "the last 5 of 7 epochs are scored .* raise epochs"),
    ],
)
def test_fields_out_of_range_are_refused_with_their_value(fields, message):
    with pytest.raises(InvalidInputError, match=message):
        Cloning(**fields)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            image_set(train=4),
            "needs 5 training images of each of 10 classes.* and 4 images of c000.*images_per_class=4",
        ),
        (image_set(classes=9), "of each of 10 classes, cifar10 as it is found has 9 classes"),
    ],
)
def test_data_that_cannot_feed_it_are_refused_with_what_to_do(images, message):
    with pytest.raises(DataError, match=message):
        stream(images=images)


# -- what is trained on


def test_an_epoch_is_one_pass_over_the_images_that_the_seed_drew():
    found = stream(augment=False)
    inputs, labels = epoch(found)
    seen = numbers(pixels(found, inputs))
    assert len(set(seen)) == len(seen) == 50
    assert [number // 7 for number in seen] == labels.tolist()
    assert labels.bincount().tolist() == [5] * 10
    again = numbers(pixels(found, epoch(found, 1)[0]))
    assert again != seen
    assert sorted(again) == sorted(seen)
    other = stream(seed=1, augment=False)
    assert sorted(numbers(pixels(other, epoch(other)[0]))) != sorted(seen)


def test_batches_are_the_same_at_every_call_and_resume_in_the_middle():
    found = stream()
    whole = epoch(found, 3)
    batches = found.task(3).batches()
    next(batches)
    state = {name: tensor.clone() for name, tensor in batches.state_dict().items()}
    resumed = stream().task(3).batches()
    resumed.load_state_dict(state)
    assert torch.equal(next(resumed)[0], whole[0][16:32])
    assert torch.equal(next(batches)[0], whole[0][16:32])


def test_images_are_standardised_with_the_statistics_of_the_data_set():
    found = stream(augment=False, images_per_class=7)
    inputs, _ = epoch(found)
    order = numbers(pixels(found, inputs))
    plain = torch.tensor(IMAGES.train_images[order]) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    torch.testing.assert_close(inputs, (plain - mean) / std)


@pytest.mark.parametrize("data", ["cifar10", "tiny-imagenet-200"])
def test_augmented_images_are_windows_of_padded_images_or_of_their_mirror_images(data):
    images = image_set(data, train=1, test=1)
    found = stream(images=images, data=data, images_per_class=1, batch_size=50)
    inputs, labels = epoch(found)  # one image of each class
    size, padding = inputs.shape[-1], PREPARATIONS[data].padding
    assert padding == size // 8
    offsets, mirrored = [], []
    for image, label in zip(pixels(found, inputs)[:30], labels[:30].tolist(), strict=True):
        padded = F.pad(torch.tensor(images.train_images[label]), [padding] * 4)
        windows = padded.unfold(1, size, 1).unfold(2, size, 1).movedim(0, 2)  # (row, column, C, H, W)
        for flipped in (False, True):
            wanted = image.flip(-1) if flipped else image
            hits = (windows == wanted).flatten(2).all(dim=2).nonzero().tolist()
            offsets += hits
            mirrored += [flipped] * len(hits)
    assert len(offsets) == min(30, len(labels))
    assert 0 < sum(mirrored) < len(mirrored)


def test_shifts_reach_the_whole_padding_in_every_direction():
    found = stream(images=image_set(train=1), images_per_class=1)
    shifts = [set(), set()]
    for index in range(40):
        inputs, _ = epoch(found, index)
        black = (pixels(found, inputs) == 0).all(dim=1)  # no pixel of an image is zero
        for axis in (0, 1):
            lines = black.all(dim=2 - axis)  # (N, size): rows, then columns
            shifts[axis] |= {int(line.sum()) * (1 if line[0] else -1) for line in lines}
    assert shifts == [set(range(-4, 5))] * 2


def test_digits_are_turned_by_up_to_ten_degrees_and_neither_cropped_nor_mirrored():
    images = image_set("mnist", train=200, test=1)
    images.train_images[:] = 0
    images.train_images[:, :, 13:15, 24] = 255  # to the right of the middle
    images.train_images[:, :, 12:16, 3] = 100  # and to the left
    found = stream(images=images, data="mnist", images_per_class=200)
    inputs, _ = epoch(found)
    turned = pixels(found, inputs)[:, 0].double()
    marks = (turned > 200).double()
    row = (marks.sum(dim=2) * torch.arange(28.0, dtype=torch.float64)).sum(dim=1) / marks.sum(dim=(1, 2))
    angles = torch.rad2deg(torch.atan2(row - 13.5, torch.tensor(10.5)))
    assert 8 < angles.abs().max() < 13  # pixels are coarse
    assert abs(angles.mean()) < 1.5
    assert 4 < angles.std() < 8  # 10 / sqrt(3) = 5.8
    assert (turned[:, :, :10] > 200).sum() == 0
    assert ((turned == 0) | (turned == 100) | (turned == 255)).all()  # to the nearest pixel, black around


# -- what is measured


def test_loss_score_and_chance_are_those_of_all_classes():
    task = stream().task(0)
    outputs = torch.zeros(3, 10)
    outputs[0, 4] = 5.0
    targets = torch.tensor([4, 1, 0])
    assert task.chance == 0.1
    assert task.score(outputs, targets).tolist() == [True, False, True]  # ties go to the first
    expected = (math.log(9 + math.exp(5)) - 5 + 2 * math.log(10)) / 3
    assert task.loss(outputs, targets).item() == pytest.approx(expected)
    scores = task.held_out_scores(outputs, targets)
    assert scores["heldout_loss"].mean().item() == pytest.approx(expected)


def test_held_out_data_are_all_test_images_unaugmented():
    found = stream()
    parts = list(found.task(1).held_out())
    images, labels = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
    assert torch.equal(pixels(found, images), torch.tensor(IMAGES.test_images))
    assert labels.tolist() == IMAGES.test_labels.tolist()


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize(("data", "train", "each"), [("cifar10", 60, 50), ("tiny-imagenet-200", 3, 2)])
def test_probe_holds_as_many_unaugmented_training_images_of_each_class(data, train, each, augment):
    images = image_set(data, train=train, test=1)
    found = stream(images=images, data=data, images_per_class=train, augment=augment)
    inputs, labels = found.task(0).probe()
    assert labels.bincount().tolist() == [each] * PREPARATIONS[data].classes
    assert numbers(pixels(found, inputs)) == [k * train + i for k in range(len(images.classes)) for i in range(each)]
    assert found.task(4).probe()[0] is inputs  # the same in all epochs
