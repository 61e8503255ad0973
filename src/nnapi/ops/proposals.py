"""GENERATE_PROPOSALS, AXIS_ALIGNED_BBOX_TRANSFORM: boxes from anchors or other boxes and their deltas."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nnapi.ops.boxes import (
    OUTPUT_QUANT,
    check_batches,
    check_boxes,
    check_quant,
    check_scores,
    hard,
    refine,
    select,
)  # fmt: skip
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, I32, INT32, Q8, Q8S, Q16, Q16SYMM, Array, Shape
from nnapi.ops.window import LAYOUT, channels_last


def _real(call: Call, name: str) -> Array:
    return dequantize(call.array(name), call[name])


def _transform_sizes(call: Call) -> Sizes:
    sizes = Sizes(call, may_be_zero=("rois",))
    sizes.bind("rois", "rois", 4)
    sizes.bind("deltas", "rois", "4 x classes")
    sizes.bind("batch_indices", "rois")
    sizes.bind("image_info", "batches", 2)
    columns = sizes["4 x classes"]
    call.require(columns is None or columns % 4 == 0, f"deltas has {columns} columns, must have 4 per class")
    return sizes


def _transform_shape(call: Call) -> list[Shape]:
    sizes = _transform_sizes(call)
    shape = (sizes["rois"], sizes["4 x classes"])
    elements(call, shape)
    return [shape]


def _transform(call: Call) -> list[Array]:
    rois, deltas, images = (_real(call, name) for name in ("rois", "deltas", "image_info"))
    batches = call.array("batch_indices")
    check_batches(call, batches, len(images))
    check_boxes(call, "rois", rois)
    refined = refine(rois, deltas.reshape(len(rois), deltas.shape[1] // 4, 4), images[batches])
    return [quantize(refined.reshape(deltas.shape), call.output)]


def _transform_rules(call: Call) -> Iterable[Need]:
    return check_quant(call, "rois", "image_info")


def _proposal_sizes(call: Call) -> Sizes:
    sizes, layout = Sizes(call), call.scalar("layout")
    for name, depth in (("scores", "anchors"), ("deltas", "4 x anchors")):
        if layout is None:
            sizes.bind(name, "batches")
        else:
            sizes.bind(name, "batches", *((depth, "height", "width") if layout else ("height", "width", depth)))
    sizes.bind("anchors", "anchors", 4)
    sizes.bind("image_info", "batches", 2)
    if sizes["anchors"] is not None:
        sizes.set("4 x anchors", 4 * sizes["anchors"], "anchors")
    for name in ("height_stride", "width_stride"):
        stride = call.scalar(name)
        call.require(
            stride is None or (stride > 0 and math.isfinite(stride)), f"{name} is {stride}, must be positive and finite"
        )
    return sizes


def _proposal_shapes(call: Call) -> list[Shape]:
    _proposal_sizes(call)
    return [(None,), (None, 4), (None,)]


def _proposals(call: Call) -> list[Array]:
    scores, deltas = (channels_last(call, _real(call, name)) for name in ("scores", "deltas"))
    anchors, images = _real(call, "anchors"), _real(call, "image_info")
    check_scores(call, scores)
    check_boxes(call, "anchors", anchors)
    batches, height, width, _ = scores.shape
    shift = np.stack(np.meshgrid(
        np.arange(width, dtype=np.float32) * np.float32(call.scalar("width_stride")),
        np.arange(height, dtype=np.float32) * np.float32(call.scalar("height_stride")),
    ), -1)  # fmt: skip
    boxes = (np.tile(shift, 2)[:, :, None] + anchors).reshape(-1, 4)
    found = [
        _of_image(call, s.ravel(), boxes, d.reshape(len(boxes), 1, 4), image)
        for s, d, image in zip(scores, deltas, images)
    ]
    kept, refined = (np.concatenate(parts) for parts in zip(*found))
    index = np.repeat(np.arange(batches, dtype=np.int32), [len(s) for s, _ in found])
    return [quantize(kept, call.outputs[0]), quantize(refined, call.outputs[1]), index]


def _of_image(call: Call, scores: Array, boxes: Array, deltas: Array, image: Array) -> tuple[Array, Array]:
    """scores [n], boxes [n, 4], deltas [n, 1, 4], image (height, width) -> scores and boxes of its proposals."""
    refined = refine(boxes, deltas, np.broadcast_to(image, (len(boxes), 2)))[:, 0]
    most, minimum = call.scalar("pre_nms_max"), call.scalar("min_size")
    order = np.argsort(-scores, kind="stable")[:most] if 0 < most < len(scores) else np.arange(len(scores))
    size = refined[order, 2:] - refined[order, :2]
    center = refined[order, :2] + size / np.float32(2)
    order = order[(size > minimum).all(1) & (center < image[::-1]).all(1)]
    limit = call.scalar("post_nms_max")
    chosen, kept = select(
        call, scores[order], refined[order], limit if limit > 0 else -1, hard(call.scalar("iou_threshold"))
    )  # fmt: skip
    return kept, refined[order][chosen]


def _proposal_rules(call: Call) -> Iterable[Need]:
    anchors = call["anchors"]
    call.require(
        not anchors.type.is_quantized or anchors.scale == 0.125, f"anchors has scale {anchors.scale}, must have 0.125"
    )
    return check_quant(call, "image_info")


AXIS_ALIGNED_BBOX_TRANSFORM = Op(
    "AXIS_ALIGNED_BBOX_TRANSFORM", 41, 3,
    (
        Signature((
            Param("rois", "T", rank=2), Param("deltas", "D", rank=2), Param("batch_indices", I32, rank=1),
            Param("image_info", "T", rank=2),
        )),
    ),
    (Result("output", "T", quant=OUTPUT_QUANT),),
    (Types(3, T=F32, D=F32), Types(3, T=F16, D=F16), Types(3, T=Q16, D=Q8), Types(4, T=Q16, D=Q8S)),
    infer=_transform_shape, reference=_transform, rules=_transform_rules,
    formula="each roi, per class, moved by (dx, dy) of its size and grown by (e^dw, e^dh), cut off at image edges",
)  # fmt: skip
GENERATE_PROPOSALS = Op(
    "GENERATE_PROPOSALS", 52, 3,
    (
        Signature((
            Param("scores", "S", rank=4), Param("deltas", "S", rank=4), Param("anchors", "A", rank=2),
            Param("image_info", "B", rank=2), Param("height_stride", "F"), Param("width_stride", "F"),
            Param("pre_nms_max", INT32), Param("post_nms_max", INT32), Param("iou_threshold", "F"),
            Param("min_size", "F"), LAYOUT,
        )),
    ),
    (
        Result("scores_out", "S", quant="scores"), Result("rois_out", "B", quant=OUTPUT_QUANT),
        Result("batch_indices_out", I32),
    ),
    (
        Types(3, S=F32, A=F32, B=F32, F=FLOAT32), Types(3, S=F16, A=F16, B=F16, F=FLOAT16),
        Types(3, S=Q8, A=Q16SYMM, B=Q16, F=FLOAT32), Types(4, S=Q8S, A=Q16SYMM, B=Q16, F=FLOAT32),
    ),
    infer=_proposal_shapes, reference=_proposals, rules=_proposal_rules,
    formula="anchors at every pixel refined by deltas; small ones dropped, the rest selected by score (hard NMS)",
)  # fmt: skip

OPERATIONS = (AXIS_ALIGNED_BBOX_TRANSFORM, GENERATE_PROPOSALS)
