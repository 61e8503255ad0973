"""PyTorch's ways to compute one convolution; which is the fastest here is measured the first time it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from time import perf_counter
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F

from nnapi.drivers.openmp import let_threads_go

REPEATS: Final = 3
GAIN: Final = 0.95
"""Of the usual way's time: what another must stay below, or the machine's noise would choose."""
SMALL: Final = 1 << 22
"""Products below which there is nothing to gain."""


class Window(NamedTuple):
    """How a convolution slides: (height, width) each, and groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


Way = Callable[[Any, Any, Any, Window], Any]
"""(input [N, C, H, W], weight, bias, window) -> output [N, D, H, W]"""


def convolve(x: Any, weight: Any, bias: Any, window: Window) -> Any:
    """The convolution of `x [N, C, H, W]` with `weight [D, C / groups, h, w]`, the fastest way that PyTorch has."""
    if not _may_be_transformed(x, weight, window):
        return _usual(x, weight, bias, window)
    way = _fastest(tuple(x.shape), tuple(weight.shape), window, torch.get_num_threads())
    return way(x, weight, bias, window)


def _usual(x: Any, weight: Any, bias: Any, window: Window) -> Any:
    return F.conv2d(x, weight, bias, *window)


def _transformed(x: Any, weight: Any, bias: Any, window: Window) -> Any:
    """Winograd's or the Fourier transform (Lavin and Gray 2015, arXiv 1509.09308), as NNPACK has them.

    NNPACK has threads of its own, which OpenMP's would keep waiting.
    """
    if torch.get_num_threads() > 1:
        let_threads_go()
    return torch._nnpack_spatial_convolution(x, weight, bias, window.padding, window.stride)


def _may_be_transformed(x: Any, weight: Any, window: Window) -> bool:
    """Whether NNPACK has a transform for it, and it is large enough to gain by one."""
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    plain = window.stride == window.dilation == (1, 1) and window.groups == 1
    return plain and min(weight.shape[2:]) > 1 and weight.numel() * x.shape[2] * x.shape[3] >= SMALL and _has_nnpack()


@cache
def _has_nnpack() -> bool:
    return bool(torch._nnpack_available())  # which also sets it up


@lru_cache(maxsize=4096)
def _fastest(shape: tuple[int, ...], weight_shape: tuple[int, ...], window: Window, threads: int) -> Way:
    """Measured on values of its own at the process's number of threads, which `threads` is.

    An operator that OpenMP runs goes before and after: what one way leaves behind for others is part of its price.
    """
    x, weight, bias = torch.randn(shape), torch.randn(weight_shape), torch.zeros(weight_shape[0])
    ways: list[Way] = [_usual]
    try:
        _transformed(x, weight, bias, window)
    except RuntimeError:  # a window that NNPACK has no transform for
        return _usual
    ways.append(_transformed)
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for way in ways:
            started = perf_counter()
            torch.relu(way(torch.relu(x), weight, bias, window))
            seconds[way] = min(seconds[way], perf_counter() - started)
    return _transformed if seconds[_transformed] < seconds[_usual] * GAIN else _usual
