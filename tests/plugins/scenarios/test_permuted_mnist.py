import pytest
import torch

from lopbench.core.errors import DataError
from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program, why_not
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.scenarios.permuted_mnist import PermutedMnist

CPU = torch.device("cpu")


@pytest.fixture
def stream(numbered):
    images = numbered()

    def made(seed=0, **fields):
        scenario = PermutedMnist(**{"tasks": 5, "steps_per_task": 12, "batch_size": 4, "scale": "unit", **fields})
        return scenario.stream(seed, data=images, device=CPU)

    return made


def trained_on(task, steps=12):
    """Return images, with their pixels where they were, and labels of the first steps of a task."""
    batches = task.batches()
    inputs, labels = (torch.cat(part) for part in zip(*(next(batches) for _ in range(steps)), strict=True))
    return unpermuted(task, inputs), labels


def unpermuted(task, inputs):
    pixels = (inputs * 255).round().to(torch.uint8).flatten(2)
    original = torch.empty_like(pixels)
    original[:, :, task.permutation] = pixels
    return original.view(inputs.shape)


def places(images):
    return (250 * images[:, 0, 0, 0].long() + images[:, 0, 0, 1]).tolist()


# -- the samples


def test_a_task_shows_images_of_the_set_under_one_permutation_of_their_pixels(stream):
    found = stream()
    task = found.task(1)
    images, labels = trained_on(task)
    for image, label, place in zip(images, labels.tolist(), places(images), strict=True):
        assert torch.equal(image, torch.tensor(found.images.train_images[place]))
        assert label == found.images.train_labels[place]
    assert sorted(task.permutation.tolist()) == list(range(784))


def test_no_image_comes_twice_in_a_task_and_others_come_in_the_next(stream):
    found = stream()
    shown = [places(trained_on(found.task(index))[0]) for index in range(3)]
    assert all(len(set(each)) == 48 for each in shown)
    assert len({frozenset(each) for each in shown}) == 3


def test_permutations_are_of_the_seed_and_differ_between_tasks(stream):
    ours, again, theirs = (
        [found.task(index).permutation.tolist() for index in range(4)] for found in (stream(0), stream(0), stream(1))
    )
    assert ours == again
    assert len({tuple(each) for each in (*ours, *theirs)}) == 8


def test_a_longer_task_begins_as_a_shorter_one_does(stream):
    short, long = (trained_on(stream(steps_per_task=steps).task(2), 6) for steps in (6, 70))
    assert torch.equal(short[0], long[0])
    assert torch.equal(short[1], long[1])


def test_held_out_images_are_those_of_the_other_split_under_the_same_permutation(stream):
    found = stream()
    task = found.task(3)
    ((inputs, labels),) = task.held_out()
    assert torch.equal(unpermuted(task, inputs), torch.tensor(found.images.test_images))
    assert labels.tolist() == found.images.test_labels.tolist()


def test_at_most_two_hundred_of_a_class_are_held_out(numbered):
    images = numbered(test=203)
    found = PermutedMnist(steps_per_task=2, batch_size=4).stream(0, data=images, device=CPU)
    batches = list(found.task(0).held_out())
    assert torch.cat([labels for _, labels in batches]).bincount().tolist() == [200] * 10
    assert [len(labels) for _, labels in batches] == [1000, 1000]


def test_the_probe_has_as_many_of_each_class(numbered):
    images = numbered(train=60)
    found = PermutedMnist(steps_per_task=2, batch_size=4).stream(0, data=images, device=CPU)
    inputs, labels = found.task(1).probe()
    assert labels.bincount().tolist() == [50] * 10
    assert inputs.shape == (500, 1, 28, 28)


@pytest.mark.parametrize(("scale", "mean", "std"), [("unit", 0, 1), ("signed", 0.5, 0.5), ("standard", 0.1307, 0.3081)])
def test_pixels_are_presented_at_the_scale(stream, scale, mean, std):
    unit, other = (next(stream(scale=each).task(0).batches())[0] for each in ("unit", scale))
    torch.testing.assert_close(other, (unit - mean) / std)
    assert 0 <= unit.min() < 0.1
    assert 0.9 < unit.max() <= 1


