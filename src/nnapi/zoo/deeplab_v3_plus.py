"""DeepLab-V3+ on MobileNet-V2: atrous separable convolutions, encoder and decoder. Source: Chen et al. 2018."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.layers import conv_norm, relu, relu6
from nnapi.zoo.mobilenet_v2 import STEM, inverted_residuals
from nnapi.zoo.network import Network

CLASSES = 21
RATES = (6, 12, 18)
WIDTH = 256
LOW_LEVEL = 3  # stem and blocks up to stride 4
LOW_LEVEL_CHANNELS, LOW_LEVEL_WIDTH = 24, 48
ENCODED = 320


def separable(channels: int, width: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel, then a 1x1 across them: `x [N, channels, H, W] -> y [N, width, H, W]`"""
    return nn.Sequential(
        conv_norm(channels, channels, 3, dilation=dilation, groups=channels, activation=relu),
        conv_norm(channels, width, 1, activation=relu),
    )


class ImagePooling(nn.Module):
    """What the whole image says, at every pixel: `x [N, C, H, W] -> y [N, 256, H, W]`"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = conv_norm(channels, WIDTH, 1, activation=relu)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(F.adaptive_avg_pool2d(x, 1))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


class SpatialPyramid(nn.Module):
    """Atrous spatial pyramid pooling: `x [N, 320, H, W] -> y [N, 256, H, W]`"""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_norm(ENCODED, WIDTH, 1, activation=relu),
                *(separable(ENCODED, WIDTH, rate) for rate in RATES),
                ImagePooling(ENCODED),
            ]
        )
        self.project = nn.Sequential(conv_norm(len(self.branches) * WIDTH, WIDTH, 1, activation=relu), nn.Dropout(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], dim=1))


class DeepLabV3Plus(nn.Module):
    """`x [N, 3, H, W] -> logits [N, 21, H, W]`; encoded at a sixteenth of the size, decoded at a quarter."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        blocks = inverted_residuals(output_stride=16)
        self.low_level = nn.Sequential(conv_norm(3, STEM, 3, 2, activation=relu6), *blocks[:LOW_LEVEL])
        self.high_level = nn.Sequential(*blocks[LOW_LEVEL:])
        self.pyramid = SpatialPyramid()
        self.bridge = conv_norm(LOW_LEVEL_CHANNELS, LOW_LEVEL_WIDTH, 1, activation=relu)
        self.decoder = nn.Sequential(
            separable(LOW_LEVEL_WIDTH + WIDTH, WIDTH), separable(WIDTH, WIDTH), nn.Conv2d(WIDTH, classes, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = self.low_level(x)
        high = self.pyramid(self.high_level(low))
        high = F.interpolate(high, size=low.shape[-2:], mode="bilinear", align_corners=False)
        y = self.decoder(torch.cat([self.bridge(low), high], dim=1))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


NETWORKS = (
    Network(
        "deeplab_v3_plus",
        build=lambda shape: DeepLabV3Plus(),
        input_shape=(1, 3, 256, 256),
        small_input_shape=(1, 3, 64, 64),
        sizes=range(32, 1025),
        source="Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution for Semantic Image "
        "Segmentation, arXiv 1802.02611",
        section="semantic segmentation",
    ),
)
