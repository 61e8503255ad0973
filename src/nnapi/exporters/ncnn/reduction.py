"""Reductions and resizing."""

from __future__ import annotations

from collections.abc import Callable

from nnapi.exporters.ncnn.convolution import global_average, output_image
from nnapi.exporters.ncnn.lowering import FLOATS, Node, Row

SUM, MEAN, MAX, MIN, PROD = 0, 3, 4, 5, 6
"""Reduction's numbers."""
NEAREST, BILINEAR = 1, 2
"""Interp's."""


def _reduction(number: int) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        dims, x = node.dims("input"), node.blob("input")
        axes = {int(a) % len(dims) for a in node.array("axes").ravel()}
        inner = len(dims) - len(x.shape)
        places = sorted(a - inner for a in axes if a >= inner)  # of one sample nothing is left to reduce
        if not places:
            node.write(x)
        elif number == MEAN and len(x.shape) == 3 and places == [1, 2]:
            node.write(global_average(node, x))
        else:
            shape = tuple(1 if i in places else d for i, d in enumerate(x.shape))
            node.write(node.emit("Reduction", [x], shape, {0: number, 1: 0, 3: places, 4: 1, 5: 1}))

    return lower


def _resize_bilinear(node: Node) -> None:
    aligned = bool(node.scalar("align_corners"))
    if not aligned and not node.scalar("half_pixel_centers"):
        node.refuse("align_corners and half_pixel_centers are False, ncnn's Interp has one of them")
    _resize(node, BILINEAR, aligned)


def _resize_nearest_neighbor(node: Node) -> None:
    if node.scalar("align_corners") or node.scalar("half_pixel_centers"):
        node.refuse("align_corners or half_pixel_centers is True, ncnn's Interp has neither for neighbours")
    _resize(node, NEAREST, False)


def _resize(node: Node, type: int, aligned: bool) -> None:
    x = node.image()
    shape = output_image(node)
    if shape == x.shape:
        node.write(x, image=True)
        return
    _, h, w = shape
    node.write(node.emit("Interp", [x], shape, {0: type, 3: h, 4: w, 6: int(aligned)}), image=True)


ROWS = {
    "MEAN": Row(_reduction(MEAN), FLOATS),
    "REDUCE_MAX": Row(_reduction(MAX), FLOATS),
    "REDUCE_MIN": Row(_reduction(MIN), FLOATS),
    "REDUCE_PROD": Row(_reduction(PROD), FLOATS),
    "REDUCE_SUM": Row(_reduction(SUM), FLOATS),
    "RESIZE_BILINEAR": Row(_resize_bilinear, FLOATS),
    "RESIZE_NEAREST_NEIGHBOR": Row(_resize_nearest_neighbor, FLOATS),
}
