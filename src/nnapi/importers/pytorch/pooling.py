"""Pooling over windows, and adaptive pooling to a given size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.convolution import Edges, Sizes, over_image, window_inputs
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.resize import resampled
from nnapi.importers.pytorch.slicing import padded
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ops.numeric import NONE

NO_EDGES: Edges = ((0, 0), (0, 0))
KERNEL_STRIDE_PADDING_DILATION = (1, 1, 0, 1)
"""Of a height of one pixel."""


def _pool(type: str, e: Emitter, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], edges: Edges) -> Tensor:
    given = {"filter_width": kernel[1], "filter_height": kernel[0], "activation": NONE, "layout": True}
    return e.add(type, input=x, **window_inputs(stride, edges), **given)


def _edges(
    e: Emitter, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], ceil: bool
) -> Edges:
    """Padding in front and behind; in ceil mode behind has what a last window needs that starts on a pixel."""
    if not ceil:
        return (padding[0], padding[0]), (padding[1], padding[1])
    edges = []
    for i in range(2):
        size, k, s, p = x.size(2 + i), kernel[i], stride[i], padding[i]
        count = -(-(size + 2 * p - k) // s) + 1
        if (count - 1) * s >= size + p:
            count -= 1
        edges.append((p, max(p, (count - 1) * s + k - size - p)))
    return edges[0], edges[1]


def max_pool2d(
    e: Emitter,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil: bool = False,
) -> Tensor:
    """x [N, C, H, W] or [C, H, W] -> [..., C, H', W']."""
    if over_image(dilation) != (1, 1):
        raise Inexpressible(f"dilation is {dilation}, MAX_POOL_2D has none")
    kernel, stride, padding = over_image(kernel), over_image(stride or kernel), over_image(padding)
    x = e.images(x, 3)
    return e.reshape(_pool("MAX_POOL_2D", e, x, kernel, stride, _edges(e, x, kernel, stride, padding, ceil)), e.shape)


def avg_pool2d(
    e: Emitter,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    ceil: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """NNAPI counts the pixels inside only; where PyTorch counts the padding too, a PAD makes pixels of it."""
    kernel, stride, padding = over_image(kernel), over_image(stride or kernel), over_image(padding)
    x = e.images(x, 3)
    edges = _edges(e, x, kernel, stride, padding, ceil)
    if divisor is not None:  # every window is full
        x, edges = padded(e, x, {2: edges[0], 3: edges[1]}), NO_EDGES
    elif count_include_pad and any(padding):
        (rows, columns), ((_, bottom), (_, right)) = padding, edges
        x = padded(e, x, {2: (rows, rows), 3: (columns, columns)})
        edges = (0, bottom - rows), (0, right - columns)  # what ceil mode adds is not counted
    y = _pool("AVERAGE_POOL_2D", e, x, kernel, stride, edges)
    if divisor is not None:
        y = e.binary("MUL", y, kernel[0] * kernel[1] / divisor)
    return e.reshape(y, e.shape)


def avg_pool3d(e: Emitter, x: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0, *args: Any) -> Tensor:
    """x [..., C, D, H, W] pooled along D only (by local response norm): an image [D, H * W]."""
    depth, strides, pads = (_of_depth(s, neutral) for s, neutral in ((kernel, 1), (stride or kernel, 1), (padding, 0)))
    plane = e.reshape(x, (rank.product(x.shape[:-4]), *x.shape[-4:-2], rank.product(x.shape[-2:])))
    return avg_pool2d(e, plane, (depth, 1), (strides, 1), (pads, 0), *args)


def _of_depth(sizes: Sizes, neutral: int) -> int:
    depth, *rest = [sizes] * 3 if isinstance(sizes, int) else sizes
    if any(size != neutral for size in rest):
        raise Inexpressible(f"a pooling by {sizes} over three dimensions, NNAPI's are over two")
    return depth


def of_row(pool: Callable[..., Any], heights: Sequence[int]) -> Callable[..., Any]:
    """A pooling of sequences [..., C, L] as one of images of height 1; `heights` are what its sizes are for that."""

    def write(e: Emitter, x: Tensor, *args: Any) -> Any:
        row = e.images(x, 2)
        sizes = [(h, over_image(a)[1]) if a not in ((), []) else () for h, a in zip(heights, args)]
        return pool(e, e.reshape(row, (*row.shape[:2], 1, row.shape[2])), *sizes, *args[len(heights) :])

    return write


def max_pool_with_indices(e: Emitter, x: Tensor, *args: Any) -> tuple[Tensor, None]:
    return max_pool2d(e, x, *args), None


def adaptive_avg_pool2d(e: Emitter, x: Tensor, sizes: int | Sequence[int | None]) -> Tensor:
    """To a given size: a MEAN to one pixel, equal windows where they divide the image, else a matrix product."""
    x, target = _adapted(e, x, sizes)
    if target == (1, 1):
        return e.reshape(e.add("MEAN", input=x, axes=[2, 3], keep_dims=1), e.shape)
    kernel = _equal_windows(x, target)
    if kernel is not None:
        y = x if kernel == (1, 1) else _pool("AVERAGE_POOL_2D", e, x, kernel, kernel, NO_EDGES)
        return e.reshape(y, e.shape)
    for axis, size in zip((2, 3), target):
        if x.shape[axis] != size:
            x = resampled(e, x, axis, functools.partial(_adapted_height, size))
    return e.reshape(x, e.shape)


def adaptive_max_pool2d(e: Emitter, x: Tensor, sizes: int | Sequence[int | None]) -> tuple[Tensor, None]:
    x, target = _adapted(e, x, sizes)
    kernel = _equal_windows(x, target)
    if kernel is None:
        raise Inexpressible(f"windows of different sizes: {x.shape} to {e.shape}")
    return e.reshape(_pool("MAX_POOL_2D", e, x, kernel, kernel, NO_EDGES), e.shape), None


def _adapted(e: Emitter, x: Tensor, sizes: int | Sequence[int | None]) -> tuple[Tensor, tuple[int, int]]:
    """x [..., C, H, W] as images, and the height and width that they are to have: None leaves one as it is."""
    x = e.images(x, 3)
    wanted = [sizes] * 2 if isinstance(sizes, int) else list(sizes)
    height, width = (x.size(2 + i) if size is None else size for i, size in enumerate(wanted))
    return x, (height, width)


def _adapted_height(size: int, image: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten._adaptive_avg_pool2d.default(image, [size, image.shape[-1]])


def _equal_windows(x: Tensor, target: tuple[int, int]) -> tuple[int, int] | None:
    """The kernel that divides the image into windows of one size, if there is one."""
    height, width = x.size(2), x.size(3)
    return None if height % target[0] or width % target[1] else (height // target[0], width // target[1])


FUNCTIONS = {
    "aten.max_pool2d.default": max_pool2d,
    "aten.max_pool2d_with_indices.default": max_pool_with_indices,
    "aten.max_pool1d.default": of_row(max_pool2d, KERNEL_STRIDE_PADDING_DILATION),
    "aten.max_pool1d_with_indices.default": of_row(max_pool_with_indices, KERNEL_STRIDE_PADDING_DILATION),
    "aten.avg_pool2d.default": avg_pool2d,
    "aten.avg_pool3d.default": avg_pool3d,
    "aten.avg_pool1d.default": of_row(avg_pool2d, KERNEL_STRIDE_PADDING_DILATION[:3]),
    "aten.adaptive_avg_pool2d.default": adaptive_avg_pool2d,
    "aten._adaptive_avg_pool2d.default": adaptive_avg_pool2d,
    "aten.adaptive_avg_pool1d.default": of_row(adaptive_avg_pool2d, (1,)),
    "aten.adaptive_max_pool2d.default": adaptive_max_pool2d,
    "aten.adaptive_max_pool1d.default": of_row(adaptive_max_pool2d, (1,)),
}
