"""The axes of change of the streams of labelled images: how abrupt, whether tasks come again, and how much changes."""

import pytest
import torch
from small_images_lab import places

from lopbench.core import rng
from lopbench.core.errors import DataError, InvalidInputError, UsageError
from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench_plugins.scenarios.changes import MixedBatches
from lopbench_plugins.scenarios.continual_imagenet import ContinualImageNet
from lopbench_plugins.scenarios.five_plus_one import FivePlusOne
from lopbench_plugins.scenarios.label_permuted import LabelPermuted
from lopbench_plugins.scenarios.permuted_mnist import PermutedMnist
from lopbench_plugins.scenarios.random_labels import RandomLabels
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40

CPU = torch.device("cpu")
AXES = ("abruptness", "recurrence", "fraction")
#: The scenarios, and how each calls and sizes what it permutes of the images of the fixture.
PERMUTED = [(PermutedMnist, "permutation", 784), (LabelPermuted, "labels", 10), (RandomLabels, "labels", 40)]
#: The scenarios whose tasks have classes of their own, with sizes of a task, of 24 and of 12 steps.
OWN = {
    ContinualImageNet: {"images_per_class": 12, "held_out_images": 5, "steps_per_task": 24},
    FivePlusOne: {"hard_classes": 3, "images_per_class": 12, "steps_per_task": 24},
}


@pytest.fixture
def stream(numbered):
    images = numbered()

    def made(cls, seed=0, **fields):
        sizes = {"images": 40} if cls is RandomLabels else {}
        scenario = cls(**{"tasks": 6, "steps_per_task": 12, "batch_size": 10, **sizes, **fields})
        return scenario.stream(seed, data=images, device=CPU)

    return made


@pytest.fixture
def own(numbered):
    """Return a function that makes a stream whose tasks have classes of their own."""
    sets = {"downsampled-imagenet-32": None, "cifar100": None}
    for name in sets:
        sets[name] = numbered(name, train=20, classes=24)

    def made(cls, seed=0, **fields):
        name = "cifar100" if cls is FivePlusOne else "downsampled-imagenet-32"
        scenario = cls(**{"data": name, "tasks": 6, "batch_size": 10, "scale": "unit", **OWN[cls], **fields})
        return scenario.stream(seed, data=sets[name], device=CPU)

    return made


def classes_of(found, inputs):
    """Return the class of each image of a batch, as it is in the data set, ``(N,)``."""
    return torch.tensor(found.images.train_labels)[torch.tensor(places(inputs))]


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
def test_protocols_of_what_is_permuted_are_named_as_before_and_by_what_is_changed(name):
    assert not set(parse_scenario(name).fields) & set(AXES)
    spec = ComponentSpec.parse("scenarios", f"{name}:abruptness=20,recurrence=3,fraction=0.5")
    assert [spec.fields[axis] for axis in AXES] == [20, 3, 0.5]
    assert ComponentSpec.parse("scenarios", f"{name}:abruptness=0,recurrence=0,fraction=1").fields == (
        ComponentSpec.parse("scenarios", name).fields
    )


@pytest.mark.parametrize("name", ["continual_imagenet", "five_plus_one"])
def test_protocols_of_other_classes_are_named_as_before_and_have_no_fraction(name):
    assert not set(parse_scenario(name).fields) & set(AXES)
    spec = ComponentSpec.parse("scenarios", f"{name}:abruptness=20,recurrence=3")
    assert [spec.fields[axis] for axis in AXES[:2]] == [20, 3]
    zeros = ComponentSpec.parse("scenarios", f"{name}:abruptness=0,recurrence=0")
    assert zeros == ComponentSpec.parse("scenarios", name)
    with pytest.raises(UsageError, match="has no field 'fraction'"):
        ComponentSpec.parse("scenarios", f"{name}:fraction=0.5")


@pytest.mark.parametrize("name", ["warm_start", "incremental"])
@pytest.mark.parametrize("axis", AXES)
def test_one_problem_that_grows_has_no_axis_of_change(name, axis):
    with pytest.raises(UsageError, match=f"has no field '{axis}'"):
        ComponentSpec.parse("scenarios", f"{name}:{axis}=1")


@pytest.mark.parametrize("cls", OWN)
def test_an_abruptness_of_0_gives_the_batches_that_there_were(own, cls):
    found = own(cls, abruptness=0)
    for index in range(3):
        task, batches = found.task(index), found.task(index).batches()
        assert type(batches) is not MixedBatches
        inputs, labels = task.of_rows(rows(task, 240))
        seen, given = (part.flatten(0, 1) for part in batches.take(24)[0])
        assert torch.equal(seen, inputs)
        assert torch.equal(given, labels)
        order = found.class_order
        named = order[2 * index : 2 * index + 2] if cls is ContinualImageNet else order[4 * index : 4 * index + 4]
        assert set(classes_of(found, inputs).tolist()) == set(named)


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


