"""Every operator that has a function: the model of one use of it against PyTorch, on the reference."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .conftest import agree, extensions

SUMS = 3e-6
"""float32 sums in another order."""
EXACT = 0.0
"""Only data moves."""
ROUNDING = 1e-6
"""A few roundings of float32."""
HALVES = 2e-3
"""A few roundings of float16."""
SERIES = 2e-6
"""A composite's series, within a few roundings of what PyTorch computes."""

Case = tuple[str, Any, list[Any], float]
IMAGE = (2, 6, 9, 8)
ROW = (2, 6, 9)
CUBE = (2, 3, 2, 12)
IDS = torch.tensor([[3, 0, 2], [1, 4, 4]])
BYTES = torch.arange(24, dtype=torch.uint8).reshape(1, 2, 4, 3) * 10
BITS = torch.tensor([[True, False, True], [False, False, True]])
SOME_HIDDEN = torch.tensor([[0.5, -torch.inf, 1.0], [-torch.inf] * 3, [-65504.0] * 3])
LOOK = torch.tensor([[True, False, True, True, False], [False] * 5, [True] * 5])
"""Which of 5 keys each of 3 queries may look at: one at none."""
HIDE = torch.where(LOOK, 0.0, -torch.inf)
LOWEST = torch.where(LOOK, 0.0, torch.finfo(torch.float32).min)
LARGE_HALVES = (torch.linspace(-1, 1, 64).sin().reshape(2, 4, 8) * 30000).half()
COUNTS = torch.arange(-6, 6, dtype=torch.int32).reshape(3, 4)


def cube(subject: Any) -> nn.Module:
    """The subject on rank 5, within rank 4: NNAPI's inputs and outputs have no more."""
    return Cube(subject)


class Cube(nn.Module):
    def __init__(self, subject: Any) -> None:
        super().__init__()
        self.subject = subject

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> Any:
        y = self.subject(x.view(2, 3, 2, 4, 3), *others)
        return y.flatten(1) if isinstance(y, torch.Tensor) and y.ndim > 4 else y


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    return nn.Conv2d(*args, **kwargs)


CONVOLUTION: list[Case] = [
    ("conv2d", conv(6, 5, 3), [IMAGE], SUMS),
    ("conv2d without bias", conv(6, 5, (3, 2), bias=False), [IMAGE], SUMS),
    ("conv2d with stride and padding", conv(6, 5, (3, 2), (2, 1), (1, 0)), [IMAGE], SUMS),
    ("conv2d padded beyond its kernel", conv(6, 5, 2, padding=3), [IMAGE], SUMS),
    ("conv2d dilated", conv(6, 5, 3, dilation=(2, 1), padding=2), [IMAGE], SUMS),
    ("conv2d pointwise", conv(6, 5, 1), [IMAGE], SUMS),
    ("conv2d same, uneven", conv(6, 5, (4, 2), padding="same"), [IMAGE], SUMS),
    ("conv2d valid", conv(6, 5, 3, padding="valid"), [IMAGE], SUMS),
    ("conv2d with circular padding", conv(6, 5, 3, padding=2, padding_mode="circular"), [IMAGE], SUMS),
    ("conv2d with reflected padding", conv(6, 5, 3, padding=(1, 2), padding_mode="reflect"), [IMAGE], SUMS),
    ("conv2d of one image", conv(6, 5, 3), [IMAGE[1:]], SUMS),
    ("conv2d by weights that are inputs", lambda x, w: F.conv2d(x, w), [IMAGE, (4, 6, 3, 3)], SUMS),
    ("conv2d depthwise", conv(6, 6, 3, padding=1, groups=6), [IMAGE], SUMS),
    ("conv2d depthwise, two filters a channel", conv(6, 12, 3, groups=6), [IMAGE], SUMS),
    ("conv2d depthwise, dilated", conv(6, 6, 3, dilation=2, groups=6), [IMAGE], SUMS),
    ("conv2d grouped", conv(6, 4, 3, groups=2), [IMAGE], SUMS),
    ("conv2d grouped, dilated", conv(6, 4, 3, groups=2, dilation=2), [IMAGE], SUMS),
    ("conv1d", nn.Conv1d(6, 5, 3, stride=2, padding=1), [ROW], SUMS),
    ("conv1d depthwise", nn.Conv1d(6, 6, 3, groups=6), [ROW], SUMS),
    ("conv1d of one sequence", nn.Conv1d(6, 5, 3), [ROW[1:]], SUMS),
    ("conv1d same", nn.Conv1d(6, 5, 4, padding="same"), [ROW], SUMS),
    ("conv1d dilated", nn.Conv1d(6, 5, 3, dilation=2), [ROW], SUMS),
    ("conv_transpose2d", nn.ConvTranspose2d(6, 5, 3, 2), [IMAGE], SUMS),
    ("conv_transpose2d with padding", nn.ConvTranspose2d(6, 5, (3, 4), (2, 3), padding=1), [IMAGE], SUMS),
    ("conv_transpose2d with output padding", nn.ConvTranspose2d(6, 5, 3, 2, 1, output_padding=1), [IMAGE], SUMS),
    ("conv_transpose2d, more output padding", nn.ConvTranspose2d(6, 5, 3, 3, 0, output_padding=2), [IMAGE], SUMS),
    ("conv_transpose2d dilated", nn.ConvTranspose2d(6, 5, 3, 2, dilation=2), [IMAGE], SUMS),
    ("conv_transpose2d grouped", nn.ConvTranspose2d(6, 4, 3, groups=2), [IMAGE], SUMS),
    ("conv_transpose2d depthwise", nn.ConvTranspose2d(6, 6, 3, 2, groups=6, bias=False), [IMAGE], SUMS),
    ("conv_transpose1d", nn.ConvTranspose1d(6, 5, 3, 2, 1, output_padding=1), [ROW], SUMS),
    ("convolution", lambda x, w: torch.convolution(x, w, None, [1, 2], [1, 0], [1, 1], False, [0, 0], 1),
     [IMAGE, (4, 6, 3, 3)], SUMS),
    ("convolution transposed", lambda x, w: torch.convolution(x, w, None, [2, 2], [1, 1], [1, 1], True, [1, 0], 1),
     [IMAGE, (6, 4, 3, 3)], SUMS),
]  # fmt: skip

