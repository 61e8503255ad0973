"""IF and WHILE: the referenced models become graphs that use the values around them."""

from __future__ import annotations

from nnapi.exporters.onnx.lowering import Lowering, Node, Row
from nnapi.exporters.onnx.writer import ABSENT, Graph, Port, Value
from nnapi.ir.model import Model
from nnapi.ir.verdict import Reject
from nnapi.ops.types import B8, OperandType


def _lowered(node: Node, name: str, graph: Graph, values: list[Value | None]) -> list[Value]:
    """The outputs of a referenced model for these inputs, its nodes in `graph`; refused where one is not taken."""
    body = node[name].value
    assert isinstance(body, Model)
    inner = Lowering.within(node.lowering, body, graph, values)
    for verdict in map(inner.lower, inner.model.operations):
        if isinstance(verdict, Reject):
            node.refuse(f"in {name}: {verdict.reason}")
    return [inner.written(i) for i in body.outputs]


def _values(node: Node) -> list[Value | None]:
    return [None if node.lowering.operands[i].is_omitted else node.lowering.form(i) for i in node.indexes("inputs")]


def _if(node: Node) -> None:
    condition = node.reshape(node.stored("condition"), ())
    branches = {}
    for name, attribute in (("then_model", "then_branch"), ("else_model", "else_branch")):
        graph = Graph(name)
        outputs = _lowered(node, name, graph, _values(node))
        graph.outputs = [Port.of(v, o) for v, o in zip(outputs, node.outputs)]
        branches[attribute] = graph
    for n, value in enumerate(node.emit_many("If", [condition], len(node.outputs), **branches)):
        node.write_stored(value, n)


def _while(node: Node) -> None:
    """Loop: what body_model gives is carried, the other inputs stay."""
    file, values = node.lowering.file, _values(node)
    body = node["body_model"].value
    assert isinstance(body, Model)
    carried = len(body.outputs)
    first = node.reshape(_lowered(node, "condition_model", node.lowering.graph, values)[0], ())
    graph = Graph("body")
    before = [file.value() for _ in range(carried)]
    state: list[Value | None] = [*before, *values[carried:]]
    after = _lowered(node, "body_model", graph, state)
    state[:carried] = after
    again = _lowered(node, "condition_model", graph, state)[0]
    more = file.add(graph, "Reshape", [again, node.ints(())], 1, node.operation.name, {})[0]
    operands = node.lowering.operands
    kinds = [operands[i] for i in node.indexes("inputs")[:carried]]
    graph.inputs = [
        Port(file.value(), "int64", ()),
        Port(file.value(), "bool", ()),
        *(Port(v, o.type.dtype.name, None) for v, o in zip(before, kinds)),
    ]
    graph.outputs = [Port(more, "bool", ()), *(Port(v, o.type.dtype.name, None) for v, o in zip(after, kinds))]
    initial = [v for v in values[:carried] if v is not None]
    results = node.emit_many("Loop", [ABSENT, first, *initial], carried, body=graph)
    for n in range(len(node.outputs)):
        node.write_stored(results[n], n)


def _all_given(node: Node) -> str | None:
    omitted = [n for n, i in enumerate(node.indexes("inputs")) if node.lowering.operands[i].is_omitted]
    return f"input {omitted[0]} is omitted, ONNX's values are all there" if omitted else None


ANY = frozenset(OperandType)
ROWS = {"IF": Row(_if, {B8}), "WHILE": Row(_while, ANY, (_all_given,))}
