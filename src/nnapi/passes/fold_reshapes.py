"""Join chains of RESHAPE, SQUEEZE and EXPAND_DIMS."""

from __future__ import annotations

from dataclasses import replace

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import F16, F32, I32, Q8, Q8S, Operand
from nnapi.passes.rewrite import Graph, rewrite

RESHAPING = frozenset(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"))
TYPES = (F32, F16, Q8, Q8S)
"""What RESHAPE takes at the level of the others."""


def fold_reshapes(model: Model) -> Model:
    """RESHAPE, SQUEEZE and EXPAND_DIMS read what was there before others of their kind, and become RESHAPE, which every
    device has.

    before: `t = SQUEEZE(x[1, 6, 1, 1]); y = RESHAPE(t, [2, 3])`
    after:  `y = RESHAPE(x, [2, 3])`
    """
    return rewrite(model, _fold, RESHAPING)


def _fold(graph: Graph, operation: Operation) -> bool:
    result, source = graph.operands[operation.outputs[0]], operation.inputs[0]
    producer = graph.producer(source, RESHAPING)
    if producer is None and operation.type == "RESHAPE":
        return False
    if producer is not None:
        source = producer.inputs[0]
    shape = graph.constant(result.dimensions, Operand(I32))
    reshape = replace(operation, type="RESHAPE", inputs=(source, shape))
    if 0 in (result.dimensions or (0,)) or result.type not in TYPES or not graph.is_valid(reshape):
        return False
    if producer is not None and not graph.uses[operation.inputs[0]]:
        graph.drop(producer)
    graph.emit(reshape)
    return True
