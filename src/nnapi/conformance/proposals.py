"""Random operands for one use of an operation: right by type and rank, and by the tables below often by shape.

Whether they make sense together is for the operation's own inference to say; a proposal that it refuses is dropped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from nnapi.ops.op import Op, Param, Signature, Types
from nnapi.ops.types import (
    B8,
    BOOL,
    F16,
    F32,
    I32,
    MAX_FEATURE_LEVEL,
    OMITTED,
    Q8,
    Q8PC,
    Q8S,
    Q8SYMM,
    Array,
    ChannelQuant,
    Operand,
    OperandType,
)

SIZES: Final = (1, 2, 3, 4, 5)
"""Dimensions to choose from."""
SCALES: Final = (1 / 256, 1 / 128, 0.02, 0.0625, 0.1, 0.25, 0.5, 1.0, 1.5)
_WINDOW = {"input": "N H W C"}
DIMENSIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({
    "CONV_2D": _WINDOW | {"filter": "O K L C", "bias": "O"},
    "DEPTHWISE_CONV_2D": _WINDOW | {"filter": "1 K L CM", "bias": "CM", "depth_multiplier": "M"},
    "GROUPED_CONV_2D": {"input": "N H W GC", "filter": "GO K L C", "bias": "GO", "num_groups": "G"},
    "RANDOM_MULTINOMIAL": {"seeds": "2"},
    "TRANSPOSE_CONV_2D": _WINDOW | {"filter": "O K L C", "bias": "O", "output_shape": "4"},
    "FULLY_CONNECTED": {"input": "N C", "filter": "O C", "bias": "O"},
    "BATCH_TO_SPACE_ND": _WINDOW | {"block_shape": "2"},
    "SPACE_TO_BATCH_ND": _WINDOW | {"block_shape": "2", "paddings": "2 2"},
    "PAD": {"paddings": "R 2"}, "PAD_V2": {"paddings": "R 2"}, "MIRROR_PAD": {"paddings": "R 2"},
    "RESHAPE": {"shape": "R"}, "TILE": {"multiples": "R"}, "REVERSE": {"axis": "1"},
    "SLICE": {"begin": "R", "size": "R"}, "STRIDED_SLICE": {"begin": "R", "end": "R", "strides": "R"},
    "ROI_ALIGN": _WINDOW | {"rois": "K 4", "batch_indices": "K"},
    "ROI_POOLING": _WINDOW | {"rois": "K 4", "batch_indices": "K"},
    "BOX_WITH_NMS_LIMIT": {"scores": "K L", "boxes": "K 4L", "batch_indices": "K"},
    "DETECTION_POSTPROCESSING": {"scores": "N K L", "deltas": "N K 4", "anchors": "K 4"},
    "HEATMAP_MAX_KEYPOINT": {"heatmaps": "K H H C", "boxes": "K 4"},
    "AXIS_ALIGNED_BBOX_TRANSFORM": {"rois": "K 4", "deltas": "K 4L", "batch_indices": "K", "image_info": "N 2"},
    "GENERATE_PROPOSALS": {"scores": "N H W A", "deltas": "N H W 4A", "anchors": "A 4", "image_info": "N 2"},
    "HASHTABLE_LOOKUP": {"lookups": "N", "keys": "K", "values": "K C"},
})  # fmt: skip
"""operation -> input -> its dimensions, or its value where it is a scalar: products of digits and letters.

