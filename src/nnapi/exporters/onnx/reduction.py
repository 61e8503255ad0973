"""Reductions, searches along an axis, and resizing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnapi.exporters.onnx.lowering import FLOAT, REAL, Node, Row
from nnapi.exporters.onnx.writer import ABSENT, Value
from nnapi.ops.types import B8, I32, Array

IMAGE_AXES = [2, 3]


def _reduction(type: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        node.write(_reduced(node, type, node.real("input")))

    return lower


def _reduced(node: Node, type: str, x: Value) -> Value:
    """x over the operation's axes; NNAPI has no rank 0, the value of a full reduction has one dimension."""
    rank = node.rank("input")
    axes = sorted({int(a) % rank for a in node.array("axes").ravel()})
    keep = bool(node.scalar("keep_dims") > 0)
    if not axes:
        return node.emit("Identity", [x])
    if type == "ReduceMean" and rank == 4 and axes == IMAGE_AXES:
        result = node.emit("GlobalAveragePool", [x])  # engines keep it in the convolutions' own layout
        return result if keep else node.emit("Squeeze", [result, node.ints(axes)])
    whole = len(axes) == rank and not keep
    result = node.emit(type, [x, node.ints(axes)], keepdims=int(keep or whole))
    return node.reshape(result, (1,)) if whole and rank > 1 else result


def _logical(type: str) -> Callable[[Node], None]:
    """Booleans as integers: the largest says whether any is true, the smallest whether all are."""

    def lower(node: Node) -> None:
        reduced = _reduced(node, type, node.cast(node.stored("input"), np.int32))
        node.write_stored(node.cast(reduced, np.bool_))

    return lower


def _arg(type: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        rank = node.rank("input")
        axis = node.scalar("axis") % rank
        # A vector's result keeps its one dimension, which NNAPI wants.
        found = node.emit(type, [node.stored("input")], axis=axis, keepdims=int(rank == 1))
        node.write_stored(node.cast(found, np.int32))

    return lower


def _topk(node: Node) -> None:
    """Of equal values NNAPI takes the last first and ONNX the first, so it looks at them backwards."""
    x, rank = node["input"], node.rank("input")
    size = node.dims("input")[-1]
    values = node.stored("input")
    if x.type.is_quantized:
        values = node.cast(values, np.int32)
    backwards = node.emit("Slice", [values, *map(node.ints, ([-1], [-(2**31)], [rank - 1], [-1]))])
    k = node.ints([node.scalar("k")])
    values, indices = node.emit_many("TopK", [backwards, k], 2, axis=rank - 1, largest=1, sorted=1)
    node.write_stored(node.cast(values, x.type.dtype) if x.type.is_quantized else values, 0)
    node.write_stored(node.cast(node.emit("Sub", [node.ints(size - 1), indices]), np.int32), 1)


def _resize_bilinear(node: Node) -> None:
    target = _target(node)
    attributes = {"mode": "linear", "coordinate_transformation_mode": _coordinates(node)}
    y = node.emit("Resize", [node.image(), ABSENT, ABSENT, target], **attributes)
    node.write(y, image=True)


def _coordinates(node: Node) -> str:
    if node.scalar("align_corners"):
        return "align_corners"
    return "half_pixel" if node.scalar("half_pixel_centers") else "asymmetric"


def _target(node: Node) -> Value:
    """[N, C, H', W'] of the output."""
    n, c, _, _ = node.image_dims()
    h, w = _output_size(node)
    if n is None or c is None:
        node.unknown("batch and channels are not known")
    return node.ints((n, c, h, w))


def _output_size(node: Node) -> tuple[int, int]:
    dimensions = node.dims(node.output)
    return (dimensions[2], dimensions[3]) if node.scalar("layout") else (dimensions[1], dimensions[2])


def _resize_nearest_neighbor(node: Node) -> None:
    """Whole multiples are Resize; else pixels are picked, as engines round the places of some to a neighbour."""
    n, c, *sizes = node.image_dims()
    targets = _output_size(node)
    if None in (n, c, *sizes):
        node.unknown("the input's dimensions are not known")
    aligned, half = node.scalar("align_corners"), node.scalar("half_pixel_centers")
    x = node.image(real=False)
    if not aligned and not half and all(t % s == 0 for t, s in zip(targets, sizes) if s):
        scales = node.constant(np.array([1, 1, *(t // s for t, s in zip(targets, sizes) if s)], np.float32))
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        y = node.emit("Resize", [x, ABSENT, scales], mode="nearest", **attributes)
    else:
        y = x
        for axis, (size, target) in enumerate(zip(sizes, targets), 2):
            assert size is not None
            places = node.constant(_nearest(size, target, aligned, half))
            y = node.emit("Gather", [y, places], axis=axis)
    node.write_stored(y, image=True)


def _nearest(size: int, target: int, aligned: bool, half: bool) -> Array:
    """The source pixel of each target pixel; float32 as in the specification's kernels."""
    scale = np.float32((size - 1) / (target - 1) if aligned and target > 1 else size / target)
    at = (np.arange(target, dtype=np.float32) + np.float32(0.5 * half)) * scale
    at = np.floor(at + np.float32(0.5)) if aligned else np.floor(at)
    return np.minimum(at.astype(np.int64), size - 1)


ORDERED = REAL | {I32}
ROWS = {
    "MEAN": Row(_reduction("ReduceMean"), REAL),
    "REDUCE_ALL": Row(_logical("ReduceMin"), {B8}),
    "REDUCE_ANY": Row(_logical("ReduceMax"), {B8}),
    "REDUCE_MAX": Row(_reduction("ReduceMax"), REAL),
    "REDUCE_MIN": Row(_reduction("ReduceMin"), REAL),
    "REDUCE_PROD": Row(_reduction("ReduceProd"), FLOAT),
    "REDUCE_SUM": Row(_reduction("ReduceSum"), FLOAT),
    "ARGMAX": Row(_arg("ArgMax"), ORDERED),
    "ARGMIN": Row(_arg("ArgMin"), ORDERED),
    "TOPK_V2": Row(_topk, ORDERED),
    "RESIZE_BILINEAR": Row(_resize_bilinear, REAL),
    "RESIZE_NEAREST_NEIGHBOR": Row(_resize_nearest_neighbor, REAL),
}
