"""Scales moved from where values are made to where they are multiplied: exact, and channels share their range better.

A normalization with a few loud channels leaves 8 bits nothing of the others. Its factors per channel are divided by
powers of two, and the columns of the next layers multiplied; likewise those of a layer whose rows become attention's
values. How far is chosen by the noise to expect. Source: Xiao et al. 2022 (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from nnapi.drivers.reference import execute
from nnapi.errors import NnapiError
from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.ir.specialize import specialize
from nnapi.ir.subgraph import extract
from nnapi.ops.numeric import NONE, RELU
from nnapi.ops.types import F32, Q8PC, Array
from nnapi.passes.fold_quantization import EXACT
from nnapi.quantization.data import Example
from nnapi.quantization.equalize import READERS
from nnapi.quantization.expose import Exposed
from nnapi.quantization.integer import integer_types
from nnapi.quantization.params import FACTOR
from nnapi.quantization.recipe import Recipe
from nnapi.quantization.weights import HIGH

NORMS: Final[Mapping[str, tuple[int, ...]]] = {COMPOSITE + "LAYER_NORM": (1, 2), COMPOSITE + "RMS_NORM": (1,)}
"""Normalizations, and which of their inputs multiply and shift the channels."""
ATTENTION: Final = COMPOSITE + "SCALED_DOT_PRODUCT_ATTENTION"
REDUCING: Final = frozenset({"MEAN", "REDUCE_MAX", "REDUCE_MIN"})
SELECTING: Final = frozenset({"MAX_POOL_2D", "TOPK_V2"})
"""Operations that may compare values of different channels."""
SHARES: Final = (0.25, 0.5, 0.75, 1.0)
"""Share of a channel's size that is moved, the rest by its columns' size: 1 makes all channels alike."""
WORTH: Final = 0.5
"""Of the noise to expect, what must be left for a move to be made."""
MAX_ELEMENTS: Final = 1 << 22
"""Of a tensor whose channels are followed."""


@dataclass
class _Space:
    """Channels of an operation's output, and where they go; numbered from 1."""

    writer: int
    channels: int
    where: dict[int, Array] = field(default_factory=dict)
    """Operand -> the number of the channel of each element, of size 1 along dimensions that it does not depend on."""
    readers: list[int] = field(default_factory=list)
    shifts: list[tuple[int, int]] = field(default_factory=list)
    """Operations that add a constant, and the position of that."""
    open: set[int] = field(default_factory=set)
    """Channels that also go where a factor may not."""


def moved(model: Model, factors: Mapping[int, Sequence[float]]) -> Model:
    """The same function, with the channels of some operations' outputs divided by factors, columns multiplied.

    `factors`: by the index of the operation, one for each channel.
    """
    if not factors:
        return model
    operands = list(model.operands)
    inputs = [list(o.inputs) for o in model.operations]

    def scale(n: int, position: int, by: Array) -> None:
        old = operands[inputs[n][position]]
        operands.append(replace(old, value=(old.value * by).astype(np.float32)))
        inputs[n][position] = len(operands) - 1

    for space in _spaces(model):
        factor = np.array(factors.get(space.writer, ()))
        if len(factor) != space.channels:
            continue
        by = np.concatenate([[1.0], factor])  # what is numbered 0 is no channel: padding
        for position in _absorbing(model, space.writer):
            operand = operands[inputs[space.writer][position]]
            shape = (-1, *[1] * (operand.value.ndim - 1)) if _is_layer(model, space.writer) else (-1,)
            scale(space.writer, position, 1 / factor.reshape(shape))
        for n, position in space.shifts:
            scale(n, position, 1 / by[_along(space, model.operations[n].outputs[0])])
        for n in space.readers:
            columns = by[_along(space, model.operations[n].inputs[0])]
            axis, filter = READERS[model.operations[n].type], operands[inputs[n][1]].value
            scale(n, 1, columns.reshape([-1 if d == axis else 1 for d in range(filter.ndim)]))
    operations = tuple(replace(o, inputs=tuple(i)) for o, i in zip(model.operations, inputs))
    return replace(model, operands=tuple(operands), operations=operations)