A letter is a size, the same throughout a use; R is the rank of the first input.
"""
_EIGHTHS = (0.125, 0)
QUANTIZATION: Final[Mapping[str, Mapping[str, tuple[float, int]]]] = MappingProxyType({
    "ROI_ALIGN": {"rois": _EIGHTHS}, "ROI_POOLING": {"rois": _EIGHTHS},
    "BOX_WITH_NMS_LIMIT": {"boxes": _EIGHTHS}, "HEATMAP_MAX_KEYPOINT": {"boxes": _EIGHTHS},
    "AXIS_ALIGNED_BBOX_TRANSFORM": {"rois": _EIGHTHS, "image_info": _EIGHTHS},
    "GENERATE_PROPOSALS": {"anchors": _EIGHTHS, "image_info": _EIGHTHS},
    "QUANTIZED_LSTM": {"cell_state_in": (2**-11, 0)},
    "QUANTIZED_16BIT_LSTM": {
        "*_weights": (2**-5, 128), "*_bias": (2**-12, 0), "prev_cell_state": (2**-11, 0), "*": (2**-7, 128),
    },
})  # fmt: skip
"""operation -> pattern of input names -> the scale and zero point that it must have."""
TOGETHER: Final = (
    ("layer_norm",), ("aux",), ("projection",),
    ("cell_to", "input_to_input", "recurrent_to_input", "input_gate"),
)  # fmt: skip
"""Parts of the names of optional inputs that are given, or left out, together."""
INTEGERS: Final[Mapping[str, Sequence[int]]] = MappingProxyType({
    "activation": (0, 0, 1, 2, 3), "padding": (1, 2), "layout": (0, 1),
    "padding_left": (0, 0, 1), "padding_right": (0, 0, 1), "padding_top": (0, 0, 1), "padding_bottom": (0, 0, 1),
    "stride_width": (1, 2), "stride_height": (1, 2), "dilation_width": (1, 1, 2), "dilation_height": (1, 1, 2),
    "mode": (0, 1),
    "batch_indices": (0,), "seeds": (1, 2),
    "filter_width": (1, 2), "filter_height": (1, 2), "width": SIZES, "height": SIZES, "axis": (-1, 0, 1, 2, 3),
})  # fmt: skip
"""Name of an integer input -> values to choose from; a scalar's else are 0 to 3."""
BOXES: Final = ("rois", "boxes", "anchors")
"""Inputs that hold boxes: x1, y1 and then x2, y2, which are no less; all of them small."""


