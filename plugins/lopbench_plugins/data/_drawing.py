"""Images drawn by a program, the same on every machine.

A class is a texture on the ground, a shape with a texture of its own on top, and an axis in colour space along which
ground and shape lie apart. An image of it draws which of the two is on which side of grey, position, size, orientation,
phase, hue, contrast, the colour and slope of the light, an occluding patch and noise. As the side is drawn, the mean
image of a class tells little: a linear model sees the bias of that draw and not much more, a network with a hidden
layer can find the axis, and shape and texture are left for a better one.

Everything is integer arithmetic on counters hashed by splitmix64 (Steele, Lea and Flood 2014, the finaliser of
``java.util.SplittableRandom``), so that the pixels are the same on every machine and with every version of numpy.
Products stay below 2^31, or 2^15 where the type is int16; right shifts round towards minus infinity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Raised whenever the same arguments give other pixels; part of every random key.
VERSION = 1

#: Shape of an image.
SHAPE = (3, 64, 64)

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int32]
Shorts = NDArray[np.int16]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


# Random integers -----------------------------------------------------------------------------------------------------


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return splitmix64's finaliser of each value; a bijection of the 64-bit integers."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _stream(keys: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Return the first ``length`` values of splitmix64 started at each of ``keys`` ``(n,)``, as ``(n, length)``."""
    steps = np.arange(1, length + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return mix(keys[:, None] + steps)


def _key(*parts: int) -> NDArray[np.uint64]:
    """Return a key ``(1,)`` that depends on all ``parts``."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = mix(key * np.uint64(3) + np.array([part * _GOLDEN & _MASK], dtype=np.uint64) + np.uint64(1))
    return key


class _Dice:
    """Draws of integers, one for each of ``n`` keys, shaped ``(n, 1, 1)`` to meet images."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._values = _stream(keys, 40)
        self._next = 0

    def between(self, low: int, high: int) -> Ints:
        """Return integers from ``low`` to ``high``, both included."""
        top = self._values[:, self._next] >> np.uint64(32)
        self._next += 1
        drawn = (top * np.uint64(high - low + 1)) >> np.uint64(32)
        return (drawn.astype(np.int32) + np.int32(low))[:, None, None]

    def one(self, low: int, high: int) -> int:
        """Return the draw of the first key alone."""
        return int(self.between(low, high)[0, 0, 0])


# Waves and textures --------------------------------------------------------------------------------------------------


def _sine_table() -> Ints:
    """Return 256 times the sine of 256 angles, by Bhaskara's rational approximation (error below 0.2%)."""
    half = [(256 * 16 * k * (128 - k)) // (5 * 128 * 128 - 4 * k * (128 - k)) for k in range(128)]
    return np.array(half + [-value for value in half], dtype=np.int32)


_SINE = _sine_table()


def _sine(angle: Ints) -> Ints:
    sine: Ints = _SINE[angle & 255]
    return sine


def _cosine(angle: Ints) -> Ints:
    return _sine(angle + 64)


def _wave(phase: Ints) -> Ints:
    """Return a triangle wave of period 256 and range -256 to 256."""
    wave: Ints = np.abs((phase & 255) - 128)
    return wave * 4 - 256


def _checks(u: Ints, v: Ints) -> Ints:
    return (_wave(u) * _wave(v)) >> 8


def _dots(u: Ints, v: Ints) -> Ints:
    return np.minimum(_wave(u), _wave(v))


def _grid(u: Ints, v: Ints) -> Ints:
    return np.maximum(_wave(u), _wave(v))


def _stripes(u: Ints, v: Ints) -> Ints:
    return _wave(u)


def _rings(u: Ints, v: Ints) -> Ints:
    u, v = np.abs(u), np.abs(v)
    return _wave(np.maximum(u, v) + ((np.minimum(u, v) * 3) >> 3))  # octagons: no root is needed


def _zigzag(u: Ints, v: Ints) -> Ints:
    return _wave(u + (_wave(v) >> 1))


def _patches(u: Ints, v: Ints) -> Ints:
    return (_wave(u + (_wave(v >> 1) >> 2)) * _wave(v + (_wave(u >> 1) >> 2))) >> 8


def _bricks(u: Ints, v: Ints) -> Ints:
    return np.maximum(_wave(v), _wave((u >> 1) + (((v >> 8) & 1) << 7)))


_TEXTURES: tuple[Callable[[Ints, Ints], Ints], ...] = (
    _stripes,
    _checks,
    _dots,
    _grid,
    _rings,
    _zigzag,
    _patches,
    _bricks,
)


# Shapes: below 256 inside, 256 on the edge, for a shape of radius 256 ------------------------------------------------


def _disc(x: Ints, y: Ints) -> Ints:
    return (x * x + y * y) >> 8


def _square(x: Ints, y: Ints) -> Ints:
    return (np.maximum(np.abs(x), np.abs(y)) * 5) >> 2


def _diamond(x: Ints, y: Ints) -> Ints:
    return np.abs(x) + np.abs(y)


def _triangle(x: Ints, y: Ints) -> Ints:
    sides: Ints = (222 * np.abs(x) - 128 * y) >> 8
    return 2 * np.maximum(y, sides)


def _cross(x: Ints, y: Ints) -> Ints:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x, 3 * y), np.maximum(3 * x, y))


