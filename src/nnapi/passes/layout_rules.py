"""How each kind of operation works on values whose dimensions are stored in another order.

A rule writes the operation at hand for the order its inputs are in and says True, or does nothing and says False: then
the operation gets its inputs as they were, and a TRANSPOSE runs in front of it where that is necessary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.op import Call
from nnapi.ops.types import I32, INT32, Operand
from nnapi.passes.fold_transposes import moves_ones_only, permutation
from nnapi.passes.placement import MOVABLE, Order, Placement, reordered, straight

Rule = Callable[[Placement, Operation, Call], bool]


def pointwise(place: Placement, operation: Operation, call: Call) -> bool:
    """Each element of the output comes from the elements at its position, or broadcast to it."""
    (result,) = operation.outputs
    rank = place.rank(result)
    tensors = [i for i in operation.inputs if place.operand(i).type.is_tensor]
    order = place.cheapest(tensors, rank)
    if order == straight(rank) or not place.can_move(*tensors) or not 0 < rank <= 4:
        return False
    if any(len(o.dimensions) < rank and 0 in o.dimensions for o in map(place.operand, tensors)):
        return False

    def made(order: Order) -> Operation:
        inputs = [_broadcast(place, i, order, call.op.name) if i in tensors else i for i in operation.inputs]
        return replace(operation, inputs=tuple(inputs))

    place.graph.emit(replace(made(order), outputs=(place.define(result, order),)))
    if place.operand(result).type not in MOVABLE:
        place.remade[result] = made
    return True


def along_axis(place: Placement, operation: Operation, call: Call) -> bool:
    """The axis is a parameter; it keeps its place among the dimensions."""
    joined = operation.inputs[:-1] if call.op.name == "CONCATENATION" else operation.inputs[:1]
    order, axis = place.cheapest(joined, place.rank(joined[0])), call.scalar("axis")
    rank = len(order)
    if order == straight(rank) or axis is None or not place.can_move(*joined, *operation.outputs):
        return False
    graph, moved, inputs = place.graph, order.index(axis % rank), operation.inputs
    if moved != axis % rank:
        param = next(p for p in call.signature.inputs if p.name == "axis")
        if param.type == I32:
            inputs = graph.inputs(operation, axis=graph.constant([moved], Operand(I32)))
        else:
            is_default = param.default == -1 and moved == rank - 1
            inputs = graph.inputs(operation, axis=graph.scalar(INT32, -1 if is_default else moved))
    inputs = tuple(place.at(i, order) if i in joined else i for i in inputs)
    graph.emit(replace(operation, inputs=inputs, outputs=tuple(place.define(o, order) for o in operation.outputs)))
    return True


def on_last_axis(place: Placement, operation: Operation, call: Call) -> bool:
    """TOPK_V2: the axis is always the last."""
    order = place.order(operation.inputs[0])
    if not order or order[-1] != len(order) - 1 or order == straight(len(order)):
        return False
    if not place.can_move(*operation.outputs):
        return False
    inputs = (place.at(operation.inputs[0], order), *operation.inputs[1:])
    outputs = tuple(place.define(o, order) for o in operation.outputs)
    place.graph.emit(replace(operation, inputs=inputs, outputs=outputs))
    return True


def by_dimension(*vectors: str) -> Rule:
    """Parameters that hold one entry per dimension: they are reordered with the dimensions."""

    def rule(place: Placement, operation: Operation, call: Call) -> bool:
        order = place.order(operation.inputs[0])
        if order == straight(len(order)) or not all(isinstance(call[v].value, np.ndarray) for v in vectors):
            return False
        graph = place.graph
        given = {v: graph.constant(call.array(v)[list(order)], Operand(I32)) for v in vectors}
        dropped: list[int] = []
        for mask in (m for m in ("begin_mask", "end_mask", "shrink_axis_mask") if m in call):
            bits = call.scalar(mask)
            if bits is None:
                return False
            given[mask] = graph.scalar(INT32, sum((bits >> d & 1) << k for k, d in enumerate(order)))
            dropped = [d for d in order if bits >> d & 1]  # shrink_axis_mask comes last
        if not place.can_move(operation.inputs[0], *operation.outputs):
            return False
        inputs = (place.at(operation.inputs[0], order), *graph.inputs(operation, **given)[1:])
        output = place.define(operation.outputs[0], without(order, dropped))
        graph.emit(replace(operation, inputs=inputs, outputs=(output,)))
        return True

    return rule


def reduction(place: Placement, operation: Operation, call: Call) -> bool:
    """Reductions and ARGMAX: some dimensions go, or become 1."""
    source, (result,) = operation.inputs[0], operation.outputs
    order, rank = place.order(source), place.rank(source)
    name = "axes" if "axes" in call else "axis"
    keeps = call.scalar("keep_dims") if "keep_dims" in call else 0
    if order == straight(rank) or call[name].value is None or keeps is None:
        return False
    axes = sorted({int(a) % rank for a in call.array(name).ravel()})
    moved = sorted(order.index(a) for a in axes)
    after = order if keeps > 0 else without(order, axes)
    if not place.can_move(source) or (after != straight(len(after)) and not place.can_move(result)):
        return False
    graph = place.graph
    given = graph.constant(moved, Operand(I32)) if name == "axes" else graph.scalar(INT32, moved[0])
    inputs = graph.inputs(operation, input=place.at(source, order), **{name: given})
    graph.emit(replace(operation, inputs=inputs, outputs=(place.define(result, after),)))
    return True


def gather(place: Placement, operation: Operation, call: Call) -> bool:
    """GATHER: the indices' dimensions take the axis's place."""
    source, _, indices = operation.inputs
    order, axis = place.order(source), call.scalar("axis")
    if order == straight(len(order)) or axis is None or not place.rank(indices):
        return False
    axis, rank = axis % len(order), place.rank(indices)
    after: list[int] = []
    for d in order:
        after += range(axis, axis + rank) if d == axis else [d if d < axis else d + rank - 1]
    if not place.can_move(source, *operation.outputs):
        return False
    moved = place.graph.scalar(INT32, order.index(axis))
    inputs = (place.at(source, order), moved, place.straight(indices))
    place.graph.emit(replace(operation, inputs=inputs, outputs=(place.define(operation.outputs[0], tuple(after)),)))
    return True


def pack(place: Placement, operation: Operation, call: Call) -> bool:
    """PACK: a new dimension appears at the axis, in whatever order the others are."""
    joined, axis = operation.inputs[1:], call.scalar("axis")
    order = place.cheapest(joined, place.rank(joined[0]))
    if order == straight(len(order)) or axis is None or not place.can_move(*joined, *operation.outputs):
        return False
    after = [d if d < axis else d + 1 for d in order]
    after.insert(axis, axis)
    inputs = (operation.inputs[0], *(place.at(i, order) for i in joined))
    place.graph.emit(replace(operation, inputs=inputs, outputs=(place.define(operation.outputs[0], tuple(after)),)))
    return True


def transpose(place: Placement, operation: Operation, call: Call) -> bool:
    """TRANSPOSE: nothing moves, the value is only known in another order."""
    source, (result,) = operation.inputs[0], operation.outputs
    perm = permutation(place.graph, operation)
    if perm is None or not place.can_move(source, result):
        return False
    order = place.order(source)
    place.alias(result, tuple(perm.index(d) for d in order), place.at(source, order), operation)
    return True


def reshape(place: Placement, operation: Operation, call: Call) -> bool:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: no element moves where the dimensions that become one stay together, in order."""
    source, (result,) = operation.inputs[0], operation.outputs
    order, before, after = place.order(source), place.operand(source).dimensions, place.operand(result).dimensions
    if order == straight(len(order)) or not before or not after or 0 in before + after:
        return False
    if not place.can_move(source, result) or max(len(before), len(after)) > 4:
        return False
    new = reshaped_order(before, after, order)
    if new is None:
        return _flatten(place, operation, order)
    held = place.at(source, order)
    moved = tuple(after[d] for d in new)
    if place.operand(held).dimensions == moved:
        place.alias(result, new, held, operation)
    else:
        shape = place.graph.constant(moved, Operand(I32))
        output = place.define(result, new)
        place.graph.emit(replace(operation, type="RESHAPE", inputs=(held, shape), outputs=(output,)))
    return True


