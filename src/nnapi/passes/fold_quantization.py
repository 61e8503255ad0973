"""Let operations between DEQUANTIZE and QUANTIZE compute in integers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import F32, I32, INT32, Q8, Q8PC, Q8S, Array, ChannelQuant, Operand
from nnapi.ops.window import VALID
from nnapi.passes.eliminate_common import eliminate_common
from nnapi.passes.fold_batch_norm import OUTPUT_AXIS
from nnapi.passes.fold_transposes import permutation
from nnapi.passes.fuse_activations import fuse_activations
from nnapi.passes.remove_dead_code import remove_dead_code
from nnapi.passes.remove_identities import remove_identities
from nnapi.passes.rewrite import Graph, rewrite
from nnapi.passes.sink_reshapes import sink_reshapes

STORED = (Q8, Q8S)
"""What activations are stored as."""
EXACT = frozenset((
    "BATCH_TO_SPACE_ND", "CHANNEL_SHUFFLE", "CONCATENATION", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D",
    "MIRROR_PAD", "PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "REVERSE", "SLICE",
    "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TILE", "TOPK_V2", "TRANSPOSE",
))  # fmt: skip
"""What gives some of its stored values as they are, whatever they stand for: it computes no new ones."""
CONVERSIONS = frozenset(("CAST", "DEQUANTIZE", "QUANTIZE"))
"""What does something else to integers than to the reals that they stand for."""
BIAS_LIMIT = 2**30
"""Half of what 32 bits hold: the sum of products needs room beside the bias."""
CONSTANT = 127
"""What a number is stored as, with a scale to fit."""


def fold_quantization(model: Model) -> Model:
    """An operation whose float inputs are all dequantized, and whose output is quantized and nothing else, becomes the
    integer operation, where NNAPI has it; what only moves data, or picks the largest, changes places with DEQUANTIZE.

    before: `x = DEQUANTIZE(p); w = DEQUANTIZE([...]); t = CONV_2D(x, w, b); y = QUANTIZE(t)`
    after:  `y = CONV_2D(p, [...], b / scale)`

    Scales and zero points, and integers that are constants, stay as they are; biases become TENSOR_INT32. A fully
    connected layer with scales per channel, which NNAPI has not, becomes a CONV_2D of one pixel. What has no integer
    form stays in floats between its conversions.
    """
    return rewrite(model, _fold)


INTEGER_ARITHMETIC = (
    eliminate_common,
    sink_reshapes,
    fuse_activations,
    fold_quantization,
    remove_identities,
    remove_dead_code,
)
"""The passes that make a model with quantizations around float operations an integer model."""


def _fold(graph: Graph, operation: Operation) -> bool:
    if operation.type == "QUANTIZE":
        return _compute(graph, operation)
    return operation.type in EXACT and _move(graph, operation)


def _stored(graph: Graph, i: int) -> int | None:
    """The stored values that operand i is dequantized from."""
    producer = graph.producer(i, ("DEQUANTIZE",))
    return producer.inputs[0] if producer is not None else None


def _move(graph: Graph, operation: Operation) -> bool:
    """The operation, on stored values, in front of a DEQUANTIZE."""
    sources = [_stored(graph, i) if graph.operands[i].type == F32 else i for i in operation.inputs]
    if None in sources:
        return False
    stored = [graph.operands[s] for s in sources if s is not None and graph.operands[s].type.is_quantized]
    if not stored or len({(o.type, o.scale, o.zero_point) for o in stored}) > 1:
        return False
    if stored[0].is_constant:
        return _move_constant(graph, operation, stored[0])
    before = {i: graph.operands[i] for i in operation.outputs if graph.operands[i].type == F32}
    new = {i: graph.operand(_like(stored[0], operand)) for i, operand in before.items()}
    moved = replace(
        operation,
        inputs=tuple(s for s in sources if s is not None),
        outputs=tuple(new.get(i, i) for i in operation.outputs),
    )
    if not new or not graph.is_valid(moved):
        return False
    graph.emit(moved)
    for i, source in new.items():
        graph.emit(Operation("DEQUANTIZE", (source,), (i,), operation.name))
    return True


def _like(stored: Operand, shape: Operand) -> Operand:
    """Values stored as those of `stored`, in the dimensions of `shape`."""
    return replace(shape, type=stored.type, scale=stored.scale, zero_point=stored.zero_point, name="", value=None)


def _move_constant(graph: Graph, operation: Operation, stored: Operand) -> bool:
    """A TRANSPOSE or RESHAPE of constant weights, done; their channels' scales go along."""
    (output,) = operation.outputs
    shape = graph.operands[output].dimensions
    if operation.type == "TRANSPOSE":
        perm = permutation(graph, operation)
        if perm is None:
            return False
        value, places = stored.value.transpose(perm), perm
    elif operation.type == "RESHAPE" and 0 not in shape:
        value, places = stored.value.reshape(shape), _places(stored.value.shape, shape)
    else:
        return False
    moved = replace(stored, dimensions=value.shape, value=np.ascontiguousarray(value))
    if stored.channel_quant is not None:
        if stored.channel_quant.axis not in places:
            return False
        axis = places.index(stored.channel_quant.axis)
        moved = replace(moved, channel_quant=ChannelQuant(stored.channel_quant.scales, axis))
    graph.emit(Operation("DEQUANTIZE", (graph.operand(moved),), (output,), operation.name))
    return True


