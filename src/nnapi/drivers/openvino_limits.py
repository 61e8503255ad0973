"""Limits of OpenVINO: uses of operations that ONNX can express, and that it computes wrongly or fails to compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import I32, Q8, Operand

NAME: Final = "OpenVINO"
GROUPED: Final = ("DEPTHWISE_CONV_2D", "GROUPED_CONV_2D")
CONVOLUTIONS: Final = ("CONV_2D", *GROUPED)
COMPARISONS: Final = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
LARGEST_EXACT: Final = 2**24
"""Beyond it float32 does not have every integer."""


def limit(model: Model, operation: Operation) -> str | None:
    """Why the engine must not have the operation, with the value found; None where it may."""
    operands = model.operands_of(operation.inputs)
    tensors = [o for o in operands if o.type.is_tensor]
    found = next(filter(None, (rule(model, operation, tensors) for rule in RULES)), None)
    if found is not None or operation.is_extension:
        return found
    bodies = [o.value for o in operands if isinstance(o.value, Model)]
    reasons = (limit(body, inner) for body in bodies for inner in body.operations)
    return next((f"in its body: {reason}" for reason in reasons if reason), None)


def _loop(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    return f"{NAME} cannot stop a loop when its time is over" if operation.type == "WHILE" else None


def _compared_integers(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    if operation.type not in COMPARISONS or tensors[0].type != I32:
        return None
    return f"its inputs are {I32.name}, which {NAME} compares as floats: beyond {LARGEST_EXACT} unequal ones are equal"


def _quantized_data(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    if not tensors or not (tensors[0].type.is_quantized and tensors[0].is_constant):
        return None
    return f"its data is a quantized constant, which {NAME} folds wrongly"


def _quantized_factor(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    if operation.type != "BATCH_MATMUL" or not (tensors[0].type.is_quantized and tensors[1].is_constant):
        return None
    return f"input1 is a quantized constant, which {NAME} takes for compressed weights"


def _scale_of_1(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    if operation.type not in CONVOLUTIONS or not tensors[0].type.is_quantized or tensors[0].scale != 1.0:
        return None
    if operation.type in GROUPED:
        return f"its input has scale 1, on which {NAME}'s 8-bit passes crash"
    call = model.call(operation)
    strides = call.scalar("stride_width"), call.scalar("stride_height")
    if call["filter"].dimensions[1:3] != (1, 1) or strides == (1, 1):
        return None
    return f"its input has scale 1 and its 1x1 windows strides {strides}, which {NAME} loses"


def _unsigned_filter(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    if operation.type not in CONVOLUTIONS or tensors[0].type != Q8 or not tensors[0].zero_point:
        return None
    filter = model.call(operation)["filter"]
    if filter.type != Q8 or not filter.is_constant or filter.zero_point:
        return None
    found = f"zero point 0 beside the input's {tensors[0].zero_point}"
    return f"its filter is unsigned with {found}, for which {NAME} has no kernel"


def _narrow_image(model: Model, operation: Operation, tensors: Sequence[Operand]) -> str | None:
    if operation.type not in CONVOLUTIONS:
        return None
    call = model.call(operation)
    across, down = call.scalar("stride_width"), call.scalar("stride_height")
    if down != 1 or across is None or across == 1:
        return None
    _, height, _, depth = call["filter"].shape or (1, 1, 1, 1)
    inputs, outputs = call["input"].shape, model.operands[operation.outputs[0]].shape
    if not inputs or not outputs or height == 1:
        return None
    nchw = bool(call.scalar("layout"))
    channels, width, made = (inputs[1], outputs[3], outputs[1]) if nchw else (inputs[3], outputs[2], outputs[3])
    each = 1 if operation.type == "DEPTHWISE_CONV_2D" else depth
    if each != 1 or width != 1 or (operation.type in GROUPED and channels == made != 1):
        return None
    return f"windows of one channel with strides {(across, down)} onto a width of 1, of which {NAME} computes another"


Rule = Callable[[Model, Operation, Sequence[Operand]], str | None]
RULES: Final[Sequence[Rule]] = (
    _loop, _compared_integers, _quantized_data, _quantized_factor, _scale_of_1, _unsigned_filter, _narrow_image,
)  # fmt: skip
