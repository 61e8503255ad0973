"""Compute what is known before the model runs."""

from __future__ import annotations

from dataclasses import replace

from nnapi.drivers.reference import execute
from nnapi.errors import NnapiError
from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.passes.rewrite import Graph, rewrite

MAX_BYTES = 1 << 20
RANDOM = frozenset(("RANDOM_MULTINOMIAL",))


def fold_constants(model: Model, *, max_bytes: int = MAX_BYTES) -> Model:
    """Operations whose inputs are all constants become constants, computed by the reference.

    before: `t = EXP([0.0, 1.0]); y = ADD(x, t)`
    after:  `y = ADD(x, [1.0, 2.7182817])`

    A result of more than `max_bytes` bytes stays computed at run time, unless it takes the place of constants that are
    as large and that nobody else reads.
    """

    def fold(graph: Graph, operation: Operation) -> bool:
        return _fold(graph, operation, max_bytes)

    return rewrite(model, fold)


def _fold(graph: Graph, operation: Operation, max_bytes: int) -> bool:
    operands = graph.operands
    if not all(operands[i].is_constant for i in operation.inputs) or not operation.inputs:
        return False
    if operation.type in RANDOM or (operation.is_extension and not operation.type.startswith(COMPOSITE)):
        return False
    if not set(graph.outputs).isdisjoint(operation.outputs):  # a model's output is written by an operation
        return False
    replaced = sum(operands[i].bytes or 0 for i in set(operation.inputs) if not graph.uses[i])
    results = [operands[i].bytes for i in operation.outputs]
    if sum(b or 0 for b in results) > max(max_bytes, replaced):
        return False
    try:
        arrays = execute(Model(tuple(operands), (operation,), (), operation.outputs), [])
    except NnapiError:  # it would fail at run time: leave the saying so to whoever runs it
        return False
    if sum(a.nbytes for a in arrays) > max(max_bytes, replaced):
        return False
    for i, array in zip(operation.outputs, arrays):
        operands[i] = replace(operands[i], dimensions=array.shape if operands[i].type.is_tensor else (), value=array)
    return True