LINEAR: list[Case] = [
    ("linear", nn.Linear(6, 4), [(3, 6)], SUMS),
    ("linear without bias", nn.Linear(6, 4, bias=False), [(3, 6)], SUMS),
    ("linear of rank 1", nn.Linear(6, 4), [(6,)], SUMS),
    ("linear of rank 3", nn.Linear(6, 4), [(2, 5, 6)], SUMS),
    ("linear of rank 4", nn.Linear(6, 4), [(2, 3, 5, 6)], SUMS),
    ("linear of rank 5", cube(nn.Linear(3, 4)), [CUBE], SUMS),
    ("linear by weights that are inputs", lambda x, w, b: F.linear(x, w, b), [(3, 6), (4, 6), (4,)], SUMS),
    ("mm", lambda x, y: torch.mm(x, y), [(3, 6), (6, 4)], SUMS),
    ("matmul of rank 4", lambda x, y: x @ y, [(2, 3, 4, 5), (2, 3, 5, 2)], SUMS),
    ("matmul that broadcasts", lambda x, y: x @ y, [(2, 3, 4, 5), (5, 2)], SUMS),
    ("matmul that broadcasts both", lambda x, y: x @ y, [(2, 1, 4, 5), (3, 5, 2)], SUMS),
    ("matmul of rank 5", cube(lambda x, y: x @ y.view(2, 3, 2, 3, 5)), [CUBE, (12, 3, 5)], SUMS),
    ("matmul by a vector", lambda x, y: x @ y, [(2, 4, 5), (5,)], SUMS),
    ("matmul of a vector", lambda x, y: x @ y, [(5,), (2, 5, 4)], SUMS),
    ("dot", lambda x, y: torch.dot(x, y), [(5,), (5,)], SUMS),
    ("mv", lambda x, y: torch.mv(x, y), [(4, 5), (5,)], SUMS),
    ("matmul by a constant", lambda x: x @ torch.arange(10.0).reshape(5, 2), [(2, 3, 4, 5)], SUMS),
    ("matmul of a constant", lambda x: torch.arange(10.0).reshape(2, 5) @ x, [(3, 5, 4)], SUMS),
    ("matmul of a transposed tensor", lambda x, y: x @ y.transpose(-1, -2), [(2, 4, 5), (2, 3, 5)], SUMS),
    ("bmm", lambda x, y: torch.bmm(x, y), [(2, 4, 5), (2, 5, 3)], SUMS),
    ("addmm", lambda x, y, b: torch.addmm(b, x, y), [(3, 6), (6, 4), (4,)], SUMS),
    ("addmm with factors", lambda x, y, b: torch.addmm(b, x, y, beta=0.5, alpha=2.0), [(3, 6), (6, 4), (3, 4)], SUMS),
    ("baddbmm", lambda x, y, b: torch.baddbmm(b, x, y, alpha=0.5), [(2, 3, 6), (2, 6, 4), (2, 3, 4)], SUMS),
    ("einsum", lambda x, y: torch.einsum("bhtd,bhsd->bhts", x, y), [(2, 3, 4, 5), (2, 3, 6, 5)], SUMS),
    ("bilinear attention scores", lambda x, y: torch.einsum("bcij,bc->bij", x, y), [(2, 3, 4, 5), (2, 3)], SUMS),
]  # fmt: skip


def line(low: float = -6.0, high: float = 6.0) -> torch.Tensor:
    """Points that meet every piece of an activation."""
    return torch.cat([torch.linspace(low, high, 97), torch.tensor([0.0, 1.0, 3.0])]).reshape(4, 25)


ACTIVATION: list[Case] = [
    ("relu", nn.ReLU(), [line()], EXACT),
    ("relu in place", lambda x: F.relu_(x + 0), [line()], EXACT),
    ("relu of rank 5", cube(nn.ReLU()), [CUBE], EXACT),
    ("relu6", nn.ReLU6(), [line(-8, 8)], EXACT),
    ("hardtanh", nn.Hardtanh(), [line()], EXACT),
    ("hardtanh with limits", nn.Hardtanh(-0.5, 2.0), [line()], EXACT),
    ("clamp", lambda x: x.clamp(-0.5, 2.5), [line()], EXACT),
    ("clamp from below", lambda x: x.clamp(min=-0.5), [line()], EXACT),
    ("clamp from above", lambda x: x.clamp(max=0.5), [line()], EXACT),
    ("clamp at zero", lambda x: x.clamp_min(0), [line()], EXACT),
    ("clamp by tensors", lambda x, y: torch.clamp(x, y, y + 1), [(3, 4), (4,)], EXACT),
    ("clamp_max of integers", lambda x: x.clamp_max(2), [COUNTS], EXACT),
    ("sigmoid", nn.Sigmoid(), [line()], ROUNDING),
    ("tanh", nn.Tanh(), [line()], ROUNDING),
    ("hardswish", nn.Hardswish(), [line()], ROUNDING),
    ("hardsigmoid", nn.Hardsigmoid(), [line()], ROUNDING),
    ("leaky_relu", nn.LeakyReLU(0.2), [line()], ROUNDING),
    ("leaky_relu in place", lambda x: F.leaky_relu(x + 1, 0.1, inplace=True), [line()], ROUNDING),
    ("prelu", nn.PReLU(), [IMAGE], ROUNDING),
    ("prelu with a slope of rank 0", lambda x: F.prelu(x, torch.tensor(0.2)), [IMAGE], ROUNDING),
    ("prelu by channel", nn.PReLU(6), [IMAGE], ROUNDING),
    ("prelu by channel, rank 2", nn.PReLU(6), [(3, 6)], ROUNDING),
    ("elu", nn.ELU(0.7), [line()], ROUNDING),
    ("celu", nn.CELU(0.7), [line()], ROUNDING),
    ("selu", nn.SELU(), [line()], ROUNDING),
    ("gelu", nn.GELU(), [line()], SERIES),
    ("gelu by tanh", nn.GELU("tanh"), [line()], SERIES),
    ("gelu of rank 5", cube(nn.GELU()), [CUBE], SERIES),
    ("silu", nn.SiLU(), [line()], ROUNDING),
    ("mish", nn.Mish(), [line()], SERIES),
    ("erf", torch.erf, [line()], SERIES),
    ("softplus", nn.Softplus(), [line(-30, 30)], SERIES),
    ("softplus with beta", nn.Softplus(2.0), [line()], SERIES),
    ("softsign", nn.Softsign(), [line()], ROUNDING),
    ("softshrink", nn.Softshrink(), [line()], ROUNDING),
    ("hardshrink", nn.Hardshrink(), [line()], EXACT),
    ("tanhshrink", nn.Tanhshrink(), [line()], ROUNDING),
    ("logsigmoid", nn.LogSigmoid(), [line()], SERIES),
    ("threshold", nn.Threshold(0.1, -2.0), [line()], EXACT),
    ("glu", nn.GLU(1), [(2, 6, 3)], ROUNDING),
    ("softmax", nn.Softmax(-1), [(3, 5)], ROUNDING),
    ("softmax of channels", nn.Softmax(1), [IMAGE], ROUNDING),
    ("softmax of rank 5", cube(nn.Softmax(2)), [CUBE], ROUNDING),
    ("softmax of rank 1", nn.Softmax(0), [(5,)], ROUNDING),
    ("softmin", nn.Softmin(1), [(3, 5)], ROUNDING),
    ("safe softmax", lambda x: torch.ops.aten._safe_softmax(x, 1), [SOME_HIDDEN], ROUNDING),
    ("safe softmax of halves", lambda x: torch.ops.aten._safe_softmax(x, 1), [SOME_HIDDEN.half()], 1e-3),
    ("log_softmax", nn.LogSoftmax(1), [(3, 5, 2)], ROUNDING),
    ("dropout", nn.Dropout(0.5), [(3, 5)], EXACT),
    ("dropout2d in place", lambda x: F.dropout2d(x + 0, 0.5, training=False, inplace=True), [IMAGE], EXACT),
]  # fmt: skip

