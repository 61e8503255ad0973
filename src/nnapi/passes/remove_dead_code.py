"""Remove what no output needs."""

from __future__ import annotations

from nnapi.ir.model import Model
from nnapi.passes.rewrite import Graph, assemble


def remove_dead_code(model: Model) -> Model:
    """Operations that no output of the model depends on are removed, and operands that nothing uses.

    before: `a = RELU(x); b = TANH(x)`, output `b`
    after:  `b = TANH(x)`
    """
    graph = Graph(model)
    for operation in graph:
        graph.emit(graph.map_bodies(operation, remove_dead_code))
    clean = assemble(model, graph.operands, graph.operations, graph.outputs)
    same = (len(clean.operations), len(clean.operands)) == (len(model.operations), len(model.operands))
    return model if same and not graph.changed else clean
