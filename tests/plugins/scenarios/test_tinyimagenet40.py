import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lopbench.core.errors import DataError, InvalidInputError, LopbenchError, UsageError
from lopbench.core.interfaces import Recipe
from lopbench.core.spec import ComponentSpec, RunSpec, parse_scenario
from lopbench.data import ImageSet
from lopbench_plugins.scenarios.augmentation import MEAN, STD, normalize
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetStream

CLASSES = 13
TRAIN = 7
TEST = 3


def image_set(train: list[int] | None = None, test: list[int] | None = None) -> ImageSet:
    """Images of noise; the first pixel of each tells its class, its number in the class, and train or test."""
    generator = np.random.default_rng(0)
    parts = []
    for split, counts in enumerate((train or [TRAIN] * CLASSES, test or [TEST] * CLASSES)):
        labels = np.repeat(np.arange(CLASSES), counts)
        pixels = generator.integers(0, 256, (len(labels), 3, 64, 64), dtype=np.uint8)
        numbers = np.concatenate([np.arange(count) for count in counts]) if len(labels) else labels
        for channel, values in enumerate((labels * 10, numbers, np.full_like(labels, split))):
            pixels[:, channel, :8, :8] = values[:, None, None]
        parts.append((pixels, labels))
    return ImageSet(
        name="toy",
        content_hash="0" * 64,
        subset=True,
        classes=tuple(f"n{k:02}" for k in range(CLASSES)),
        train_images=parts[0][0],
        train_labels=parts[0][1],
        test_images=parts[1][0],
        test_labels=parts[1][1],
        real=False,
        notice="",
        terms="",
    )


IMAGES = image_set()


def scenario(**fields: Any) -> TinyImageNet40:
    small = {
        "tasks": 4,
        "classes_per_task": 3,
        "images_per_class": 5,
        "resolution": 8,
        "batch_size": 4,
        "augment": False,
    }
    return TinyImageNet40(**{**small, **fields})


def stream(seed: int = 0, images: ImageSet = IMAGES, **fields: Any) -> TinyImageNetStream:
    return scenario(**fields).stream(seed, data=images, device=torch.device("cpu"))


