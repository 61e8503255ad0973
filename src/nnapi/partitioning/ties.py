"""Ties: what picks the largest values may pick others that are as large, and everything behind it follows.

The engine is asked what it picked. Where what that points at is as good as the reference's own choice, the reference
goes on from there, and the outputs are compared then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model
from nnapi.ops import search
from nnapi.ops.types import Array
from nnapi.partitioning.accuracy import difference, differs
from nnapi.partitioning.origins import Origins

PICKS = frozenset(op.name for op in search.OPERATIONS)
"""Operations that give indices of the largest or smallest values."""
Run = Callable[[Model, Sequence[Array]], Sequence[Array]]
"""The outputs of a model for these inputs."""


def picks(model: Model) -> bool:
    """Whether an operation picks values."""
    return any(operation.type in PICKS for operation in model.operations)


def difference_but_for_ties(
    model: Model, inputs: Sequence[Array], engine: Run, reference: Run, *, relaxed: bool
) -> str | None:
    """The fault in an engine's outputs, given its own choice among equals; None where it is right."""
    pickers = [operation for operation in model.operations if operation.type in PICKS]
    picked = tuple(o for operation in pickers for o in operation.outputs)
    shown = dict.fromkeys((*model.outputs, *picked))
    actual = dict(zip(shown, engine(replace(model, outputs=tuple(shown)), inputs)))
    rest = replace(
        model,
        operations=tuple(operation for operation in model.operations if operation.type not in PICKS),
        inputs=(*model.inputs, *picked),
        outputs=tuple(dict.fromkeys((*model.outputs, *(operation.inputs[0] for operation in pickers)))),
    )
    expected = dict(zip(rest.outputs, reference(rest, [*inputs, *(actual[o] for o in picked)])))
    origins = Origins(model)
    for operation in pickers:
        axis = -1 if operation.type == "TOPK_V2" else int(model.operands[operation.inputs[1]].value)
        x, results = expected[operation.inputs[0]], [np.asarray(actual[o]) for o in operation.outputs]
        problem = _pointed_at(origins, operation.inputs[0], x, operation.type, axis, results, relaxed=relaxed)
        if problem is not None:
            return f"{operation.label}: {problem}"
    return difference(model, [expected[o] for o in model.outputs], [actual[o] for o in model.outputs], relaxed=relaxed)


def _pointed_at(
    origins: Origins, operand: int, x: Array, type: str, axis: int, results: Sequence[Array], *, relaxed: bool
) -> str | None:
    """The fault in the values that indices point at: others than the largest, or smallest, of x along an axis."""
    indices = results[-1] if type == "TOPK_V2" else results[-1].reshape(_without(x.shape, axis)).astype(np.int64)
    if type != "TOPK_V2":
        indices = np.expand_dims(indices, axis)
    if indices.size and not 0 <= indices.min() <= indices.max() < x.shape[axis]:
        return f"an index is outside 0 to {x.shape[axis] - 1}"
    found = np.take_along_axis(x, indices.astype(np.int64), axis)
    if type == "TOPK_V2":
        order = np.sort(indices, axis=-1)
        if (order[..., 1:] == order[..., :-1]).any():
            return "an index is picked twice"
        best = np.sort(x, axis=-1)[..., ::-1][..., : indices.shape[-1]]
    else:
        best = (np.max if type == "ARGMAX" else np.min)(x, axis=axis, keepdims=True)
    problem = differs(origins, operand, best, found, relaxed=relaxed)
    if problem is None and type == "TOPK_V2":
        problem = differs(origins, operand, found, results[0], relaxed=relaxed)
    return None if problem is None else f"what is picked: {problem}"


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    at = axis % len(shape)
    return shape[:at] + shape[at + 1 :]
