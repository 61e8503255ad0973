"""A multilayer perceptron, LeNet-300-100. Source: LeCun et al. 1998, Gradient-Based Learning, section III.C."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.network import Network


class MLP(nn.Module):
    """`x [N, features] -> logits [N, 10]`"""

    def __init__(self, features: int = 784, hidden: tuple[int, ...] = (300, 100), classes: int = 10) -> None:
        super().__init__()
        widths = (features, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in zip(widths, hidden))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


NETWORKS = (
    Network(
        "mlp",
        build=lambda shape: MLP(shape[-1]),
        input_shape=(1, 784),
        small_input_shape=(1, 64),
        sizes=range(1, 4097),
        source="LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
    ),
)
