"""Random crop, flip and colour jitter of a batch, drawn ahead in blocks and applied in three passes.

The transform is the one that Joudaki et al. 2025 (arXiv:2510.00304) train with, torchvision's ``RandomCrop(64,
padding=8)``, ``RandomHorizontalFlip()``, ``ColorJitter(.1, .1, .1)`` and ``Normalize``. Brightness, contrast and
saturation are affine maps of the pixel values, and without intermediate clamping they commute, so each sample's jitter
and normalisation is one 3x3 colour matrix and one offset.

Deviations from the torchvision transform on PIL images: values are clamped to [0, 1] once, after all three, and are
not rounded to 8 bits in between; the padding of 8 pixels at 64 is scaled with the resolution.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lopbench import ChunkedBatches

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
#: ITU-R 601-2 luma, the grey of PIL and torchvision.
LUMA = (0.299, 0.587, 0.114)
JITTER = 0.1
#: Batches that are drawn ahead, so that a step costs no random draws of its own.
BLOCK = 64


def normalize(images: Tensor) -> Tensor:
    """Return ``images`` in [0, 1] of shape ``(N, 3, H, W)``, standardised channel by channel."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


class ImageBatches(ChunkedBatches):
    """Endless shuffled epochs over a task's images; the last, smaller batch of an epoch is kept.

    Args:
        images: Pixels in [0, 1], ``(M, 3, H, H)``, on the device where batches are made.
        labels: Classes within the task, ``(M,)``, on the same device.
        batch_size: Size of every batch but an epoch's last.
        augment: Whether to crop, flip and jitter.
        generator: CPU generator of this stream; owned by this object from now on.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, batch_size: int, augment: bool, generator: Generator) -> None:
        self._images = images
        self._labels = labels
        self._generator = generator
        self._augment = augment
        count, size = len(images), images.shape[-1]
        self._padding = max(1, size // 8)
        self._sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
        self._epochs = -(-BLOCK // len(self._sizes))
        self._position = 0
        self._draw()

    # Sources, made when the first batch needs them --------------------------------------------------------------------

    @cached_property
    def _normalized(self) -> Tensor:
        return normalize(self._images)

    @cached_property
    def _windows(self) -> Tensor:
        """Every window into the padded images and their mirror images, a view ``(L, 3, H, H)``.

        The window of which the first pixel is element ``i`` of the flattened images is row ``i``. Picking rows of one
        view is four times as fast as indexing by image, row and column.
        """
        count, size, padding = len(self._images), self._images.shape[-1], self._padding
        side = size + 2 * padding
        padded = self._images.new_zeros(2 * count, 3, side, side)
        inner = padded[:, :, padding:-padding, padding:-padding]
        inner[:count] = self._images
        inner[count:] = self._images.flip(-1)
        reach = 2 * side**2 + (size - 1) * (side + 1)  # from the first pixel of a window to its last
        return padded.as_strided((padded.numel() - reach, 3, size, size), (1, side**2, side, 1))

    @cached_property
    def _grey(self) -> Tensor:
        """Mean grey of every crop, ``(2M, 2P+1, 2P+1)``."""
        size = self._images.shape[-1]
        luma = self._images.new_tensor(LUMA).view(3, 1, 1)
        grey = F.pad((self._images * luma).sum(1), [self._padding] * 4)
        # The images as channels that stand side by side, which are summed in one pass.
        both = torch.cat([grey, grey.flip(-1)]).unsqueeze(0).contiguous(memory_format=torch.channels_last)
        return F.avg_pool2d(both, size, stride=1).squeeze(0)

    # The block of batches drawn ahead ---------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw order and augmentation of the next block of epochs."""
        self._block_state = self._generator.get_state()
        generator, count = self._generator, len(self._images)
        order = torch.cat([torch.randperm(count, generator=generator) for _ in range(self._epochs)])
        sizes = self._sizes * self._epochs
        if self._augment:
            draws = torch.rand(6, len(order), generator=generator)
            shifts = 2 * self._padding + 1
            row, column = ((draws[i] * shifts).long().clamp(max=shifts - 1) for i in (0, 1))
            source = order + count * (draws[2] < 0.5)
            side = self._images.shape[-1] + 2 * self._padding
            start = 3 * side**2 * source + side * row + column
            source, row, column, start = torch.stack([source, row, column, start]).to(self._images.device)
            factors = (1 + JITTER * (2 * draws[3:] - 1)).to(self._images)
            matrix, offset = self._colour(factors, self._grey[source, row, column])
            self._plan = list(zip(start.split(sizes), matrix.split(sizes), offset.split(sizes), strict=True))
        order = order.to(self._labels.device)
        self._order = order.split(sizes)
        self._targets = self._labels[order].split(sizes)

    @staticmethod
    def _colour(factors: Tensor, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Return jitter and normalisation of each sample as ``(n, 3, 3)`` matrices and ``(n, 3, 1)`` offsets.

        With brightness b, contrast c and saturation s, grey level g(x) and mean grey m:
        ``x -> b (c (s x + (1 - s) g(x)) + (1 - c) m)``.
        """
        brightness, contrast, saturation = factors.view(3, -1, 1, 1)
        mean, std = (factors.new_tensor(values).view(3, 1) for values in (MEAN, STD))
        luma = factors.new_tensor(LUMA).expand(3, 3)
        mixed = saturation * torch.eye(3).to(factors) + (1 - saturation) * luma
        matrix = brightness * contrast * mixed / std
        offset = (brightness * (1 - contrast) * grey.view(-1, 1, 1) - mean) / std
        return matrix, offset

    @property
    def sizes(self) -> Sequence[int]:
        """Sizes of the batches of an epoch, or of any where all are of one size."""
        return self._sizes if len(set(self._sizes)) > 1 else self._sizes[:1]

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(N, 3, H, H)`` and its labels ``(N,)``."""
        self._go_on()
        batch = self._make(range(self._position, self._position + 1))
        self._position += 1
        return batch

    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the batches of the next periods: for each place of a period ``(periods, N, 3, H, H)`` and labels."""
        period = len(self.sizes)
        places: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(period)]
        while periods:
            self._go_on()
            stop = min(self._position + periods * period, len(self._order))
            for place, made in enumerate(places):
                made.append(self._make(range(self._position + place, stop, period)))
            periods -= (stop - self._position) // period
            self._position = stop
        parts = [[torch.cat(part) for part in zip(*made, strict=True)] for made in places]
        return [(x.unflatten(0, (-1, n)), y.unflatten(0, (-1, n))) for (x, y), n in zip(parts, self.sizes, strict=True)]

    def _go_on(self) -> None:
        """Draw the next block where this one is used up."""
        if self._position == len(self._order):
            self._position = 0
            self._draw()

    def _make(self, positions: range) -> tuple[Tensor, Tensor]:
        """Return the samples of some batches of the block, ``(n, 3, H, H)``, and their labels ``(n,)``."""
        targets = torch.cat([self._targets[i] for i in positions])
        if not self._augment:
            order = torch.cat([self._order[i] for i in positions])
            return self._normalized.index_select(0, order), targets  # half the time of indexing
        start, matrix, offset = (torch.cat(part) for part in zip(*(self._plan[i] for i in positions), strict=True))
        pixels = self._windows.index_select(0, start)
        batch = torch.baddbmm(offset, matrix, pixels.flatten(2)).view_as(pixels)
        for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
            batch[:, channel].clamp_(-mean / std, (1 - mean) / std)
        return batch, targets

    def state_dict(self) -> dict[str, Tensor]:
        """Return the generator as it was before the current block, and the place in the block."""
        return {"generator": self._block_state, "position": torch.tensor(self._position)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._generator.set_state(state["generator"])
        self._draw()
        self._position = int(state["position"])
