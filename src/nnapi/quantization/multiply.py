"""Operations that NNAPI has in floats only, as a MUL that says the same: no island of floats for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import NONE
from nnapi.ops.types import F32, INT32, Array, Operand
from nnapi.passes.rewrite import Graph, rewrite


def multiply(model: Model) -> Model:
    """The same function, but for the rounding of a reciprocal (2^-24 of each value), with MUL.

    before: `y = DIV(x, [8.0]); z = NEG(y); s = REDUCE_SUM(z, [1])`
    after:  `y = MUL(x, [0.125]); z = MUL(y, [-1.0]); s = MUL(MEAN(z, [1]), [n])`
    """
    return rewrite(model, lambda graph, operation: RULES[operation.type](graph, operation), RULES)


def _division(graph: Graph, operation: Operation) -> bool:
    x, divisor, activation = operation.inputs
    value = graph.operands[divisor].value
    if graph.operands[divisor].type != F32 or not isinstance(value, np.ndarray):
        return False
    with np.errstate(divide="ignore", over="ignore"):
        reciprocal = np.asarray(1 / value.astype(np.float64), np.float32)
    # A reciprocal that is infinite, or too small for all of float32's bits, is not worth the same.
    if not np.all(np.isfinite(reciprocal) & (np.abs(reciprocal) >= np.finfo(np.float32).tiny)):
        return False
    graph.emit(_product(graph, operation, x, reciprocal, activation))
    return True


def _negation(graph: Graph, operation: Operation) -> bool:
    if graph.operands[operation.inputs[0]].type != F32:
        return False
    graph.emit(_product(graph, operation, operation.inputs[0], np.full(1, -1, np.float32)))
    return True


def _sum(graph: Graph, operation: Operation) -> bool:
    call = graph.call(operation)
    source, keep = call["input"], call.scalar("keep_dims")
    axes = call["axes"].value
    if source.type != F32 or not isinstance(axes, np.ndarray) or keep is None or 0 in (source.dimensions or (0,)):
        return False
    rank = len(source.dimensions)
    count = math.prod(source.dimensions[a] for a in {int(a) % rank for a in axes.ravel()})
    mean = graph.operand(Operand(F32, graph.operands[operation.outputs[0]].dimensions))
    inputs = (*operation.inputs[:2], graph.scalar(INT32, int(keep)))
    average = Operation("MEAN", inputs, (mean,), operation.name)
    if not graph.is_valid(average):
        return False
    graph.emit(average)
    graph.emit(_product(graph, operation, mean, np.full(1, count, np.float32)))
    return True


def _product(graph: Graph, operation: Operation, x: int, factor: Array, activation: int | None = None) -> Operation:
    code = graph.scalar(INT32, NONE) if activation is None else activation
    return Operation("MUL", (x, graph.constant(factor, Operand(F32)), code), operation.outputs, operation.name)


RULES: Final[Mapping[str, Callable[[Graph, Operation], bool]]] = {
    "DIV": _division, "NEG": _negation, "REDUCE_SUM": _sum,
}  # fmt: skip
