"""Convolutions: plain, depthwise, grouped and transposed, of images and of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.slicing import join, padded, pieces, window
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor, tensor_of
from nnapi.ops.numeric import NONE

Sizes = int | Sequence[int]
Edges = tuple[tuple[int, int], tuple[int, int]]
"""Padding (top, bottom), (left, right)."""


def conv2d(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """x [N, C, H, W] or [C, H, W], weight [O, C / groups, h, w] -> [N, O, H', W']."""
    dilations = over_image(dilation)
    edges = _edges(padding, weight, dilations)
    return _convolved(e, e.images(x, 3), weight, bias, over_image(stride), edges, dilations, groups)


def conv1d(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """x [N, C, L] as an image of height 1."""
    weight = _as_row(e, weight)
    dilations = (1, over_image(dilation)[1])
    edges = ((0, 0), _edges(padding, weight, dilations)[1])
    return _convolved(e, _as_row(e, x), weight, bias, (1, over_image(stride)[1]), edges, dilations, groups)


def _convolved(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    edges: Edges,
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    channels, filters = x.size(1), weight.size(0)
    sizes = [(weight.size(2 + i) - 1) * dilation[i] + 1 for i in range(2)]
    if any(amount >= size for size, pair in zip(sizes, edges) for amount in pair):
        x, edges = padded(e, x, {2: edges[0], 3: edges[1]}), ((0, 0), (0, 0))
    is_dilated = dilation != (1, 1)
    given: dict[str, Any] = {**window_inputs(stride, edges), "activation": NONE, "layout": True}
    if is_dilated:
        given |= {"dilation_width": dilation[1], "dilation_height": dilation[0]}
    bias = zeros(e, filters, x) if bias is None else bias
    if groups == 1:
        y = e.add("CONV_2D", input=x, filter=e.permute(weight, (0, 2, 3, 1)), bias=bias, **given)
    elif groups == channels:  # [O, 1, h, w] -> [1, h, w, O]
        w = e.permute(weight, (1, 2, 3, 0))
        y = e.add("DEPTHWISE_CONV_2D", input=x, filter=w, bias=bias, depth_multiplier=filters // channels, **given)
    elif is_dilated:
        y = _by_group(e, x, weight, bias, given, groups)
    else:
        w = e.permute(weight, (0, 2, 3, 1))
        y = e.add("GROUPED_CONV_2D", input=x, filter=w, bias=bias, num_groups=groups, **given)
    return e.reshape(y, e.shape)


def _by_group(e: Emitter, x: Tensor, weight: Tensor, bias: Tensor, given: dict[str, Any], groups: int) -> Tensor:
    """GROUPED_CONV_2D has no dilation: one CONV_2D for each group."""
    filters, share = weight.size(0), weight.size(0) // groups
    results = []
    for g, part in enumerate(pieces(e, x, 1, [x.size(1) // groups] * groups)):
        w, b = (window(e, t, 0, g * share, share) for t in (e.permute(weight, (0, 2, 3, 1)), bias))
        results.append(e.add("CONV_2D", input=part, filter=w, bias=b, **given))
    assert share * groups == filters
    return join(e, results, 1)


def conv_transpose2d(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """x [N, C, H, W], weight [C, O / groups, h, w] -> [N, O, H', W']."""
    pads, outer = over_image(padding), over_image(output_padding)
    return _transposed(e, e.images(x, 3), weight, bias, over_image(stride), pads, outer, groups, over_image(dilation))


def conv_transpose1d(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """x [N, C, L] as an image of height 1."""
    strides, dilations = ((1, over_image(v)[1]) for v in (stride, dilation))
    pads, outer = ((0, over_image(v)[1]) for v in (padding, output_padding))
    return _transposed(e, _as_row(e, x), _as_row(e, weight), bias, strides, pads, outer, groups, dilations)


def _transposed(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    output_padding: tuple[int, int],
    groups: int,
    dilation: tuple[int, int],
) -> Tensor:
    """NNAPI's has no groups and no dilation: the filter gets zeros instead.

    Its padding cuts the output; what is behind may be below 0 and so stand for the output padding.
    """
    if groups > 1 or dilation != (1, 1):
        weight = tensor_of(_spread(_value(weight), groups, dilation))
    filter = e.permute(weight, (1, 2, 3, 0))
    edges = tuple((p, p - o) for p, o in zip(padding, output_padding))
    bias = zeros(e, filter.size(0), x) if bias is None else bias
    given = window_inputs(stride, edges)  # type: ignore[arg-type]
    y = e.add("TRANSPOSE_CONV_2D", input=x, filter=filter, bias=bias, **given, activation=NONE, layout=True)
    return e.reshape(y, e.shape)


def _spread(weight: torch.Tensor, groups: int, dilation: tuple[int, int]) -> torch.Tensor:
    """weight [C, O / groups, h, w] -> [C, O, h', w'], with zeros between groups and taps."""
    channels, share, *taps = weight.shape
    sizes = [(t - 1) * d + 1 for t, d in zip(taps, dilation)]
    dense = weight.new_zeros(groups, channels // groups, groups, share, *sizes)
    by_group = weight.reshape(groups, channels // groups, share, *taps)
    for g in range(groups):
        dense[g, :, g, :, :: dilation[0], :: dilation[1]] = by_group[g]
    return dense.reshape(channels, groups * share, *sizes)


def convolution(
    e: Emitter,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    *_: Any,
) -> Tensor:
    """The one operator that all convolutions decompose to."""
    if weight.rank > 4:
        raise Inexpressible(f"a convolution over {weight.rank - 2} dimensions, NNAPI's are over 2")
    if transposed:
        write = conv_transpose1d if weight.rank == 3 else conv_transpose2d
        return write(e, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return (conv1d if weight.rank == 3 else conv2d)(e, x, weight, bias, stride, padding, dilation, groups)


def over_image(size: Sizes) -> tuple[int, int]:
    """A size over height and width, as PyTorch gives it: one for both, or each."""
    sizes = [size] if isinstance(size, int) else list(size)
    return sizes[0], sizes[-1]


def window_inputs(stride: tuple[int, int], edges: Edges) -> dict[str, int]:
    """The inputs that windows with explicit padding have in common."""
    (top, bottom), (left, right) = edges
    return {
        "padding_left": left, "padding_right": right, "padding_top": top, "padding_bottom": bottom,
        "stride_width": stride[1], "stride_height": stride[0],
    }  # fmt: skip


def zeros(e: Emitter, size: int, x: Tensor) -> Tensor:
    """A bias, which NNAPI's operations must have."""
    return e.expand(e.like(0, x), (size,))


def _edges(padding: Sizes | str, weight: Tensor, dilation: tuple[int, int]) -> Edges:
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str):  # same: an odd pixel goes behind
        total = [(weight.size(2 + i) - 1) * dilation[i] for i in range(2)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    rows, columns = over_image(padding)
    return (rows, rows), (columns, columns)


def _as_row(e: Emitter, x: Tensor) -> Tensor:
    """[N, C, L] or [C, L] -> [N, C, 1, L]."""
    x = x if x.rank == 3 else e.viewed(x, (1, *x.shape))
    return e.reshape(x, (*x.shape[:2], 1, x.shape[2]))


def _value(weight: Tensor) -> torch.Tensor:
    if weight.value is None:
        raise Inexpressible("its filter is not constant")
    value: torch.Tensor = weight.value
    return value


FUNCTIONS = {
    "aten.conv2d.default": conv2d,
    "aten.conv2d.padding": conv2d,
    "aten.conv1d.default": conv1d,
    "aten.conv1d.padding": conv1d,
    "aten.conv_transpose2d.input": conv_transpose2d,
    "aten.conv_transpose1d.default": conv_transpose1d,
    "aten.convolution.default": convolution,
    "aten._convolution.default": convolution,
}
