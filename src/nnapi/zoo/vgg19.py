"""VGG-19: sixteen 3x3 convolutions and three wide layers. Source: Simonyan, Zisserman 2014 (arXiv 1409.1556)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from nnapi.zoo.network import Network

STAGES = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, channels (the paper's column E)
HIDDEN = 4096


def convolutions() -> Iterator[nn.Module]:
    """The five stages; each halves the image."""
    channels = 3
    for repeats, width in STAGES:
        for _ in range(repeats):
            yield nn.Conv2d(channels, width, 3, padding=1)
            yield nn.ReLU(inplace=True)
            channels = width
        yield nn.MaxPool2d(2, 2)


class VGG19(nn.Module):
    """`x [N, 3, size, size] -> logits [N, 1000]`; the first linear layer is as wide as the size asks."""

    def __init__(self, size: int = 224, classes: int = 1000) -> None:
        super().__init__()
        side = size // 2 ** len(STAGES)
        self.features = nn.Sequential(*convolutions())
        self.classifier = nn.Sequential(
            nn.Linear(STAGES[-1][1] * side * side, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


NETWORKS = (
    Network(
        "vgg19",
        build=lambda shape: VGG19(shape[-1]),
        input_shape=(1, 3, 224, 224),
        small_input_shape=(1, 3, 32, 32),
        sizes=range(32, 449, 32),
        source="Simonyan, Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, "
        "arXiv 1409.1556",
    ),
)