POSITIVE = torch.rand(3, 4) + 0.1
ARITHMETIC: list[Case] = [
    ("add", lambda x, y: x + y, [(3, 4), (3, 4)], EXACT),
    ("add that broadcasts", lambda x, y: x + y, [(2, 3, 1), (4,)], EXACT),
    ("add of rank 5 that broadcasts", cube(lambda x, y: x + y), [CUBE, (3, 1, 1, 3)], EXACT),
    ("add of a number", lambda x: x + 2, [(3, 4)], EXACT),
    ("add with alpha", lambda x, y: torch.add(x, y, alpha=0.5), [(3, 4), (3, 4)], ROUNDING),
    ("add in place", lambda x, y: (x * 2).add_(y), [(3, 4), (3, 4)], EXACT),
    ("add of rank 0", lambda x, y: x + y, [(), ()], EXACT),
    ("add of integers", lambda x: x + x, [COUNTS], EXACT),
    ("add of integers and floats", lambda x, y: x + y, [COUNTS, (3, 4)], EXACT),
    ("add of an integer tensor and a float", lambda x: x + 0.5, [COUNTS], EXACT),
    ("sub", lambda x, y: x - y, [(3, 4), (3, 4)], EXACT),
    ("sub from a number", lambda x: 1 - x, [(3, 4)], EXACT),
    ("rsub", lambda x: torch.rsub(x, 2.0, alpha=3.0), [(3, 4)], ROUNDING),
    ("mul", lambda x, y: x * y, [(3, 4), (4,)], EXACT),
    ("mul of integers", lambda x: x * 3, [COUNTS], EXACT),
    ("div", lambda x, y: x / (y.abs() + 1), [(3, 4), (3, 4)], ROUNDING),
    ("div of integers", lambda x: x / 4, [COUNTS], ROUNDING),
    ("div rounded down", lambda x: torch.div(x, 0.3, rounding_mode="floor"), [(3, 4)], EXACT),
    ("floor_divide of integers", lambda x: x // 4, [COUNTS], EXACT),
    ("remainder", lambda x: x % 0.7, [(3, 4)], 2e-6),
    ("remainder of integers", lambda x: x % 4, [COUNTS], EXACT),
    ("number over tensor", lambda x: 2.0 / x, [POSITIVE], ROUNDING),
    ("pow 2", lambda x: x**2, [(3, 4)], ROUNDING),
    ("pow 3", lambda x: x**3, [(3, 4)], ROUNDING),
    ("pow 0.5", lambda x: x**0.5, [POSITIVE], ROUNDING),
    ("pow -0.5", lambda x: x**-0.5, [POSITIVE], ROUNDING),
    ("pow -1", lambda x: x**-1, [POSITIVE], ROUNDING),
    ("pow 1", lambda x: x**1.0, [POSITIVE], EXACT),
    ("pow 1.7", lambda x: x**1.7, [POSITIVE], ROUNDING),
    ("pow of tensors", lambda x, y: x**y, [POSITIVE, (3, 4)], ROUNDING),
    ("number to the power", lambda x: 2.0**x, [(3, 4)], ROUNDING),
    ("square", torch.square, [(3, 4)], ROUNDING),
    ("reciprocal of integers", torch.reciprocal, [COUNTS[:1]], ROUNDING),
    ("reciprocal", torch.reciprocal, [POSITIVE], ROUNDING),
    ("abs", torch.abs, [(3, 4)], EXACT),
    ("abs of integers", torch.abs, [COUNTS], EXACT),
    ("neg", lambda x: -x, [(3, 4)], EXACT),
    ("sign", torch.sign, [torch.tensor([-2.0, 0.0, 3.0])], EXACT),
    ("exp", torch.exp, [(3, 4)], ROUNDING),
    ("exp2", torch.exp2, [(3, 4)], ROUNDING),
    ("expm1", torch.expm1, [(3, 4)], ROUNDING),
    ("log", torch.log, [POSITIVE], ROUNDING),
    ("log2", torch.log2, [POSITIVE], ROUNDING),
    ("log10", torch.log10, [POSITIVE], ROUNDING),
    ("log1p", torch.log1p, [POSITIVE], ROUNDING),
    ("sqrt", torch.sqrt, [POSITIVE], ROUNDING),
    ("sqrt of integers", lambda x: torch.sqrt(x.abs()), [COUNTS], ROUNDING),
    ("rsqrt", torch.rsqrt, [POSITIVE], ROUNDING),
    ("sin", torch.sin, [(3, 4)], ROUNDING),
    ("cos", torch.cos, [(3, 4)], ROUNDING),
    ("floor", torch.floor, [(3, 4)], EXACT),
    ("ceil", torch.ceil, [(3, 4)], EXACT),
    ("maximum", torch.maximum, [(3, 4), (4,)], EXACT),
    ("minimum", torch.minimum, [(3, 4), (4,)], EXACT),
    ("eq", lambda x: x == 2, [COUNTS], EXACT),
    ("ne", lambda x, y: x != y, [BITS, ~BITS], EXACT),
    ("lt", lambda x, y: x < y, [(3, 4), (4,)], EXACT),
    ("le of integers and a float", lambda x: x <= 1.5, [COUNTS], EXACT),
    ("gt", lambda x: x > 0, [(3, 4)], EXACT),
    ("ge of floats and integers", lambda x, y: x >= y, [(3, 4), COUNTS], EXACT),
    ("logical and, or, xor, not", lambda x, y: ((x & y) | (x ^ y), ~x), [BITS, BITS.flip(0)], EXACT),
    ("logical_and of numbers", lambda x, y: torch.logical_and(x > 0, y), [(3, 4), COUNTS], EXACT),
    ("logical_not of numbers", torch.logical_not, [COUNTS], EXACT),
    ("where", lambda x, y: torch.where(x > y, x, y), [(3, 4), (3, 4)], EXACT),
    ("where that broadcasts", lambda c, x, y: torch.where(c, x, y), [BITS, (2, 1), (3,)], EXACT),
    ("where with numbers", lambda x: torch.where(x > 0, 1.0, -1.0), [(3, 4)], EXACT),
    ("masked_fill", lambda x, m: x.masked_fill(m, -math.inf), [(2, 4, 2, 3), BITS], EXACT),
    ("tril", lambda x: x.tril(), [(2, 3, 4)], EXACT),
    ("triu", lambda x: x.triu(1), [(3, 4)], EXACT),
    ("one_hot", lambda x: F.one_hot(x, 5), [IDS], EXACT),
    ("erfc", torch.erfc, [(3, 4)], SERIES),
    ("isnan", torch.isnan, [torch.tensor([1.0, math.nan])], EXACT),
    ("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.5), [(3, 4), (3, 4), (3, 4)], ROUNDING),
    ("lerp", lambda x, y: torch.lerp(x, y, 0.3), [(3, 4), (3, 4)], ROUNDING),
]  # fmt: skip

SHAPE: list[Case] = [
    ("view", lambda x: x.view(3, 8), [(2, 3, 4)], EXACT),
    ("flatten", nn.Flatten(), [IMAGE], EXACT),
    ("unflatten", nn.Unflatten(1, (2, 3)), [(2, 6)], EXACT),
    ("squeeze", lambda x: x.squeeze(1).squeeze(), [(2, 1, 3, 1)], EXACT),
    ("unsqueeze", lambda x: x.unsqueeze(-1), [(2, 3)], EXACT),
    ("unsqueeze of rank 0", lambda x: x.unsqueeze(0), [()], EXACT),
    ("view as rank 5 and back", lambda x: (x.view(2, 3, 2, 9, 8) * 2).view(2, 6, 72), [IMAGE], EXACT),
    ("permute", lambda x: x.permute(0, 2, 3, 1), [IMAGE], EXACT),
    ("permute of rank 5", cube(lambda x: x.permute(2, 0, 3, 1, 4).reshape(12, 12)), [CUBE], EXACT),
    ("permute of rank 6", lambda x: x.view(2, 2, 3, 2, 2, 3).permute(0, 2, 4, 1, 3, 5).reshape(-1, 9),
     [(2, 6, 4, 3)], EXACT),
    ("transpose", lambda x: x.transpose(-1, 1), [IMAGE], EXACT),
    ("t", lambda x: x.t(), [(2, 3)], EXACT),
    ("mT", lambda x: x.mT, [(2, 3, 4)], EXACT),
    ("movedim", lambda x: x.movedim(1, -1), [IMAGE], EXACT),
    ("movedim of several", lambda x: torch.movedim(x, (0, 1), (2, 0)), [IMAGE], EXACT),
    ("expand", lambda x: x.expand(2, 3, -1), [(3, 1)], EXACT),
    ("expand of rank 5", lambda x: (x.view(2, 1, 2, 1, 3).expand(2, 3, 2, 4, 3) + 0).flatten(), [(2, 2, 3)], EXACT),
    ("repeat", lambda x: x.repeat(2, 1, 3), [(3, 2)], EXACT),
    ("tile", lambda x: x.tile(2), [(3, 2)], EXACT),
    ("pixel_shuffle", nn.PixelShuffle(2), [(2, 12, 3, 4)], EXACT),
    ("pixel_shuffle of one channel", nn.PixelShuffle(3), [(1, 9, 3, 4)], EXACT),
    ("pixel_unshuffle", nn.PixelUnshuffle(2), [(2, 3, 4, 6)], EXACT),
    ("channel_shuffle", nn.ChannelShuffle(3), [IMAGE], EXACT),
    ("channel shuffle by views",
     lambda x: x.view(2, 3, 2, 9, 8).transpose(1, 2).contiguous().view(2, 6, 9, 8), [IMAGE], EXACT),
    ("to float", lambda x: x.float() * 0.5, [COUNTS], EXACT),
    ("to int", lambda x: (x * 3).int(), [(3, 4)], EXACT),
    ("to bool", lambda x: x.bool(), [COUNTS], EXACT),
    ("bytes moved", lambda x: (x.permute(0, 3, 1, 2)[:, :, ::2], x.flatten(1)), [BYTES], EXACT),
    ("bytes to floats", lambda x: x.float() / 255, [BYTES], EXACT),
    ("bytes compared and cast", lambda x: (x > 30, x.bool(), x.int() * 3), [BYTES], EXACT),
    ("to bytes", lambda x: (x.float() / 2).to(torch.uint8), [BYTES], EXACT),
    ("float of bool", lambda x: x.float(), [BITS], EXACT),
    ("clone and detach", lambda x: x.clone().detach().contiguous() + 1, [(2, 3)], EXACT),
    ("bool moved", lambda x: x.unsqueeze(1).expand(2, 4, 3).transpose(0, 1), [BITS], EXACT),
    ("an input given back", lambda x: (x, x + 1), [(2, 3)], EXACT),
    ("a result given twice", lambda x: (x + 1,) * 2, [(2, 3)], EXACT),
    ("a constant given", lambda x: (x + 1, torch.arange(3)), [(2, 3)], EXACT),
]  # fmt: skip


def swap_halves(x: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat([-right, left], -1)


def write_a_row(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 1] = 7.0
    y[1:, 2:] += x[1:, 2:]
    return y


def write_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    flat = y.view(-1)
    flat.mul_(2)
    return y


SLICING: list[Case] = [
    ("slice", lambda x: x[:, 1:4, :-2], [IMAGE], EXACT),
    ("slice from the end", lambda x: x[-1:, :, -3:], [IMAGE], EXACT),
    ("slice with steps", lambda x: x[:, ::2, 1::3], [IMAGE], EXACT),
    ("slice of rank 5", cube(lambda x: x[:, :, :, 1:3].flatten(1)), [CUBE], EXACT),
    ("slice of integers", lambda x: x[:, ::2], [COUNTS], EXACT),
    ("select", lambda x: x[:, -1], [IMAGE], EXACT),
    ("select of rank 5", cube(lambda x: x[:, 1]), [CUBE], EXACT),
    ("select to rank 0", lambda x: x[2], [(4,)], EXACT),
    ("narrow", lambda x: x.narrow(1, 2, 3), [IMAGE], EXACT),
    ("split", lambda x: torch.split(x, 4, 2), [IMAGE], EXACT),
    ("split by sizes", lambda x: torch.split(x, [1, 5], 1), [IMAGE], EXACT),
    ("chunk", lambda x: x.chunk(3, 1), [IMAGE], EXACT),
    ("chunk unevenly", lambda x: x.chunk(2, 2), [IMAGE], EXACT),
    ("chunk of rank 5", cube(lambda x: [y.flatten(1) for y in x.chunk(2, 3)]), [CUBE], EXACT),
    ("tensor_split", lambda x: x.tensor_split(4, 1), [IMAGE], EXACT),
    ("unbind", lambda x: x.unbind(1)[1:3], [(2, 4, 3)], EXACT),
    ("unbind of rank 5", cube(lambda x: x.unbind(0)), [CUBE], EXACT),
    ("cat", lambda x, y: torch.cat([x, y, x], 1), [(2, 3, 4), (2, 1, 4)], EXACT),
    ("cat of rank 5", cube(lambda x: torch.cat([x, x], 2).flatten()), [CUBE], EXACT),
    ("cat with nothing", lambda x: torch.cat([torch.zeros(0), x]), [(2, 3)], EXACT),
    ("cat of bools", lambda x: torch.cat([x, ~x]), [BITS], EXACT),
    ("rotary halves", swap_halves, [(2, 3, 8)], EXACT),
    ("stack", lambda x, y: torch.stack([x, y], -1), [(2, 3), (2, 3)], EXACT),
    ("stack of rank 0", lambda x: torch.stack([x.sum(), x.mean()]), [(2, 3)], SUMS),
    ("roll", lambda x: torch.roll(x, (2, -1), (2, 3)), [IMAGE], EXACT),
    ("roll of everything", lambda x: torch.roll(x, 5), [(3, 4)], EXACT),
    ("pad", lambda x: F.pad(x, (1, 2, 3, 0)), [IMAGE], EXACT),
    ("pad with a value", lambda x: F.pad(x, (1, 2), value=1.5), [ROW], EXACT),
    ("pad by negative amounts", lambda x: F.pad(x, (-1, 2, -3, -1)), [IMAGE], EXACT),
    ("pad of rank 5", cube(lambda x: F.pad(x, (0, 0, 1, 2)).flatten()), [CUBE], EXACT),
    ("pad reflected", lambda x: F.pad(x, (3, 2), mode="reflect"), [ROW], EXACT),
    ("pad replicated", nn.ReplicationPad2d((1, 2, 3, 4)), [IMAGE], EXACT),
    ("pad circular", lambda x: F.pad(x, (2, 1, 1, 2), mode="circular"), [IMAGE], EXACT),
    ("zero pad", nn.ZeroPad2d(1), [IMAGE], EXACT),
    ("write into slices", write_a_row, [(3, 4)], EXACT),
    ("write into a view", write_a_view, [(3, 4)], EXACT),
]  # fmt: skip

INDEXING: list[Case] = [
    ("embedding", nn.Embedding(5, 4), [IDS], EXACT),
    ("embedding with padding", nn.Embedding(5, 4, padding_idx=0), [IDS[0]], EXACT),
    ("embedding and positions", nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)), [IDS], SUMS),
    ("index_select", lambda x: x.index_select(1, torch.tensor([2, 0, 2])), [IMAGE], EXACT),
    ("index by constants", lambda x: x[:, torch.tensor([2, -1, 0])], [IMAGE], EXACT),
    ("index by an input", lambda x, i: x[:, i], [(2, 5), IDS - 2], EXACT),
    ("index by a table", lambda x: x[torch.tensor([[0, 1], [2, 0]])], [(3, 4)], EXACT),
    ("index by two", lambda x: x[:, torch.tensor([0, 2, -1]), torch.tensor([1, 1, 0])], [IMAGE], EXACT),
    ("index by an outer product", lambda x: x[:, :, torch.tensor([[8], [0]]), torch.tensor([1, 7, 0])], [IMAGE], EXACT),
    ("index by two inputs", lambda x, i: x[i[0], i[1]], [(5, 5, 2), IDS - 2], EXACT),
    ("flip", lambda x: x.flip(1, -1), [IMAGE], EXACT),
    ("flip of nothing", lambda x: torch.flip(x, []) * 1, [IMAGE], EXACT),
    ("flip of rank 5", cube(lambda x: x.flip(2).flatten()), [CUBE], EXACT),
    ("repeat_interleave", lambda x: x.repeat_interleave(2, 1), [(2, 3, 4)], EXACT),
    ("repeat_interleave of everything", lambda x: x.repeat_interleave(3), [(2, 3)], EXACT),
]  # fmt: skip

POOLING: list[Case] = [
    ("max_pool2d", nn.MaxPool2d(2), [IMAGE], EXACT),
    ("max_pool2d with stride and padding", nn.MaxPool2d((3, 2), (2, 1), (1, 0)), [IMAGE], EXACT),
    ("max_pool2d rounded up", nn.MaxPool2d(3, 2, 1, ceil_mode=True), [(2, 3, 8, 10)], EXACT),
    ("max_pool2d of one image", nn.MaxPool2d(2), [IMAGE[1:]], EXACT),
    ("max_pool2d, its values of two", lambda x: F.max_pool2d(x, 2, return_indices=True)[0], [IMAGE], EXACT),
    ("max_pool1d", nn.MaxPool1d(3, 2, 1), [ROW], EXACT),
    ("avg_pool2d", nn.AvgPool2d(2), [IMAGE], ROUNDING),
    ("avg_pool2d with padding that counts", nn.AvgPool2d(3, 2, 1), [IMAGE], ROUNDING),
    ("avg_pool2d with padding that does not", nn.AvgPool2d(3, 1, 1, count_include_pad=False), [IMAGE], ROUNDING),
    ("avg_pool2d rounded up", nn.AvgPool2d(3, 2, 1, ceil_mode=True), [(2, 3, 8, 10)], ROUNDING),
    ("avg_pool2d rounded up, padding not counted", nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
     [(2, 3, 8, 10)], ROUNDING),
    ("avg_pool2d with a divisor", nn.AvgPool2d((3, 2), 2, 1, divisor_override=4), [IMAGE], ROUNDING),
    ("avg_pool2d with a divisor, rounded up", nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=5),
     [(2, 3, 8, 10)], ROUNDING),
    ("avg_pool1d", nn.AvgPool1d(3, 2, 1), [ROW], ROUNDING),
    ("adaptive_avg_pool2d to 1", nn.AdaptiveAvgPool2d(1), [IMAGE], SUMS),
    ("adaptive_avg_pool2d, even", nn.AdaptiveAvgPool2d((3, 4)), [IMAGE], ROUNDING),
    ("adaptive_avg_pool2d, uneven", nn.AdaptiveAvgPool2d((4, 3)), [IMAGE], ROUNDING),
    ("adaptive_avg_pool2d to its own size", nn.AdaptiveAvgPool2d((None, 4)), [IMAGE], ROUNDING),
    ("adaptive_avg_pool1d", nn.AdaptiveAvgPool1d(3), [ROW], ROUNDING),
    ("adaptive_max_pool2d", nn.AdaptiveMaxPool2d((3, 2)), [IMAGE], EXACT),
]  # fmt: skip

