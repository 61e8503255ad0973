"""The lowest version of each TFLite operator that has a type; 1 where the table says nothing.

A runtime older than a version refuses the model when it is loaded, instead of computing something else.
"""

from __future__ import annotations

from typing import Final

from ai_edge_litert import schema_py_generated as schema

_T = schema.TensorType
_INT8: Final = {_T.INT8: 2}
_INT8_INT16: Final = {_T.INT8: 2, _T.INT16: 3}
_INT8_INT16_4: Final = {_T.INT8: 2, _T.INT16: 4}
_INT8_BOOL: Final = {_T.INT8: 2, _T.BOOL: 3}
_QUANT8: Final = {_T.INT8: 2, _T.UINT8: 2}

VERSIONS: Final[dict[str, dict[int, int]]] = {
    "ABS": {**_QUANT8, _T.INT32: 5}, "ADD": _INT8_INT16, "ARG_MAX": _INT8_BOOL, "ARG_MIN": _INT8_BOOL,
    "AVERAGE_POOL_2D": _INT8_INT16, "BATCH_MATMUL": _INT8_INT16, "BATCH_TO_SPACE_ND": _INT8_INT16_4,
    "CAST": {_T.INT8: 3, _T.FLOAT16: 5}, "CONCATENATION": _INT8_INT16, "CONV_2D": {_T.INT8: 3, _T.INT16: 4},
    "DEPTHWISE_CONV_2D": {_T.INT8: 3, _T.INT16: 5}, "DEPTH_TO_SPACE": _INT8,
    "DEQUANTIZE": {_T.INT8: 2, _T.INT16: 3, _T.FLOAT16: 3}, "EQUAL": _INT8, "EXP": _INT8,
    "FILL": {_T.BOOL: 2, _T.INT8: 3}, "FLOOR_DIV": {_T.FLOAT32: 2}, "FULLY_CONNECTED": {_T.INT8: 4, _T.INT16: 12},
    "GATHER": {**_INT8_BOOL, _T.INT16: 4}, "GELU": _QUANT8, "GREATER": _INT8, "GREATER_EQUAL": _INT8,
    "L2_NORMALIZATION": _INT8, "LESS": _INT8, "LESS_EQUAL": _INT8, "LOG": _INT8, "LOGISTIC": _INT8_INT16,
    "LOG_SOFTMAX": _INT8, "MAXIMUM": _INT8_INT16_4, "MAX_POOL_2D": _INT8_INT16, "MEAN": _INT8_INT16,
    "MINIMUM": _INT8_INT16_4, "MIRROR_PAD": _INT8_INT16, "MUL": _INT8_INT16_4, "NOT_EQUAL": _INT8,
    "PACK": _INT8_INT16, "PAD": {_T.INT8: 2, _T.INT16: 3, _T.BOOL: 5}, "PADV2": {_T.INT8: 2, _T.INT16: 3, _T.BOOL: 5},
    "REDUCE_MAX": _INT8_INT16, "REDUCE_MIN": _INT8_INT16, "REDUCE_PROD": _INT8, "RELU": {**_QUANT8, _T.INT16: 3},
    "RELU6": _INT8_INT16, "RESIZE_BILINEAR": _INT8_INT16_4, "RESIZE_NEAREST_NEIGHBOR": _INT8_INT16_4,
    "REVERSE_V2": {_T.BOOL: 2, _T.INT8: 3}, "RSQRT": _INT8, "SELECT": _INT8, "SLICE": _INT8_INT16_4,
    "SOFTMAX": _INT8_INT16, "SPACE_TO_BATCH_ND": _INT8_INT16_4, "SPACE_TO_DEPTH": _INT8,
    "SPLIT": {_T.INT8: 2, _T.INT32: 3, _T.INT16: 4}, "SPLIT_V": _INT8, "STRIDED_SLICE": _INT8_BOOL,
    "SUB": {_T.INT8: 2, _T.INT16: 5}, "SUM": _INT8, "TANH": _INT8_INT16, "TILE": {_T.INT8: 3}, "TOPK_V2": _INT8_INT16,
    "TRANSPOSE": {**_INT8_BOOL, _T.INT16: 5}, "TRANSPOSE_CONV": _INT8,
}  # fmt: skip

DATA_INPUT: Final = {"SPLIT": 1, "TRANSPOSE_CONV": 2, "FILL": 1, "EMBEDDING_LOOKUP": 1}
"""Which input's type decides; the first unless named."""


def operator_version(builtin: str, type: int) -> int:
    """The version of a builtin whose data is of that TFLite type.

    >>> operator_version("CONV_2D", _T.INT8), operator_version("RESHAPE", _T.INT8)
    (3, 1)
    """
    return VERSIONS.get(builtin, {}).get(type, 1)