def choose(model: Model, examples: Sequence[Example], recipe: Recipe) -> dict[int, tuple[float, ...]]:
    """The factors by which `moved` makes the noise of `recipe` on `examples` the least, where that is worth it."""
    spaces = [s for s in _spaces(model) if s.readers and len(s.open) < s.channels]
    seen = _observed(model, spaces, examples)
    found: dict[int, tuple[float, ...]] = {}
    taken: set[int] = set()
    # What is nearest to its readers comes first: a scale is moved once.
    for space in sorted(spaces, key=lambda s: -s.writer):
        if not taken.isdisjoint(space.readers):
            continue
        factor = _best(model, space, seen[space.writer], recipe)
        if factor is not None:
            found[space.writer] = tuple(factor.tolist())
            taken |= {*space.readers}
    return found


@dataclass
class _Channels:
    """Of each channel the lowest and highest value, and the mean square."""

    low: Array
    high: Array
    square: Array


def _best(model: Model, space: _Space, seen: _Channels, recipe: Recipe) -> Array | None:
    size = np.maximum(-seen.low, seen.high)
    filters = [_columns(model, space, n) for n in space.readers]
    heaviest = np.max([np.abs(f).max(axis=(0, 1)) for f in filters], axis=0)
    closed = np.array([c not in space.open for c in range(1, space.channels + 1)])
    closed &= (size > 0) & (heaviest > 0)
    if not closed.any():
        return None
    # Channels that do not change share the tensor: these set what the others come down to.
    still = np.array([c in space.open for c in range(1, space.channels + 1)]) & (size > 0)
    loudest = size[still].max() if still.any() else size.max()
    filters_apart = [_is_apart(model, n, recipe) for n in space.readers]
    rows, rows_apart, power = None, _is_apart(model, space.writer, recipe), 0.0
    if _is_layer(model, space.writer):
        rows = model.operands[model.operations[space.writer].inputs[1]].value.astype(np.float64)
        power = rows.shape[1] * float(seen.square.sum()) / (float(np.square(rows).sum()) or 1.0)
    levels = 2.0 ** (8 * recipe.type.dtype.itemsize) - 1

    def noise(factor: Array) -> float:
        step = (max((seen.high / factor).max(), 0) - min((seen.low / factor).min(), 0)) / levels
        total = step**2 * float(still.sum()) / (float(seen.square[still].sum()) or 1.0)
        made = _rounding(rows / factor[:, None], rows_apart) * power if rows is not None else 0.0
        for filter, apart in zip(filters, filters_apart):
            weights = filter * factor
            signal = float((filter**2 * seen.square).sum()) or 1.0
            read = _rounding(weights, apart).sum() * filter.shape[1] * float((seen.square / factor**2).sum())
            total += (float(((step**2 + made) * weights**2).sum()) + read) / signal
        return total

    best, least = None, WORTH * noise(np.ones(space.channels))
    for share in SHARES:
        factor = np.ones(space.channels)
        wanted = size[closed] ** share / heaviest[closed] ** (1 - share)
        wanted *= (size[closed] / wanted).max() / loudest
        factor[closed] = np.exp2(np.rint(np.log2(np.clip(wanted, 1 / FACTOR, FACTOR))))
        if (left := noise(factor)) < least:
            best, least = factor, left
    return best


def _rounding(weights: Array, apart: bool) -> Array:
    """The noise power of each row's weights in 8 bits, twelvefold; `apart`: each row has a scale of its own."""
    widest = np.abs(weights).reshape(len(weights), -1).max(axis=1) / HIGH
    return np.asarray(np.square(widest if apart else np.full(len(widest), widest.max())))


def _is_apart(model: Model, n: int, recipe: Recipe) -> bool:
    """Whether each row of a layer's weights gets a scale of its own."""
    if model.operations[n].type not in READERS:
        return False
    row = integer_types(model.call(model.operations[n]), recipe)
    return not isinstance(row, str) and row.bind["W"] == Q8PC


