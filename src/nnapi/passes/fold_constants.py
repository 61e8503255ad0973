"""Compute what is known before the model runs."""

from __future__ import annotations

from nnapi.drivers.reference import execute
from nnapi.errors import NnapiError
from nnapi.ir.model import Model, Operation
from nnapi.passes.fold_reshapes import RESHAPING
from nnapi.passes.rewrite import Graph, rewrite

MAX_BYTES = 1 << 20
MAX_MACS = 1 << 28
"""What the reference does in about a second."""
RANDOM = frozenset(("RANDOM_MULTINOMIAL",))
STORED = frozenset(("DEQUANTIZE",))
"""What a model stores small on purpose stays small: weights in 8 or 16 bits."""
ENDLESS = frozenset(("WHILE",))


def fold_constants(model: Model, *, max_bytes: int = MAX_BYTES) -> Model:
    """Operations whose inputs are all constants become constants, computed by the reference.

    before: `t = EXP([0.0, 1.0]); y = ADD(x, t)`
    after:  `y = ADD(x, [1.0, 2.7182817])`

    A result of more than `max_bytes` bytes stays computed at run time, unless it takes the place of constants that are
    as large and that nobody else reads, or is the same memory in another shape.
    """

    def fold(graph: Graph, operation: Operation) -> bool:
        return _fold(graph, operation, max_bytes)

    return rewrite(model, fold)


def _fold(graph: Graph, operation: Operation, max_bytes: int) -> bool:
    operands = graph.operands
    if not all(operands[i].is_constant for i in operation.inputs) or not operation.inputs:
        return False
    if operation.type in RANDOM | ENDLESS | STORED or (operation.is_extension and graph.body(operation) is None):
        return False
    if not set(graph.outputs).isdisjoint(operation.outputs):  # a model's output is written by an operation
        return False
    graph.infer(operation)
    if operation.type in RESHAPING:
        return _reshape(graph, operation)
    replaced = sum(operands[i].bytes or 0 for i in set(operation.inputs) if not graph.uses[i])
    if not _is_small(graph, operation, max(max_bytes, replaced)):
        return False
    try:
        arrays = execute(Model(tuple(operands), (operation,), (), operation.outputs), [])
    except NnapiError:  # it would fail at run time: leave the saying so to whoever runs it
        return False
    for i, array in zip(operation.outputs, arrays):
        operands[i] = operands[i].with_value(array)
    return True


def _is_small(graph: Graph, operation: Operation, max_bytes: int) -> bool:
    """Whether the results are known to be of `max_bytes` at most, and to take no long time."""
    sizes = [graph.operands[i].bytes for i in operation.outputs]
    if None in sizes or sum(size for size in sizes if size is not None) > max_bytes:
        return False
    if operation.is_extension:
        return True
    call = graph.call(operation)
    return call.op.macs(call) <= MAX_MACS


def _reshape(graph: Graph, operation: Operation) -> bool:
    """The same memory in another shape."""
    (i,), source = operation.outputs, graph.operands[operation.inputs[0]]
    shape = graph.operands[i].shape
    if shape is None or None in shape:
        return False
    graph.operands[i] = graph.operands[i].with_value(source.value.reshape(shape))
    return True
