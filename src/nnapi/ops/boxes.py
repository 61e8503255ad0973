"""Axis-aligned boxes [x1, y1, x2, y2]: validity, refinement, overlap, greedy selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from nnapi.ops.deadline import check_deadline
from nnapi.ops.op import Call, Need
from nnapi.ops.types import Q16, Array

QUANT: Final = (0.125, 0)
"""Scale and zero point of coordinates stored as TENSOR_QUANT16_ASYMM."""
OUTPUT_QUANT: Final = {Q16: QUANT}

Lower = Callable[[Array, Array], tuple[Array, Array]]
"""Scores [n] and their boxes' overlap [n] with the box just selected -> scores lowered, and which stay [n]."""


def check_quant(call: Call, *names: str) -> Iterable[Need]:
    """ModelError where quantized coordinates are not in eighths of a pixel."""
    for name in names:
        operand = call[name]
        got = (operand.scale, operand.zero_point)
        call.require(
            not operand.type.is_quantized or got == QUANT,
            f"{name} has scale and zero point {got}, must have {QUANT}",
        )
    return ()


def check_boxes(call: Call, name: str, boxes: Array) -> None:
    """boxes [..., 4]: ModelError where one ends before it begins, or is no number."""
    valid = (boxes[..., 0] <= boxes[..., 2]) & (boxes[..., 1] <= boxes[..., 3])
    if not valid.all():
        at = tuple(np.argwhere(~valid)[0])
        call.fail(f"{name} has the box {boxes[at].tolist()} at {at[0]}, must have x1 <= x2 and y1 <= y2")


def check_batches(call: Call, batches: Array, count: int) -> None:
    """batches [n]: ModelError where one is no index of `count` images."""
    outside = (batches < 0) | (batches >= count)
    if outside.any():
        call.fail(f"batch_indices has {batches[outside][0]}, there are {count} images")


def check_scores(call: Call, scores: Array) -> None:
    """ModelError where a score is no number, which nothing can be ordered by."""
    if np.isnan(scores).any():
        call.fail(f"scores has a NaN at {tuple(int(i) for i in np.argwhere(np.isnan(scores))[0])}, must be numbers")


def refine(boxes: Array, deltas: Array, images: Array) -> Array:
    """boxes [n, 4], deltas [n, k, 4] (dx, dy, dw, dh), images [n, 2] (height, width) -> [n, k, 4] within the image.

    dx and dy move the center in units of the box's size; dw and dh are the logarithms of its growth.
    """
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    center = (boxes[:, None, :2] + boxes[:, None, 2:]) / np.float32(2) + deltas[..., :2] * size
    half = np.exp(deltas[..., 2:]) * size / np.float32(2)
    limit = np.tile(images[:, None, ::-1], 2)
    return np.clip(np.concatenate((center - half, center + half), -1), np.float32(0), limit)


def overlap(box: Array, boxes: Array) -> Array:
    """box [4], boxes [n, 4] -> intersection over union [n]; 0 where neither has an area.

    >>> overlap(np.array([0.0, 0, 2, 2]), np.array([[0.0, 0, 2, 1], [5, 5, 6, 6]]))
    array([0.5, 0. ])
    """
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(inner, 0).prod(-1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)


def hard(threshold: float) -> Lower:
    """Boxes that overlap by the threshold or more are dropped."""
    return lambda scores, overlaps: (scores, ~(overlaps >= threshold))


def select(call: Call, scores: Array, boxes: Array, limit: int, lower: Lower) -> tuple[Array, Array]:
    """scores [n], boxes [n, 4] -> indices in the order selected, and their scores at that time.

    Greedily: always the highest score (of equal ones, the first), then the rest is lowered; `limit` < 0: no limit.
    """
    pending, scores = np.arange(len(scores)), scores.copy()
    selected: list[int] = []
    while pending.size and len(selected) != limit:
        check_deadline(call)
        best = int(scores[pending].argmax())
        index = int(pending[best])
        selected.append(index)
        pending = np.delete(pending, best)
        lowered, stays = lower(scores[pending], overlap(boxes[index], boxes[pending]))
        scores[pending] = lowered
        pending = pending[stays]
    indices = np.array(selected, np.int64)
    return indices, scores[indices]