def _places(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    """For each dimension after a reshape, the one before that has the same elements; -1 where there is none.

    >>> _places((8, 3, 5), (8, 3, 1, 5))
    (0, 1, -1, 2)
    """
    starts = {(math.prod(before[:d]), size): d for d, size in enumerate(before) if size != 1}
    return tuple(starts.get((math.prod(after[:d]), size), -1) for d, size in enumerate(after))


def _compute(graph: Graph, quantize: Operation) -> bool:
    """The operation that a QUANTIZE alone reads, on stored values."""
    (real,), (result,) = quantize.inputs, quantize.outputs
    operation = graph.producer(real)
    if operation is None or operation.is_extension or operation.type in CONVERSIONS:
        return False
    if graph.uses[real] or len(operation.outputs) != 1:
        return False
    target = graph.operands[result]
    layer = operation.type in OUTPUT_AXIS
    inputs = _layer_inputs(graph, operation) if layer else _inputs(graph, operation, target)
    if inputs is None:
        return False
    integer = replace(operation, inputs=inputs, outputs=(result,))
    if layer and integer.type == "FULLY_CONNECTED" and graph.operands[inputs[1]].type == Q8PC:
        written = _as_pixels(graph, integer)
    else:
        written = [integer]
    if not all(graph.is_valid(o) for o in written):
        return False
    graph.drop(operation)
    for each in written:
        graph.emit(each)
    return True


def _inputs(graph: Graph, operation: Operation, target: Operand) -> tuple[int, ...] | None:
    """The stored values in place of each real input; None where one is computed in floats."""
    inputs = []
    found = False
    for i in operation.inputs:
        operand = graph.operands[i]
        if operand.type == F32 and not operand.is_omitted:
            stored = _number(graph, operand, target) if operand.is_constant else _stored(graph, i)
            if stored is None:
                return None
            found |= not operand.is_constant
            i = stored
        inputs.append(i)
    return tuple(inputs) if found else None


def _number(graph: Graph, operand: Operand, target: Operand) -> int | None:
    """A constant of one value, stored without loss; None for others, which nobody said how to store."""
    if operand.value.size != 1 or not np.isfinite(operand.value).all():
        return None
    number = float(operand.value.reshape(()))
    zero = target.type.zero_point_range[0] + 128
    like = Operand(target.type, scale=float(np.float32(abs(number) / CONSTANT)) or 1.0, zero_point=zero)
    return graph.constant(np.full(operand.dimensions, zero + CONSTANT * int(np.sign(number))), like)


def _layer_inputs(graph: Graph, operation: Operation) -> tuple[int, ...] | None:
    """Input and filter as stored, the bias as integers of input scale x filter scale."""
    call = graph.call(operation)
    x, w = _stored(graph, operation.inputs[0]), _stored(graph, operation.inputs[1])
    if x is None or w is None or not isinstance(call["bias"].value, np.ndarray):
        return None
    source, filter = graph.operands[x], graph.operands[w]
    if source.type not in STORED or not isinstance(filter.value, np.ndarray):
        return None
    axis = OUTPUT_AXIS[operation.type]
    if filter.channel_quant is not None and filter.channel_quant.axis != axis:
        return None
    filter = _with_room(_in_type(filter, source), axis, source.scale, call["bias"].value)
    scales = np.float32(source.scale) * np.asarray(_scales(filter), np.float32)
    values = np.rint(call["bias"].value.astype(np.float64) / scales).astype(np.int32)
    bias = Operand(I32, scale=0.0 if filter.type == Q8PC else source.scale * filter.scale)
    given = {"input": x, "filter": graph.constant(filter.value, filter), "bias": graph.constant(values, bias)}
    places = {p.name: at.start for p, at in call.slots}
    inputs = list(operation.inputs)
    for name, i in given.items():
        inputs[places[name]] = i
    return tuple(inputs)


def _scales(filter: Operand) -> tuple[float, ...]:
    return (filter.scale,) if filter.channel_quant is None else filter.channel_quant.scales


def _in_type(filter: Operand, source: Operand) -> Operand:
    """Weights of one scale in the type of the input, as NNAPI wants them: signed and unsigned differ by 128."""
    if filter.type == Q8PC or filter.type == source.type:
        return filter
    signed = source.type == Q8S
    value = (filter.value.astype(np.int16) + (-128 if signed else 128)).astype(source.type.dtype)
    return replace(filter, type=source.type, zero_point=filter.zero_point + (-128 if signed else 128), value=value)


def _with_room(filter: Operand, axis: int, input_scale: float, bias: Array) -> Operand:
    """`filter` with coarser scales for channels whose bias would not fit into 32 bits.

    Beside such a bias their weights are less than its rounding.
    """
    quant = filter.channel_quant
    if quant is None:
        return filter
    least = np.abs(bias) / BIAS_LIMIT / input_scale
    scales = np.asarray(quant.scales)
    if (scales >= least).all():
        return filter
    wider = np.maximum(scales, least).astype(np.float32).astype(np.float64)
    shape = [1] * filter.value.ndim
    shape[axis] = -1
    value = np.rint(filter.value * (scales / wider).reshape(shape)).astype(np.int8)
    return replace(filter, channel_quant=ChannelQuant(tuple(wider.tolist()), axis), value=value)


def _as_pixels(graph: Graph, layer: Operation) -> list[Operation]:
    """A fully connected layer as RESHAPE, CONV_2D with a filter of one pixel, and RESHAPE."""
    x, w, bias, activation = layer.inputs
    filter, source, result = graph.operands[w], graph.operands[x], graph.operands[layer.outputs[0]]
    units, depth = filter.value.shape
    batch = result.dimensions[0] if result.dimensions else 0
    pixels = graph.operand(_like(source, Operand(F32, (batch, 1, 1, depth))))
    output = graph.operand(_like(result, Operand(F32, (batch, 1, 1, units))))
    weights = graph.constant(filter.value.reshape(units, 1, 1, depth), filter)
    one, valid = graph.scalar(INT32, 1), graph.scalar(INT32, VALID)
    shapes = [graph.constant(shape, Operand(I32)) for shape in ((-1, 1, 1, depth), (-1, units))]
    return [
        Operation("RESHAPE", (x, shapes[0]), (pixels,), layer.name),
        Operation("CONV_2D", (pixels, weights, bias, valid, one, one, activation), (output,), layer.name),
        Operation("RESHAPE", (output, shapes[1]), layer.outputs, layer.name),
    ]
