"""IF: the referenced models become subgraphs."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from nnapi.exporters.tflite.lowering import Lowering, Node, Row
from nnapi.ir.model import Model
from nnapi.ir.verdict import Reject
from nnapi.ops.types import B8


def _subgraph(node: Node, name: str) -> int:
    """The index of the subgraph that a referenced model becomes; refused where TFLite does not take all of it."""
    body = node[name].value
    assert isinstance(body, Model)
    outer = node.lowering
    lowering = Lowering(body, outer.file, outer.rows, expand=outer.expand, shapes_follow=outer.shapes_follow)
    for verdict in lowering.run():
        if isinstance(verdict, Reject):
            node.refuse(f"in {name}: {verdict.reason}")
    return lowering.graph.index


def _if(node: Node) -> None:
    options = schema.IfOptionsT(
        thenSubgraphIndex=_subgraph(node, "then_model"), elseSubgraphIndex=_subgraph(node, "else_model")
    )
    tensors = [node.lowering.tensor(i) for i in node.indexes("inputs")]
    node.emit("IF", [node.tensor("condition"), *tensors], options=options)


def _all_given(node: Node) -> str | None:
    omitted = [n for n, operand in enumerate(node.call.many("inputs")) if operand.is_omitted]
    return f"input {omitted[0]} is omitted, TFLite's takes all" if omitted else None


ROWS = {"IF": Row(_if, {B8}, (_all_given,))}
