"""Reductions, searches along an axis, resizing, and changes of type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.exporters.tflite.lowering import Node, Row, through_float
from nnapi.exporters.tflite.writer import TENSOR_TYPES
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8PC, Q8S, Q8SYMM, Q16SYMM, Operand

FLOAT_OR_QUANT8 = {F32, Q8, Q8S}


def _reduction(builtin: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        shape = node["input"].dimensions
        rank = len(shape)
        axes = sorted({int(a) % rank for a in node.array("axes").ravel()})
        keep = bool(node.scalar("keep_dims") > 0)
        # NNAPI's result of a full reduction has rank 1, TFLite's rank 0.
        whole = len(axes) == rank and not keep
        result = node.temporary(node.output, (1,) * rank) if whole and rank > 1 else node.result()
        options = schema.ReducerOptionsT(keepDims=keep or whole)
        node.emit(builtin, [node.tensor("input"), node.ints(axes)], [result], options)
        if whole and rank > 1:
            node.emit("RESHAPE", [result, node.ints((1,))], options=schema.ReshapeOptionsT(newShape=[1]))

    return lower


def _arg(builtin: str, options: Callable[..., Any]) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        rank = len(node["input"].dimensions)
        result = node.temporary(node.output, ()) if rank == 1 else node.result()
        axis = node.constant(np.array(node.scalar("axis") % rank), Operand(I32))
        as_int32 = options(outputType=schema.TensorType.INT32)
        node.emit(builtin, [node.tensor("input"), axis], [result], as_int32)
        if rank == 1:
            node.emit("RESHAPE", [result, node.ints((1,))], options=schema.ReshapeOptionsT(newShape=[1]))

    return lower


def _topk(node: Node) -> None:
    """Of equal values NNAPI takes the last first and TFLite the first, so it looks at them backwards."""
    x = node["input"]
    size, indices = x.dimensions[-1], node.outputs[1]
    if not size:
        node.refuse("the size of the last dimension is not known")
    backwards = node.temporary(x, x.dimensions)
    node.emit(
        "REVERSE_V2",
        [node.tensor("input"), node.ints((len(x.dimensions) - 1,))],
        [backwards],
        schema.ReverseV2OptionsT(),
    )
    found = node.temporary(indices, indices.dimensions)
    k = node.constant(np.array(node.scalar("k")), Operand(I32))
    node.emit("TOPK_V2", [backwards, k], [node.result(0), found], schema.TopKV2OptionsT())
    node.emit("SUB", [node.ints((size - 1,)), found], [node.result(1)], schema.SubOptionsT())


def _resize(builtin: str, options: Callable[..., Any]) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        _, h, w, _ = node.shape(node.output)
        align, half = bool(node.scalar("align_corners")), bool(node.scalar("half_pixel_centers"))
        how = options(alignCorners=align, halfPixelCenters=half)
        if node["input"].type == Q16SYMM:
            _resize_16_bits(node, builtin, (h, w), how)
            return
        newer = half or (align and builtin == "RESIZE_NEAREST_NEIGHBOR")
        node.emit(builtin, [node.tensor("input"), node.ints((h, w))], options=how, version=3 if newer else None)

    return lower


def _resize_16_bits(node: Node, builtin: str, target: tuple[int, int], options: Any) -> None:
    """The kernel that interpolates keeps 10 bits of a position: where they do not do, in float32."""
    sizes, less = node.shape(node["input"])[1:3], int(options.alignCorners)
    exact = all(t > less and (s - less) * 512 % (t - less) == 0 for s, t in zip(sizes, target))
    if exact or builtin == "RESIZE_NEAREST_NEIGHBOR":
        node.emit(builtin, [node.tensor("input"), node.ints(target)], options=options)
    else:
        through_float(node, lambda x, y: node.emit(builtin, [x[0], node.ints(target)], y, options))


def _cast(node: Node) -> None:
    x, y = node["input"], node.output
    if x.type == F16 and y.type == F32 and x.is_constant:
        node.emit("DEQUANTIZE", [node.tensor("input")], options=schema.DequantizeOptionsT())
        return
    if F16 in (x.type, y.type):
        node.refuse("TENSOR_FLOAT16 of a variable, float16 is for constants")
    tensor = node.tensor("input")
    if x.type == I32 and y.type.is_quantized:  # CAST keeps an integer's low bits, NNAPI saturates
        bounds = np.iinfo(y.type.dtype)
        for builtin, bound in (("MAXIMUM", bounds.min), ("MINIMUM", bounds.max)):
            clamped = node.temporary(x, x.dimensions)
            node.emit(builtin, [tensor, node.ints((bound,))], [clamped], schema.MaximumMinimumOptionsT())
            tensor = clamped
    options = schema.CastOptionsT(inDataType=TENSOR_TYPES[x.type], outDataType=TENSOR_TYPES[y.type])
    node.emit("CAST", [tensor], options=options, version=3 if y.type == Q8S else None)


def _quantize(node: Node) -> None:
    version = 2 if node.output.type == Q16SYMM else None
    node.emit("QUANTIZE", [node.tensor("input")], options=schema.QuantizeOptionsT(), version=version)


def _dequantize(node: Node) -> None:
    version = 5 if node["input"].channel_quant else None
    node.emit("DEQUANTIZE", [node.tensor("input")], options=schema.DequantizeOptionsT(), version=version)


def _constant_stays_inside(node: Node) -> str | None:
    """XNNPACK unpacks a constant for its readers, and leaves nothing for a caller."""
    if node.inputs[0].is_constant and set(node.operation.outputs) & set(node.lowering.model.outputs):
        return "a constant in another type is an output of the model"
    return None


def _to_float32(node: Node) -> str | None:
    return None if node.output.type == F32 else f"output is {node.output.type.name}, its kernel gives TENSOR_FLOAT32"


ORDERED = FLOAT_OR_QUANT8 | {I32}
ROWS = {
    "MEAN": Row(_reduction("MEAN"), FLOAT_OR_QUANT8),
    "REDUCE_ALL": Row(_reduction("REDUCE_ALL"), {B8}),
    "REDUCE_ANY": Row(_reduction("REDUCE_ANY"), {B8}),
    "REDUCE_MAX": Row(_reduction("REDUCE_MAX"), FLOAT_OR_QUANT8),
    "REDUCE_MIN": Row(_reduction("REDUCE_MIN"), FLOAT_OR_QUANT8),
    "REDUCE_PROD": Row(_reduction("REDUCE_PROD"), {F32}),
    "REDUCE_SUM": Row(_reduction("SUM"), {F32}),
    "ARGMAX": Row(_arg("ARG_MAX", schema.ArgMaxOptionsT), ORDERED),
    "ARGMIN": Row(_arg("ARG_MIN", schema.ArgMinOptionsT), ORDERED),
    "TOPK_V2": Row(_topk, ORDERED),
    "RESIZE_BILINEAR": Row(_resize("RESIZE_BILINEAR", schema.ResizeBilinearOptionsT), FLOAT_OR_QUANT8),
    "RESIZE_NEAREST_NEIGHBOR": Row(
        _resize("RESIZE_NEAREST_NEIGHBOR", schema.ResizeNearestNeighborOptionsT), FLOAT_OR_QUANT8
    ),
    "CAST": Row(_cast, {F32, F16, I32, Q8, Q8S, B8, Q8SYMM}, (_constant_stays_inside,)),
    "QUANTIZE": Row(_quantize, {F32}),
    "DEQUANTIZE": Row(_dequantize, {Q8, Q8S, Q8PC, Q8SYMM}, (_to_float32, _constant_stays_inside)),
}
