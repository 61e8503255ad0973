"""VDSR: a VGG-like network that adds detail to an upscaled image. Source: Kim et al. 2015 (arXiv 1511.04587)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.network import Network

DEPTH = 20
WIDTH = 64


class VDSR(nn.Module):
    """`image [N, C, H, W], already at its final size -> sharper image [N, C, H, W]`"""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        widths = [channels, *[WIDTH] * (DEPTH - 1), channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(widths)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        *hidden, last = self.convs
        detail = image
        for conv in hidden:
            detail = F.relu(conv(detail))
        return image + last(detail)


NETWORKS = (
    Network(
        "vdsr",
        build=lambda shape: VDSR(shape[1]),
        input_shape=(1, 1, 128, 128),
        small_input_shape=(1, 1, 32, 32),
        sizes=range(8, 1025),
        source="Kim et al. 2015, Accurate Image Super-Resolution Using Very Deep Convolutional Networks, "
        "arXiv 1511.04587",
        section="super-resolution (VGG-19)",
    ),
)