RESIZE: list[Case] = [
    (f"{mode} of rank {len(shape)}, {how}", lambda x, m=mode, k=keywords: F.interpolate(x, mode=m, **k), [shape],
     tolerance)
    for modes, shape, ways in (
        (("nearest", "nearest-exact", "bilinear", "bicubic"), (2, 3, 5, 6), (
            ("doubled", {"scale_factor": 2}), ("to a size", {"size": (7, 11)}), ("smaller", {"size": (3, 4)}),
            ("by an odd factor", {"scale_factor": 1.3}),
            ("by its own size", {"scale_factor": 1.3, "recompute_scale_factor": True}),
        )),
        (("nearest", "linear"), (2, 3, 7), (("doubled", {"scale_factor": 2}), ("to a size", {"size": 5}))),
    )
    for mode in modes
    for how, keywords in ways
    for tolerance in [EXACT if "nearest" in mode else SUMS]
]  # fmt: skip
RESIZE += [
    ("bilinear, corners aligned", nn.Upsample(size=(7, 11), mode="bilinear", align_corners=True), [IMAGE], SUMS),
    ("bicubic, corners aligned", nn.Upsample(size=(7, 11), mode="bicubic", align_corners=True), [IMAGE], SUMS),
    ("bilinear, antialiased", lambda x: F.interpolate(x, size=(4, 3), mode="bilinear", antialias=True), [IMAGE], SUMS),
    ("area", lambda x: F.interpolate(x, size=(4, 3), mode="area"), [IMAGE], SUMS),
]  # fmt: skip

