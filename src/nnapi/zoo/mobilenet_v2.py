"""MobileNet-V2: inverted residuals with linear bottlenecks. Source: Sandler et al. 2018 (arXiv 1801.04381)."""

from __future__ import annotations

import torch
from torch import nn

from nnapi.zoo.layers import conv_norm, relu6
from nnapi.zoo.network import Network

STEM = 32
HEAD = 1280
# expansion, channels, repeats, stride of the first (the paper's table 2)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; add the input where the shapes agree.

    `x [N, channels, H, W] -> y [N, width, H / stride, W / stride]`
    """

    def __init__(self, channels: int, width: int, expansion: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        hidden = channels * expansion
        expand = [conv_norm(channels, hidden, 1, activation=relu6)] if expansion != 1 else []
        self.residual = stride == 1 and channels == width
        self.conv = nn.Sequential(
            *expand,
            conv_norm(hidden, hidden, 3, stride, dilation=dilation, groups=hidden, activation=relu6),
            conv_norm(hidden, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def inverted_residuals(output_stride: int = 32) -> list[InvertedResidual]:
    """The 17 blocks after the stem; strides beyond `output_stride` become dilation.

    >>> [block.residual for block in inverted_residuals()].count(True)
    10
    """
    blocks = []
    channels, reached, dilation = STEM, 2, 1
    for expansion, width, repeats, stage_stride in STAGES:
        for index in range(repeats):
            stride = stage_stride if index == 0 else 1
            dilate = reached * stride > output_stride
            blocks.append(InvertedResidual(channels, width, expansion, 1 if dilate else stride, dilation))
            channels = width
            if dilate:
                dilation *= stride
            else:
                reached *= stride
    return blocks


class MobileNetV2(nn.Module):
    """`x [N, 3, H, W] -> logits [N, 1000]`"""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(3, STEM, 3, 2, activation=relu6),
            *inverted_residuals(),
            conv_norm(STAGES[-1][1], HEAD, 1, activation=relu6),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(HEAD, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        return self.classifier(x.mean([2, 3]))


NETWORKS = (
    Network(
        "mobilenet_v2",
        build=lambda shape: MobileNetV2(),
        input_shape=(1, 3, 224, 224),
        small_input_shape=(1, 3, 64, 64),
        sizes=range(32, 1025),
        source="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381",
        section="object recognition",
    ),
)
