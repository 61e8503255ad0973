"""Compute once what is computed twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.passes.fold_constants import RANDOM
from nnapi.passes.rewrite import Graph, constant_key


def eliminate_common(model: Model) -> Model:
    """Equal operations on equal inputs become one; equal small constants, and views of the same weights, one operand.

    before: `a = RELU(x); b = RELU(x); y = ADD(a, b)`
    after:  `a = RELU(x); y = ADD(a, a)`
    """
    graph = Graph(model)
    constants: dict[tuple[Any, ...], int] = {}
    known = {i: constants.setdefault(constant_key(o), i) for i, o in enumerate(model.operands) if o.is_constant}
    seen: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for operation in graph:
        operation = graph.map_bodies(operation, eliminate_common)
        inputs = tuple(known.get(i, i) for i in operation.inputs)
        if inputs != operation.inputs:
            operation = replace(operation, inputs=inputs)
            graph.changed = True
        first = seen.setdefault(_key(graph, operation), operation.outputs)
        if first != operation.outputs and _is_repeatable(operation) and graph.merge_all(operation.outputs, first):
            graph.changed = True
        else:
            graph.emit(operation)
    return graph.finish()


def _key(graph: Graph, operation: Operation) -> tuple[Any, ...]:
    outputs = (graph.operands[i] for i in operation.outputs)
    return operation.type, operation.inputs, *((o.type, o.dimensions, o.scale, o.zero_point) for o in outputs)


def _is_repeatable(operation: Operation) -> bool:
    """Whether two runs on the same values give the same result, as far as anybody knows."""
    foreign = operation.is_extension and not operation.type.startswith(COMPOSITE)
    return not foreign and operation.type not in RANDOM
