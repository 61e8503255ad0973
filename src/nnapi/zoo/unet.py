"""U-Net: a contracting path, an expanding one, and a bridge at every scale. Source: Ronneberger et al. 2015."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.network import Network

WIDTHS = (64, 128, 256, 512, 1024)


def double_conv(channels: int, width: int) -> nn.Sequential:
    """`x [N, channels, H, W] -> y [N, width, H, W]`"""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """`x [N, 3, H, W] -> logits [N, 2, H, W]`; padded convolutions, so that nothing has to be cropped."""

    def __init__(self, channels: int = 3, classes: int = 2) -> None:
        super().__init__()
        self.down = nn.ModuleList(double_conv(before, after) for before, after in zip((channels, *WIDTHS), WIDTHS))
        steps = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1]))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in steps)
        self.up = nn.ModuleList(double_conv(before, after) for before, after in steps)
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bridges: list[torch.Tensor] = []
        for stage in self.down:
            if bridges:
                x = F.max_pool2d(x, 2)
            x = stage(x)
            bridges.append(x)
        for grow, stage, bridge in zip(self.grow, self.up, bridges[-2::-1]):
            x = stage(torch.cat([bridge, grow(x)], dim=1))
        return self.head(x)


NETWORKS = (
    Network(
        "unet",
        build=lambda shape: UNet(),
        input_shape=(1, 3, 256, 256),
        small_input_shape=(1, 3, 32, 32),
        sizes=range(32, 1025, 16),
        source="Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation, "
        "arXiv 1505.04597",
        section="bokeh simulation",
    ),
)
