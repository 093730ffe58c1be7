from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.data import load_data
from lopbench_plugins.data import procedural
from lopbench_plugins.data._drawing import draw, mix
from lopbench_plugins.data.procedural import digit_sized, halved, plan, procedural_images


def test_mix_is_splitmix64():
    # The first outputs of java.util.SplittableRandom / splitmix64 seeded with 0 and 1234567 (published test vectors).
    golden = 0x9E3779B97F4A7C15
    seeds = [0, 1234567]
    states = np.array([(seed + golden) % 2**64 for seed in seeds], dtype=np.uint64)
    assert mix(states).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


def test_a_small_set_is_pinned_to_the_bit():
    images = procedural_images(5, 8, 4)
    assert images.content_hash == "4865c2ca5ea71c27f8337930160d3a15bd7648ff8647e979ee46970519e0db42"
    assert images.train_images.shape == (40, 3, 64, 64)
    assert images.test_images.shape == (20, 3, 64, 64)
    assert images.train_labels.tolist() == [label for label in range(5) for _ in range(8)]
    assert images.classes == ("p000", "p001", "p002", "p003", "p004")
    assert images.subset
    assert not images.real


@pytest.mark.slow
def test_the_full_set_is_pinned_to_the_bit():
    images = load_data("procedural")
    assert images.content_hash == "d1319ad3ff10fd8e73db9a73bba912ccecf4679c0943f1b03d329a037e4c64c2"
    assert len(images.classes) == 200
    assert images.train_images.shape == (50_000, 3, 64, 64)
    assert images.test_images.shape == (10_000, 3, 64, 64)
    assert not images.subset


def test_halving_takes_the_means_of_blocks_rounded_half_up():
    pixels = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    # (0 + 1 + 4 + 5) / 4 = 2.5, and 2 more for each block to the right and 8 for each below.
    assert halved(pixels).tolist() == [[[[3, 5], [11, 13]]]]
    assert halved(np.full((2, 3, 64, 64), 255, np.uint8)).min() == 255


def test_digits_are_grey_without_the_border():
    pixels = np.zeros((2, 3, 64, 64), np.uint8)
    pixels[:, :, 4:60, 4:60] = 255
    pixels[1, 0] = 0
    small = digit_sized(pixels)
    assert small.shape == (2, 1, 28, 28)
    assert (small[0] == 255).all()
    assert (abs(small[1] - 255 * (0.587 + 0.114)) < 1).all()  # ITU-R 601-2, without red


@pytest.mark.parametrize(
    ("name", "content_hash"),
    [
        ("procedural-cifar10", "f2123d69e939b202756ca8d3b224f7007d8a289ddcffff3386134ff1a1f78308"),
        ("procedural-cifar100", "f287357d14eb1555f18a8290f1639bdcf66d9da7e1873d20716695a48a9bd2fb"),
        ("procedural-mnist", "1c9cd705ba5937e7864f5d04227766654df7fb08c2b5e18de8640b9b83ee6175"),
    ],
)
def test_a_few_images_of_each_smaller_set_are_pinned_to_the_bit(name, content_hash, monkeypatch):
    monkeypatch.setattr(procedural, "plan", lambda classes, train, test: plan(classes, train // 500, test // 100))
    images = load_data(name)
    assert not images.subset
    assert images.content_hash == content_hash


@settings(max_examples=20)
@given(label=st.integers(0, 199), split=st.integers(0, 1), start=st.integers(0, 200), count=st.integers(1, 4))
def test_an_image_depends_on_its_class_split_and_index_alone(label, split, start, count):
    together = draw(label, split, range(start, start + count))
    alone = draw(label, split, range(start + count - 1, start + count))
    np.testing.assert_array_equal(together[-1:], alone)


def test_no_image_occurs_twice_within_or_across_splits():
    images = procedural_images(20, 30, 30)
    everything = np.concatenate([images.train_images, images.test_images]).reshape(1200, -1)
    assert len({row.tobytes() for row in everything}) == 1200


def test_images_use_the_range_of_grey_levels_without_saturating():
    pixels = procedural_images(40, 10, 1).train_images
    assert 100 < pixels.mean() < 156
    assert pixels.std() > 40
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.05


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1001, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(InvalidInputError, match="at least 1 image a class"):
        procedural_images(*arguments)


def flat(images):
    """Return images at 32x32 as centred vectors ``(N, 3072)``."""
    return centred(images.reshape(len(images), 3, 32, 2, 32, 2).mean(axis=(3, 5), dtype=np.float32))


def centred(images):
    return torch.from_numpy((images.astype(np.float32) / 255 - 0.5).reshape(len(images), -1) * 4)


def held_out_accuracy(layers, lr, train, test, steps=150):
    x, y = train
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(layers.parameters(), lr=lr)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=generator)
        loss = torch.nn.functional.cross_entropy(layers(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (layers(test[0]).argmax(dim=1) == test[1]).double().mean().item()


@pytest.fixture
def one_thread():
    """Networks this small gain nothing from threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mlp(inputs=3072):
    widths = [inputs] + [128] * 5
    hidden = [part for a, b in pairwise(widths) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    return torch.nn.Sequential(*hidden, torch.nn.Linear(128, 5))


@pytest.mark.parametrize("per_class", [50, 250])
def test_linear_is_clearly_worse_than_mlp_and_mlp_than_perfect(per_class, one_thread):
    linear, deep = [], []
    for task in range(3):
        classes = range(5 * task, 5 * task + 5)
        train, test = (
            (flat(np.concatenate([draw(k, split, range(n)) for k in classes])), torch.arange(5).repeat_interleave(n))
            for split, n in ((0, per_class), (1, 50))
        )
        with torch.random.fork_rng():
            torch.manual_seed(task)
            # The better of two rates: the linear model must not lose for want of tuning.
            linear.append(max(held_out_accuracy(torch.nn.Linear(3072, 5), lr, train, test) for lr in (1e-4, 1e-3)))
            deep.append(held_out_accuracy(mlp(), 1e-3, train, test))
    # Measured: linear .37 and .43, mlp .74 and .87; chance .2.
    assert 0.25 < np.mean(linear) < 0.5
    assert np.mean(linear) + 0.2 < np.mean(deep) < 0.95


def test_grey_digits_are_learnable_by_mlp_and_not_by_linear(one_thread):
    train, test = (
        (
            centred(np.concatenate([digit_sized(draw(k, split, range(n))) for k in range(5)])),
            torch.arange(5).repeat_interleave(n),
        )
        for split, n in ((0, 400), (1, 100))
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = max(held_out_accuracy(torch.nn.Linear(784, 5), lr, train, test) for lr in (1e-4, 1e-3))
        deep = held_out_accuracy(mlp(784), 1e-3, train, test, steps=300)
    # Measured: .33 and .69; chance .2.
    assert linear + 0.2 < deep < 0.95