def test_chunks_are_the_batches_one_by_one_and_a_stream_resumes_between_them(stream):
    task = stream().task(0)
    single, chunked, resumed = task.batches(), task.batches(), task.batches()
    assert chunked.sizes == (4,)
    expected = [next(single) for _ in range(9)]
    ((first, labels),) = chunked.take(4)
    assert torch.equal(first, torch.stack([x for x, _ in expected[:4]]))
    assert torch.equal(labels, torch.stack([y for _, y in expected[:4]]))
    assert torch.equal(next(chunked)[0], expected[4][0])
    resumed.load_state_dict(chunked.state_dict())
    for each in (chunked, resumed):
        assert torch.equal(each.take(4)[0][0], torch.stack([x for x, _ in expected[5:]]))


def test_seeds_train_as_one_program(stream):
    streams = [stream(seed) for seed in (0, 1)]
    tasks = [each.task(0) for each in streams]

    def learner():
        inputs, targets = next(tasks[0].batches())
        made = StackLearner(
            build=lambda generator: MLP(widths=(6, 5)).build((1, 28, 28), 10, generator=generator),
            seeds=(0, 1),
            methods=[],
            optimizer=Adam(lr=1e-2),
            example=inputs,
            targets=targets,
            outputs=10,
            dtype=torch.float64,
        )
        made.begin_task(0, tasks, first=True, reset_optimizer=False, zero_head=False)
        return made

    one_by_one, together = learner(), learner()
    batches = [task.batches() for task in tasks]
    for _ in range(8):
        one_by_one.step([next(each) for each in batches])
    first = [task.batches().take_stored(1)[0] for task in tasks]
    period = [tuple(torch.cat(part) for part in zip(*first, strict=True))]
    assert why_not(together, tasks[0], period) is None
    program = Program(together, tasks[0], period, unroll=4, compiled=False)
    taken = [task.batches().take_stored(8)[0] for task in tasks]
    program.advance(together, [tuple(zip(*taken, strict=True))])
    for name, value in one_by_one.view.parameters.items():
        torch.testing.assert_close(value, together.view.parameters[name], rtol=1e-9, atol=1e-11)


# -- the protocol


def test_profiles_are_the_published_protocols():
    kumar, upgd, dohare, lite = (
        parse_scenario("permuted_mnist", profile).build() for profile in ("kumar", "upgd", "dohare", "lite")
    )
    assert (kumar.tasks, kumar.steps_per_task * kumar.batch_size, kumar.batch_size) == (500, 10_000, 16)
    assert (upgd.tasks, upgd.steps_per_task * upgd.batch_size, upgd.batch_size) == (200, 5_000, 1)
    assert (dohare.tasks, dohare.steps_per_task * dohare.batch_size, dohare.batch_size) == (800, 60_000, 1)
    assert [each.scale for each in (kumar, upgd, dohare, lite)] == ["signed", "standard", "unit", "signed"]
    assert {each.headline for each in (kumar, upgd, dohare, lite)} == {"trainability"}
    rates = [each.recipe("mlp").reference for each in (kumar, upgd, dohare, lite)]
    assert rates == ["adam:lr=1e-3", "sgd:lr=0.01", "sgd:lr=0.003", "adam:lr=1e-3"]


def test_lite_is_the_protocol_that_was_calibrated():
    lite = parse_scenario("permuted_mnist").build()
    assert (lite.profile, lite.tasks, lite.steps_per_task, lite.batch_size) == ("lite", 100, 150, 16)
    assert (lite.head_policy, lite.optimizer_policy) == ("keep", "carry")


@pytest.mark.parametrize(
    ("profile", "parameters"),
    # of 784-100-100-10, 784-300-150-10 and 784-2000-2000-2000-10
    [("kumar", 89_610), ("lite", 89_610), ("smoke", 89_610), ("upgd", 282_160), ("dohare", 9_594_010)],
)
def test_the_default_network_is_the_published_one_of_the_profile(profile, parameters):
    scenario = parse_scenario("permuted_mnist", profile).build()
    architecture = ComponentSpec.parse("architectures", scenario.default_architecture).build()
    network = architecture.build((1, 28, 28), 10, generator=torch.Generator().manual_seed(0))
    assert sum(each.numel() for each in network.parameters()) == parameters
    assert {type(each).__name__ for each in network.modules() if not list(each.children())} == {
        *("Flatten", "Linear", "ReLU"),
    }


def test_too_few_images_are_refused_before_training(numbered):
    scenario = PermutedMnist(steps_per_task=76, batch_size=4)
    with pytest.raises(DataError, match=r"needs 304 training images for a task, mnist as it is found has 300; lower"):
        scenario.stream(0, data=numbered(), device=CPU)
    PermutedMnist(steps_per_task=75, batch_size=4).stream(0, data=numbered(), device=CPU)