class Proposer:
    """Proposes inputs for one use of an operation; `types` is the row of the table in force."""

    def __init__(self, op: Op, rng: random.Random) -> None:
        self.op = op
        self.rng = rng
        self.signature: Signature = rng.choice(op.signatures)
        rows = [row for row in op.types if row.since <= MAX_FEATURE_LEVEL]
        self.types: Types = rng.choice(rows) if rows else Types(op.since)
        self._numbers = np.random.default_rng(rng.getrandbits(32))
        self._sizes = rng.choices(SIZES, k=rng.randint(1, 3))
        self._rank = rng.randint(1, 4)
        self._letters: dict[str, int] = {}
        self._layout = rng.random() < 0.5
        self._omitted: dict[object, bool] = {}
        self._quantized: list[Operand] = []

    def inputs(self) -> list[tuple[Param, Operand]]:
        """Each input in order with a value: an array, or OMITTED."""
        params = list(self.signature.inputs)
        while params and not params[-1].required and self.rng.random() < 0.3:
            params.pop()
        proposed: list[tuple[Param, Operand]] = []
        for param in params:
            for _ in range(self.rng.randint(1, 3) if param.variadic else 1):
                operand = self._operand(param)
                self._letters.setdefault("R", len(operand.dimensions))
                proposed.append((param, operand))
                if operand.type.is_quantized:
                    self._quantized.append(operand)
        return proposed

    def type_of(self, expr: Any) -> OperandType:
        """The operand type that a parameter or result has in this use."""
        if isinstance(expr, str):
            return self.types.bind[expr]
        return expr if isinstance(expr, OperandType) else self.rng.choice(expr)

    def quantized(self, operand: Operand) -> Operand:
        """`operand` with random quantization parameters, where its type has some."""
        low, high = operand.type.zero_point_range
        if not operand.type.is_quantized or operand.type == Q8PC:
            return operand
        return replace(operand, scale=self._scale(), zero_point=self.rng.choice((low, high, (low + high + 1) // 2)))

    def tensor(self) -> Operand:
        """Any small tensor with a value."""
        type = self.rng.choice((F32, F16, I32, B8, Q8, Q8S))
        operand = self.quantized(Operand(type, tuple(self.rng.choices(self._sizes, k=self.rng.randint(1, 4)))))
        return operand.with_value(self.array(operand))

    def _operand(self, param: Param) -> Operand:
        type = self.type_of(param.type)
        if param.omissible and self._omits(param):
            return self.quantized(Operand(type, value=OMITTED))
        if not type.is_tensor:
            return Operand(type, value=self._scalar(param, type))
        dimensions = self._dimensions(param)
        operand = self.quantized(Operand(type, dimensions))
        if type == Q8PC:
            axis = self._channel_axis(dimensions)
            scales = tuple(float(np.float32(self._scale())) for _ in range(dimensions[axis]))
            operand = replace(operand, channel_quant=ChannelQuant(scales, axis))
        for pattern, (scale, zero_point) in QUANTIZATION.get(self.op.name, {}).items():
            if (type.is_quantized or type == I32) and fnmatchcase(param.name, pattern):
                operand = replace(operand, scale=scale, zero_point=zero_point)
                break
        if type == I32 and param.name == "bias" and len(self._quantized) == 2:
            operand = replace(operand, scale=self._quantized[0].scale * self._quantized[1].scale)
        return operand.with_value(self._array(param, operand))

    def _array(self, param: Param, operand: Operand) -> Array:
        if operand.type == I32 and param.name in INTEGERS:
            return self._numbers.choice(INTEGERS[param.name], operand.dimensions).astype(np.int32)
        if param.name in BOXES and operand.dimensions[-1] % 4 == 0:
            stored = 8 if operand.type.is_quantized else 1
            corners = (self._numbers.random(operand.dimensions) * stored).astype(operand.type.dtype)
            return np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(corners.shape)
        return self.array(operand)

    def _omits(self, param: Param) -> bool:
        group = next((group for group in TOGETHER if any(part in param.name for part in group)), param.name)
        return self._omitted.setdefault(group, self.rng.random() < 0.3)

    def _scale(self) -> float:
        return float(np.float32(self.rng.choice(SCALES)))

    def _channel_axis(self, dimensions: Sequence[int]) -> int:
        return 3 if self.op.name == "DEPTHWISE_CONV_2D" else self.rng.choice((0, 0, len(dimensions) - 1))

    def _dimensions(self, param: Param) -> tuple[int, ...]:
        hint = DIMENSIONS.get(self.op.name, {}).get(param.name)
        if hint is not None:
            terms = hint.split()
            if self._layout and terms[1:3] == ["H", "W"] and "layout" in {p.name for p in self.signature.inputs}:
                terms = [terms[i] for i in (0, 3, 1, 2)]
            return tuple(map(self._size, terms))
        rank = param.rank
        low, high = (rank, rank) if isinstance(rank, int) else rank or (1, 4)
        # Most uses want their inputs to agree in rank.
        chosen = self._rank if self.rng.random() < 0.8 else self.rng.randint(1, 5)
        return tuple(self.rng.choice(self._sizes) for _ in range(min(max(chosen, low), high)))

    def _size(self, term: str) -> int:
        """The size of a product such as `4U`: letters are drawn once per use."""
        for letter in term:
            if letter not in self._letters:
                self._letters[letter] = int(letter) if letter.isdigit() else self.rng.choice(SIZES)
        return math.prod(self._letters[letter] for letter in term)

    def _scalar(self, param: Param, type: OperandType) -> Array:
        if param.name == "layout":
            value: Any = self._layout
        elif type.is_float:
            value = self.rng.choice((0.5, 1.0, 1.0, 2.0, 1e-3))
        elif type == BOOL:
            value = self.rng.random() < 0.5
        else:
            hint = DIMENSIONS.get(self.op.name, {}).get(param.name)
            value = self._size(hint) if hint else self.rng.choice(INTEGERS.get(param.name, (0, 1, 2, 3)))
        return np.array(value, type.dtype)

    def array(self, operand: Operand) -> Array:
        """Random values for a tensor."""
        shape, dtype = operand.dimensions, operand.type.dtype
        if dtype.kind == "f":
            return (self._numbers.standard_normal(shape) * self.rng.choice((0.5, 2.0, 50.0))).astype(dtype)
        if dtype.kind == "b":
            return self._numbers.integers(0, 2, shape).astype(dtype)
        if operand.type == I32 and operand.scale == 0:
            return self._numbers.integers(*self.rng.choice(((0, 2), (0, 4), (1, 5), (-4, 4))), shape).astype(dtype)
        info = np.iinfo(np.int16 if operand.type == I32 else dtype)
        low = -127 if operand.type in (Q8PC, Q8SYMM) else info.min
        return self._numbers.integers(low, info.max, shape, endpoint=True).astype(dtype)