def fully_connected(place: Placement, operation: Operation, call: Call) -> bool:
    """FULLY_CONNECTED: its filter's columns follow those of a matrix that was flattened in another order."""
    if operation.inputs[0] not in place.columns:
        return False
    held, dimensions, order = place.columns[operation.inputs[0]]
    filter = call["filter"]
    units = filter.value.reshape(-1, *dimensions[1:]).transpose(order)
    new = place.graph.constant(units.reshape(filter.dimensions), filter)
    place.graph.emit(replace(operation, inputs=(held, new, *operation.inputs[2:])))
    return True


def composite(place: Placement, operation: Operation) -> bool:
    """A composite that works element by element, by its body: the body gets the new shape."""
    body, (result, *more) = place.graph.body(operation), operation.outputs
    rank = place.rank(result)
    tensors = [i for i in operation.inputs[:-1] if place.operand(i).type.is_tensor]
    if body is None or more or not _is_pointwise(body, rank):
        return False
    order = place.cheapest(tensors, rank)
    if order == straight(rank) or not place.can_move(result, *tensors):
        return False
    moved = [
        reordered(o, order) if o.value is None and o.type.is_tensor and len(o.dimensions) == rank else o
        for o in body.operands
    ]  # fmt: skip
    model = place.graph.operand(
        replace(place.operand(operation.inputs[-1]), value=replace(body, operands=tuple(moved)))
    )
    inputs = [place.at(i, order) if i in tensors else i for i in operation.inputs[:-1]]
    output = place.define(result, order)
    place.graph.emit(replace(operation, inputs=(*inputs, model), outputs=(output,)))
    return True


