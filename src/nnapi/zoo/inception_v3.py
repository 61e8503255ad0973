"""Inception-V3: parallel branches of factored convolutions. Source: Szegedy et al. 2015 (arXiv 1512.00567)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.layers import Concat, conv_norm, relu
from nnapi.zoo.network import Network

Kernel = int | tuple[int, int]
ROW, COLUMN = (1, 7), (7, 1)


def conv(channels: int, width: int, kernel: Kernel, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    """`x [N, channels, H, W] -> y [N, width, H', W']`"""
    return conv_norm(channels, width, kernel, stride, padding=padding, eps=1e-3, activation=relu)


def chain(channels: int, *steps: tuple[int, Kernel]) -> nn.Sequential:
    """Convolutions (channels, kernel) in a row that keep the size."""
    widths = (channels, *(width for width, _ in steps))
    return nn.Sequential(*(conv(before, width, kernel) for before, (width, kernel) in zip(widths, steps)))


def halved(channels: int, width: int) -> nn.Sequential:
    """The unpadded 3x3 convolution that ends a branch of a reduction."""
    return conv(channels, width, 3, 2, padding=0)


def pooled(channels: int, width: int) -> nn.Sequential:
    """The averaging branch of a block."""
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(channels, width, 1))


def block_a(channels: int, width: int) -> Concat:
    """35x35: a 5x5 convolution beside two 3x3 ones (the paper's figure 5)."""
    return Concat(
        chain(channels, (64, 1)),
        chain(channels, (48, 1), (64, 5)),
        chain(channels, (64, 1), (96, 3), (96, 3)),
        pooled(channels, width),
    )


def reduction_a(channels: int) -> Concat:
    """35x35 -> 17x17."""
    return Concat(
        halved(channels, 384),
        nn.Sequential(chain(channels, (64, 1), (96, 3)), halved(96, 96)),
        nn.MaxPool2d(3, stride=2),
    )


def block_b(channels: int, width: int) -> Concat:
    """17x17: 7x7 convolutions as rows and columns (the paper's figure 6)."""
    return Concat(
        chain(channels, (192, 1)),
        chain(channels, (width, 1), (width, ROW), (192, COLUMN)),
        chain(channels, (width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW)),
        pooled(channels, 192),
    )


def reduction_b(channels: int) -> Concat:
    """17x17 -> 8x8."""
    return Concat(
        nn.Sequential(chain(channels, (192, 1)), halved(192, 320)),
        nn.Sequential(chain(channels, (192, 1), (192, ROW), (192, COLUMN)), halved(192, 192)),
        nn.MaxPool2d(3, stride=2),
    )


def block_c(channels: int) -> Concat:
    """8x8: 3x3 convolutions as a row beside a column (the paper's figure 7)."""

    def split() -> Concat:
        return Concat(conv(384, 384, (1, 3)), conv(384, 384, (3, 1)))

    return Concat(
        chain(channels, (320, 1)),
        nn.Sequential(chain(channels, (384, 1)), split()),
        nn.Sequential(chain(channels, (448, 1), (384, 3)), split()),
        pooled(channels, 192),
    )


class InceptionV3(nn.Module):
    """`x [N, 3, H, W] -> logits [N, 1000]`, without the auxiliary classifier, which only training needs."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, 32, 3, 2, padding=0),
            conv(32, 32, 3, padding=0),
            conv(32, 64, 3),
            nn.MaxPool2d(3, stride=2),
            conv(64, 80, 1),
            conv(80, 192, 3, padding=0),
            nn.MaxPool2d(3, stride=2),
        )
        self.blocks = nn.Sequential(
            *(block_a(192, 32), block_a(256, 64), block_a(288, 64)),
            reduction_a(288),
            *(block_b(768, width) for width in (128, 160, 160, 192)),
            reduction_b(768),
            *(block_c(1280), block_c(2048)),
        )
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(x))
        x = F.adaptive_avg_pool2d(x, (1, 1))
        x = F.dropout(x, 0.5, training=self.training)
        return self.fc(torch.flatten(x, 1))


NETWORKS = (
    Network(
        "inception_v3",
        build=lambda shape: InceptionV3(),
        input_shape=(1, 3, 299, 299),
        small_input_shape=(1, 3, 107, 107),
        sizes=range(75, 1025),
        source="Szegedy et al. 2015, Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567",
        section="classification",
    ),
)
