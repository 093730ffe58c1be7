import pytest
import torch
from small_images_lab import passes, places

from lopbench.core.errors import DataError, InvalidInputError
from lopbench.core.spec import parse_scenario
from lopbench.testing import parametrize_with_checks
from lopbench_plugins.scenarios.incremental import CROPS, Incremental, augmented

CPU = torch.device("cpu")

#: Three tasks of two classes more, 12 of the 20 images of each.
SMALL = {
    **{"data": "cifar100", "tasks": 3, "classes_per_task": 2, "images_per_class": 12, "held_out_images": 3},
    **{"epochs": 2, "batch_size": 8, "scale": "unit"},
}

SMOKE = {**Incremental.profiles["smoke"], "profile": "smoke", "epochs": 2}


@pytest.fixture
def stream(numbered):
    images = numbered("cifar100", train=20, classes=8)

    def made(seed=0, **fields):
        return Incremental(**{**SMALL, **fields}).stream(seed, data=images, device=CPU)

    return made


# -- the samples


def test_each_task_has_the_images_of_the_one_before_it_and_of_new_classes(stream):
    found = stream()
    tasks = [dict(passes(found.task(index), 3 * (index + 1))[0]) for index in range(3)]
    assert list(map(len, tasks)) == [24, 48, 72]
    assert tasks[0].items() < tasks[1].items() < tasks[2].items()
    assert [sorted(set(task.values())) for task in tasks] == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert all(found.images.train_labels[place] == found.class_order[label] for place, label in tasks[2].items())


def test_a_pass_is_over_all_images_in_a_new_order(stream):
    task = stream().task(1)
    first, second = passes(task, 6, 2)
    assert task.epoch == 6
    assert first != second
    assert sorted(first) == sorted(second)


def test_held_out_images_are_of_the_classes_so_far(stream):
    found = stream()
    for index, classes in enumerate([2, 4, 6]):
        ((inputs, labels),) = found.task(index).held_out()
        assert labels.tolist() == [label for label in range(classes) for _ in range(3)]
        rows = [7 * name + k for name in found.class_order[:classes] for k in range(3)]
        expected = torch.tensor(found.images.test_images[rows])
        assert torch.equal((inputs * 255).round().to(torch.uint8), expected)


def test_validation_images_are_others_of_the_classes_so_far_and_change_no_training_image(stream):
    found, plain = stream(validation_images=5, augment=True), stream(augment=True)
    for index, classes in enumerate([2, 4, 6]):
        ((inputs, labels),) = found.task(index).validation()
        assert labels.tolist() == [label for label in range(classes) for _ in range(5)]
        validated = set(places(inputs))
        assert len(validated) == 5 * classes
        names = [found.images.train_labels[place] for place in places(inputs)]
        assert names == [found.class_order[label] for label in labels]
        trained = [task.of_rows(torch.arange(12 * classes)) for task in (found.task(index), plain.task(index))]
        assert validated.isdisjoint(places(trained[0][0]))
        assert all(torch.equal(one, other) for one, other in zip(*trained, strict=True))
        assert passes(found.task(index), 3 * (index + 1)) == passes(plain.task(index), 3 * (index + 1))
    assert list(plain.task(1).validation()) == []


def test_classes_and_images_are_of_the_seed(stream):
    ours, again, theirs = (stream(seed) for seed in (0, 0, 1))
    assert passes(ours.task(2), 9) == passes(again.task(2), 9)
    assert ours.class_order != theirs.class_order
    assert set(ours.drawn(3, 12)) != set(theirs.drawn(3, 12))


def test_the_probe_is_of_the_classes_so_far_and_not_augmented(stream):
    plain, cropped = (stream(augment=augment).task(1).probe() for augment in (False, True))
    assert plain[1].bincount().tolist() == [12] * 4
    assert torch.equal(plain[0], cropped[0])


# -- augmentation


def test_an_augmented_pass_shows_crops_of_all_images_of_which_some_are_mirrored(stream):
    task, plain = stream(augment=True).task(0), stream().task(0)
    batches = task.batches()
    inputs, labels = (torch.cat(part) for part in zip(*(next(batches) for _ in range(3)), strict=True))
    originals, names = plain.of_rows(torch.arange(24))
    kinds = torch.arange(2 * CROPS)
    every = torch.stack([augmented(image.expand(2 * CROPS, -1, -1, -1), kinds) for image in originals])
    found = [divmod(place, 2 * CROPS) for image in inputs for place in _same(every.flatten(0, 1), image)]
    assert sorted(which for which, _ in found) == list(range(24))
    assert [int(names[which]) for which, _ in found] == labels.tolist()
    assert {kind >= CROPS for _, kind in found} == {True, False}
    assert len({kind for _, kind in found}) > 12


def _same(images, image):
    return torch.nonzero((images == image).flatten(1).all(1)).flatten().tolist()