def without(order: Order, dropped: Sequence[int]) -> Order:
    """The order of the dimensions that remain.

    >>> without((0, 2, 3, 1), [2, 3])
    (0, 1)
    """
    left = sorted(d for d in order if d not in dropped)
    return tuple(left.index(d) for d in order if d not in dropped) or (0,)


def reshaped_order(before: Sequence[int], after: Sequence[int], order: Order) -> Order | None:
    """The order of a reshaped value when what is stored in `order` is reshaped in place; None where it cannot be.

    >>> reshaped_order((1, 8, 5, 6), (1, 8, 30), (0, 2, 3, 1))
    (0, 2, 1)
    >>> reshaped_order((1, 8, 5, 6), (1, 240), (0, 2, 3, 1)) is None
    True
    """
    groups = _groups(before, after)
    stored = [d for d in order if before[d] != 1]
    result: list[int] = []
    while stored:
        old, new = next((g for g in groups if g[0][0] == stored[0]), ((), ()))
        if not old or tuple(stored[: len(old)]) != old:
            return None
        del stored[: len(old)]
        result += new
    for d in range(len(after)):  # dimensions of 1 may be anywhere: behind the one they follow
        if after[d] == 1:
            result.insert(result.index(d - 1) + 1 if d else 0, d)
    return tuple(result)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[Order, Order]]:
    """The smallest runs of dimensions (but those of 1) of both shapes that hold the same number of elements."""
    left = [d for d in range(len(before)) if before[d] != 1]
    right = [d for d in range(len(after)) if after[d] != 1]
    groups: list[tuple[Order, Order]] = []
    while left:
        old, new = [left.pop(0)], [right.pop(0)]
        m, n = before[old[0]], after[new[0]]
        while m != n:
            if m < n:
                old.append(left.pop(0))
                m *= before[old[-1]]
            else:
                new.append(right.pop(0))
                n *= after[new[-1]]
        groups.append((tuple(old), tuple(new)))
    return groups


def _flatten(place: Placement, operation: Operation, order: Order) -> bool:
    """[N, ...] to [N, K] for fully connected layers only: flatten as it is stored, they reorder their filters."""
    source, (result,) = operation.inputs[0], operation.outputs
    before, after = place.operand(source).dimensions, place.operand(result).dimensions
    if len(after) != 2 or before[0] != after[0] or order[0] != 0 or not _feeds_layers_only(place.model, result):
        return False
    shape, held = place.graph.constant(after, Operand(I32)), place.graph.operand(place.operand(result))
    place.graph.emit(replace(operation, type="RESHAPE", inputs=(place.at(source, order), shape), outputs=(held,)))
    place.columns[result] = held, before, order
    return True


