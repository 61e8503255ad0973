"""One use of each operation that TFLite has, at sizes where fast kernels run, and a model of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import B8, F32, I32, Q8, Q8PC, Q8S, Q16SYMM, Array, ChannelQuant, Operand, OperandType

TOLERANCES = {
    F32: (2e-5, "other summation order, other approximations of exp and tanh; relative to the largest value"),
    Q8: (1, "a requantization may round another way"),
    Q8S: (1, "a requantization may round another way"),
    Q16SYMM: (1, "a requantization may round another way, with a factor of 16 bits"),
    I32: (0, "integers are exact"),
    B8: (0, "booleans are exact"),
}
SCALE = {F32: 0.0, Q8: 0.05, Q8S: 0.05, Q16SYMM: 1 / 4000}
ZERO = {F32: 0, Q8: 120, Q8S: -8, Q16SYMM: 0}
OUTPUT = {Q8: (0.11, 125), Q8S: (0.11, -3), Q16SYMM: (1 / 500, 0)}
FLOAT, INTEGER, BOTH, ALL = (F32,), (I32,), (F32, Q8, Q8S), (F32, I32, Q8, Q8S)


def variable(*shape: int) -> tuple[str, tuple[int, ...]]:
    """An input of the model of the case's type."""
    return "variable", shape


def weights(*shape: int) -> tuple[str, tuple[int, ...]]:
    """A constant of the case's type; zero point 0 where it is signed."""
    return "weights", shape


def per_channel(axis: int, *shape: int) -> tuple[str, tuple[int, ...], int]:
    return "per channel", shape, axis


def bias(size: int) -> tuple[str, tuple[int, ...]]:
    return "bias", (size,)


def window(kind: str, pads: Sequence[int], strides: Sequence[int] = (1, 1), **more: Any) -> dict[str, Any]:
    """Paddings left, right, top, bottom or one scheme; strides; the activation by kind."""
    names = ("left", "right", "top", "bottom")
    padding = {"padding": pads[0]} if len(pads) == 1 else {f"padding_{n}": p for n, p in zip(names, pads)}
    code = {"none": 0, "relu": 1, "relu1": 2, "relu6": 3}[kind]
    return {**padding, "stride_width": strides[0], "stride_height": strides[1], "activation": code, **more}


IMAGE = variable(2, 13, 12, 8)
CONV = {"input": IMAGE, "filter": weights(16, 3, 3, 8), "bias": bias(16)}
DEPTHWISE = {"input": IMAGE, "filter": weights(1, 3, 3, 16), "bias": bias(16), "depth_multiplier": 2}
POOL = {"input": IMAGE, "filter_width": 3, "filter_height": 2}
UNITS = {Q8: (1 / 256, 0), Q8S: (1 / 256, -128)}
SYMMETRIC = {Q8: (1 / 128, 128), Q8S: (1 / 128, 0)}
PAIR = {"input0": variable(2, 5, 7, 9), "input1": variable(7, 1)}
LAYOUT = {"layout": False}