def test_the_share_of_new_classes_rises_by_the_same_amount_from_step_to_step(own):
    shares, before_seen = torch.zeros(24), []
    for seed in range(60):
        found = own(ContinualImageNet, seed, abruptness=9)
        task, order = found.task(2), torch.tensor(found.class_order)
        seen, labels = (part.flatten(0, 1) for part in task.batches().take(24)[0])
        known = classes_of(found, seen)
        new = torch.isin(known, order[4:6])
        # Either of the new classes under its label, or of those before under theirs.
        assert torch.equal(known, torch.where(new, order[4 + labels], order[2 + labels]))
        shares += new.view(24, 10).float().mean(dim=1)
        before_seen.append(set(known[~new].tolist()) == set(order[2:4].tolist()))
    assert all(before_seen)
    wanted = torch.tensor([(step + 1) / 10 for step in range(9)] + [1.0] * 15)
    torch.testing.assert_close(shares / 60, wanted, rtol=0, atol=0.1)
    assert (shares[9:] == 60).all()


def test_each_half_of_a_pair_comes_by_and_by_after_the_half_before(own):
    shares = torch.zeros(24)
    for seed in range(60):
        found = own(FivePlusOne, seed, abruptness=9)
        task, order = found.task(2), torch.tensor(found.class_order)
        seen, labels = (part.flatten(0, 1) for part in task.batches().take(24)[0])
        known = classes_of(found, seen)
        assert torch.equal(known, labels)
        hard, easy, easy_before = order[8:11], order[11], order[7]
        first, second = known[:120], known[120:]
        is_new = torch.cat([torch.isin(first, hard), second == easy])
        assert (first[~is_new[:120]] == easy_before).all()
        assert torch.isin(second[~is_new[120:]], hard).all()
        shares += is_new.view(24, 10).float().mean(dim=1)
    half = [(step + 1) / 10 for step in range(9)] + [1.0] * 3
    torch.testing.assert_close(shares / 60, torch.tensor(half * 2), rtol=0, atol=0.1)
    assert (shares.view(2, 12)[:, 9:] == 60).all()


def test_the_first_pair_has_none_before_it_and_its_easy_half_comes_by_and_by(own):
    found = own(FivePlusOne, abruptness=12)
    seen, labels = (part.flatten(0, 1) for part in found.task(0).batches().take(24)[0])
    order = found.class_order
    assert set(labels[:120].tolist()) == set(order[:3])
    assert set(labels[120:].tolist()) == set(order[:4])
    assert torch.equal(classes_of(found, seen), labels)


def test_the_first_classes_have_none_before_them(own):
    found = own(ContinualImageNet, abruptness=24)
    task = found.task(0)
    assert torch.equal(task.batches().take(24)[0][0].flatten(0, 1), task.of_rows(rows(task, 240))[0])


def test_a_task_and_the_task_before_may_have_other_numbers_of_images(own):
    found = own(ContinualImageNet, abruptness=24)
    for few, many in ((1, 2), (2, 1)):
        tasks = {}
        for index in (1, 2):
            images, labels = found.task(index).train
            cut = slice(0, 24, 4 if index == few else 1)
            tasks[index] = type(found.task(index))(found, index, (images[cut], labels[cut]), (images[:0], labels[:0]))
        before, task = tasks[1], tasks[2]
        known = classes_of(found, MixedBatches(task, before, 24).take(24)[0][0].flatten(0, 1))
        assert set(known.tolist()) == set(found.class_order[2:6]), (few, many)


@pytest.mark.parametrize("cls", [PermutedMnist, *OWN])
def test_mixed_chunks_are_the_batches_one_by_one_and_a_stream_resumes_between_them(stream, own, cls):
    task = (own if cls in OWN else stream)(cls, abruptness=6).task(3)
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


@pytest.mark.parametrize("cls", OWN)
def test_classes_that_come_again_are_the_same_images_in_another_order(own, cls):
    found = own(cls, recurrence=3)
    tasks = [found.task(index) for index in range(6)]
    for one, other in ((0, 3), (1, 4), (2, 5)):
        for mine, again in ((tasks[one].train, tasks[other].train), (tasks[one].test, tasks[other].test)):
            assert all(torch.equal(*pair) for pair in zip(mine, again, strict=True))
        assert not torch.equal(tasks[one].order(0), tasks[other].order(0))
    kinds = [set(classes_of(found, task.of_rows(torch.arange(len(task.train[1])))[0]).tolist()) for task in tasks]
    assert len(set.union(*kinds)) == sum(map(len, kinds[:3]))