REDUCTION: list[Case] = [
    ("mean", lambda x: x.mean(), [(2, 3)], SUMS),
    ("mean along", lambda x: x.mean((2, -1)), [IMAGE], SUMS),
    ("mean along, kept", lambda x: x.mean(1, keepdim=True), [IMAGE], SUMS),
    ("mean of rank 5", cube(lambda x: x.mean((1, 3, 4))), [CUBE], SUMS),
    ("mean of rank 5, kept", cube(lambda x: x - x.mean((0, 2), keepdim=True)), [CUBE], SUMS),
    ("sum", lambda x: x.sum(), [(2, 3)], SUMS),
    ("sum along", lambda x: x.sum(-1, keepdim=True), [IMAGE], SUMS),
    ("sum of bools", lambda x: x.sum(1), [BITS], EXACT),
    ("amax", lambda x: x.amax((1, 2)), [IMAGE], EXACT),
    ("amin", lambda x: x.amin(-1, keepdim=True), [IMAGE], EXACT),
    ("max", lambda x: x.max(), [(3, 4)], EXACT),
    ("max along", lambda x: x.max(1), [(3, 4)], EXACT),
    ("min along", lambda x: x.min(0, keepdim=True), [(3, 4)], EXACT),
    ("max of rank 5", cube(lambda x: x.max(2)[0]), [CUBE], EXACT),
    ("prod", lambda x: x.prod(1), [(3, 4)], ROUNDING),
    ("all", lambda x: x.all(1), [BITS], EXACT),
    ("any", lambda x: (x > 0).any(), [(3, 4)], EXACT),
    ("argmax", lambda x: x.argmax(1), [IMAGE], EXACT),
    ("argmax of everything", lambda x: x.argmax(), [(3, 4)], EXACT),
    ("argmin, kept", lambda x: x.argmin(-1, keepdim=True), [(3, 4)], EXACT),
    ("argmax of rank 5", cube(lambda x: x.argmax(3)), [CUBE], EXACT),
    ("topk", lambda x: x.topk(3), [(2, 7)], EXACT),
    ("topk, smallest, elsewhere", lambda x: x.topk(2, 1, largest=False)[0], [(2, 7, 3)], EXACT),
    ("sort", lambda x: x.sort(descending=True), [(2, 7)], EXACT),
    ("var", lambda x: x.var((1, 2)), [(2, 3, 4)], SUMS),
    ("var, biased", lambda x: x.var(1, correction=0, keepdim=True), [(2, 3, 4)], SUMS),
    ("var of everything", lambda x: x.var(), [(3, 4)], SUMS),
    ("std", lambda x: x.std(1, unbiased=False), [(3, 4)], SUMS),
    ("var_mean", lambda x: torch.var_mean(x, 1), [(3, 4)], SUMS),
    ("norm", lambda x: torch.linalg.vector_norm(x, dim=1), [(3, 4)], SUMS),
    ("norm of order 1", lambda x: x.norm(1, -1), [(3, 4)], SUMS),
    ("norm of order inf", lambda x: torch.linalg.vector_norm(x, math.inf, 1), [(3, 4)], EXACT),
    ("normalize", lambda x: F.normalize(x, dim=1), [IMAGE], SUMS),
    ("cosine_similarity", lambda x, y: F.cosine_similarity(x, y), [(3, 4), (3, 4)], SUMS),
    ("logsumexp", lambda x: x.logsumexp(1), [(3, 4)], SUMS),
]  # fmt: skip

