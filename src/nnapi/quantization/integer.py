"""Integer forms: which types of the table an operation takes when it computes in integers, and what it asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from nnapi.ops.op import Call, Param, Types
from nnapi.ops.types import BEYOND, F32, FLOAT32, I32, INT32, Q8PC, Q16SYMM, OperandType
from nnapi.quantization.recipe import Recipe

JOINS: Final = frozenset({"MAXIMUM", "MINIMUM", "SELECT", "PACK"})
"""What takes the stored numbers of several inputs as they are: all must be stored alike."""
CHANNEL_AXIS: Final[Mapping[str, int]] = {
    "CONV_2D": 0, "GROUPED_CONV_2D": 0, "TRANSPOSE_CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0,
}  # fmt: skip
"""Operations with weights: the filter's dimension of output channels."""
KEPT: Final[Mapping[str, str]] = {
    "RSQRT": "its results range too widely for 8 bits",
    "LSH_PROJECTION": "it hashes bits",
    "HASHTABLE_LOOKUP": "it looks up keys",
}
"""Operations with an integer form that is not worth having."""
NO_KERNEL: Final = "TFLite's kernel of it takes no 16-bit integers"


def integer_types(call: Call, recipe: Recipe) -> Types | str:
    """The row of types that the operation takes under `recipe`, or why there is none."""
    if call.op.name in KEPT:
        return KEPT[call.op.name]
    act = recipe.type
    allowed = {act, Q8PC, I32, INT32, FLOAT32}
    rows = [r for r in call.op.types if act in r.bind.values() and allowed.issuperset(r.bind.values())]
    if not rows:
        return NO_KERNEL if act == Q16SYMM else f"NNAPI has no form of it in {act.name}"
    fitting = [r for r in rows if r.since <= recipe.level or r.since == BEYOND]
    if not fitting:
        return f"its form in {act.name} needs feature level {rows[0].since} > {recipe.level}"
    if "filter" not in {p.name for p in call.signature.inputs}:
        return fitting[0]
    for name in ("filter", "bias"):
        if not call[name].is_constant:
            return f"its {name} is no constant"
    wanted = Q8PC if recipe.weights == "int8_per_channel" else act
    return next((r for r in fitting if r.bind["W"] == wanted), fitting[0])


def activations(call: Call, indexes: tuple[int, ...], row: Types) -> Iterator[tuple[Param, int, int]]:
    """The inputs that become integers as activations do: parameter, position, operand index."""
    for param, at in call.slots:
        if param.type == "W" or param.type == "B" or not isinstance(param.type, str):
            continue
        for position in range(*at.indices(len(indexes))):
            operand = call.inputs[position]
            if operand.type == F32 and not operand.is_omitted and _stored(row.bind[param.type]):
                yield param, position, indexes[position]


def _stored(type: OperandType) -> bool:
    return type.is_quantized


def fixed(call: Call, n: int, type: OperandType) -> tuple[float, int] | None:
    """The scale and zero point that NNAPI prescribes for output n, if it does."""
    quant = call.op.outputs[min(n, len(call.op.outputs) - 1)].quant
    return quant.get(type) if isinstance(quant, Mapping) else None


def follows(call: Call, n: int) -> str | None:
    """The input whose parameters output n must have, if there is one."""
    quant = call.op.outputs[min(n, len(call.op.outputs) - 1)].quant
    return quant if isinstance(quant, str) else None
