"""Networks on which units are looked for."""

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE = torch.zeros(2, 3, 2, 2)
PHOTO = torch.zeros(2, 3, 16, 16)


def mlp(norm: Callable[[int], nn.Module] = lambda d: nn.Identity(), width: int = 6, depth: int = 5) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    fan_in = 12
    for _ in range(depth):
        layers += [nn.Linear(fan_in, width), norm(width), nn.ReLU(), nn.Dropout(0.1)]
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, 3))


class Cnn(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module] = lambda d: nn.Identity(), padding: int = 1):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 5, 3, padding=padding), norm(5)
        self.conv2, self.norm2 = nn.Conv2d(5, 6, 3, padding=padding), norm(6)
        self.conv3, self.norm3 = nn.Conv2d(6, 4, 3, padding=1), norm(4)
        self.fc = nn.LazyLinear(7)
        self.out = nn.Linear(7, 3)
        self(torch.zeros(2, 3, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.norm3(self.conv3(x))), 2)
        return self.out(F.relu(self.fc(x.flatten(1))))


class Block(nn.Module):
    def __init__(self, fan_in: int, width: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, width, 3, stride, 1, bias=False)
        self.norm1, self.act = norm(width), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or fan_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(fan_in, width, 1, stride, bias=False), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(y + self.shortcut(x))


def resnet18(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, base: int = 8) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, base, 3, 1, 1, bias=False), norm(base), nn.ReLU()]
    fan_in = base
    for stage, width in enumerate((base, 2 * base, 4 * base, 8 * base)):
        for index in range(2):
            layers.append(Block(fan_in, width, 2 if stage and not index else 1, norm))
            fan_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(fan_in, 3))


def vit(depth: int = 2) -> nn.Module:
    return timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=12, depth=depth, num_heads=3, num_classes=3
    )


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 6)
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.fc(x.flatten(1)))
        return self.out(self.left(h) + self.right(h))


class Parts(nn.Module):
    """A network of the named layers with a forward pass of the test's choice, on 12 inputs."""

    def __init__(self, forward: Callable[["Parts", Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.free = nn.Parameter(torch.full((6,), 0.5))
        self.coefficients = nn.Parameter(torch.tensor([0.1, 0.9]))
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x.flatten(1))


def parts(forward: Callable[[Parts, Tensor], Tensor], **layers: nn.Module) -> Parts:
    return Parts(forward, **{"a": nn.Linear(12, 6), "b": nn.Linear(6, 3), **layers})
