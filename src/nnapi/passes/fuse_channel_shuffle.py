"""Recognize the channel shuffle that frameworks write as two reshapes around a transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import INT32, Dimensions
from nnapi.passes.fold_transposes import permutation
from nnapi.passes.rewrite import Graph, rewrite

AXES = (1, 3)
"""Where images have their channels; other axes are better transposed."""


def fuse_channel_shuffle(model: Model) -> Model:
    """RESHAPE, TRANSPOSE and RESHAPE back that deal the channels of an image round become a CHANNEL_SHUFFLE, which
    layouts can follow and convolutions absorb.

    before: `r = RESHAPE(x[1, 6, 4, 4], [2, 3, 16]); t = TRANSPOSE(r, [1, 0, 2]); y = RESHAPE(t, [1, 6, 4, 4])`
    after:  `y = CHANNEL_SHUFFLE(x, num_groups=2, axis=1)`
    """
    return rewrite(model, _fuse, ("RESHAPE",))


def _fuse(graph: Graph, operation: Operation) -> bool:
    transpose = graph.producer(operation.inputs[0], ("TRANSPOSE",))
    first = None if transpose is None else graph.producer(transpose.inputs[0], ("RESHAPE",))
    if transpose is None or first is None:
        return False
    source, perm = first.inputs[0], permutation(graph, transpose)
    dimensions = graph.operands[source].dimensions
    if perm is None or len(dimensions) != 4 or graph.operands[operation.outputs[0]].dimensions != dimensions:
        return False
    found = shuffled(dimensions, graph.operands[transpose.inputs[0]].dimensions, perm)
    if found is None or found[0] not in AXES:
        return False
    axis, groups = (graph.scalar(INT32, value) for value in found)
    graph.emit(replace(operation, type="CHANNEL_SHUFFLE", inputs=(source, groups, axis)))
    return True


def shuffled(dimensions: Dimensions, reshaped: Sequence[int], perm: Sequence[int]) -> tuple[int, int] | None:
    """The axis, and in how many groups, that reshaping, transposing and reshaping back shuffles; None where it is none.

    >>> shuffled((1, 6, 4, 4), (1, 2, 3, 16), (0, 2, 1, 3))
    (1, 2)
    """
    if 0 in (*dimensions, *reshaped):
        return None
    moved = [p for p in perm if reshaped[p] != 1]
    runs: list[list[int]] = []  # dimensions that stay together
    for p in moved:
        if runs and all(reshaped[d] == 1 for d in range(runs[-1][-1] + 1, p)) and p > runs[-1][-1]:
            runs[-1].append(p)
        else:
            runs.append([p])
    order = [sorted(runs).index(run) for run in runs]
    swap = next((n for n in range(len(order) - 1) if order[n] == n + 1), None)
    if swap is None or order != [*range(swap), swap + 1, swap, *range(swap + 2, len(order))]:
        return None
    sizes = [math.prod(reshaped[d] for d in run) for run in sorted(runs)]
    before, groups, size = math.prod(sizes[:swap]), sizes[swap], sizes[swap + 1]
    for axis, d in enumerate(dimensions):
        if d == groups * size and math.prod(dimensions[:axis]) == before:
            return axis, groups
    return None
