"""NaN on its way through engines: which operations give one where the reference does, engine by engine.

Many kernels take the larger of two numbers by a comparison, which is false for NaN: an activation or a pool then makes
a plausible number of it. Whoever must not lose one asks for `nan="check"`, and such operations go elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6
from nnapi.ops.types import F16, F32, Operand

FLOATS: Final = frozenset((F32, F16))


@dataclass(frozen=True)
class Kept:
    """Operations, and fused activations, that were seen to keep NaN; all others count as losing it."""

    operations: frozenset[str]
    activations: frozenset[int]


MOVED: Final = frozenset((
    "CHANNEL_SHUFFLE", "CONCATENATION", "DEPTH_TO_SPACE", "EMBEDDING_LOOKUP", "EXPAND_DIMS", "GATHER", "MIRROR_PAD",
    "PAD", "PAD_V2", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "REVERSE", "SELECT", "SLICE", "SPACE_TO_DEPTH", "SPLIT",
    "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE",
))  # fmt: skip
COMPUTED: Final = frozenset((
    "ABS", "ADD", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "DIV", "ELU", "EQUAL", "FLOOR", "FULLY_CONNECTED",
    "GROUPED_CONV_2D", "HARD_SWISH", "INSTANCE_NORMALIZATION", "LESS", "LESS_EQUAL", "LOG", "MEAN", "MUL", "NEG",
    "NOT_EQUAL", "POW", "RANK", "REDUCE_PROD", "REDUCE_SUM", "RSQRT", "SIN", "SQRT", "SUB",
))  # fmt: skip
EVERYWHERE: Final = MOVED | COMPUTED
"""Operations that keep NaN on every engine that takes them."""
ORDERED: Final = frozenset(("GREATER", "GREATER_EQUAL"))
CLAMPED: Final = frozenset(("RELU", "RELU1", "RELU6"))
CURVED: Final = frozenset(("LOGISTIC", "TANH", "PRELU"))
WEIGHED: Final = frozenset(("SOFTMAX", "LOG_SOFTMAX", "RESIZE_BILINEAR"))
EXTREME: Final = frozenset(("MAXIMUM", "MINIMUM"))
NORMS: Final = frozenset(("L2_NORMALIZATION", "L2_POOL_2D"))
MOST: Final = EVERYWHERE | ORDERED | CURVED | WEIGHED
NO_ACTIVATION: Final = frozenset((NONE,))
ANY_ACTIVATION: Final = frozenset((NONE, RELU, RELU1, RELU6))
KEPT: Final[Mapping[str, Kept]] = {
    "litert": Kept(MOST | NORMS, NO_ACTIVATION),
    "ncnn": Kept(EVERYWHERE, NO_ACTIVATION),
    "openvino": Kept(EVERYWHERE | CURVED | {"AVERAGE_POOL_2D"}, NO_ACTIVATION),
    "onnxruntime": Kept(MOST | CLAMPED | NORMS | EXTREME | {"AVERAGE_POOL_2D", "EXP"}, ANY_ACTIVATION),
    "pytorch": Kept(MOST | CLAMPED | EXTREME | {"AVERAGE_POOL_2D", "EXP", "MAX_POOL_2D"}, ANY_ACTIVATION),
}
"""By the engine's name."""


def loses_nan(engine: str, model: Model, operation: Operation) -> str | None:
    """Why `engine` must not have the operation where NaN counts; None where it may, or where there can be none.

    >>> from nnapi.ir.builder import Builder
    >>> b = Builder()
    >>> b.output(b.add("MAX_POOL_2D", {
    ...     "input": b.input("x", F32, (1, 4, 4, 1)), "padding": 2, "stride_width": 1, "stride_height": 1,
    ...     "filter_width": 2, "filter_height": 2, "activation": 0}))
    >>> model = b.finish()
    >>> loses_nan("litert", model, model.operations[0])
    'MAX_POOL_2D may lose NaN on litert'
    >>> loses_nan("reference", model, model.operations[0]) is None
    True
    """
    if engine == "reference" or not any(o.type in FLOATS and not o.is_constant for o in _tensors(model, operation)):
        return None
    kept = KEPT.get(engine)
    if kept is None:
        return f"whether NaN passes through {engine} is not known"
    if operation.is_extension and model.body(operation) is None:
        return None  # nobody else has it
    if operation.type not in kept.operations:
        return f"{operation.type} may lose NaN on {engine}"
    call = model.call(operation)
    if "activation" not in call or call.scalar("activation") in kept.activations:
        return None
    return f"{operation.type} with activation {call.scalar('activation')} may lose NaN on {engine}"


def _tensors(model: Model, operation: Operation) -> Iterator[Operand]:
    return (o for o in model.operands_of(operation.inputs) if o.type.is_tensor)
