"""Move a model, or a part of one, to channels last or channels first."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Literal

import numpy as np

from nnapi.errors import UsageError
from nnapi.ir.model import Model, Operation
from nnapi.ir.specialize import specialize
from nnapi.ops.types import BOOL, I32, Operand
from nnapi.passes.layout_rules import RULES, composite
from nnapi.passes.placement import Placement, straight
from nnapi.passes.remove_dead_code import remove_dead_code

ORDERS = {"nhwc": (0, 2, 3, 1), "nchw": (0, 3, 1, 2)}
"""The order that brings an image of the other layout into this one."""
IMAGES = {
    **dict.fromkeys((
        "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "GROUPED_CONV_2D",
        "INSTANCE_NORMALIZATION", "L2_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
        "ROI_ALIGN", "ROI_POOLING", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "TRANSPOSE_CONV_2D",
    ), ("input", "output")),
    "GENERATE_PROPOSALS": ("scores", "deltas"), "HEATMAP_MAX_KEYPOINT": ("heatmaps",),
}  # fmt: skip
"""Operations with a layout flag, and which of their inputs and outputs are images in that layout."""


def to_layout(model: Model, layout: Literal["nhwc", "nchw"] | str) -> Model:
    """Every operation with a layout flag gets `layout`; each TRANSPOSE moves with the data until somebody needs the
    dimensions where they were, and opposite ones meet and vanish. Constants are transposed, axes renumbered.

    before: `t = CONV_2D(x, w, b, layout=True); y = RELU(t)`, all [N, C, H, W]
    after:  `a = TRANSPOSE(x, [0, 2, 3, 1]); t = CONV_2D(a, w, b); u = RELU(t); y = TRANSPOSE(u, [0, 3, 1, 2])`

    Inputs and outputs keep their dimensions. Raises UsageError for an unknown layout.
    """
    if layout not in ORDERS:
        raise UsageError(f"layout is {layout!r}, must be {' or '.join(ORDERS)}")
    if any(o.type.is_tensor and not o.dimensions and not o.is_omitted for o in model.operands):
        model = specialize(model, [o.dimensions for o in model.input_operands])  # ranks that nobody wrote down
    place = Placement(remove_dead_code(model), ORDERS[layout])  # what is dead must not decide who moves
    for operation in place.graph:
        operation = place.graph.map_bodies(operation, functools.partial(to_layout, layout=layout))
        if not _write(place, operation, layout == "nchw"):
            place.graph.emit(replace(operation, inputs=tuple(place.straight(i) for i in operation.inputs)))
    return place.finish()


def _write(place: Placement, operation: Operation, channels_first: bool) -> bool:
    if operation.type in IMAGES:
        return _write_images(place, operation, channels_first)
    if operation.type != "TRANSPOSE" and all(place.is_straight(i) for i in operation.inputs):
        return False
    if operation.is_extension:
        return composite(place, operation)
    rule = RULES.get(operation.type)
    return rule is not None and rule(place, operation, place.graph.call(operation))


def _write_images(place: Placement, operation: Operation, channels_first: bool) -> bool:
    graph, call = place.graph, place.graph.call(operation)
    flag, names = call.scalar("layout"), IMAGES[operation.type]
    images = [i for param, at in call.slots for i in operation.inputs[at] if param.name in names]
    if flag is None or any(graph.operands[i].shape is None for i in (*images, *operation.outputs)):
        return False
    moves = bool(flag) != channels_first
    order = place.preferred if moves else straight(4)
    given: dict[str, int] = {}
    if moves:
        given["layout"] = graph.scalar(BOOL, channels_first)
        if "output_shape" in call:
            shape = call["output_shape"].value
            if not isinstance(shape, np.ndarray):
                return False
            given["output_shape"] = graph.constant(shape[list(order)], Operand(I32))
    inputs = [
        place.at(i, order) if param.name in names else place.straight(i)
        for param, at in call.slots
        for i in operation.inputs[at]
    ]
    operation = replace(operation, inputs=tuple(inputs))
    if moves:
        outputs = tuple(place.define(o, order) if "output" in names else o for o in operation.outputs)
        operation = replace(operation, inputs=graph.inputs(operation, **given), outputs=outputs)
    graph.emit(operation)
    return True
