"""SRGAN's generator: residual blocks, then pixel shuffles to four times the size. Source: Ledig et al. 2016."""

from __future__ import annotations

import torch
from torch import nn

from nnapi.zoo.network import Network

BLOCKS = 16
WIDTH = 64


class ResidualBlock(nn.Module):
    """`x [N, 64, H, W] -> y [N, 64, H, W]`"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(WIDTH)
        self.prelu = nn.PReLU(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.norm1(self.conv1(x)))
        return x + self.norm2(self.conv2(y))


def double() -> nn.Sequential:
    """`x [N, 64, H, W] -> y [N, 64, 2H, 2W]`"""
    return nn.Sequential(nn.Conv2d(WIDTH, 4 * WIDTH, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(WIDTH))


class SRGAN(nn.Module):
    """`image [N, 3, H, W] -> image [N, 3, 4H, 4W]`"""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, WIDTH, 9, padding=4), nn.PReLU(WIDTH))
        self.blocks = nn.Sequential(*(ResidualBlock() for _ in range(BLOCKS)))
        self.body = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH))
        self.upscale = nn.Sequential(double(), double())
        self.tail = nn.Conv2d(WIDTH, 3, 9, padding=4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.head(image)
        x = x + self.body(self.blocks(x))
        return self.tail(self.upscale(x))


NETWORKS = (
    Network(
        "srgan",
        build=lambda shape: SRGAN(),
        input_shape=(1, 3, 64, 64),
        small_input_shape=(1, 3, 16, 16),
        sizes=range(8, 257),
        source="Ledig et al. 2016, Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial "
        "Network, arXiv 1609.04802",
        section="super-resolution (SRGAN)",
    ),
)