NORMALIZATION: list[Case] = [
    ("batch_norm", nn.BatchNorm2d(6), [IMAGE], ROUNDING),
    ("batch_norm without weights", nn.BatchNorm2d(6, affine=False), [IMAGE], ROUNDING),
    ("batch_norm of vectors", nn.BatchNorm1d(6), [(4, 6)], ROUNDING),
    ("batch_norm of rows", nn.BatchNorm1d(6), [ROW], ROUNDING),
    ("layer_norm of large halves", lambda x: F.layer_norm(x, (8,)), [LARGE_HALVES], HALVES),
    ("rms_norm of large halves", lambda x: F.rms_norm(x, (8,)), [LARGE_HALVES], HALVES),
    ("group_norm of large halves", lambda x: F.group_norm(x, 2), [LARGE_HALVES], HALVES),
    ("layer_norm", nn.LayerNorm(8), [(2, 5, 8)], SUMS),
    ("layer_norm over two dimensions", nn.LayerNorm((9, 8)), [IMAGE], SUMS),
    ("layer_norm without weights", lambda x: F.layer_norm(x, (8,), eps=1e-3), [(2, 8)], SUMS),
    ("layer_norm without shift", nn.LayerNorm(8, bias=False), [(2, 8)], SUMS),
    ("rms_norm", nn.RMSNorm(8, eps=1e-5), [(2, 5, 8)], SUMS),
    ("rms_norm with its own epsilon", nn.RMSNorm(8), [(2, 5, 8)], SUMS),
    ("group_norm", nn.GroupNorm(3, 6), [IMAGE], SUMS),
    ("group_norm of rows", nn.GroupNorm(2, 6), [ROW], SUMS),
    ("group_norm of rank 5", cube(nn.GroupNorm(3, 3)), [CUBE], SUMS),
    ("group_norm of vectors", nn.GroupNorm(2, 6), [(4, 6)], SUMS),
    ("instance_norm", nn.InstanceNorm2d(6), [IMAGE], SUMS),
    ("instance_norm with weights", nn.InstanceNorm2d(6, affine=True), [IMAGE], SUMS),
    ("instance_norm of rows", nn.InstanceNorm1d(6, affine=True), [ROW], SUMS),
    ("instance_norm with statistics", nn.InstanceNorm2d(6, track_running_stats=True), [IMAGE], ROUNDING),
    ("weight_norm", nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), [(2, 4)], SUMS),
]  # fmt: skip

