"""ROI_ALIGN, ROI_POOLING: regions of feature maps, resampled to one size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from nnapi.ops.boxes import check_batches, check_boxes, check_quant
from nnapi.ops.deadline import check_deadline
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, I32, INT32, Q8, Q8S, Q16, Array, Shape
from nnapi.ops.window import LAYOUT, at_least, channels_last, image_shape, image_sizes, in_layout

MAX_SAMPLES: Final = 4096
"""Sampling points along one side of a bin; more than any feature map has pixels."""


class Region(NamedTuple):
    """One region in pixels of its feature map; pairs are (vertical, horizontal)."""

    image: int
    start: tuple[float, float]
    end: tuple[float, float]


def _sizes(call: Call) -> Sizes:
    sizes = Sizes(call, may_be_zero=("rois",))
    sizes.bind("rois", "rois", 4)
    sizes.bind("batch_indices", "rois")
    for side in ("height", "width"):
        stride = call.scalar(f"{side}_stride")
        fine = stride is None or (stride > 0 and math.isfinite(stride))
        call.require(fine, f"{side}_stride is {stride}, must be positive and finite")
        samples = call.scalar(f"{side}_samples") if f"{side}_samples" in call else None
        call.require(
            samples is None or 0 <= samples <= MAX_SAMPLES,
            f"{side}_samples is {samples}, must be 0 (as many as fit) to {MAX_SAMPLES}",
        )
    return sizes


def _shape(call: Call) -> list[Shape]:
    sizes = _sizes(call)
    _, _, width, channels = image_sizes(call)
    out_height, out_width = at_least(call, "output_height", 1), at_least(call, "output_width", 1)
    shape = image_shape(call, sizes["rois"], out_height, out_width, channels)
    elements(call, shape)
    elements(call, (out_height, width, channels))
    return [shape]


def _regions(call: Call, height: int, width: int, images: int) -> Iterator[Region]:
    """The regions in order; ModelError where one is not within its feature map."""
    rois, batches = dequantize(call.array("rois"), call["rois"]), call.array("batch_indices")
    check_batches(call, batches, images)
    check_boxes(call, "rois", rois)
    strides = np.array([call.scalar(f"{side}_stride") for side in ("width", "height")] * 2, np.float32)
    scaled = rois / strides
    outside = ~((scaled >= 0) & (scaled <= np.array((width, height) * 2))).all(1)
    if outside.any():
        n = int(np.argmax(outside))
        call.fail(
            f"rois has {rois[n].tolist()} at {n}, must be within the feature map's {width} x {height} pixels "
            f"of {strides[0]:g} x {strides[1]:g}"
        )
    for image, (x1, y1, x2, y2) in zip(batches, scaled):
        yield Region(int(image), (y1, x1), (y2, x2))


def _align_axis(call: Call, x: Array, start: float, end: float, bins: int, samples: int) -> Array:
    """x [size, ...] -> [bins, ...]: the mean of `samples` points per bin (0: as many as pixels), interpolated."""
    size = len(x)
    step = np.maximum(end - start, np.float32(1)) / np.float32(bins)
    samples = samples or math.ceil(step)
    width = step / np.float32(samples)
    begin = step * np.arange(bins, dtype=np.float32) + start + width / 2
    total = np.zeros((bins, *x.shape[1:]), np.float32)
    for n in range(samples):
        check_deadline(call)
        at = begin + width * np.float32(n)
        low = np.minimum(np.floor(at).astype(np.int64), size - 1)
        inside = (low < size - 1).reshape(-1, *[1] * (x.ndim - 1))
        weight = np.where(inside, (at - low).astype(np.float32).reshape(inside.shape), np.float32(0))
        total += x[low] * (1 - weight) + x[np.minimum(low + 1, size - 1)] * weight
    return total / np.float32(samples)


def _align(call: Call) -> list[Array]:
    x = channels_last(call, dequantize(call.array("input"), call["input"]))
    images, height, width, channels = x.shape
    rows, columns = call.scalar("output_height"), call.scalar("output_width")
    result = np.empty((len(call.array("rois")), rows, columns, channels), np.float32)
    for n, region in enumerate(_regions(call, height, width, images)):
        (top, left), (bottom, right) = region.start, region.end
        resampled = _align_axis(call, x[region.image], top, bottom, rows, call.scalar("height_samples"))
        across = _align_axis(call, resampled.swapaxes(0, 1), left, right, columns, call.scalar("width_samples"))
        result[n] = across.swapaxes(0, 1)
    return [in_layout(call, quantize(result, call.output))]


def _align_macs(call: Call) -> int:
    """Four pixels a sampling point; one point a bin where their number depends on the region."""
    samples = [call.scalar(f"{side}_samples") or 1 for side in ("height", "width")]
    return 4 * samples[0] * samples[1] * (elements(call, call.op.infer(call)[0]) or 0)


def _pool_axis(call: Call, x: Array, start: float, end: float, bins: int, empty: int) -> Array:
    """x [size, ...] -> [bins, ...]: the largest of each bin, from rounded start to rounded end, both included."""
    size = len(x)
    first, last = (math.floor(float(edge) + 0.5) for edge in (start, end))
    step = np.float32(last - first + 1) / np.float32(bins)
    edges = np.arange(bins, dtype=np.float32)
    begin = np.minimum(np.floor(step * edges + first).astype(np.int64), size)
    stop = np.minimum(np.ceil(step * (edges + 1) + first).astype(np.int64), size)
    result = x[np.minimum(begin, size - 1)]
    for n in range(1, int((stop - begin).max())):
        check_deadline(call)
        np.maximum(result, x[np.clip(np.minimum(begin + n, stop - 1), 0, size - 1)], out=result)
    result[begin >= stop] = empty
    return result


def _pool(call: Call) -> list[Array]:
    x = channels_last(call, call.array("input"))
    images, height, width, channels = x.shape
    rows, columns, empty = call.scalar("output_height"), call.scalar("output_width"), call["input"].zero_point
    result = np.empty((len(call.array("rois")), rows, columns, channels), x.dtype)
    for n, region in enumerate(_regions(call, height, width, images)):
        (top, left), (bottom, right) = region.start, region.end
        pooled = _pool_axis(call, x[region.image], top, bottom, rows, empty)
        result[n] = _pool_axis(call, pooled.swapaxes(0, 1), left, right, columns, empty).swapaxes(0, 1)
    return [in_layout(call, result)]


def _rules(call: Call) -> Iterable[Need]:
    return check_quant(call, "rois")


REGIONS = (
    Param("input", "T", rank=4), Param("rois", "B", rank=2), Param("batch_indices", I32, rank=1),
    Param("output_height", INT32), Param("output_width", INT32), Param("height_stride", "F"),
    Param("width_stride", "F"),
)  # fmt: skip
SAMPLES = (Param("height_samples", INT32), Param("width_samples", INT32))
TYPES = (
    Types(3, T=F32, B=F32, F=FLOAT32), Types(3, T=F16, B=F16, F=FLOAT16), Types(3, T=Q8, B=Q16, F=FLOAT32),
    Types(4, T=Q8S, B=Q16, F=FLOAT32),
)  # fmt: skip

ROI_ALIGN = Op(
    "ROI_ALIGN", 81, 3, (Signature((*REGIONS, *SAMPLES, LAYOUT)),), (Result("output", "T"),), TYPES,
    infer=_shape, reference=_align, macs=_align_macs, rules=_rules,
    formula="each roi cut into output_height x output_width bins: the mean of points interpolated bilinearly",
)  # fmt: skip
ROI_POOLING = Op(
    "ROI_POOLING", 82, 3, (Signature((*REGIONS, LAYOUT)),), (Result("output", "T", quant="input"),), TYPES,
    infer=_shape, reference=_pool, rules=_rules,
    formula="each roi, rounded to pixels, cut into output_height x output_width bins: the largest pixel",
)  # fmt: skip

OPERATIONS = (ROI_ALIGN, ROI_POOLING)