CASES: list[tuple[str, str, dict[str, Any], tuple[OperandType, ...]]] = [
    ("same", "CONV_2D", CONV | window("relu6", [1]), BOTH),
    ("valid, strides", "CONV_2D", CONV | window("none", [2], (2, 3)), BOTH),
    ("explicit that is SAME", "CONV_2D", CONV | window("relu", [1, 1, 1, 1]), BOTH),
    ("symmetric, stride 2", "CONV_2D", CONV | window("relu1", [1, 1, 1, 1], (2, 2)), BOTH),
    ("dilated", "CONV_2D", CONV | window("none", [2, 2, 2, 2], dilation_width=2, dilation_height=2, **LAYOUT), BOTH),
    ("per channel", "CONV_2D", CONV | window("relu", [1]) | {"filter": per_channel(0, 16, 3, 3, 8)}, (Q8S,)),
    ("variable weights", "CONV_2D", CONV | window("none", [1]) | {"filter": variable(16, 3, 3, 8)}, FLOAT),
    ("two groups", "GROUPED_CONV_2D", CONV | window("none", [1], **LAYOUT)
     | {"filter": weights(16, 3, 3, 4), "num_groups": 2}, BOTH),
    ("same", "DEPTHWISE_CONV_2D", DEPTHWISE | window("relu6", [1]), BOTH),
    ("odd paddings", "DEPTHWISE_CONV_2D", DEPTHWISE | window("none", [0, 2, 2, 1], (2, 1)), BOTH),
    ("per channel", "DEPTHWISE_CONV_2D", DEPTHWISE | window("relu", [1, 1, 1, 1])
     | {"filter": per_channel(3, 1, 3, 3, 16)}, (Q8S,)),
    ("same", "TRANSPOSE_CONV_2D", CONV | window("none", [1], (2, 2), **LAYOUT)
     | {"output_shape": np.array([2, 26, 24, 16], np.int32)}, BOTH),
    ("symmetric", "TRANSPOSE_CONV_2D", CONV | window("relu", [1, 1, 1, 1], (2, 2), **LAYOUT), BOTH),
    ("output padding", "TRANSPOSE_CONV_2D", CONV | window("none", [1, 0, 1, 0], (2, 2), **LAYOUT), BOTH),
    ("beyond the windows", "TRANSPOSE_CONV_2D", CONV | window("none", [0, -1, 0, -1], (2, 2), **LAYOUT), BOTH),
    ("matrix", "FULLY_CONNECTED",
     {"input": variable(3, 40), "filter": weights(17, 40), "bias": bias(17), "activation": 1}, BOTH),
    ("flattened", "FULLY_CONNECTED",
     {"input": variable(2, 5, 8), "filter": weights(17, 40), "bias": bias(17), "activation": 0}, BOTH),
    ("plain", "BATCH_MATMUL",
     {"input0": variable(2, 3, 9, 5), "input1": variable(2, 3, 5, 7), "adj_x": None, "adj_y": False}, (F32, Q8S)),
    ("transposed", "BATCH_MATMUL",
     {"input0": variable(3, 5, 9), "input1": variable(3, 7, 5), "adj_x": True, "adj_y": True}, (F32, Q8S)),
    ("same", "AVERAGE_POOL_2D", POOL | window("none", [1], (2, 2)), BOTH),
    ("valid", "AVERAGE_POOL_2D", POOL | window("relu", [2], (1, 2)), BOTH),
    ("symmetric", "AVERAGE_POOL_2D", POOL | window("relu6", [1, 1, 1, 1], (2, 2)), FLOAT),
    ("same", "MAX_POOL_2D", POOL | window("none", [1], (2, 2)), BOTH),
    ("symmetric", "MAX_POOL_2D", POOL | window("relu1", [1, 1, 1, 1], (2, 2)), BOTH),
    ("same", "L2_POOL_2D", POOL | window("none", [1]), FLOAT),
    *(("broadcast", name, PAIR | {"activation": 1}, BOTH) for name in ("ADD", "SUB", "MUL")),
    *(("integers", name, PAIR | {"activation": 0}, INTEGER) for name in ("ADD", "SUB", "MUL")),
    ("floats", "DIV", PAIR | {"activation": 0}, FLOAT),
    ("floor", "DIV", {"input0": variable(3, 40), "input1": np.array([-3, 2] * 20, np.int32), "activation": 0}, INTEGER),
    *(("broadcast", name, PAIR, ALL) for name in ("MAXIMUM", "MINIMUM", "EQUAL", "NOT_EQUAL")),
    *(("broadcast", name, PAIR, ALL) for name in ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")),
    *(("broadcast", name, PAIR, (B8,)) for name in ("EQUAL", "LOGICAL_AND", "LOGICAL_OR")),
    ("whole powers", "POW", {"input": variable(3, 40), "exponent": np.array([2.0], np.float32)}, FLOAT),
    ("values", "SELECT", {"condition": np.arange(60).reshape(3, 20) % 3 == 0, "input0": variable(3, 20),
                          "input1": variable(3, 20)}, ALL),
    *(("values", name, {"input": variable(2, 5, 7, 9)}, FLOAT) for name in ("EXP", "FLOOR", "SIN")),
    *(("values", name, {"input": variable(2, 5, 7, 9)}, (F32, I32)) for name in ("ABS", "NEG")),
    *(("squares", name, {"input": ("positive", (2, 5, 7))}, FLOAT) for name in ("LOG", "SQRT", "RSQRT")),
    ("values", "LOGICAL_NOT", {"input": variable(3, 40)}, (B8,)),
    *(("values", name, {"input": variable(2, 5, 7, 9)}, BOTH) for name in ("RELU", "RELU1", "RELU6", "HARD_SWISH")),
    *(("values", name, {"input": variable(2, 5, 7, 9)}, BOTH) for name in ("LOGISTIC", "TANH")),
    *((f"alpha {a}", "ELU", {"input": variable(3, 40), "alpha": a}, FLOAT) for a in (1.0, 0.5)),
    ("by channel", "PRELU", {"input": IMAGE, "alpha": weights(8)}, BOTH),
    ("one slope", "PRELU", {"input": IMAGE, "alpha": weights(1)}, FLOAT),
    ("last axis", "SOFTMAX", {"input": variable(3, 5, 40), "beta": 1.0}, BOTH),
    ("beta, axis", "SOFTMAX", {"input": variable(3, 5, 7), "beta": 0.7, "axis": 1}, BOTH),
    ("last axis", "LOG_SOFTMAX", {"input": variable(3, 40), "beta": 1.0, "axis": -1}, FLOAT),
    ("beta, axis", "LOG_SOFTMAX", {"input": variable(3, 5, 7), "beta": 2.0, "axis": 0}, FLOAT),
    ("last axis", "L2_NORMALIZATION", {"input": variable(3, 40)}, BOTH),
    ("another axis", "L2_NORMALIZATION", {"input": IMAGE, "axis": 1}, BOTH),
    ("channels", "LOCAL_RESPONSE_NORMALIZATION",
     {"input": IMAGE, "radius": 2, "bias": 1.0, "alpha": 0.1, "beta": 0.5}, FLOAT),
    ("image", "INSTANCE_NORMALIZATION", {"input": IMAGE, "gamma": 1.5, "beta": 0.2, "epsilon": 1e-3, **LAYOUT}, FLOAT),
    *((f"keep {k}", name, {"input": IMAGE, "axes": np.array([1, -2], np.int32), "keep_dims": k}, BOTH)
      for name in ("MEAN", "REDUCE_MAX", "REDUCE_MIN") for k in (False, True)),
    *(("to one", name, {"input": variable(3, 5, 4), "axes": np.arange(3, dtype=np.int32), "keep_dims": False}, types)
      for name, types in (("MEAN", BOTH), ("REDUCE_SUM", FLOAT), ("REDUCE_PROD", FLOAT), ("REDUCE_MAX", BOTH),
                          ("REDUCE_ALL", (B8,)), ("REDUCE_ANY", (B8,)))),
    *(("middle axis", name, {"input": variable(3, 9, 5), "axis": 1}, ALL) for name in ("ARGMAX", "ARGMIN")),
    ("rank 1", "ARGMAX", {"input": variable(40), "axis": 0}, ALL),
    ("with equal ones", "TOPK_V2", {"input": variable(3, 300), "k": 7}, ALL),
    *(((f"{how or 'asymmetric'} to {w}"), name, {"input": IMAGE, "width": w, "height": 9, **LAYOUT, **how}, BOTH)
      for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR") for w in (24, 7)
      for how in ({}, {"align_corners": True}, {"half_pixel_centers": True})),
    ("to a matrix", "RESHAPE", {"input": IMAGE, "shape": np.array([-1, 104], np.int32)}, ALL),
    ("reversed", "TRANSPOSE", {"input": variable(2, 3, 5), "perm": None}, BOTH),
    ("to NCHW", "TRANSPOSE", {"input": IMAGE, "perm": np.array([0, 3, 1, 2], np.int32)}, BOTH),
    ("all", "SQUEEZE", {"input": variable(1, 5, 1, 7), "axes": None}, BOTH),
    ("to rank 1", "SQUEEZE", {"input": variable(1, 1), "axes": [0, 1]}, BOTH),
    ("in front", "EXPAND_DIMS", {"input": variable(5, 7), "axis": -3}, ALL),
    ("middle", "REVERSE", {"input": variable(3, 9, 5), "axis": np.array([1], np.int32)}, ALL),
    ("rest", "SLICE", {"input": IMAGE, "begin": np.array([0, 2, 3, 0], np.int32),
                       "size": np.array([1, 5, -1, 8], np.int32)}, ALL),
    ("backwards, dropped", "STRIDED_SLICE",
     {"input": IMAGE, "begin": np.array([1, 0, -1, 2], np.int32), "end": np.array([2, 13, -13, 8], np.int32),
      "strides": np.array([1, 2, -3, 1], np.int32), "begin_mask": 0, "end_mask": 2, "shrink_axis_mask": 1}, BOTH),
    ("one element", "STRIDED_SLICE",
     {"input": variable(5, 6), "begin": np.array([2, 3], np.int32), "end": np.array([3, 4], np.int32),
      "strides": np.array([1, 1], np.int32), "begin_mask": 0, "end_mask": 0, "shrink_axis_mask": 3}, BOTH),
    ("twice", "TILE", {"input": variable(3, 4), "multiples": np.array([2, 3], np.int32)}, ALL),
    ("thirds", "SPLIT", {"input": variable(4, 9), "axis": -1, "num_splits": 3}, ALL),
    ("zeros", "PAD", {"input": IMAGE, "paddings": np.array([[0, 1], [2, 0], [1, 1], [0, 3]], np.int32)}, BOTH),
    ("a value", "PAD_V2",
     {"input": variable(5, 7), "paddings": np.array([[0, 1], [2, 0]], np.int32), "pad_value": 7}, BOTH),
    *((f"mode {m}", "MIRROR_PAD",
       {"input": variable(5, 7), "paddings": np.array([[2, 1], [3, 0]], np.int32), "mode": m}, ALL) for m in (0, 1)),
    ("2", "DEPTH_TO_SPACE", {"input": IMAGE, "block_size": 2}, BOTH),
    ("2", "SPACE_TO_DEPTH", {"input": variable(1, 6, 4, 3), "block_size": 2}, BOTH),
    ("padded", "SPACE_TO_BATCH_ND", {"input": variable(1, 5, 4, 3), "block_shape": np.array([3, 2], np.int32),
                                     "paddings": np.array([[1, 0], [2, 0]], np.int32)}, BOTH),
    ("6", "BATCH_TO_SPACE_ND", {"input": variable(6, 5, 4, 3), "block_shape": np.array([3, 2], np.int32)}, BOTH),
    ("4 groups", "CHANNEL_SHUFFLE", {"input": IMAGE, "num_groups": 4, "axis": -1}, BOTH),
    ("rows", "GATHER", {"input": variable(5, 7, 3), "axis": 1, "indices": np.array([[6, 0], [3, 3]], np.int32)}, ALL),
    ("rows", "EMBEDDING_LOOKUP", {"indices": np.array([4, 0, 2], np.int32), "values": variable(5, 7)}, ALL),
]  # fmt: skip
FIXED_OUTPUT: dict[str, Mapping[OperandType, tuple[float, int]]] = {
    "LOGISTIC": UNITS, "SOFTMAX": UNITS, "TANH": SYMMETRIC, "L2_NORMALIZATION": SYMMETRIC,
}  # fmt: skip


def one(operation: str, given: dict[str, Any], type: OperandType, *, seed: int = 0) -> tuple[Model, list[Array]]:
    """A model of one operation on what the case describes, and values for its inputs."""
    rng = np.random.default_rng(seed)
    b = Builder(operation)
    inputs: list[Array] = []
    scales: dict[str, Any] = {}

    def random(shape: Sequence[int], dtype: np.dtype[Any], low: int, high: int) -> Array:
        if dtype.kind == "f":
            return rng.standard_normal(shape).astype(dtype)
        return rng.integers(low, high, shape).astype(dtype)

    def ref(name: str, value: Any) -> Any:
        if not (isinstance(value, tuple) and value and isinstance(value[0], str)):
            return value
        kind, shape = value[:2]
        info = np.iinfo(type.dtype) if type.dtype.kind in "iu" else None
        low, high = (info.min, info.max + 1) if info and type != I32 else (-99, 99) if info else (0, 2)
        if kind in ("variable", "positive"):
            array = random(shape, type.dtype, low, high)
            inputs.append(np.square(array) + np.float32(0.1) if kind == "positive" else array)
            return b.input(name, type, shape, SCALE.get(type, 0.0), ZERO.get(type, 0))
        if kind == "bias":
            if type == F32:
                return random(shape, np.dtype("f4"), 0, 0)
            weight = scales["filter"]
            scale = SCALE[type] * weight if isinstance(weight, float) else 0.0
            return b.constant(rng.integers(-500, 500, shape).astype(np.int32), Operand(I32, shape, scale))
        if kind == "per channel":
            channels = tuple(float(np.float32(s)) for s in rng.uniform(0.002, 0.02, shape[value[2]]))
            scales[name] = channels
            like = Operand(Q8PC, shape, channel_quant=ChannelQuant(channels, value[2]))
            return b.constant(rng.integers(-127, 128, shape).astype(np.int8), like)
        scales[name] = scale = 0.01
        like = Operand(type, shape) if type == F32 else Operand(type, shape, scale, 3 if type == Q8 else 0)
        return b.constant(random(shape, type.dtype, low, high), like)

    refs = {name: ref(name, value) for name, value in given.items()}
    op = OPERATIONS[operation]
    outputs = None
    if type.is_quantized and op.outputs[0].quant is None and op.outputs[0].type == "T":
        scale, zero = FIXED_OUTPUT.get(operation, {}).get(type, OUTPUT[type])
        outputs = [Operand(type, (), scale, zero)]
    b.output(*b.add_many(operation, refs, outputs))
    return b.finish(), inputs


def interpret(content: bytes, inputs: Sequence[Array]) -> list[Array]:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def assert_close(model: Model, actual: Sequence[Array], expected: Sequence[Array]) -> None:
    for operand, a, e in zip(model.output_operands, actual, expected, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        limit = TOLERANCES[operand.type][0]
        a, e = a.astype(np.float64), e.astype(np.float64)
        if operand.type == F32:
            limit *= max(1.0, float(np.abs(e).max()))
        assert np.abs(a - e).max() <= limit
