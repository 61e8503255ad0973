"""Regions of images, and boxes; all in float32, whatever their types."""

from __future__ import annotations

import numpy as np

from nnapi.exporters.onnx.lowering import FLOAT, REAL, Node, Row
from nnapi.exporters.onnx.writer import Value
from nnapi.ops.types import F16, Q16, Operand


def _float32(node: Node, value: Value, operand: Operand) -> Value:
    return node.cast(value, np.float32) if operand.type == F16 else value


def _write(node: Node, value: Value, *, image: bool = False) -> None:
    node.write(node.cast(value, np.float16) if node.output.type == F16 else value, image=image)


def _image(node: Node) -> Value:
    return _float32(node, node.image(), node["input"])


def _in_pixels(node: Node) -> Value:
    """The regions in pixels of their image."""
    strides = [node.scalar(f"{side}_stride") for side in ("width", "height")] * 2
    return node.emit("Div", [_float32(node, node.real("rois"), node["rois"]), node.constant(strides, np.float32)])


def _same_samples(node: Node) -> str | None:
    samples = [node.scalar(f"{side}_samples") for side in ("height", "width")]
    return None if samples[0] == samples[1] else f"samples {samples[0]} and {samples[1]} differ, ONNX has one number"


def _roi_align(node: Node) -> None:
    """A region is at least a pixel large, so it may end one behind the image: ONNX has zeros there, NNAPI the edge."""
    widened = node.emit("Pad", [_image(node), node.ints((0, 0, 0, 0, 0, 0, 2, 2))], mode="edge")
    batches = node.cast(node.stored("batch_indices"), np.int64)
    y = node.emit(
        "RoiAlign", [widened, _in_pixels(node), batches],
        output_height=node.scalar("output_height"), output_width=node.scalar("output_width"),
        sampling_ratio=node.scalar("height_samples"), mode="avg", coordinate_transformation_mode="output_half_pixel",
    )  # fmt: skip
    _write(node, y, image=True)


def _roi_pooling(node: Node) -> None:
    """ONNX wants the image's index in front of each box."""
    index = node.emit("Unsqueeze", [node.cast(node.stored("batch_indices"), np.float32), node.ints([1])])
    boxes = node.emit("Concat", [index, _in_pixels(node)], axis=1)
    size = [node.scalar("output_height"), node.scalar("output_width")]
    _write(node, node.emit("MaxRoiPool", [_image(node), boxes], pooled_shape=size), image=True)


def _bbox_transform(node: Node) -> None:
    """The center moves by (dx, dy) of the box's size, which grows by (e^dw, e^dh); cut off at the image's edges."""
    rois, deltas, images = (_float32(node, node.real(n), node[n]) for n in ("rois", "deltas", "image_info"))

    def part(x: Value, start: int, axis: int, length: int = 2) -> Value:
        return node.emit("Slice", [x, *map(node.ints, ([start], [start + length], [axis]))])

    def binary(type: str, x: Value, y: Value) -> Value:
        return node.emit(type, [x, y])

    boxes = node.emit("Unsqueeze", [rois, node.ints([1])])
    classes = node.reshape(deltas, (0, -1, 4))
    first, last, half = part(boxes, 0, 2), part(boxes, 2, 2), node.constant(0.5, np.float32)
    size = binary("Sub", last, first)
    center = binary("Mul", binary("Add", first, last), half)
    center = binary("Add", center, binary("Mul", part(classes, 0, 2), size))
    reach = binary("Mul", binary("Mul", node.emit("Exp", [part(classes, 2, 2)]), size), half)
    corners = [binary("Sub", center, reach), binary("Add", center, reach)]
    refined = node.emit("Concat", corners, axis=2)
    # image_info is height and width; the corners are x and y.
    info = node.emit("Gather", [images, node.stored("batch_indices")], axis=0)
    limits = node.emit("Unsqueeze", [node.emit("Gather", [info, node.ints((1, 0, 1, 0))], axis=1), node.ints([1])])
    inside = binary("Min", node.emit("Relu", [refined]), limits)
    _write(node, node.emit("Flatten", [inside], axis=1))


ROWS = {
    "ROI_ALIGN": Row(_roi_align, REAL, (_same_samples,)),
    "ROI_POOLING": Row(_roi_pooling, REAL),
    "AXIS_ALIGNED_BBOX_TRANSFORM": Row(_bbox_transform, FLOAT | {Q16}),
}