def _feeds_layers_only(model: Model, i: int) -> bool:
    """Whether operand i is read only as the input of FULLY_CONNECTED with a constant filter of as many columns."""
    columns = model.operands[i].dimensions[-1]
    readers = [model.operations[n] for n in model.consumers.get(i, ())]
    return i not in model.outputs and all(
        r.type == "FULLY_CONNECTED" and r.inputs.count(i) == 1 and r.inputs[0] == i
        and isinstance(model.operands[r.inputs[1]].value, np.ndarray)
        and model.operands[r.inputs[1]].dimensions[1] == columns
        for r in readers
    )  # fmt: skip


def _broadcast(place: Placement, i: int, order: Order, type: str) -> int:
    """Operand i so that an operation of `type` takes it beside values stored in `order`."""
    operand, rank = place.operand(i), len(order)
    if order == straight(rank) or (operand.elements == 1 and operand.is_constant):
        return place.straight(i)
    if isinstance(operand.value, np.ndarray):
        value = operand.value.reshape((1,) * (rank - operand.value.ndim) + operand.value.shape).transpose(order)
        if type != "SELECT":  # which does not broadcast
            ones = next((k for k, d in enumerate(value.shape) if d != 1), rank - 1)
            value = value.reshape(value.shape[ones:])
        return place.graph.constant(np.ascontiguousarray(value), operand)
    if len(operand.dimensions) < rank:
        return _widened(place, i, order)
    return place.at(i, order)


def _widened(place: Placement, i: int, order: Order) -> int:
    """A variable of lower rank with dimensions of 1 in front, stored in `order`."""
    graph, operand = place.graph, place.operand(i)
    wide = replace(operand, dimensions=(1,) * (len(order) - len(operand.dimensions)) + operand.dimensions)
    free = moves_ones_only(wide.dimensions, order)
    stored = reordered(wide, order)
    shape = graph.constant((stored if free else wide).dimensions, Operand(I32))
    new = graph.operand(stored if free else wide)
    graph.emit(Operation("RESHAPE", (place.straight(i), shape), (new,), operand.name))
    if free:
        return new
    moved = graph.operand(stored)
    graph.emit(Operation("TRANSPOSE", (new, graph.constant(order, Operand(I32))), (moved,), operand.name))
    return moved


def _is_pointwise(body: Model, rank: int) -> bool:
    operands = [o for o in body.operands if o.type.is_tensor]
    return all(RULES.get(o.type) is pointwise for o in body.operations) and all(
        o.elements == 1 if o.is_constant else len(o.dimensions) == rank for o in operands
    )


RULES: Mapping[str, Rule] = {
    **dict.fromkeys((
        "ABS", "CAST", "DEQUANTIZE", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOG", "LOGICAL_NOT", "LOGISTIC", "NEG",
        "QUANTIZE", "RELU", "RELU1", "RELU6", "RSQRT", "SIN", "SQRT", "TANH",
        "ADD", "DIV", "EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "MAXIMUM",
        "MINIMUM", "MUL", "NOT_EQUAL", "POW", "PRELU", "SELECT", "SUB",
    ), pointwise),
    **dict.fromkeys((
        "CHANNEL_SHUFFLE", "CONCATENATION", "L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION", "LOG_SOFTMAX",
        "REVERSE", "SOFTMAX", "SPLIT",
    ), along_axis),
    **dict.fromkeys((
        "ARGMAX", "ARGMIN", "MEAN", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_SUM",
    ), reduction),
    **dict.fromkeys(("MIRROR_PAD", "PAD", "PAD_V2"), by_dimension("paddings")),
    "SLICE": by_dimension("begin", "size"),
    "STRIDED_SLICE": by_dimension("begin", "end", "strides"),
    "TILE": by_dimension("multiples"),
    "TOPK_V2": on_last_axis,
    "GATHER": gather,
    "PACK": pack,
    "TRANSPOSE": transpose,
    "FULLY_CONNECTED": fully_connected,
    **dict.fromkeys(("EXPAND_DIMS", "RESHAPE", "SQUEEZE"), reshape),
}  # fmt: skip
"""By operation type; every other operation gets its inputs as they were."""
