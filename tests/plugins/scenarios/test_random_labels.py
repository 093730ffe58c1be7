import pytest
import torch

from lopbench.core.errors import DataError, InvalidInputError
from lopbench.core.interfaces import Recipe
from lopbench.core.spec import parse_scenario
from lopbench_plugins.scenarios.random_labels import RandomLabels

CPU = torch.device("cpu")


@pytest.fixture
def stream(numbered):
    images = numbered()

    def made(seed=0, **fields):
        small = {"tasks": 5, "images": 40, "batch_size": 8, "steps_per_task": 12, "scale": "unit"}
        return RandomLabels(**{**small, **fields}).stream(seed, data=images, device=CPU)

    return made


def epochs(task, count=1, steps=5):
    """Return places and labels of the images of the first passes over a task."""
    batches = task.batches()
    found = []
    for _ in range(count):
        inputs, labels = (torch.cat(part) for part in zip(*(next(batches) for _ in range(steps)), strict=True))
        first = (inputs[:, 0, 0, :2] * 255).round().long()
        found.append(list(zip((250 * first[:, 0] + first[:, 1]).tolist(), labels.tolist(), strict=True)))
    return found


def test_a_pass_is_over_all_images_and_each_keeps_its_label_in_a_task(stream):
    task = stream().task(2)
    assert task.epoch == 5
    first, second = epochs(task, 2)
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(dict(first)) == 40


def test_tasks_have_the_same_images_and_as_many_of_each_label_under_other_labels(stream):
    found = stream()
    tasks = [dict(epochs(found.task(index))[0]) for index in range(3)]
    assert tasks[0].keys() == tasks[1].keys() == tasks[2].keys()
    assert sorted(tasks[0].values()) == sorted(tasks[1].values()) == sorted(tasks[2].values())
    changed = sum(tasks[0][place] != tasks[1][place] for place in tasks[0])
    assert changed > 25  # 36 of 40 are expected


def test_labels_say_nothing_of_the_image_in_the_first_task_either(stream, numbered):
    found = stream(images=280)
    truth = numbered().train_labels
    right = sum(label == truth[place] for place, label in epochs(found.task(0), steps=35)[0])
    assert right < 56  # 28 of 280 are expected, with a standard deviation of 5


def test_another_seed_has_other_images_and_labels(stream):
    ours, again, theirs = (dict(epochs(stream(seed).task(0))[0]) for seed in (0, 0, 1))
    assert ours == again
    assert ours.keys() != theirs.keys()


def test_nothing_is_held_out_and_the_probe_is_of_the_task(stream):
    task = stream().task(1)
    assert list(task.held_out()) == []
    inputs, labels = task.probe()
    first = (inputs[:, 0, 0, :2] * 255).round().long()
    trained = dict(epochs(task)[0])
    assert [trained[place] for place in (250 * first[:, 0] + first[:, 1]).tolist()] == labels.tolist()
    assert len(labels) == 40


def test_cifar_is_presented_with_its_own_channels(numbered):
    images = numbered("cifar10")
    small = {"data": "cifar10", "images": 40, "batch_size": 8}
    unit, standard = (
        next(RandomLabels(scale=scale, **small).stream(0, data=images, device=CPU).task(0).batches())[0]
        for scale in ("unit", "standard")
    )
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.247, 0.243, 0.261])
    torch.testing.assert_close(standard, (unit - mean.view(3, 1, 1)) / std.view(3, 1, 1))


# -- the protocol


def test_kumar_is_the_published_protocol():
    digits, photographs = (parse_scenario(f"random_labels{data}", "kumar").build() for data in ("", ":data=cifar10"))
    for found in (digits, photographs):
        assert (found.tasks, found.images, found.batch_size) == (50, 1200, 16)
        assert found.steps_per_task * found.batch_size == 400 * found.images
    assert digits.recipe("mlp") == Recipe(optimizer="adam:lr=1e-4", reference="adam:lr=1e-4")
    assert photographs.recipe("cnn") == Recipe(optimizer="adam:lr=1e-3", reference="adam:lr=1e-3")
    assert digits.default_architecture == "mlp:widths=100/100"
    assert photographs.default_architecture == "cnn"
    assert photographs.scale == "standard"
    assert digits.scale == "signed"


def test_lite_is_the_protocol_that_was_calibrated():
    lite = parse_scenario("random_labels").build()
    assert (lite.profile, lite.tasks, lite.images, lite.steps_per_task) == ("lite", 50, 160, 300)
    assert (lite.head_policy, lite.optimizer_policy) == ("keep", "carry")
    assert lite.recipe("mlp") == Recipe(optimizer="adam:lr=1e-3", reference="adam:lr=1e-3")


def test_images_that_are_no_whole_batches_are_refused():
    with pytest.raises(InvalidInputError, match="got images=50 and batch_size=16; the nearest is images=48"):
        RandomLabels(images=50, batch_size=16)


def test_more_images_than_there_are_are_refused_before_training(numbered):
    scenario = RandomLabels(images=304, batch_size=16)
    with pytest.raises(
        DataError, match=r"needs 304 training images for a task, mnist as it is found has 300; lower im"
    ):
        scenario.stream(0, data=numbered(), device=CPU)


def test_another_data_set_is_refused():
    with pytest.raises(InvalidInputError, match="data must be one of mnist, cifar10"):
        RandomLabels(data="cifar100")
