"""Seeded weights under which a deep network's activations neither vanish, nor explode, nor forget the input.

Convolutions and linear layers follow He et al. 2015 (arXiv 1502.01852), centered as in Brock et al. 2021
(arXiv 2101.08692): else the mean of the rectified activations drowns the image after some twenty layers.
Normalizations get random scales and shifts, and batch normalizations the statistics of what flows through them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.network import Shape

CALIBRATION_BATCH = 4
COARSEST = 4  # cells across an image: coarser detail would make four images too few to tell the statistics of a fifth
CENTERED = 16  # inputs of a filter from which it is centered; a depthwise filter would lose all flat regions
SHIFT = 0.5  # most units of a trained network are on; centered on zero, fifty layers amplify rounding 17 dB more
VARIANCE_FLOOR = 0.05  # of the layer's power: a channel that hardly moves must not be blown up to unit variance


def initialize(module: nn.Module, input_shape: Shape, generator: torch.Generator) -> nn.Module:
    """Give every parameter and statistic of `module` a seeded value; `module` may be on the meta device.

    Returns the module on the CPU and in evaluation mode.
    """
    module = module.to_empty(device="cpu").eval()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for layer in module.modules():
            fill(layer, generator)
        hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
        if norms:
            module(sample((CALIBRATION_BATCH, *input_shape[1:]), generator))
        for hook in hooks:
            hook.remove()
    return module


def fill(layer: nn.Module, generator: torch.Generator) -> None:
    """Set the parameters that the layer itself owns."""
    match layer:
        case nn.Conv2d() | nn.Linear():
            fan_in = float(layer.weight[0].numel())
            layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            if layer.weight.shape[1] >= CENTERED:
                layer.weight -= layer.weight.mean(dim=tuple(range(1, layer.weight.dim())), keepdim=True)
                layer.weight *= 1 / math.sqrt(1 - 1 / math.pi)  # a rectified normal's share of mean in its power
            fill_bias(layer.bias, generator)
        case nn.ConvTranspose2d():
            fan_in = layer.weight[:, 0].numel() / math.prod(layer.stride)
            layer.weight.normal_(0, math.sqrt(1 / fan_in), generator=generator)  # no activation follows
            fill_bias(layer.bias, generator)
        case nn.BatchNorm2d():
            layer.weight.uniform_(0.4, 1.0, generator=generator)
            layer.bias.normal_(SHIFT, 0.2, generator=generator)
            layer.reset_running_stats()
        case nn.LayerNorm():
            layer.weight.uniform_(0.6, 1.4, generator=generator)
            layer.bias.normal_(0, 0.2, generator=generator)
        case nn.PReLU():
            layer.weight.uniform_(0.1, 0.4, generator=generator)
        case _ if [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            raise NotImplementedError(f"no initialization for {type(layer).__name__}")


def fill_bias(bias: torch.Tensor | None, generator: torch.Generator) -> None:
    """Small values, where there is a bias."""
    if bias is not None:
        bias.normal_(0, 0.05, generator=generator)


def measure(norm: nn.BatchNorm2d, inputs: tuple[Any, ...]) -> None:
    """Make the statistics of a batch normalization those of its input `[N, C, H, W]`."""
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
    power = float((variance + mean * mean).mean())
    norm.running_mean, norm.running_var = mean, variance.clamp(min=VARIANCE_FLOOR * power)


def sample(shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """A random input of unit variance: images `[N, C, H, W]` with detail at every scale, else plain noise.

    >>> round(float(sample((1, 3, 32, 32), torch.Generator().manual_seed(0)).std()), 4)
    1.0
    """
    if len(shape) != 4:
        return torch.randn(shape, generator=generator)
    batch, channels, height, width = shape
    image = torch.zeros(shape)
    cells = COARSEST
    while cells <= max(height, width, COARSEST):
        noise = torch.randn(batch, channels, min(cells, height), min(cells, width), generator=generator)
        cells *= 2
        image += F.interpolate(noise, size=(height, width), mode="bilinear")
    return image / image.std()