HEADS = [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8)]
SELF = [(2, 3, 5, 8)] * 3
ROWS = [(2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 8)]
sdpa = F.scaled_dot_product_attention
ATTENTION: list[Case] = [
    ("attention", sdpa, HEADS, SUMS),
    ("attention of rank 3", sdpa, [s[1:] for s in HEADS], SUMS),
    ("attention, causal", lambda q, k, v: sdpa(q, k, v, is_causal=True), SELF, SUMS),
    ("attention with a scale", lambda q, k, v: sdpa(q, k, v, scale=0.3), HEADS, SUMS),
    ("attention with an added mask", sdpa, [*HEADS, (5, 7)], SUMS),
    ("attention with a mask of bools", lambda q, k, v, m: sdpa(q, k, v, m > -1), [*HEADS, (2, 1, 5, 7)], SUMS),
    ("attention with a constant mask", lambda q, k, v: sdpa(q, k, v, torch.ones(5, 5, dtype=torch.bool).tril()),
     SELF, SUMS),
    ("attention of a row without keys, by bools", sdpa, [*ROWS, LOOK], SUMS),
    ("attention of a row without keys, by one row of bools", sdpa, [*ROWS, LOOK[1:2]], SUMS),
    ("attention of a row without keys, by floats", sdpa, [*ROWS, HIDE], SUMS),
    ("attention of a row without keys, constant bools", lambda q, k, v: sdpa(q, k, v, LOOK), ROWS, SUMS),
    ("attention of a row without keys, constant floats", lambda q, k, v: sdpa(q, k, v, HIDE), ROWS, SUMS),
    ("attention of a row of lowest floats", sdpa, [*ROWS, LOWEST], SUMS),
    ("attention of a row of constant lowest floats", lambda q, k, v: sdpa(q, k, v, LOWEST), ROWS, SUMS),
    ("attention with shared keys", lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
     [(2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)], SUMS),
    ("multihead attention", nn.MultiheadAttention(8, 2, batch_first=True), [(2, 5, 8)] * 3, SUMS),
    ("transformer layer", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), [(2, 5, 8)], SUMS),
    ("transformer decoder layer", nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), [(2, 5, 8), (2, 4, 8)], SUMS),
]  # fmt: skip


