"""The few layers that several families share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def conv_norm(
    channels: int,
    width: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    *,
    padding: int | tuple[int, int] | None = None,
    dilation: int = 1,
    groups: int = 1,
    eps: float = 1e-5,
    activation: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch normalization and activation; `padding=None` keeps the size at stride 1.

    `x [N, channels, H, W] -> y [N, width, H', W']`
    """
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = (dilation * (rows // 2), dilation * (columns // 2))
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, (rows, columns), stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(width, eps=eps),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def relu() -> nn.Module:
    """ReLU that overwrites its input."""
    return nn.ReLU(inplace=True)


def relu6() -> nn.Module:
    """ReLU6 that overwrites its input."""
    return nn.ReLU6(inplace=True)


class Concat(nn.Module):
    """Several branches on one input, concatenated.

    `x [N, C, H, W] -> y [N, sum of the branches' channels, H', W']`
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)
