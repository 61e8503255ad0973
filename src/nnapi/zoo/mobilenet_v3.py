"""MobileNet-V3: searched blocks, squeeze-and-excite, hard swish. Source: Howard et al. 2019 (arXiv 1905.02244)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.layers import conv_norm, relu
from nnapi.zoo.network import Network

STEM = 16
EPS = 1e-3
RE, HS = relu, nn.Hardswish
Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class Config:
    """A column of the paper's tables 1 and 2."""

    blocks: tuple[tuple[int, int, int, bool, Activation, int], ...]
    """Kernel, expanded channels, channels, squeeze-and-excite, activation, stride."""
    last_conv: int
    hidden: int


LARGE = Config(
    blocks=(
        (3, 16, 16, False, RE, 1),
        (3, 64, 24, False, RE, 2),
        (3, 72, 24, False, RE, 1),
        (5, 72, 40, True, RE, 2),
        (5, 120, 40, True, RE, 1),
        (5, 120, 40, True, RE, 1),
        (3, 240, 80, False, HS, 2),
        (3, 200, 80, False, HS, 1),
        (3, 184, 80, False, HS, 1),
        (3, 184, 80, False, HS, 1),
        (3, 480, 112, True, HS, 1),
        (3, 672, 112, True, HS, 1),
        (5, 672, 160, True, HS, 2),
        (5, 960, 160, True, HS, 1),
        (5, 960, 160, True, HS, 1),
    ),
    last_conv=960,
    hidden=1280,
)
SMALL = Config(
    blocks=(
        (3, 16, 16, True, RE, 2),
        (3, 72, 24, False, RE, 2),
        (3, 88, 24, False, RE, 1),
        (5, 96, 40, True, HS, 2),
        (5, 240, 40, True, HS, 1),
        (5, 240, 40, True, HS, 1),
        (5, 120, 48, True, HS, 1),
        (5, 144, 48, True, HS, 1),
        (5, 288, 96, True, HS, 2),
        (5, 576, 96, True, HS, 1),
        (5, 576, 96, True, HS, 1),
    ),
    last_conv=576,
    hidden=1024,
)


def divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple of `by`, at least `by` and not more than a tenth smaller than asked.

    >>> divisible(18), divisible(120 // 4), divisible(3)
    (24, 32, 8)
    """
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the means of all: `x [N, C, H, W] -> y [N, C, H, W]`"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = divisible(channels // 4)
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.adaptive_avg_pool2d(x, 1)
        gate = F.relu(self.squeeze(gate), inplace=True)
        return x * F.hardsigmoid(self.excite(gate))


class Block(nn.Module):
    """An inverted residual with an optional gate.

    `x [N, channels, H, W] -> y [N, width, H / stride, W / stride]`
    """

    def __init__(
        self, channels: int, kernel: int, expanded: int, width: int, gated: bool, activation: Activation, stride: int
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and channels == width
        expand = [conv_norm(channels, expanded, 1, eps=EPS, activation=activation)] if expanded != channels else []
        self.block = nn.Sequential(
            *expand,
            conv_norm(expanded, expanded, kernel, stride, groups=expanded, eps=EPS, activation=activation),
            *([SqueezeExcite(expanded)] if gated else []),
            conv_norm(expanded, width, 1, eps=EPS),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        if self.residual:
            y += x
        return y


class MobileNetV3(nn.Module):
    """`x [N, 3, H, W] -> logits [N, 1000]`"""

    def __init__(self, config: Config, classes: int = 1000) -> None:
        super().__init__()
        blocks = []
        channels = STEM
        for kernel, expanded, width, gated, activation, stride in config.blocks:
            blocks.append(Block(channels, kernel, expanded, width, gated, activation, stride))
            channels = width
        self.features = nn.Sequential(
            conv_norm(3, STEM, 3, 2, eps=EPS, activation=HS),
            *blocks,
            conv_norm(channels, config.last_conv, 1, eps=EPS, activation=HS),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(config.last_conv, config.hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(0.2, inplace=True),
            nn.Linear(config.hidden, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def row(name: str, config: Config, section: str = "") -> Network:
    """The zoo's row for one of the two sizes."""
    return Network(
        name,
        build=lambda shape: MobileNetV3(config),
        input_shape=(1, 3, 224, 224),
        small_input_shape=(1, 3, 64, 64),
        sizes=range(32, 1025),
        source="Howard et al. 2019, Searching for MobileNetV3, arXiv 1905.02244",
        section=section,
    )


NETWORKS = (row("mobilenet_v3_small", SMALL), row("mobilenet_v3_large", LARGE, section="face recognition"))
