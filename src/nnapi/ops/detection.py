"""BOX_WITH_NMS_LIMIT, DETECTION_POSTPROCESSING, HEATMAP_MAX_KEYPOINT: from scores to detections."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from nnapi.ops.boxes import (
    OUTPUT_QUANT,
    Lower,
    check_boxes,
    check_quant,
    check_scores,
    hard,
    select,
)  # fmt: skip
from nnapi.ops.deadline import check_deadline
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import BOOL, F16, F32, FLOAT16, FLOAT32, I32, INT32, Q8, Q8S, Q16, Array, Shape
from nnapi.ops.window import LAYOUT, at_least, channels_last


def _real(call: Call, name: str) -> Array:
    return dequantize(call.array(name), call[name])


# BOX_WITH_NMS_LIMIT

HARD, LINEAR, GAUSSIAN = range(3)


def _nms_sizes(call: Call) -> Sizes:
    sizes = Sizes(call, may_be_zero=("rois",))
    sizes.bind("scores", "rois", "classes")
    sizes.bind("boxes", "rois", "4 x classes")
    sizes.bind("batch_indices", "rois")
    classes = sizes["classes"]
    if classes is not None:
        call.require(classes > 1, f"scores has {classes} classes, must have the background and at least one more")
        sizes.set("4 x classes", 4 * classes, "scores")
    kernel, sigma = call.scalar("nms_kernel"), call.scalar("sigma")
    call.require(
        kernel in (None, HARD, LINEAR, GAUSSIAN), f"nms_kernel is {kernel}, must be 0 (hard), 1 (linear), 2 (gaussian)"
    )
    call.require(kernel != GAUSSIAN or sigma is None or sigma > 0, f"sigma is {sigma}, must be positive")
    return sizes


def _nms_shapes(call: Call) -> list[Shape]:
    _nms_sizes(call)
    return [(None,), (None, 4), (None,), (None,)]


def _kernel(call: Call) -> Lower:
    kernel, threshold = call.scalar("nms_kernel"), call.scalar("iou_threshold")
    sigma, lowest = np.float32(call.scalar("sigma")), call.scalar("nms_score_threshold")

    def lower(scores: Array, overlaps: Array) -> tuple[Array, Array]:
        if kernel == GAUSSIAN:
            factor = np.exp(-np.square(overlaps) / sigma)
        else:
            factor = np.where(overlaps < threshold, np.float32(1), 1 - overlaps if kernel == LINEAR else np.float32(0))
        scores = scores * factor
        return scores, scores >= lowest

    return lower


def _nms(call: Call) -> list[Array]:
    scores, boxes, batches = _real(call, "scores"), _real(call, "boxes"), call.array("batch_indices")
    boxes = boxes.reshape(*scores.shape, 4)
    check_scores(call, scores)
    check_boxes(call, "boxes", boxes[:, 1:])
    call.require(not (batches < 0).any(), f"batch_indices has {batches.min(initial=0)}, must not be negative")
    starts = np.flatnonzero(np.diff(batches, prepend=batches[:1] - 1)) if len(batches) else np.zeros(0, np.int64)
    call.require(
        len(np.unique(batches[starts])) == len(starts), f"batch_indices are {batches[starts]}, must be grouped"
    )
    parts = [_nms_of_image(call, scores, boxes, rows) for rows in np.split(np.arange(len(batches)), starts[1:])]
    rows, classes, kept = (np.concatenate(p) for p in zip(*parts))
    stored = call.array("boxes").reshape(boxes.shape)[rows, classes]
    return [quantize(kept, call.outputs[0]), stored, classes.astype(np.int32), batches[rows]]


def _nms_of_image(call: Call, scores: Array, boxes: Array, rows: Array) -> tuple[Array, Array, Array]:
    """The rows of one image -> rows, classes and scores of its detections, by class and falling score."""
    limit = call.scalar("max_detections")
    parts = [_nms_of_class(call, scores, boxes, rows, n) for n in range(1, scores.shape[1])]
    found, classes, kept = (np.concatenate(p) for p in zip(*parts))
    best = np.argsort(-kept, kind="stable")[: None if limit < 0 else limit]
    order = best[np.lexsort((-kept[best], classes[best]))]
    return found[order], classes[order], kept[order]


def _nms_of_class(call: Call, scores: Array, boxes: Array, rows: Array, n: int) -> tuple[Array, Array, Array]:
    """The rows of one image -> rows, classes (all `n`) and scores of the detections of class `n`."""
    check_deadline(call)
    # As devices do; the specification leaves out only scores below the threshold.
    rows = rows[scores[rows, n] > call.scalar("score_threshold")]
    chosen, kept = select(call, scores[rows, n], boxes[rows, n], call.scalar("max_detections"), _kernel(call))
    return rows[chosen], np.full(len(chosen), n), kept


def _nms_rules(call: Call) -> Iterable[Need]:
    return check_quant(call, "boxes")


# DETECTION_POSTPROCESSING


def _detection_sizes(call: Call) -> tuple[Sizes, int | None]:
    """Sizes, and how many detections the outputs have room for; None where unknown."""
    sizes = Sizes(call)
    sizes.bind("scores", "batches", "anchors", "classes")
    sizes.bind("deltas", "batches", "anchors", "box encoding")
    sizes.bind("anchors", "anchors", 4)
    for name, least in (("classes", 2), ("box encoding", 4)):
        size = sizes[name]
        call.require(size is None or size >= least, f"{name} is {size}, must be at least {least}")
    for name in ("scale_y", "scale_x", "scale_h", "scale_w"):
        scale = call.scalar(name)
        call.require(scale is None or (scale > 0 and math.isfinite(scale)), f"{name} is {scale}, must be positive")
    for name in ("score_threshold", "iou_threshold"):
        threshold = call.scalar(name)
        call.require(threshold is None or threshold >= 0, f"{name} is {threshold}, must not be negative")
    room, regular = at_least(call, "max_detections", 1), call.scalar("regular_nms")
    if regular is None:
        return sizes, None
    if regular:
        at_least(call, "max_detections_per_class", 1)
        return sizes, room
    classes = at_least(call, "max_classes_per_detection", 1)
    return sizes, None if room is None or classes is None else room * classes


def _detection_shapes(call: Call) -> list[Shape]:
    sizes, room = _detection_sizes(call)
    batches = sizes["batches"]
    elements(call, (batches, room, 4))
    return [(batches, room), (batches, room, 4), (batches, room), (batches,)]


def _detections(call: Call) -> list[Array]:
    scores, deltas, anchors = (_real(call, name) for name in ("scores", "deltas", "anchors"))
    check_scores(call, scores)
    room = _detection_sizes(call)[1]
    assert room is not None
    batches = len(scores)
    kept, boxes = np.zeros((batches, room), np.float32), np.zeros((batches, room, 4), np.float32)
    classes, counts = np.zeros((batches, room), np.int32), np.zeros(batches, np.int32)
    for b in range(batches):
        decoded = _decode(call, deltas[b], anchors)
        if np.isnan(decoded).any():
            call.fail(f"deltas give a box that is no number in batch {b}")
        of_image = _each_class if call.scalar("regular_nms") else _all_classes
        rows, found = of_image(call, scores[b], decoded)
        n = counts[b] = len(rows)
        kept[b, :n], boxes[b, :n] = scores[b, rows, found], decoded[rows]
        classes[b, :n] = found if call.scalar("background_in_labels") else found - 1
    return [quantize(kept, call.outputs[0]), quantize(boxes, call.outputs[1]), classes, counts]


def _decode(call: Call, deltas: Array, anchors: Array) -> Array:
    """deltas [n, 4..] (dy, dx, dh, dw), anchors [n, 4] (y, x, height, width) -> boxes [n, 4] (y1, x1, y2, x2)."""
    y, x, h, w = (np.float32(call.scalar(f"scale_{axis}")) for axis in "yxhw")
    size = anchors[:, 2:]
    center = anchors[:, :2] + size * deltas[:, :2] / np.array((y, x))
    half = size * np.exp(deltas[:, 2:4] / np.array((h, w))) * np.float32(0.5)
    return np.concatenate((center - half, center + half), 1)


def _each_class(call: Call, scores: Array, boxes: Array) -> tuple[Array, Array]:
    """scores [n, classes], boxes [n, 4] -> rows and classes of the detections, selected class by class."""
    threshold, lower = call.scalar("score_threshold"), hard(call.scalar("iou_threshold"))
    rows, classes = [], []
    for c in range(1, scores.shape[1]):
        check_deadline(call)
        above = np.flatnonzero(scores[:, c] > threshold)
        chosen, _ = select(call, scores[above, c], boxes[above], call.scalar("max_detections_per_class"), lower)
        rows.append(above[chosen])
        classes.append(np.full(len(chosen), c))
    found, of_class = np.concatenate(rows), np.concatenate(classes)
    best = np.argsort(-scores[found, of_class], kind="stable")[: call.scalar("max_detections")]
    return found[best], of_class[best]


def _all_classes(call: Call, scores: Array, boxes: Array) -> tuple[Array, Array]:
    """The same, selected by the best class, each detection with its best few classes."""
    best = scores[:, 1:].max(1)
    above = np.flatnonzero(best > call.scalar("score_threshold"))
    lower = hard(call.scalar("iou_threshold"))
    chosen, _ = select(call, best[above], boxes[above], call.scalar("max_detections"), lower)
    rows = above[chosen]
    classes = np.argsort(-scores[rows, 1:], axis=1, kind="stable")[:, : call.scalar("max_classes_per_detection")] + 1
    return np.repeat(rows, classes.shape[1]), classes.ravel()


# HEATMAP_MAX_KEYPOINT

REACH: Final = 1.5
"""How far, in pixels, the maximum may lie from the largest pixel."""


def _keypoint_sizes(call: Call) -> Sizes:
    sizes, layout = Sizes(call, may_be_zero=("boxes",)), call.scalar("layout")
    if layout is None:
        sizes.bind("heatmaps", "boxes")
    else:
        sizes.bind("heatmaps", "boxes", *(("keypoints", "size", "size") if layout else ("size", "size", "keypoints")))
    sizes.bind("boxes", "boxes", 4)
    size = sizes["size"]
    call.require(size is None or size >= 2, f"heatmaps have size {size}, must be at least 2")
    return sizes


def _keypoint_shapes(call: Call) -> list[Shape]:
    sizes = _keypoint_sizes(call)
    shape = (sizes["boxes"], sizes["keypoints"])
    elements(call, (*shape, 2))
    return [shape, (*shape, 2)]


def _keypoints(call: Call) -> list[Array]:
    maps, boxes = channels_last(call, _real(call, "heatmaps")), _real(call, "boxes")
    check_boxes(call, "boxes", boxes)
    n, size, _, k = maps.shape
    flat = maps.reshape(n, size * size, k)
    peak = np.where(np.isnan(flat), -np.inf, flat).argmax(1)
    row, column = peak // size, peak % size
    tolerance = np.float32(1e-3 if call["heatmaps"].type == F16 else 1e-5)
    delta, score = _peak(_around(maps, row, column), tolerance)
    place = (np.stack((column, row), -1) + delta + np.float32(0.5)) / np.float32(size)
    corner, extent = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    return [quantize(score, call.outputs[0]), quantize(place * extent + corner, call.outputs[1])]


def _around(maps: Array, row: Array, column: Array) -> Array:
    """maps [n, size, size, k], row and column [n, k] -> the 3 x 3 pixels around [n, k, 3, 3], mirrored at the edges."""
    n, size, _, k = maps.shape
    offsets = np.arange(-1, 2)
    rows, columns = (np.abs(at[..., None] + offsets) for at in (row, column))
    rows, columns = (np.where(at >= size, size - 2, at) for at in (rows, columns))
    boxes, keypoints = np.arange(n)[:, None, None, None], np.arange(k)[None, :, None, None]
    return maps[boxes, rows[..., :, None], columns[..., None, :], keypoints]


def _peak(grid: Array, tolerance: Array | np.float32) -> tuple[Array, Array]:
    """grid [..., 3, 3] -> where its parabola is highest [..., 2] (x, y) from the center, and how high [...].

    A grid that is no parabola, within `tolerance`, is highest in its center.
    """
    center = grid[..., 1, 1]
    bx = (grid[..., 1, 0] - grid[..., 1, 2]) / 2
    by = (grid[..., 0, 1] - grid[..., 2, 1]) / 2
    xx = grid[..., 1, 0] - 2 * center + grid[..., 1, 2]
    yy = grid[..., 0, 1] - 2 * center + grid[..., 2, 1]
    xy = (grid[..., 2, 2] - grid[..., 2, 0] - grid[..., 0, 2] + grid[..., 0, 0]) / 4
    determinant = xx * yy - xy * xy
    flat = np.abs(determinant) < tolerance + tolerance * xx * yy
    divisor = np.where(flat, np.float32(1), determinant)
    delta = np.stack(((yy * bx - xy * by) / divisor, (xx * by - xy * bx) / divisor), -1)
    farthest = np.abs(delta).max(-1, keepdims=True)
    delta = np.where(farthest > REACH, delta * (np.float32(REACH) / np.maximum(farthest, np.float32(REACH))), delta)
    delta = np.where(flat[..., None], np.float32(0), delta)
    dx, dy = delta[..., 0], delta[..., 1]
    return delta, center - bx * dx - by * dy + ((xx * dx + xy * dy) * dx + (xy * dx + yy * dy) * dy) / 2


def _keypoint_rules(call: Call) -> Iterable[Need]:
    return check_quant(call, "boxes")


TYPES: Final = (
    Types(3, S=F32, B=F32, F=FLOAT32), Types(3, S=F16, B=F16, F=FLOAT16), Types(3, S=Q8, B=Q16, F=FLOAT32),
    Types(4, S=Q8S, B=Q16, F=FLOAT32),
)  # fmt: skip
"""Scores S, boxes B, scalars F."""
KEYPOINT_TYPES: Final = tuple(Types(t.since, S=t.bind["S"], B=t.bind["B"]) for t in TYPES)

BOX_WITH_NMS_LIMIT = Op(
    "BOX_WITH_NMS_LIMIT", 44, 3,
    (
        Signature((
            Param("scores", "S", rank=2), Param("boxes", "B", rank=2), Param("batch_indices", I32, rank=1),
            Param("score_threshold", "F"), Param("max_detections", INT32), Param("nms_kernel", INT32),
            Param("iou_threshold", "F"), Param("sigma", "F"), Param("nms_score_threshold", "F"),
        )),
    ),
    (
        Result("scores_out", "S", quant="scores"), Result("boxes_out", "B", quant=OUTPUT_QUANT),
        Result("classes", I32), Result("batch_indices_out", I32),
    ),
    TYPES, infer=_nms_shapes, reference=_nms, rules=_nms_rules,
    formula="per image and class (0 is the background), boxes by falling score; "
    "each lowers the scores of those it overlaps (hard, linear or gaussian NMS)",
)  # fmt: skip
DETECTION_POSTPROCESSING = Op(
    "DETECTION_POSTPROCESSING", 47, 3,
    (
        Signature((
            Param("scores", "S", rank=3), Param("deltas", "S", rank=3), Param("anchors", "S", rank=2),
            *(Param(f"scale_{axis}", "F") for axis in "yxhw"), Param("regular_nms", BOOL),
            Param("max_detections", INT32), Param("max_classes_per_detection", INT32),
            Param("max_detections_per_class", INT32), Param("score_threshold", "F"), Param("iou_threshold", "F"),
            Param("background_in_labels", BOOL),
        )),
    ),
    (Result("scores_out", "S"), Result("boxes", "S"), Result("classes", I32), Result("count", I32)), TYPES[:2],
    infer=_detection_shapes, reference=_detections,
    formula="anchors refined by deltas, selected by score without overlap (hard NMS), "
    "per class (regular) or once by the best class",
)  # fmt: skip
HEATMAP_MAX_KEYPOINT = Op(
    "HEATMAP_MAX_KEYPOINT", 56, 3,
    (Signature((Param("heatmaps", "S", rank=4), Param("boxes", "B", rank=2), LAYOUT)),),
    (Result("scores", "S"), Result("keypoints", "B", quant=OUTPUT_QUANT)), KEYPOINT_TYPES,
    infer=_keypoint_shapes, reference=_keypoints, rules=_keypoint_rules,
    formula="the top of the parabola through the 3 x 3 pixels around each heatmap's largest, in its box's coordinates",
)  # fmt: skip

OPERATIONS = (BOX_WITH_NMS_LIMIT, DETECTION_POSTPROCESSING, HEATMAP_MAX_KEYPOINT)
