"""Join chains of TRANSPOSE, and let matrix products transpose their operands themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import BOOL, I32, Operand
from nnapi.passes.rewrite import Graph, rewrite


def fold_transposes(model: Model) -> Model:
    """A TRANSPOSE of a TRANSPOSE becomes one; one that moves only dimensions of 1 becomes a RESHAPE; one that swaps
    the last two dimensions for BATCH_MATMUL becomes its `adj_x` or `adj_y`.

    before: `t = TRANSPOSE(x, [0, 2, 3, 1]); y = TRANSPOSE(t, [0, 2, 3, 1])`
    after:  `y = TRANSPOSE(x, [0, 3, 1, 2])`
    """
    return rewrite(model, _fold, ("TRANSPOSE", "BATCH_MATMUL"))


def permutation(graph: Graph, operation: Operation) -> tuple[int, ...] | None:
    """In which order a TRANSPOSE puts the dimensions of its input; None where that is not known.

    Raises nothing: a wrong permutation is for `verify` to find.
    """
    call = graph.call(operation)
    if "perm" not in call:
        rank = len(call["input"].dimensions)
        return tuple(reversed(range(rank))) or None
    value = call["perm"].value
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else None


def moves_ones_only(dimensions: Sequence[int], perm: Sequence[int]) -> bool:
    """Whether transposing an operand of these dimensions leaves every element in its place in memory.

    >>> moves_ones_only((1, 3, 1, 5), (0, 2, 1, 3)), moves_ones_only((0, 3), (1, 0))
    (True, False)
    """
    moved = [p for p in perm if dimensions[p] != 1]
    return moved == sorted(moved)


def _fold(graph: Graph, operation: Operation) -> bool:
    return _fold_chain(graph, operation) if operation.type == "TRANSPOSE" else _fold_into_product(graph, operation)


def _fold_chain(graph: Graph, operation: Operation) -> bool:
    source, perm = operation.inputs[0], permutation(graph, operation)
    if perm is None:
        return False
    producer = graph.producer(source, ("TRANSPOSE",))
    before = None if producer is None else permutation(graph, producer)
    if producer is not None and before is not None:
        perm = tuple(before[p] for p in perm)
        if not graph.uses[source]:
            graph.drop(producer)
        source = producer.inputs[0]
    result = graph.operands[operation.outputs[0]].dimensions
    dimensions = graph.operands[source].dimensions
    if dimensions and 0 not in dimensions and result and moves_ones_only(dimensions, perm):
        shape = graph.constant(tuple(dimensions[p] for p in perm), Operand(I32))
        graph.emit(replace(operation, type="RESHAPE", inputs=(source, shape)))
        return True
    if before is None:
        return False
    graph.emit(replace(operation, inputs=(source, graph.constant(perm, Operand(I32)))))
    return True


def _fold_into_product(graph: Graph, operation: Operation) -> bool:
    call = graph.call(operation)
    given: dict[str, int] = {}
    for i, name, flag in zip(operation.inputs, ("input0", "input1"), ("adj_x", "adj_y")):
        producer = graph.producer(i, ("TRANSPOSE",))
        perm = None if producer is None else permutation(graph, producer)
        adjoint = call.scalar(flag) if flag in call else False
        if producer is None or perm is None or adjoint is None:
            continue
        rank = len(perm)
        if perm == (*range(rank - 2), rank - 1, rank - 2):
            given |= {name: producer.inputs[0], flag: graph.scalar(BOOL, not adjoint)}
    if not given:
        return False
    graph.emit(replace(operation, inputs=graph.inputs(operation, **given)))
    return True