class Outputs(nn.LSTM):
    """An LSTM whose states nobody reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        outputs, _ = super().forward(x)
        return outputs


class Started(nn.LSTM):
    """An LSTM that starts where it is told."""

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, (h, c))


PARTS: list[Case] = [
    ("kron", torch.kron, [(2, 3), (3, 2)], ROUNDING),
    ("tensordot", lambda x, y: torch.tensordot(x, y, 1), [(2, 3), (3, 4)], SUMS),
    ("outer", torch.outer, [(3,), (4,)], EXACT),
    ("hstack", lambda x: torch.hstack([x, x]), [(2, 3)], EXACT),
    ("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), [(3,), (4,)], EXACT),
    ("diff", torch.diff, [(3, 4)], EXACT),
    ("argsort", lambda x: x.argsort(-1, descending=True), [(3, 4)], EXACT),
    ("aminmax", lambda x: torch.aminmax(x, dim=1), [(3, 4)], EXACT),
    ("smooth_l1_loss", F.smooth_l1_loss, [(3, 4), (3, 4)], SUMS),
    ("pairwise_distance", F.pairwise_distance, [(3, 4), (3, 4)], SUMS),
    ("nan_to_num", lambda x: x.nan_to_num(0.5, 1.0, -1.0), [torch.tensor([1.0, math.inf, -math.inf])], EXACT),
    ("gru cell", nn.GRUCell(4, 3), [(2, 4)], SUMS),
    ("lstm cell", nn.LSTMCell(4, 3), [(2, 4)], SUMS),
    ("local_response_norm", nn.LocalResponseNorm(3), [IMAGE], SUMS),
]  # fmt: skip
"""Operators without a function, taken apart."""

WORDS = (2, 5, 4)
RECURRENT: list[Case] = [
    ("lstm", nn.LSTM(4, 3), [WORDS], SUMS),
    ("lstm, batch first, its outputs only", Outputs(4, 3, batch_first=True), [WORDS], SUMS),
    ("lstm without bias", nn.LSTM(4, 3, bias=False), [WORDS], SUMS),
    ("lstm with projection", nn.LSTM(4, 6, proj_size=3), [WORDS], SUMS),
    ("lstm, two layers, both ways", nn.LSTM(4, 3, num_layers=2, bidirectional=True), [WORDS], SUMS),
    ("lstm of one sequence", nn.LSTM(4, 3), [WORDS[1:]], SUMS),
    ("lstm that starts somewhere", Started(4, 3), [WORDS, (1, 5, 3), (1, 5, 3)], SUMS),
    ("rnn", nn.RNN(4, 3), [WORDS], SUMS),
    ("rnn with relu", nn.RNN(4, 3, nonlinearity="relu", batch_first=True), [WORDS], SUMS),
    ("rnn, both ways", nn.RNN(4, 3, bidirectional=True), [WORDS], SUMS),
]  # fmt: skip

FACTORIES: list[Case] = [
    ("zeros_like", lambda x: x + torch.zeros_like(x), [(2, 3)], EXACT),
    ("full_like", lambda x: x * torch.full_like(x, 3.0), [(2, 3)], EXACT),
    ("ones and arange", lambda x: x * torch.ones(3) + torch.arange(3), [(2, 3)], EXACT),
    ("new_ones", lambda x: x + x.new_ones(3), [(2, 3)], EXACT),
    ("a causal mask", lambda x: x.masked_fill(torch.triu(torch.ones(4, 4), 1).bool(), -9.0), [(2, 4, 4)], EXACT),
    ("a mask filled in place", lambda x: x + torch.full((3, 3), -9.0).triu_(1), [(3, 3)], EXACT),
    ("the size of a tensor", lambda x: x / x.shape[1], [(2, 3)], ROUNDING),
]  # fmt: skip

TABLES = [CONVOLUTION, LINEAR, ACTIVATION, ARITHMETIC, SHAPE, SLICING, INDEXING, POOLING, RESIZE, REDUCTION,
          NORMALIZATION, ATTENTION, PARTS, RECURRENT, FACTORIES]  # fmt: skip
CASES = [case for table in TABLES for case in table]


CORE = {
    "conv2d grouped", "conv1d", "conv_transpose2d with output padding", "linear of rank 3", "linear of rank 1",
    "matmul that broadcasts", "addmm with factors", "hardswish", "hardsigmoid", "softplus", "elu", "log_softmax",
    "remainder of integers", "unflatten", "expand", "pixel_shuffle", "channel_shuffle", "chunk unevenly",
    "pad reflected", "pad replicated", "embedding", "index by an input", "max_pool2d", "avg_pool1d",
    "adaptive_avg_pool2d, even", "nearest of rank 4, to a size", "bilinear of rank 4, doubled",
    "bicubic of rank 4, smaller", "std", "normalize",
    "batch_norm", "layer_norm", "group_norm", "instance_norm with weights", "attention, causal", "multihead attention",
    "a causal mask", "attention of a row without keys, by bools", "attention of a row without keys, constant floats",
    "attention of a row of lowest floats",
}  # fmt: skip
"""Operators that PyTorch's core set writes in others."""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--modules"], ["--core"]], ids=["operators", "modules", "core operators"])
def test_some_of_pytorchs_own_specifications(arguments: list[str]) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "op_db.py"  # all of them
    some = [
        "--fraction",
        "0.08",
        "--samples",
        "1",
        "--seconds",
        "20",
        "--dtypes",
        "float32",
        "int64",
        "--show",
        "--json",
    ]
    found = subprocess.run([sys.executable, script, *arguments, *some], capture_output=True, text=True)
    record = json.loads(found.stdout)
    assert record["outcomes"] == []
    assert record["counts"]["right"] > 0


def test_names_say_which() -> None:
    assert len({c[0] for c in CASES}) == len(CASES)
    assert {c[0] for c in CASES} >= CORE


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch, of its own speed
@pytest.mark.parametrize(("subject", "inputs", "tolerance"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_operator(subject: Callable[..., Any], inputs: list[Any], tolerance: float) -> None:
    assert extensions(agree(subject, inputs, tolerance)) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # PyTorch's decompositions, of its own use of itself
@pytest.mark.parametrize("name", sorted(CORE))
def test_core_operators(name: str) -> None:
    ((subject, inputs, tolerance),) = (c[1:] for c in CASES if c[0] == name)
    model = agree(subject, inputs, max(tolerance, SUMS), core=True)
    assert extensions(model) == []