def test_crops_are_of_images_whose_border_is_reflected():
    image = torch.arange(3 * 32 * 32.0).view(1, 3, 32, 32)
    padded = torch.nn.functional.pad(image, [4] * 4, mode="reflect")
    found = augmented(image.expand(2 * CROPS, -1, -1, -1), torch.arange(2 * CROPS))
    assert torch.equal(found[0], image[0])
    windows = [padded[0, :, row : row + 32, column : column + 32] for row in range(9) for column in range(9)]
    for window in windows:
        assert len(_same(found, window)) == len(_same(found, window.flip(-1))) == 1
    assert torch.equal(found[CROPS:], found[:CROPS].flip(-1))


def test_an_augmented_stream_comes_in_chunks_and_differs_from_pass_to_pass(stream):
    task = stream(augment=True).task(0)
    single, chunked = task.batches(), task.batches()
    expected = [next(single) for _ in range(6)]
    ((inputs, labels),) = chunked.take(6)
    assert torch.equal(inputs, torch.stack([x for x, _ in expected]))
    assert torch.equal(labels, torch.stack([y for _, y in expected]))
    first, second = (sorted(x.sum().item() for x in inputs[part].flatten(0, 1)) for part in (slice(3), slice(3, 6)))
    assert first != second


# -- the protocol


def test_dohare_is_the_published_protocol():
    found = parse_scenario("incremental", "dohare").build()
    assert (found.data, found.tasks, found.classes_per_task, found.augment) == ("cifar100", 20, 5, True)
    assert [found.steps(task) for task in (0, 1, 19)] == [200 * 25, 200 * 50, 200 * 500]
    assert found.default_architecture == "resnet18:normalization=batch"
    assert (found.headline, found.head_policy, found.optimizer_policy) == ("generalisation", "keep", "carry")
    assert found.recipe("resnet18").optimizer == found.recipe("resnet18").reference == "sgd:lr=0.1,momentum=0.9"


@pytest.mark.parametrize("task", [0, 1, 19])
def test_dohare_lowers_the_rate_and_validates_at_the_published_passes(task):
    found, steps = parse_scenario("incremental", "dohare").build(), 25 * (task + 1)
    begins, factors = zip(*found.rate_factors(task), strict=True)
    assert begins == (60 * steps, 120 * steps, 160 * steps)
    assert [0.1 * factor for factor in factors] == pytest.approx([0.02, 0.004, 0.0008])
    assert found.validate_every(task) == steps
    assert (found.images_per_class, found.validation_images) == (450, 50)


def test_without_them_a_task_has_one_rate_and_no_validation_and_the_spec_knows_no_such_fields():
    lite = parse_scenario("incremental")
    assert not {"rate_drops", "rate_factor", "validation_images"} & lite.fields.keys()
    assert (lite.build().rate_factors(3), lite.build().validate_every(3)) == ([], 0)
    text = "incremental:rate_drops=10/15,rate_factor=0.5,validation_images=20"
    assert parse_scenario(text).build().rate_factors(0) == [(50, 0.5), (75, 0.25)]


@parametrize_with_checks([Incremental(**SMOKE, rate_drops=(1,), validation_images=3)])
def test_with_schedule_and_early_stopping_it_conforms(component, check):
    check(component)


def test_lite_is_the_protocol_that_was_measured():
    lite = parse_scenario("incremental").build()
    assert (lite.profile, lite.data, lite.tasks, lite.classes_per_task) == ("lite", "tiny-imagenet-200", 10, 5)
    assert (lite.images_per_class, lite.epochs, lite.batch_size, lite.augment) == (50, 20, 50, False)
    assert lite.default_architecture == "convnet:channels=16/16,kernels=5/5,hidden=100/100"
    assert lite.recipe("convnet").reference == "adam:lr=1e-3"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tasks": 5}, "needs 10 classes, cifar100 has 8; lower tasks or classes_per_task"),
        (
            {"images_per_class": 21},
            r"needs 21 training images of each class, cifar100 as it is found has 20 of c\d; l",
        ),
        (
            {"validation_images": 9},
            r"needs 21 training images of each class, .* lower images_per_class or validation_images or complete",
        ),
    ],
)
def test_what_the_data_set_has_not_is_refused_before_training(stream, fields, told):
    with pytest.raises(DataError, match=told):
        stream(**fields)


@pytest.mark.parametrize("drops", [(0,), (2,), (1, 1), (-1, 1)])
def test_drops_outside_of_a_task_or_out_of_order_are_refused(drops):
    with pytest.raises(InvalidInputError, match=r"incremental: rate_drops must be passes from 1 to 1, in order, got"):
        Incremental(**SMALL, rate_drops=drops)


def test_steps_that_do_not_follow_are_refused():
    assert Incremental(**SMALL, steps_per_task=18).steps(2) == 18
    with pytest.raises(InvalidInputError, match=r"steps_per_task follows from .* and is 18, got 17; leave it out"):
        Incremental(**SMALL, steps_per_task=17)