def identities(normalised: Tensor) -> list[tuple[int, int, int]]:
    """Return class, number and split of each image, from its first pixel."""
    mean, std = (torch.tensor(values) for values in (MEAN, STD))
    first = (normalised[:, :, 0, 0] * std + mean) * 255
    label, number, split = first.round().long().T
    return list(zip((label // 10).tolist(), number.tolist(), split.tolist(), strict=True))


def trained_on(found: TinyImageNetStream, index: int) -> list[tuple[int, int, int]]:
    """Return the training images of a task, in order of class and number."""
    batches = found.task(index).batches()
    epoch = [next(batches) for _ in range(-(-found.scenario.images_per_class * 3 // found.scenario.batch_size))]
    return sorted(identities(torch.cat([inputs for inputs, _ in epoch])))


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_tasks_have_disjoint_classes_in_an_order_of_the_seed_alone() -> None:
    found = stream(3)
    classes = [found.task(index).classes.tolist() for index in range(4)]
    assert len({label for task in classes for label in task}) == 12
    again = stream(3)
    assert [again.task(index).classes.tolist() for index in (3, 1, 0, 2)] == [classes[i] for i in (3, 1, 0, 2)]
    other = stream(3, tasks=2, images_per_class=2, resolution=16, batch_size=128, augment=True, profile="text")
    assert [other.task(index).classes.tolist() for index in range(2)] == classes[:2]
    assert [stream(4).task(index).classes.tolist() for index in range(4)] != classes


def test_inputs_outputs_and_chance() -> None:
    found = stream(resolution=16)
    assert tuple(found.input_shape) == (3, 16, 16)
    assert found.outputs == CLASSES
    assert found.task(0).chance == 1 / 3
    assert next(found.task(0).batches())[0].shape == (4, 3, 16, 16)


def test_batches_hold_the_classes_of_the_task_under_labels_of_its_own() -> None:
    found = stream()
    task = found.task(2)
    batches = task.batches()
    for _ in range(8):
        inputs, targets = next(batches)
        assert targets.dtype == torch.int64
        assert [(label, 0) for label in task.classes[targets].tolist()] == [
            (label, split) for label, _, split in identities(inputs)
        ]


def test_images_are_chosen_by_the_seed() -> None:
    chosen = trained_on(stream(0), 0)
    assert chosen == trained_on(stream(0), 0)
    assert len(set(chosen)) == 15
    chosen_by_class: dict[int, set[tuple[int, ...]]] = {}
    for seed in range(6):
        found = stream(seed)
        images = trained_on(found, 0)
        for label in found.task(0).classes.tolist():
            numbers = tuple(number for k, number, _ in images if k == label)
            assert len(numbers) == 5
            chosen_by_class.setdefault(label, set()).add(numbers)
    assert max(len(choices) for choices in chosen_by_class.values()) > 1


def test_fewer_images_of_a_class_are_some_of_the_more() -> None:
    # So that a study over the number of images adds images and replaces none.
    for index in range(2):
        assert set(trained_on(stream(images_per_class=2), index)) < set(trained_on(stream(), index))


def test_zero_images_per_class_means_all() -> None:
    counts = [TRAIN + k % 3 for k in range(CLASSES)]
    found = stream(images=image_set(train=counts), images_per_class=0, batch_size=100)
    task = found.task(1)
    inputs, _ = next(task.batches())
    assert sorted(identities(inputs)) == sorted((k, i, 0) for k in task.classes.tolist() for i in range(counts[k]))


def test_the_training_stream_is_the_same_at_every_call_and_differs_between_tasks() -> None:
    found = stream(augment=True)
    one, two = (found.task(1).batches() for _ in range(2))
    for _ in range(5):
        for ours, theirs in zip(next(one), next(two), strict=True):
            assert torch.equal(ours, theirs)
    orders = [[next(b)[1].tolist() for _ in range(4)] for b in (found.task(i).batches() for i in range(4))]
    assert any(order != orders[0] for order in orders[1:])


@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
def test_smaller_images_are_means_over_blocks(resolution: int) -> None:
    task = stream(resolution=resolution).task(0)
    inputs, _ = next(task.held_out())
    label = int(task.classes[0])
    original = IMAGES.test_images[label * TEST : (label + 1) * TEST].astype(np.float64) / 255
    side = 64 // resolution
    blocks = original.reshape(TEST, 3, resolution, side, resolution, side).mean((3, 5))
    expected = normalize(torch.from_numpy(blocks)).float()
    torch.testing.assert_close(inputs[:TEST], expected, rtol=0, atol=2e-6)


def test_held_out_images_are_all_of_the_tasks_classes_and_no_others() -> None:
    counts = [90 + k for k in range(CLASSES)]
    found = stream(images=image_set(test=counts), augment=True)
    task = found.task(3)
    batches = list(task.held_out())
    assert [len(targets) for _, targets in batches[:-1]] == [256] * (len(batches) - 1)
    seen = identities(torch.cat([inputs for inputs, _ in batches]))
    assert seen == [(k, i, 1) for k in task.classes.tolist() for i in range(counts[k])]
    targets = torch.cat([targets for _, targets in batches])
    assert task.classes[targets].tolist() == [label for label, _, _ in seen]


def test_the_probe_is_balanced_and_always_the_same() -> None:
    counts = [60 + k for k in range(CLASSES)]
    found = stream(images=image_set(train=counts), images_per_class=0, augment=True)
    inputs, targets = found.task(1).probe()
    assert targets.bincount().tolist() == [50, 50, 50]
    classes = found.task(1).classes.tolist()
    assert identities(inputs) == [(k, i, 0) for k in classes for i in range(50)]
    again = stream(images=image_set(train=counts), images_per_class=0, augment=True).task(1).probe()
    assert torch.equal(inputs, again[0])
    assert torch.equal(targets, again[1])


def test_a_probe_of_few_images_takes_as_many_of_each_class() -> None:
    counts = [TRAIN + k for k in range(CLASSES)]
    found = stream(images=image_set(train=counts), images_per_class=0)
    task = found.task(0)
    smallest = min(counts[k] for k in task.classes.tolist())
    assert task.probe()[1].bincount().tolist() == [smallest] * 3


# --- loss and score -------------------------------------------------------------------------------------------------


def test_the_outputs_that_count_are_those_of_the_tasks_classes() -> None:
    found = stream()
    for index in range(3):
        task = found.task(index)
        assert task.classes.tolist() == found.class_order[3 * index : 3 * (index + 1)].tolist()
        assert task.classes.dtype == torch.int64


def test_the_loss_is_the_mean_cross_entropy_of_what_it_is_given() -> None:
    outputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    softmax = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    expected = -softmax[torch.arange(6), targets].log().mean()
    torch.testing.assert_close(stream().task(1).loss(outputs, targets), expected)


@pytest.mark.parametrize(("batch_size", "steps"), [(128, 1), (4, 4), (15, 1), (14, 2)])
def test_an_epoch_is_one_pass_over_the_tasks_images(batch_size: int, steps: int) -> None:
    task = stream(batch_size=batch_size, images_per_class=5).task(0)
    assert task.epoch == steps
    batches = task.batches()
    assert sum(len(next(batches)[0]) for _ in range(task.epoch)) == 15


def test_the_score_compares_the_tasks_classes_and_the_other_one_all_outputs() -> None:
    task = stream().task(1)
    a, b, c = task.classes.tolist()
    other = next(k for k in range(CLASSES) if k not in (a, b, c))
    outputs = torch.zeros(4, CLASSES)
    outputs[0, a] = 1.0  # right
    outputs[1, b], outputs[1, other] = 1.0, 2.0  # right among the task's classes only
    outputs[2, c] = 1.0  # wrong
    outputs[3, c], outputs[3, other] = -1.0, 2.0  # wrong: ties of a and b go to a
    targets = torch.tensor([0, 1, 0, 2])
    assert task.score(outputs[:, task.classes], targets).tolist() == [True, True, False, False]
    (name, scores), *rest = task.held_out_scores(outputs, targets).items()
    assert (name, rest) == ("heldout_accuracy_all_outputs", [])
    assert scores.tolist() == [True, False, False, False]


# --- the protocol ---------------------------------------------------------------------------------------------------


def protocol_id(spec: ComponentSpec) -> str:
    adam = ComponentSpec.parse("optimizers", "adam:lr=1e-3")
    return RunSpec(
        scenario=spec,
        architecture=ComponentSpec.parse("architectures", "mlp"),
        optimizer=adam,
        reference_optimizer=adam,
        methods=(),
        seed=0,
        metrics=(),
        data=None,
    ).protocol_id


OTHER_VALUES = {
    "tasks": "20",
    "steps_per_task": "400",
    "classes_per_task": "4",
    "images_per_class": "40",
    "resolution": "16",
    "batch_size": "128",
    "augment": "true",
    "scored_steps": "0",
    "head_policy": "keep",
    "optimizer_policy": "reset",
    "probe_every": "100",
    "late": "3",
    "recurrence": "10",
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(TinyImageNet40) if f.name != "profile"])
def test_every_field_changes_the_protocol(field: str) -> None:
    changed = parse_scenario(f"tinyimagenet40:{field}={OTHER_VALUES[field]}")
    assert changed.fields["profile"] == "lite+custom"
    assert protocol_id(changed) != protocol_id(parse_scenario("tinyimagenet40"))
    assert protocol_id(changed).startswith("tinyimagenet40@2+")


def test_every_profile_is_a_protocol_of_its_own() -> None:
    ids = {profile: protocol_id(parse_scenario("tinyimagenet40", profile)) for profile in TinyImageNet40.profiles}
    assert sorted(ids) == ["full", "lite", "smoke", "text"]
    assert len(set(ids.values())) == 4
    assert protocol_id(parse_scenario("tinyimagenet40")) == ids["lite"]
    assert parse_scenario("tinyimagenet40").build() == TinyImageNet40()


@pytest.mark.parametrize(
    ("profile", "resolution", "images", "steps", "scored", "batch_size", "tasks", "late", "augment"),
    [
        ("full", 64, 0, 10_000, 10_000, 128, 40, range(32, 40), True),
        ("lite", 32, 50, 100, 50, 64, 40, range(32, 40), False),
        ("text", 64, 0, 500, 500, 128, 40, range(32, 40), True),
        ("smoke", 32, 20, 50, 25, 64, 10, range(5, 10), False),
    ],
)
def test_profiles(
    profile: str,
    resolution: int,
    images: int,
    steps: int,
    scored: int,
    batch_size: int,
    tasks: int,
    late: range,
    augment: bool,
) -> None:
    built = parse_scenario("tinyimagenet40", profile).build()
    assert isinstance(built, TinyImageNet40)
    assert (built.profile, built.resolution, built.images_per_class) == (profile, resolution, images)
    assert (built.steps(7), built.scored(7), built.tasks, built.late_tasks) == (steps, scored, tasks, late)
    assert (built.classes_per_task, built.batch_size, built.augment) == (5, batch_size, augment)
    assert built.head_policy == "zero"
    assert (profile in built.unranked) == (profile == "smoke")


@pytest.mark.parametrize(
    ("profile", "rate", "tenth"),
    [("full", "1e-3", "1e-4"), ("lite", "3e-3", "3e-4"), ("text", "1e-3", "1e-4"), ("smoke", "3e-3", "3e-4")],
)
def test_learner_and_reference_have_one_rate_and_transformers_a_tenth_of_it(
    profile: str, rate: str, tenth: str
) -> None:
    built = parse_scenario("tinyimagenet40", profile).build()
    assert isinstance(built, TinyImageNet40)
    recipe = built.recipe("mlp")
    assert recipe.optimizer == recipe.reference == f"adam:lr={rate}"
    assert recipe.transformers == Recipe(optimizer=f"adam:lr={tenth}", reference=f"adam:lr={tenth}")
    for architecture in ("vit", "resnet18"):
        assert built.recipe(architecture) == recipe
    custom = dataclasses.replace(built, profile=f"{profile}+custom")
    assert custom.recipe("mlp") == recipe


@pytest.mark.parametrize(("scored_steps", "scored"), [(0, 20), (1, 1), (20, 20), (50, 20)])
def test_the_first_steps_are_scored_or_all(scored_steps: int, scored: int) -> None:
    assert scenario(steps_per_task=20, scored_steps=scored_steps).scored(3) == scored


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": 0}, "tasks must be at least 1, got 0"),
        ({"steps_per_task": -5}, "steps_per_task must be at least 1, got -5"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"classes_per_task": 1}, "classes_per_task must be at least 2, got 1"),
        ({"resolution": 24}, "resolution must be one of 8, 16, 32, 64, got 24"),
        ({"images_per_class": -1}, "images_per_class must be at least 0, got -1"),
        ({"probe_every": -1}, "probe_every must be at least 0, got -1"),
        ({"head_policy": "drop"}, "head_policy must be one of zero, keep, got 'drop'"),
        ({"optimizer_policy": ""}, "optimizer_policy must be one of carry, reset, got ''"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        scenario(**fields)


@pytest.mark.parametrize("text", ["tinyimagenet40:steps=3", "tinyimagenet40:tasks=many", "tinyimagenet40:profile=full"])
def test_malformed_requests_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError):
        parse_scenario(text)


@pytest.mark.parametrize(
    ("images", "fields", "message"),
    [
        (IMAGES, {"tasks": 5}, r"5 x 3 = 15 classes, toy has 13; lower tasks or classes_per_task"),
        (IMAGES, {"images_per_class": 8}, r"8 training images of each class, toy has 7 of n\d\d; lower"),
        (image_set(train=[0] * 13), {"images_per_class": 0}, r"1 training images of each class, toy has 0 of n\d\d"),
        (image_set(test=[0] * 13), {}, r"held-out images of each class, toy has none of n\d\d"),
    ],
    ids=["classes", "images", "none", "held-out"],
)
def test_data_that_cannot_feed_the_scenario_is_refused_before_the_run(
    images: ImageSet, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        stream(images=images, **fields)
    assert isinstance(caught.value, LopbenchError)


def test_classes_that_no_task_uses_may_lack_images() -> None:
    unused = int(stream().class_order[-1])
    counts = [0 if k == unused else TRAIN for k in range(CLASSES)]
    assert stream(images=image_set(train=counts)).task(3).chance == 1 / 3
