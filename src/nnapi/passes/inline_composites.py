"""Replace composites by what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nnapi.ir.model import Model, Operation
from nnapi.passes.rewrite import Graph


def inline_composites(model: Model, *, which: Callable[[int], bool] | None = None) -> Model:
    """Composites become the operations of their bodies, and these if they are composites theirs.

    before: `y = org.nnapi.composite/SILU(x, {t = LOGISTIC(a); b = MUL(a, t)})`
    after:  `t = LOGISTIC(x); y = MUL(x, t)`

    `which` says by its index in the model whether an operation is inlined; without it all are, also those in the bodies
    of IF and WHILE.
    """
    graph = Graph(model)
    for n, operation in enumerate(graph):
        if which is None:
            operation = graph.map_bodies(operation, inline_composites)
        if which is None or which(n):
            _inline(graph, operation)
        else:
            graph.emit(operation)
    return graph.finish()


def _inline(graph: Graph, operation: Operation) -> None:
    """Emit the operation, or what it stands for."""
    body = graph.body(operation)
    if body is None:
        graph.emit(operation)
        return
    graph.changed = True
    new = dict(zip(body.inputs, operation.inputs)) | dict(zip(body.outputs, operation.outputs))
    for i, operand in enumerate(body.operands):
        if i not in new:
            new[i] = graph.operand(operand)
    for inner in body.operations:
        name = "/".join(filter(None, (operation.name, inner.name)))
        inputs, outputs = (tuple(new[i] for i in indexes) for indexes in (inner.inputs, inner.outputs))
        spliced = replace(inner, inputs=inputs, outputs=outputs, name=name)
        spliced = graph.map_bodies(spliced, inline_composites)
        graph.infer(spliced)
        _inline(graph, spliced)