def _ring(x: Ints, y: Ints) -> Ints:
    return (np.abs(_disc(x, y) - 150) * 5) >> 1


def _bar(x: Ints, y: Ints) -> Ints:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(x, 3 * y)


def _star(x: Ints, y: Ints) -> Ints:
    x, y = np.abs(x), np.abs(y)
    inner: Ints = np.minimum(x, y)
    return x + y + 4 * inner


def _crescent(x: Ints, y: Ints) -> Ints:
    return np.maximum(_disc(x, y), 426 - _disc(x - 110, y))


def _pair(x: Ints, y: Ints) -> Ints:
    return 2 * _disc(np.abs(x) - 150, y) + 162


def _half(x: Ints, y: Ints) -> Ints:
    return np.maximum(_disc(x, y), y + 256)


def _corner(x: Ints, y: Ints) -> Ints:
    quarter: Ints = np.minimum(x, y)
    return np.maximum(_square(x, y), quarter + 256)


_SHAPES: tuple[Callable[[Ints, Ints], Ints], ...] = (
    _disc,
    _square,
    _diamond,
    _triangle,
    _cross,
    _ring,
    _bar,
    _star,
    _crescent,
    _pair,
    _half,
    _corner,
)


# Classes and images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Class:
    """What the images of a class have in common. Angles in 1/256 turn."""

    texture: Callable[[Ints, Ints], Ints]
    frequency: int  # phase units per half pixel, times 16
    angle: int
    shape: Callable[[Ints, Ints], Ints]
    shape_angle: int
    radius: int  # half pixels
    home: tuple[int, int]  # mean position, half pixels from the centre
    shape_texture: Callable[[Ints, Ints], Ints]
    hue: int  # of the ground
    shape_hue: int
    saturation: int  # of 256
    light: int  # brightness that goes with the colour axis, either sign
    bias: int  # of 256, how often the ground is on the positive side

    @classmethod
    def draw(cls, label: int) -> "_Class":
        dice = _Dice(_key(VERSION, 0, label))
        hue = dice.one(0, 255)
        return cls(
            texture=_TEXTURES[dice.one(0, len(_TEXTURES) - 1)],
            frequency=dice.one(90, 300),
            angle=dice.one(0, 255),
            shape=_SHAPES[dice.one(0, len(_SHAPES) - 1)],
            shape_angle=dice.one(0, 255),
            radius=dice.one(30, 52),
            home=(dice.one(-12, 12), dice.one(-12, 12)),
            shape_texture=_TEXTURES[dice.one(0, len(_TEXTURES) - 1)],
            hue=hue,
            shape_hue=hue + 128 + dice.one(-45, 45),
            saturation=dice.one(32, 70),
            light=dice.one(-36, 36),
            bias=dice.one(92, 164),
        )


_LINE = (2 * np.arange(64, dtype=np.int32) - 63)[None, :]  # pixel centres, in half pixels from the centre of the image


