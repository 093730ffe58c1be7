import pytest
import torch

from lopbench.core.errors import DataError
from lopbench.core.spec import parse_scenario
from lopbench_plugins.scenarios.label_permuted import LabelPermuted

CPU = torch.device("cpu")


@pytest.fixture
def stream(numbered):
    images = numbered()

    def made(seed=0, **fields):
        small = {"tasks": 6, "steps_per_task": 60, "batch_size": 4, "scale": "unit"}
        return LabelPermuted(**{**small, **fields}).stream(seed, data=images, device=CPU)

    return made


def trained_on(task, steps=60):
    batches = task.batches()
    inputs, labels = (torch.cat(part) for part in zip(*(next(batches) for _ in range(steps)), strict=True))
    first = (inputs[:, 0, 0, :2] * 255).round().long()
    return (250 * first[:, 0] + first[:, 1]).tolist(), labels.tolist()


def test_a_task_renames_the_classes_one_to_one(stream, numbered):
    truth = numbered().train_labels
    task = stream().task(2)
    places, labels = trained_on(task)
    names = {(int(truth[place]), label) for place, label in zip(places, labels, strict=True)}
    assert len(names) == 10
    assert sorted(dict(names).values()) == list(range(10))
    assert dict(names) == dict(enumerate(task.renamed.tolist()))


def test_no_image_comes_twice_in_a_task_and_others_come_in_the_next(stream):
    found = stream(steps_per_task=12)
    shown = [trained_on(found.task(index), 12)[0] for index in range(3)]
    assert all(len(set(each)) == 48 for each in shown)
    assert len({frozenset(each) for each in shown}) == 3


def test_names_are_of_the_seed_and_differ_between_tasks(stream):
    ours, again, theirs = (
        [tuple(found.task(index).renamed.tolist()) for index in range(6)] for found in (stream(), stream(), stream(1))
    )
    assert ours == again
    assert len({*ours, *theirs}) == 12


def test_held_out_images_have_the_names_of_the_task(stream):
    found = stream()
    task = found.task(4)
    ((inputs, labels),) = task.held_out()
    assert torch.equal((inputs * 255).round().to(torch.uint8), torch.tensor(found.images.test_images))
    assert labels.tolist() == task.renamed[torch.tensor(found.images.test_labels)].tolist()


def test_upgd_is_the_published_protocol():
    found = parse_scenario("label_permuted", "upgd").build()
    assert (found.tasks, found.steps_per_task, found.batch_size) == (400, 2500, 1)
    assert found.default_architecture == "mlp:widths=300/150"
    assert parse_scenario("label_permuted:data=cifar10", "upgd").build().default_architecture == "cnn"


def test_lite_is_the_protocol_that_was_calibrated():
    lite = parse_scenario("label_permuted").build()
    assert (lite.profile, lite.tasks, lite.steps_per_task, lite.batch_size) == ("lite", 100, 75, 16)
    assert (lite.head_policy, lite.optimizer_policy, lite.scale) == ("keep", "carry", "standard")
    assert lite.default_architecture == "mlp:widths=100/100"
    assert lite.recipe("mlp").reference == "adam:lr=1e-3"


def test_letters_have_their_47_classes_and_chance(numbered):
    scenario = parse_scenario("label_permuted:data=emnist-balanced", "upgd").build()
    found = scenario.stream(0, data=numbered("emnist-balanced", train=60, test=60, classes=47), device=CPU)
    task = found.task(1)
    assert (scenario.scale, scenario.default_architecture) == ("signed", "mlp:widths=300/150")
    assert task.chance == 1 / 47
    assert sorted(task.renamed.tolist()) == list(range(47))
    assert task.probe()[1].bincount().tolist() == [10] * 47
    assert torch.cat([labels for _, labels in task.held_out()]).bincount().tolist() == [42] * 47


def test_too_few_images_are_refused_before_training(numbered):
    scenario = LabelPermuted(steps_per_task=76, batch_size=4)
    with pytest.raises(DataError, match=r"needs 304 training images for a task, mnist as it is found has 300; lower"):
        scenario.stream(0, data=numbered(), device=CPU)
