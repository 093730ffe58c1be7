"""The axes of change of the streams of labelled images: how abrupt, whether tasks come again, and how much changes."""

import pytest
import torch

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError
from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench_plugins.scenarios.changes import MixedBatches
from lopbench_plugins.scenarios.label_permuted import LabelPermuted
from lopbench_plugins.scenarios.permuted_mnist import PermutedMnist
from lopbench_plugins.scenarios.random_labels import RandomLabels

CPU = torch.device("cpu")
AXES = ("abruptness", "recurrence", "fraction")
#: The scenarios, and how each calls and sizes what it permutes of the images of the fixture.
PERMUTED = [(PermutedMnist, "permutation", 784), (LabelPermuted, "labels", 10), (RandomLabels, "labels", 40)]


@pytest.fixture
def stream(numbered):
    images = numbered()

    def made(cls, seed=0, **fields):
        sizes = {"images": 40} if cls is RandomLabels else {}
        scenario = cls(**{"tasks": 6, "steps_per_task": 12, "batch_size": 10, **sizes, **fields})
        return scenario.stream(seed, data=images, device=CPU)

    return made


def rows(task, count):
    """Return the places of the first images of a task."""
    places = torch.cat([task.order(passage) for passage in range(-(-count // len(task.order(0))))])
    return places[:count]


# -- as published


@pytest.mark.parametrize(("cls", "purpose", "count"), PERMUTED)
def test_by_default_a_stream_is_what_it_was_to_the_bit(stream, cls, purpose, count):
    found = stream(cls)
    for index in range(4):
        drawn = torch.randperm(count, generator=rng.derive(0, "data", cls.name, purpose, index))
        assert torch.equal(found.permutation(index, purpose, count), drawn)
        task = found.task(index)
        batches = task.batches()
        assert type(batches) is not MixedBatches
        inputs, labels = task.of_rows(task.order(0)[:10])
        ours = next(batches)
        assert torch.equal(ours[0], inputs)
        assert torch.equal(ours[1], labels)


@pytest.mark.parametrize("name", ["permuted_mnist", "label_permuted", "random_labels"])
def test_protocols_are_named_as_before_and_by_what_is_changed(name):
    assert not set(parse_scenario(name).fields) & set(AXES)
    spec = ComponentSpec.parse("scenarios", f"{name}:abruptness=20,recurrence=3,fraction=0.5")
    assert [spec.fields[axis] for axis in AXES] == [20, 3, 0.5]
    assert ComponentSpec.parse("scenarios", f"{name}:abruptness=0,recurrence=0,fraction=1").fields == (
        ComponentSpec.parse("scenarios", name).fields
    )


# -- abruptness


@pytest.mark.parametrize(("cls", "purpose", "count"), PERMUTED)
def test_the_share_of_the_new_task_rises_by_the_same_amount_from_step_to_step(stream, cls, purpose, count):
    shares = torch.zeros(12)
    for seed in range(60):
        found = stream(cls, seed, abruptness=9, scale="unit")
        task, before = found.task(2), found.task(1)
        seen, labels = (part.flatten(0, 1) for part in task.batches().take(12)[0])
        given = rows(task, 120)
        (new, new_labels), (old, old_labels) = task.of_rows(given), before.of_rows(given)
        is_new, is_old = (
            (seen == pixels).flatten(1).all(dim=1) & (labels == names)
            for pixels, names in ((new, new_labels), (old, old_labels))
        )
        assert (is_new | is_old).all()
        told = is_new != is_old  # of some images both tasks say the same
        shares += torch.stack(
            [new[each].float().mean() for new, each in zip(is_new.view(12, 10), told.view(12, 10), strict=True)]
        )
    wanted = torch.tensor([(step + 1) / 10 for step in range(9)] + [1.0] * 3)
    torch.testing.assert_close(shares / 60, wanted, rtol=0, atol=0.1)
    assert (shares[9:] == 60).all()


def test_the_first_task_has_none_before_it(stream):
    task = stream(PermutedMnist, abruptness=12).task(0)
    assert torch.equal(next(task.batches())[0], task.of_rows(task.order(0)[:10])[0])


def test_mixed_chunks_are_the_batches_one_by_one_and_a_stream_resumes_between_them(stream):
    task = stream(PermutedMnist, abruptness=6).task(3)
    single, chunked, resumed = task.batches(), task.batches(), task.batches()
    expected = [next(single) for _ in range(9)]
    ((first, labels),) = chunked.take(4)
    assert torch.equal(first, torch.stack([x for x, _ in expected[:4]]))
    assert torch.equal(labels, torch.stack([y for _, y in expected[:4]]))
    resumed.load_state_dict(chunked.state_dict())
    for each in (chunked, resumed):
        assert torch.equal(each.take(5)[0][0], torch.stack([x for x, _ in expected[4:]]))


# -- recurrence


@pytest.mark.parametrize(("cls", "purpose", "count"), PERMUTED)
def test_a_task_that_comes_again_is_the_same_with_other_images(stream, cls, purpose, count):
    found = stream(cls, recurrence=3)
    tasks = [found.task(index) for index in range(6)]
    places = torch.arange(40)
    shown = [task.of_rows(places) for task in tasks]
    for one, other in ((0, 3), (1, 4), (2, 5)):
        assert all(torch.equal(*pair) for pair in zip(shown[one], shown[other], strict=True))
        assert not torch.equal(tasks[one].order(0), tasks[other].order(0))
    assert not all(torch.equal(*pair) for pair in zip(shown[0], shown[1], strict=True))


def test_one_task_that_comes_again_never_changes(stream):
    found = stream(PermutedMnist, recurrence=1)
    assert len({tuple(found.task(index).permutation.tolist()) for index in range(6)}) == 1


# -- fraction


@pytest.mark.parametrize(("cls", "purpose", "count"), PERMUTED)
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.9])
def test_exactly_that_share_is_moved_and_another_in_each_task(stream, cls, purpose, count, fraction):
    found = stream(cls, fraction=fraction)
    moved = []
    for index in range(5):
        permutation = found.permutation(index, purpose, count)
        assert sorted(permutation.tolist()) == list(range(count))
        moved.append(tuple((permutation != torch.arange(count)).nonzero().flatten().tolist()))
    assert {len(each) for each in moved} == {round(fraction * count)}
    assert len(set(moved)) > 1 or fraction == 0


def test_a_fraction_of_the_pixels_stays_where_it_was(stream):
    found = stream(PermutedMnist, fraction=0.25, scale="unit")
    task = found.task(2)
    seen, _ = task.of_rows(torch.arange(40))
    original = found.presented(found.train[0][:40])
    same = (seen == original).flatten(1).all(dim=0)
    assert int((~same).sum()) == 196


# -- what cannot be


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"abruptness": 13}, "abruptness is a number of steps of a task and at most steps_per_task=12, got 13"),
        ({"abruptness": -1}, "abruptness must be at least 0, got -1"),
        ({"recurrence": -1}, "recurrence must be at least 0, got -1"),
        ({"fraction": 1.5}, "fraction must be at least 0 and at most 1, got 1.5"),
        ({"fraction": float("nan")}, "fraction must be a finite number, got nan"),
        ({"fraction": 0.1}, "fraction=0.1 of 10 is one, which cannot be permuted; give 0, or at least 0.2"),
    ],
)
def test_what_cannot_be_is_told_before_training(stream, fields, message):
    with pytest.raises(InvalidInputError, match=message):
        stream(LabelPermuted, **fields)