def _columns(model: Model, space: _Space, n: int) -> Array:
    """The filter of reader n as [rows, taps, channels of the space]; those that it does not read are 0."""
    operation = model.operations[n]
    filter = model.operands[operation.inputs[1]].value.astype(np.float64)
    last = np.moveaxis(filter, READERS[operation.type], -1)
    last = last.reshape(last.shape[0], -1, last.shape[-1])
    found = np.zeros((*last.shape[:2], space.channels + 1))
    found[:, :, _along(space, operation.inputs[0])] = last
    return found[:, :, 1:]


def _along(space: _Space, i: int) -> Array:
    """The channel of each element along the last dimension of operand i."""
    return space.where[i].reshape(-1)


def _observed(model: Model, spaces: Sequence[_Space], examples: Sequence[Example]) -> dict[int, _Channels]:
    found = {s.writer: _Channels(*np.zeros((3, s.channels))) for s in spaces}
    by_output = {model.operations[s.writer].outputs[0]: s for s in spaces}
    if not spaces:
        return found
    exposed = Exposed(model, [*by_output])
    for example in examples:
        for i, x in exposed.run(example):
            space, rows = by_output[i], x.reshape(-1, x.shape[-1])
            seen = found[space.writer]
            seen.low, seen.high = np.minimum(seen.low, rows.min(axis=0)), np.maximum(seen.high, rows.max(axis=0))
            seen.square += np.square(rows, dtype=np.float64).mean(axis=0) / len(examples)
    return found


def _spaces(model: Model) -> list[_Space]:
    shaped = _shaped(model)
    if shaped is None:
        return []
    return [space for n in range(len(model.operations)) if (space := _space(shaped, n)) is not None]


def _shaped(model: Model) -> Model | None:
    """`model` with every dimension known: where one is not, it is 1; None where that does not do."""
    if all(0 not in o.dimensions for o in model.operands):
        return model
    try:
        return specialize(model, [tuple(d or 1 for d in o.dimensions) for o in model.input_operands])
    except NnapiError:
        return None


def _space(model: Model, n: int) -> _Space | None:
    positions = _absorbing(model, n)
    output = model.operations[n].outputs[0]
    dimensions = model.operands[output].dimensions
    if not positions or not dimensions or 0 in dimensions:
        return None
    space = _Space(n, dimensions[-1])
    space.where[output] = np.arange(1, dimensions[-1] + 1).reshape([1] * (len(dimensions) - 1) + [-1])
    for k in range(n, len(model.operations)):
        for i in [i for i in dict.fromkeys(model.operations[k].inputs) if i in space.where]:
            if not _follow(model, space, k, i):
                space.open |= {int(c) for c in np.unique(space.where[i])}
    for i in model.outputs:
        if i in space.where:
            space.open |= {int(c) for c in np.unique(space.where[i])}
    return space


def _absorbing(model: Model, n: int) -> tuple[int, ...]:
    """The positions of an operation's constants that scale all of its output's channels; none where it has none."""
    operation = model.operations[n]
    if operation.type in NORMS:
        positions = NORMS[operation.type]
    elif _is_layer(model, n):
        positions = (1, 2)
    elif operation.type == "MUL" and _is_homogeneous(model, operation):
        positions = tuple(p for p in (0, 1) if _is_per_channel(model, operation, p))
    else:
        return ()
    constants = [model.operands[operation.inputs[p]] for p in positions]
    if not all(c.type == F32 and isinstance(c.value, np.ndarray) for c in constants):
        return ()
    return positions if operation.type not in NORMS or all(c.value.ndim == 1 for c in constants) else ()


def _is_layer(model: Model, n: int) -> bool:
    return model.operations[n].type == "FULLY_CONNECTED" and _is_homogeneous(model, model.operations[n])


def _is_homogeneous(model: Model, operation: Operation) -> bool:
    """Whether a positive factor goes through the fused activation."""
    return model.call(operation).scalar("activation") in (NONE, RELU)


def _is_per_channel(model: Model, operation: Operation, position: int) -> bool:
    """Whether an input is a constant with a value for each channel of the output, and for nothing else."""
    operand, output = model.operands[operation.inputs[position]], model.operands[operation.outputs[0]]
    value = operand.value
    channels = output.dimensions[-1] if output.dimensions else 0
    return operand.type == F32 and isinstance(value, np.ndarray) and value.size == channels == value.shape[-1]