def test_tiny_imagenet_tasks_that_come_again_are_the_same_images_in_another_order(numbered):
    images = numbered("tiny-imagenet-200", train=8, classes=6)
    scenario = TinyImageNet40(tasks=4, classes_per_task=3, images_per_class=6, recurrence=2, resolution=64)
    tasks = [scenario.stream(0, data=images, device=CPU).task(index) for index in range(4)]
    for one, other in ((0, 2), (1, 3)):
        for mine, again in zip(tasks[one].held_out(), tasks[other].held_out(), strict=True):
            assert torch.equal(mine[0], again[0])
        assert torch.equal(tasks[one].probe()[0], tasks[other].probe()[0])
        first, second = (next(tasks[index].batches())[0] for index in (one, other))
        assert not torch.equal(first, second)
    assert not torch.equal(tasks[0].probe()[0], tasks[1].probe()[0])


def test_tiny_imagenet_is_named_as_before_and_has_recurrence_alone():
    assert "recurrence" not in parse_scenario("tinyimagenet40").fields
    assert ComponentSpec.parse("scenarios", "tinyimagenet40:recurrence=2").fields["recurrence"] == 2
    for axis in ("abruptness", "fraction"):
        with pytest.raises(UsageError, match=f"has no field '{axis}'"):
            ComponentSpec.parse("scenarios", f"tinyimagenet40:{axis}=1")


def test_fewer_classes_are_needed_where_tasks_come_again(own):
    with pytest.raises(DataError, match="needs 28 classes, cifar100 has 24; lower tasks or hard_classes"):
        own(FivePlusOne, tasks=7)
    with pytest.raises(DataError, match="needs 28 classes, cifar100 has 24; lower recurrence or hard_classes"):
        own(FivePlusOne, tasks=9, recurrence=7)
    assert own(FivePlusOne, tasks=9, recurrence=6).scenario.different == 6
    assert own(FivePlusOne, tasks=3, recurrence=7).scenario.different == 3


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


def test_of_the_labels_that_are_exchanged_about_a_tenth_keep_their_value_and_the_others_are_true(stream):
    kept = []
    for seed in range(40):
        found = stream(RandomLabels, seed, fraction=0.5, images=100)
        true, permutation = found.train[1], found.permutation(3, "labels", 100)
        labels = found.task(3).trained_labels
        moved = permutation != torch.arange(100)
        assert int(moved.sum()) == 50
        assert torch.equal(labels[~moved], true[~moved])
        kept.append((labels[moved] == true[moved]).float().mean())
    assert 0.06 < torch.stack(kept).mean() < 0.13


def test_a_share_of_images_is_rounded_to_a_whole_number(stream):
    found = stream(RandomLabels, fraction=0.01, images=160)
    assert int((found.permutation(0, "labels", 160) != torch.arange(160)).sum()) == 2


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
        (
            {"abruptness": 1_300, "steps_per_task": 1_200, "batch_size": 1},
            "abruptness=1,300 is more than the 1,200 steps from one change to the next; give at most 1,200",
        ),
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


@pytest.mark.parametrize(("cls", "most"), [(ContinualImageNet, 24), (FivePlusOne, 12)])
def test_a_change_lasts_at_most_until_the_next_one(own, cls, most):
    assert own(cls, abruptness=most).scenario.abruptness == most
    told = f"abruptness={most + 1} is more than the {most} steps from one change to the next; give at most {most}"
    with pytest.raises(InvalidInputError, match=f"^{cls.name}: {told}$"):
        own(cls, abruptness=most + 1)
    with pytest.raises(InvalidInputError, match="recurrence must be at least 0, got -1"):
        own(cls, recurrence=-1)


# -- what was before


@pytest.mark.parametrize("cls", [PermutedMnist, LabelPermuted])
def test_a_task_tells_which_was_before(stream, cls):
    found = stream(cls)
    assert found.task(0).former() is None
    ((inputs, labels),) = found.task(3).former().held_out()
    ((shown, named),) = found.task(2).held_out()
    assert torch.equal(inputs, shown)
    assert torch.equal(labels, named)


def test_who_still_knows_the_former_names_is_right_of_the_former_task_by_hand(stream):
    task = stream(LabelPermuted).task(3)
    ((_, named),), ((_, now),) = task.former().held_out(), task.held_out()
    right = task.score(torch.eye(10)[named], named).double().mean()
    assert right == 1.0  # forgets nothing
    kept = (task.former().renamed == task.renamed).sum().item()  # names that the two tasks share, of ten
    assert task.score(torch.eye(10)[now], named).double().mean().item() == pytest.approx(kept / 10)