def draw(label: int, split: int, indices: range) -> Pixels:
    """Return images ``indices`` of class ``label``, ``(n, 3, 64, 64)``; split 0 is train, 1 held out."""
    kind = _Class.draw(label)
    keys = mix(_key(VERSION, 1 + split, label) + np.array(indices, dtype=np.uint64) * np.uint64(_GOLDEN))
    dice = _Dice(keys)
    x, y = _LINE[:, None, :], _LINE[:, :, None]  # (1, 1, 64), (1, 64, 1)

    # The ground: a texture in turned, shifted, scaled coordinates. 256 phase units are one period.
    angle = kind.angle + dice.between(-14, 14)
    cosine, sine = _cosine(angle), _sine(angle)
    frequency = (kind.frequency * dice.between(205, 307)) >> 8
    ux, uy = cosine * frequency >> 4, sine * frequency >> 4  # (n, 1, 1)
    u = ((x * ux + y * uy) >> 8) + dice.between(0, 511)  # (n, 64, 64)
    v = ((y * ux - x * uy) >> 8) + dice.between(0, 511)
    ground = kind.texture(u, v).astype(np.int16)

    # The shape: an implicit function in coordinates where its radius is 256, and a texture in the same coordinates.
    angle = kind.shape_angle + dice.between(-20, 20)
    inverse = 65536 // ((kind.radius * dice.between(192, 320)) >> 8)
    ux, uy = (_cosine(angle) * inverse) >> 8, (_sine(angle) * inverse) >> 8
    sx, sy = x - kind.home[0] - dice.between(-22, 22), y - kind.home[1] - dice.between(-22, 22)
    u, v = (sx * ux + sy * uy) >> 8, (sy * ux - sx * uy) >> 8
    cover = np.clip((272 - kind.shape(u, v)) * 2, 0, 64).astype(np.int16)  # soft over a pixel or so; 64 covers
    top = kind.shape_texture(u + dice.between(0, 255), v + dice.between(0, 255)).astype(np.int16)

    # Colours: ground and shape lie on opposite sides of grey; which is on which is drawn, and so are hue and contrast.
    side = np.where(dice.between(0, 255) < kind.bias, 1, -1).astype(np.int32)
    contrast = side * dice.between(110, 300)
    hue = kind.hue + dice.between(-34, 34)
    shape_hue = kind.shape_hue + dice.between(-34, 34)
    base = 128 + dice.between(-30, 30)
    casts = [dice.between(-38, 38) for _ in range(3)]  # coloured light
    depth, shape_depth = dice.between(14, 40), dice.between(14, 40)
    slope_x, slope_y = dice.between(-24, 24), dice.between(-24, 24)
    shade = ((x * slope_x + y * slope_y) >> 6).astype(np.int16)

    # An occluding patch of any colour, in about half of the images.
    patch = (np.abs(x - dice.between(-80, 80)) < dice.between(-24, 28)) & (
        np.abs(y - dice.between(-80, 80)) < dice.between(-10, 28)
    )
    patch_colours = [dice.between(30, 225).astype(np.int16) for _ in range(3)]
    noise = _noise(keys, dice.between(8, 40).astype(np.int16))

    images: Pixels = np.empty((len(indices), *SHAPE), dtype=np.uint8)
    for channel, turn in enumerate((0, 85, 171)):
        light = base + casts[channel]
        colour = (_tint(hue + turn, kind.saturation, kind.light) * contrast) >> 8
        shape_colour = (_tint(shape_hue + turn, kind.saturation, -kind.light) * contrast) >> 8
        value = _textured(ground, light + colour, depth)
        other = _textured(top, light + shape_colour, shape_depth)
        other -= value
        other *= cover  # at most 400 * 64
        other >>= 6
        value += other
        np.copyto(value, patch_colours[channel], where=patch)
        value += shade
        value += noise[:, channel]
        np.clip(value, 0, 255, out=value)
        images[:, channel] = value
    return images


def _tint(hue: Ints, saturation: int, light: int) -> Ints:
    """Return how far one channel of a colour lies from grey."""
    return ((_cosine(hue) * saturation) >> 8) + light


def _textured(texture: Shorts, colour: Ints, depth: Ints) -> Shorts:
    """Return ``colour`` with ``texture`` (-256 to 256) on it, ``depth`` grey levels (at most 64) to either side."""
    value: Shorts = texture * depth.astype(np.int16)
    value >>= 8
    value += colour.astype(np.int16)
    return value


def _noise(keys: NDArray[np.uint64], amplitude: Shorts) -> Shorts:
    """Return noise ``(n, 3, 64, 64)``, uniform from minus to plus half of ``amplitude`` ``(n, 1, 1)``."""
    words = _stream(mix(keys), int(np.prod(SHAPE)) // 8).astype("<u8", copy=False)
    noise: Any = words.view(np.uint8).reshape(len(keys), *SHAPE).astype(np.int16)
    noise -= 128
    noise *= amplitude[:, None]
    noise >>= 8
    return noise  # type: ignore[no-any-return]