def _follow(model: Model, space: _Space, n: int, i: int) -> bool:
    """Go on through operation n, which reads operand i; False where a factor does not go through."""
    operation, channels = model.operations[n], space.where[i]
    if operation.inputs.count(i) != 1:
        return False
    position = operation.inputs.index(i)
    if operation.type in READERS:
        return _read(model, space, n, position)
    result = _through(model, n, position, channels)
    if result is None and operation.type in ("ADD", "SUB", "MUL") and position < 2:
        return _add(model, space, n, position)
    for output, labels in result or ():
        space.where[output] = labels
    return result is not None


def _read(model: Model, space: _Space, n: int, position: int) -> bool:
    operation, call = model.operations[n], model.call(model.operations[n])
    filter, channels = call["filter"], space.where[operation.inputs[0]]
    first = "layout" in call and call.scalar("layout")
    if position or first or filter.type != F32 or not isinstance(filter.value, np.ndarray):
        return False
    if operation.type == "DEPTHWISE_CONV_2D" or channels.size != channels.shape[-1]:
        return False
    if channels.size != filter.dimensions[READERS[operation.type]]:
        return False
    space.readers.append(n)
    return True


def _add(model: Model, space: _Space, n: int, position: int) -> bool:
    """Through an operation with a constant beside: what is added is divided too, what multiplies is not."""
    operation = model.operations[n]
    other, output = model.operands[operation.inputs[1 - position]], operation.outputs[0]
    channels, result = space.where[operation.inputs[position]], model.operands[output].dimensions
    if not isinstance(other.value, np.ndarray) or not _is_homogeneous(model, operation):
        return False
    if result != model.operands[operation.inputs[position]].dimensions:
        return False
    if operation.type != "MUL":
        if not _is_per_channel(model, operation, 1 - position) or channels.size != result[-1]:
            return False
        space.shifts.append((n, 1 - position))
    space.where[output] = channels
    return True


def _through(model: Model, n: int, position: int, channels: Array) -> list[tuple[int, Array]] | None:
    """The outputs that have the channels too, and where; None where the operation mixes them."""
    operation = model.operations[n]
    dimensions = model.operands[operation.inputs[position]].dimensions
    if operation.type == ATTENTION:
        return [(operation.outputs[0], channels)] if position == 2 and channels.shape[-2] == 1 else None
    if operation.is_extension:
        return None
    call = model.call(operation)
    if operation.type == "BATCH_MATMUL":
        transposed = bool(call.scalar("adj_y" if position else "adj_x"))
        if (len(call.output.dimensions)) != len(dimensions):
            return None
        channels = channels.swapaxes(-1, -2) if transposed else channels
        summed = -2 if position else -1
        return [(operation.outputs[0], channels)] if channels.shape[summed] == 1 else None
    if sum(o.type == F32 for o in call.inputs) != 1:
        return None
    if operation.type in REDUCING:
        axes = [int(a) % len(dimensions) for a in call.array("axes").ravel()] if call["axes"].is_constant else None
        if axes is None or any(channels.shape[a] > 1 for a in axes):
            return None
    elif operation.type not in EXACT - SELECTING:
        return None
    part = extract(model, [n])
    if part.inputs != (operation.inputs[position],) or np.prod(dimensions) > MAX_ELEMENTS:
        return None
    try:
        results = execute(part.model, [np.broadcast_to(channels, dimensions).astype(np.float32)])
    except NnapiError:
        return None
    return list(_narrowed(part.outputs, results))


def _narrowed(outputs: Sequence[int], results: Sequence[Array]) -> Iterator[tuple[int, Array]]:
    """Each with size 1 along dimensions that it does not depend on."""
    for output, result in zip(outputs, results):
        labels = np.rint(result).astype(np.int64)
        for axis in range(labels.ndim):
            first = labels.take([0], axis)
            labels = first if (labels == first).all() else labels
        yield output, labels
