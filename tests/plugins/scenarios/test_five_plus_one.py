import pytest
import torch

from lopbench.core.errors import DataError, InvalidInputError
from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench_plugins.scenarios.five_plus_one import FivePlusOne

CPU = torch.device("cpu")

#: Three pairs of three classes and one, 16 of the 20 images of each.
SMALL = {"data": "cifar100", "tasks": 3, "hard_classes": 3, "images_per_class": 16, "batch_size": 8, "scale": "unit"}


@pytest.fixture
def stream(numbered):
    images = numbered("cifar100", train=20, classes=13)

    def made(seed=0, **fields):
        return FivePlusOne(**{**SMALL, "steps_per_task": 24, **fields}).stream(seed, data=images, device=CPU)

    return made


def trained_on(task, steps):
    """Return places and labels of the images of the first steps of a task."""
    batches = task.batches()
    inputs, labels = (torch.cat(part) for part in zip(*(next(batches) for _ in range(steps)), strict=True))
    first = (inputs[:, 0, 0, :2] * 255).round().long()
    return (250 * first[:, 0] + first[:, 1]).tolist(), labels.tolist()


# -- the samples


def test_a_pair_is_a_hard_half_of_its_classes_and_an_easy_half_of_one_more(stream):
    found = stream()
    places, labels = trained_on(found.task(1), 24)
    assert set(labels[:96]) == set(found.class_order[4:7])
    assert set(labels[96:]) == {found.class_order[7]}
    assert [found.images.train_labels[place] for place in places] == labels


def test_each_half_goes_over_its_images_in_a_new_order_each_time(stream):
    places, _ = trained_on(stream().task(0), 24)
    first, second, third, easy = places[:48], places[48:96], places[96:112], places[112:128]
    assert len(set(first)) == 48
    assert sorted(first) == sorted(second)
    assert first != second
    assert len(set(third)) == 16
    assert sorted(third) == sorted(easy)
    assert third != easy


def test_no_class_comes_again_and_other_seeds_have_others(stream):
    ours, again, theirs = (stream(seed) for seed in (0, 0, 1))
    seen = [set(trained_on(ours.task(index), 24)[1]) for index in range(3)]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 12
    assert ours.class_order == again.class_order != theirs.class_order
    assert trained_on(ours.task(2), 3) == trained_on(again.task(2), 3)


def test_the_seed_draws_the_images_of_a_class(stream):
    def images_of(seed, label=5):
        return set(stream(seed).drawn(label, 16).tolist())

    assert images_of(0) != images_of(1)
    assert all(100 <= place < 120 for place in images_of(0))


def test_the_probe_is_of_the_hard_half_and_nothing_is_held_out(stream):
    found = stream()
    inputs, labels = found.task(2).probe()
    assert sorted(set(labels.tolist())) == sorted(found.class_order[8:11])
    assert labels.bincount().max() == 16
    assert len(inputs) == 48
    assert list(found.task(2).held_out()) == []


def test_tiny_imagenet_is_halved(numbered):
    images = numbered("tiny-imagenet-200", train=3, classes=8)
    found = FivePlusOne(tasks=2, hard_classes=2, images_per_class=2, scale="unit", batch_size=2, steps_per_task=2)
    stream = found.stream(0, data=images, device=CPU)
    inputs, labels = next(stream.task(0).batches())
    assert inputs.shape == (2, 3, 32, 32)
    label = int(labels[0])
    pixels = torch.tensor(images.train_images[3 * label : 3 * label + 3]).float()
    means = torch.nn.functional.avg_pool2d(pixels, 2)
    assert (means - inputs[0] * 255).abs().amax(dim=(1, 2, 3)).min() <= 0.5001


# -- the protocol


def test_half_of_the_steps_are_scored():
    assert [FivePlusOne(steps_per_task=steps).scored(0) for steps in (2, 400)] == [1, 200]
    with pytest.raises(InvalidInputError, match="got steps_per_task=401; give an even number"):
        FivePlusOne(steps_per_task=401)


def test_kumar_is_the_published_protocol():
    found = parse_scenario("five_plus_one", "kumar").build()
    assert (found.data, found.tasks, found.hard_classes, found.images_per_class) == ("cifar100", 15, 5, 0)
    assert (found.scored(0), found.batch_size) == (780, 32)
    network = ComponentSpec.parse("architectures", found.default_architecture).build()
    assert (network.channels, network.hidden) == ((16, 16), (100, 100))
    assert (found.headline, found.head_policy, found.optimizer_policy) == ("trainability", "keep", "carry")


def test_lite_is_the_protocol_that_was_measured():
    lite = parse_scenario("five_plus_one").build()
    assert (lite.profile, lite.data, lite.tasks, lite.hard_classes) == ("lite", "tiny-imagenet-200", 15, 5)
    assert (lite.images_per_class, lite.scored(0), lite.batch_size, lite.scale) == (100, 150, 32, "standard")
    assert lite.recipe("convnet").reference == "adam:lr=1e-3"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tasks": 4}, "needs 16 classes, cifar100 has 13; lower tasks or hard_classes"),
        (
            {"images_per_class": 21},
            r"needs 21 training images of each class, cifar100 as it is found has 20 of c\d+;",
        ),
    ],
)
def test_what_the_data_set_has_not_is_refused_before_training(stream, fields, told):
    with pytest.raises(DataError, match=told):
        stream(**fields)
