"""Cross-layer equalization: channels of a tensor scaled to use their shared range alike; the layers around make up.

Tensors between which each channel only passes through (additions, pools, RELU) share one factor per channel: the
layers that write them divide by it, those that read them multiply. With one scale per channel of
weights there is little to gain, on MobileNet-V2 nothing (benchmarks/quantization.py): it is for networks whose channels
differ widely. Source: Nagel et al. 2019 (arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import NONE, RELU
from nnapi.ops.types import F32, Array
from nnapi.quantization.data import Example
from nnapi.quantization.expose import Exposed

WRITERS: Final[Mapping[str, int]] = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""The filter's dimension of output channels."""
READERS: Final[Mapping[str, int]] = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}
"""The filter's dimension of input channels."""
PASSING: Final = frozenset({"ADD", "SUB", "RELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "RESIZE_BILINEAR"})
"""Operations that scaling by a positive factor per channel passes through."""
LIMIT: Final = 8.0
"""How far factors go either way: a channel that is almost silent is noise, not signal."""


@dataclass
class _Space:
    """Tensors that share one factor per channel, and who writes and reads them."""

    operands: set[int] = field(default_factory=set)
    writers: list[Operation] = field(default_factory=list)
    readers: list[Operation] = field(default_factory=list)
    is_open: bool = False
    """Something touches it that a factor does not pass through."""


def equalize(model: Model, examples: Sequence[Example], strength: float = 1.0) -> Model:
    """The same function with channels whose largest values are alike, as far as `strength` (0 to 1) says."""
    spaces = [s for s in _spaces(model) if not s.is_open and s.writers and s.readers]
    largest = _largest(model, [i for s in spaces for i in s.operands], examples)
    operands = list(model.operands)
    inputs = {o.outputs[0]: list(o.inputs) for o in model.operations}
    for space in spaces:
        size = np.max([largest[i] for i in space.operands], axis=0)
        if not size.max() > 0:
            continue
        factor = np.clip((size.max() / np.maximum(size, size.max() / LIMIT)) ** strength, 1.0, LIMIT)
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
        for operation, position, axis, by in (
            *((o, 1, WRITERS[o.type], factor) for o in space.writers),
            *((o, 2, 0, factor) for o in space.writers),
            *((o, 1, READERS[o.type], 1 / factor) for o in space.readers),
        ):
            slots = inputs[operation.outputs[0]]
            old = operands[slots[position]]
            shape = [1] * old.value.ndim
            shape[axis] = -1
            operands.append(replace(old, value=(old.value * by.reshape(shape)).astype(np.float32)))
            slots[position] = len(operands) - 1
    operations = tuple(replace(o, inputs=tuple(inputs[o.outputs[0]])) for o in model.operations)
    return replace(model, operands=tuple(operands), operations=operations)


def _spaces(model: Model) -> list[_Space]:
    spaces: dict[int, _Space] = {}

    def at(i: int) -> _Space:
        return spaces.setdefault(i, _Space({i}))

    def unite(i: int, j: int) -> None:
        a, b = at(i), at(j)
        if a is b:
            return
        a.operands |= b.operands
        a.writers += b.writers
        a.readers += b.readers
        a.is_open |= b.is_open
        for k in b.operands:
            spaces[k] = a

    for i in (*model.inputs, *model.outputs):
        at(i).is_open = True
    for operation in model.operations:
        variables = [i for i in operation.inputs if model.operands[i].value is None]
        plain = not operation.is_extension and _is_linear(model, operation)
        if operation.type in PASSING and plain:
            for i in variables:
                unite(i, operation.outputs[0])
            continue
        reads = operation.type in READERS and _has_weights(model, operation) and _is_per_channel(model, operation)
        for i in variables:
            if reads:
                at(i).readers.append(operation)
            else:
                at(i).is_open = True
        for i in operation.outputs:
            if operation.type in WRITERS and plain and _has_weights(model, operation):
                at(i).writers.append(operation)
            else:
                at(i).is_open = True
    return list({id(s): s for s in spaces.values()}.values())


def _is_linear(model: Model, operation: Operation) -> bool:
    """Whether a positive factor per channel (the last dimension) commutes with the operation."""
    call = model.call(operation)
    names = {p.name for p in call.signature.inputs}
    if "activation" in names and call.scalar("activation") not in (NONE, RELU):
        return False
    if "layout" in call and call.scalar("layout"):
        return False
    if operation.type == "MEAN":
        rank = len(call["input"].dimensions)
        return not any(int(a) % rank == rank - 1 for a in call.array("axes").ravel())
    if operation.type in ("ADD", "SUB"):
        return all(model.operands[i].dimensions == call.output.dimensions for i in operation.inputs[:2]) and all(
            model.operands[i].value is None for i in operation.inputs[:2]
        )
    return True


def _has_weights(model: Model, operation: Operation) -> bool:
    filter, bias = (model.operands[i] for i in operation.inputs[1:3])
    return filter.type == F32 and filter.is_constant and bias.is_constant


def _is_per_channel(model: Model, operation: Operation) -> bool:
    """Whether the input's last dimension is what the filter's input channels are."""
    call = model.call(operation)
    if "layout" in call and call.scalar("layout"):
        return False
    if operation.type == "DEPTHWISE_CONV_2D" and call.scalar("depth_multiplier") != 1:
        return False
    return call["input"].dimensions[-1] == call["filter"].dimensions[READERS[operation.type]]


def _largest(model: Model, operands: Sequence[int], examples: Sequence[Example]) -> dict[int, Array]:
    """The largest absolute value of each channel: [channels]."""
    found: dict[int, Array] = {}
    exposed = Exposed(model, operands)
    for example in examples:
        for i, x in exposed.run(example):
            size = np.abs(x).reshape(-1, x.shape[-1]).max(axis=0)
            found[i] = np.maximum(found[i], size) if i in found else size
    return found
