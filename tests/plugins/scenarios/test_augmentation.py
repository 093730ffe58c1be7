import math
from itertools import permutations

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from lopbench.core import rng
from lopbench_plugins.scenarios.augmentation import BLOCK, LUMA, MEAN, STD, ImageBatches, normalize

#: Orders of brightness, contrast and saturation.
ORDERS = list(permutations(range(3)))


def images(count: int, size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(count, 3, size, size, generator=rng.derive(0, "images", count, size))


def batches(pixels: Tensor, batch_size: int = 5, *, seed: int = 0, augment: bool = True) -> ImageBatches:
    labels = torch.arange(len(pixels))  # each image is a class of its own, so that targets tell the order
    return ImageBatches(
        pixels, labels, batch_size=batch_size, augment=augment, generator=rng.derive(seed, "augmentation")
    )


def drawn(seed: int, count: int, batch_size: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return, for each sample of the first block, what the stream draws: image, crop, mirrored or not, factors."""
    generator = rng.derive(seed, "augmentation")
    epochs = math.ceil(BLOCK / math.ceil(count / batch_size))
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    uniform = torch.rand(6, len(order), generator=generator)
    shifts = 2 * max(1, size // 8) + 1
    return order, (uniform[:2] * shifts).floor().long().T, uniform[2] < 0.5, (0.9 + 0.2 * uniform[3:]).T


def crop_and_mirror(image: Tensor, row: int, column: int, mirrored: bool) -> Tensor:
    """The authors' order: pad, crop, then mirror; the drawn column counts from the edge that ends up on the left."""
    size = image.shape[-1]
    padding = max(1, size // 8)
    left = 2 * padding - column if mirrored else column
    cropped = V.crop(V.pad(image, [padding] * 4), row, left, size, size)
    return V.horizontal_flip(cropped) if mirrored else cropped


def grey(image: Tensor) -> Tensor:
    return sum(weight * channel for weight, channel in zip(LUMA, image, strict=True))


def jitter(image: Tensor, factors: Tensor, order: tuple[int, ...]) -> Tensor:
    """Brightness, contrast and saturation one after the other, as torchvision blends, without clamping."""
    for step in order:
        factor = factors[step].double()
        if step == 0:
            image = factor * image
        elif step == 1:
            image = factor * image + (1 - factor) * grey(image).mean()
        else:
            image = factor * image + (1 - factor) * grey(image)
    return image


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("size", "count", "batch_size", "seed"), [(8, 7, 5, 0), (16, 6, 6, 1), (32, 4, 3, 2)])
def test_every_batch_equals_the_transform_image_by_image(
    order: tuple[int, ...], size: int, count: int, batch_size: int, seed: int
) -> None:
    pixels = images(count, size)
    stream = batches(pixels, batch_size, seed=seed)
    found, labels = zip(*(next(stream) for _ in range(8)), strict=True)
    index, crops, mirrored, factors = drawn(seed, count, batch_size, size)
    total = sum(map(len, labels))
    assert torch.equal(torch.cat(labels), index[:total])
    for sample, batch_image in enumerate(torch.cat(found)):
        image = pixels[index[sample]].double()
        image = crop_and_mirror(image, *crops[sample].tolist(), bool(mirrored[sample]))
        image = jitter(image, factors[sample], order).clamp(0, 1)
        expected = V.normalize(image, list(MEAN), list(STD)).float()
        torch.testing.assert_close(batch_image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_jitter_is_torchvisions_where_nothing_is_clamped(order: tuple[int, ...]) -> None:
    # Its luma of tensors is rounded to .2989, which moves a pixel by up to 1e-4 * 0.1 / 0.224 = 4.5e-5 here.
    pixels = images(9, 8, low=0.4, high=0.6)
    stream = batches(pixels, 9)
    index, crops, mirrored, factors = drawn(0, 9, 9, 8)
    adjust = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)
    whole = 0
    for step in range(20):
        for image, sample in zip(next(stream)[0], range(9 * step, 9 * step + 9), strict=True):
            if crops[sample].tolist() != [1, 1]:
                continue  # padded, and so dark that torchvision clamps on the way
            whole += 1
            expected = pixels[index[sample]]
            expected = V.horizontal_flip(expected) if mirrored[sample] else expected
            for which in order:
                expected = adjust[which](expected, factors[sample, which].item())
            torch.testing.assert_close(image, V.normalize(expected, list(MEAN), list(STD)), rtol=0, atol=6e-5)
    assert whole > 10


def test_values_are_clamped_to_those_of_black_and_white() -> None:
    pixels = (torch.rand(20, 1, 16, 16, generator=rng.derive(0, "pixels")) < 0.5).float().expand(-1, 3, -1, -1)
    batch, _ = next(batches(pixels, 20))
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        assert batch[:, channel].min().item() == pytest.approx(-mean / std, abs=1e-6)
        assert batch[:, channel].max().item() == pytest.approx((1 - mean) / std, abs=1e-6)


def test_crops_and_mirror_images_are_equally_likely() -> None:
    # One white pixel at the right, in row 8 and column 13 of 16, tells where the window lies and which way round.
    pixels = torch.zeros(60, 3, 16, 16)
    pixels[:, :, 8, 13] = 1.0
    stream = batches(pixels, 60)
    counts = torch.zeros(16, 16)
    for _ in range(160):
        place = next(stream)[0].sum(1).flatten(1).argmax(1)
        counts.view(-1).index_add_(0, place, torch.ones(60))
    rows, columns = (
        slice(6, 11),
        [0, 1, 2, 3, 4, 11, 12, 13, 14, 15],
    )  # 2 pixels to each side of 8, of 13 and of 15 - 13
    seen = counts[rows][:, columns]
    assert seen.sum() == counts.sum() == 9600
    assert chisquare(seen.flatten().numpy()).pvalue > 0.01


def test_brightness_is_uniform_between_nine_and_eleven_tenths() -> None:
    # Contrast and saturation do nothing to an image of one grey, if no padding comes into the window.
    stream = batches(torch.full((50, 3, 8, 8), 0.5), 50)
    found = torch.cat([next(stream)[0] for _ in range(64)])[:, 0] * STD[0] + MEAN[0]
    whole = found[(found[:, [0, 0, 7, 7], [0, 7, 0, 7]] > 0.2).all(1)]
    brightness = whole.mean((1, 2)) / 0.5
    assert len(brightness) > 250
    assert kstest(brightness.numpy(), "uniform", args=(0.9, 0.2)).pvalue > 0.01


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(13, 5, [5, 5, 3]), (8, 4, [4, 4]), (3, 128, [3])])
def test_an_epoch_is_a_permutation_whose_last_batch_is_smaller(
    count: int, batch_size: int, sizes: list[int], augment: bool
) -> None:
    stream = batches(images(count, 8), batch_size, augment=augment)
    orders = []
    for _ in range(math.ceil(2.5 * BLOCK / len(sizes))):  # well into the third block
        labels = [next(stream)[1] for _ in sizes]
        assert [len(part) for part in labels] == sizes
        orders.append(tuple(torch.cat(labels).tolist()))
        assert sorted(orders[-1]) == list(range(count))
    assert len(set(orders)) > min(len(orders) // 2, 4)


def test_without_augmentation_images_are_only_normalised() -> None:
    pixels = images(7, 8)
    stream = batches(pixels, augment=False)
    for _ in range(4):
        batch, labels = next(stream)
        assert torch.equal(batch, normalize(pixels)[labels])
    torch.testing.assert_close(normalize(pixels), V.normalize(pixels, list(MEAN), list(STD)))


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("position", [0, 1, 30, 63, 64, 65, 66, 150])
def test_a_resumed_stream_goes_on_bit_for_bit(position: int, augment: bool) -> None:
    pixels = images(13, 8)  # three batches an epoch, 66 a block
    stream = batches(pixels, augment=augment)
    for _ in range(position):
        next(stream)
    saved = {name: value.clone() for name, value in stream.state_dict().items()}
    resumed = batches(pixels, seed=99, augment=augment)
    resumed.load_state_dict(saved)
    for _ in range(80):
        for ours, theirs in zip(next(stream), next(resumed), strict=True):
            assert torch.equal(ours, theirs)


def test_batches_depend_on_the_generator_alone() -> None:
    pixels = images(7, 8)
    state = torch.get_rng_state()
    first, again, other = batches(pixels), batches(pixels), batches(pixels, seed=1)
    one, two, three = ([next(stream) for _ in range(70)] for stream in (first, again, other))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(one, three, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_is_not_changed_by_the_next() -> None:
    stream = batches(images(7, 8))
    batch, labels = next(stream)
    kept = batch.clone(), labels.clone()
    next(stream)
    assert torch.equal(batch, kept[0])
    assert torch.equal(labels, kept[1])


# -- batches of many steps at once


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (13, 5), (7, 7), (3, 8)])
def test_batches_are_the_same_however_they_are_asked_for(count, batch_size, augment):
    one, other = (batches(images(count, 8), batch_size, augment=augment) for _ in range(2))
    period = len(one.sizes)
    for periods in (1, 3, 0, 2 * BLOCK // period + 1, 2):
        for _ in range(period):  # one by one in between
            expected, found = next(one), next(other)
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        if not periods:
            continue
        taken = one.take(periods)
        assert [(x.shape[:2], y.shape[:2]) for x, y in taken] == [((periods, n), (periods, n)) for n in one.sizes]
        for turn in range(periods):
            for x, y in taken:
                expected = next(other)
                assert torch.equal(x[turn], expected[0])
                assert torch.equal(y[turn], expected[1])


def test_a_period_is_a_batch_where_all_are_of_one_size_and_an_epoch_where_not():
    assert list(batches(images(12, 8), 4).sizes) == [4]
    assert list(batches(images(13, 8), 5).sizes) == [5, 5, 3]
    assert list(batches(images(3, 8), 8).sizes) == [3]


def test_a_stream_goes_on_from_its_state_after_many_batches_at_once():
    one, other = batches(images(13, 8)), batches(images(13, 8), seed=1)
    one.take(30)
    other.load_state_dict(one.state_dict())
    for (x, y), (u, v) in zip(one.take(2), other.take(2), strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
