"""Every NNAPI operation that ONNX can express, and why it cannot express some: one visible list of families."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nnapi.exporters.onnx import (
    activation,
    composite,
    control,
    convolution,
    elementwise,
    movement,
    recurrent,
    reduction,
    region,
)  # fmt: skip
from nnapi.exporters.onnx.lowering import Row

FAMILIES = (elementwise, activation, convolution, reduction, movement, composite, recurrent, region, control)

SELECTIONS: Final = ("BOX_WITH_NMS_LIMIT", "DETECTION_POSTPROCESSING", "GENERATE_PROPOSALS")
FIXED_POINT: Final = ("QUANTIZED_16BIT_LSTM", "QUANTIZED_LSTM")

ROWS: Final[Mapping[str, Row | str]] = MappingProxyType(
    {
        **{name: row for family in FAMILIES for name, row in family.ROWS.items()},
        **dict.fromkeys(SELECTIONS, "how many boxes there are depends on their values"),
        **dict.fromkeys(FIXED_POINT, "it is defined in fixed-point arithmetic"),
        "HEATMAP_MAX_KEYPOINT": "ONNX has no subpixel maximum",
        "LSH_PROJECTION": "ONNX has no hash functions",
        "RANDOM_MULTINOMIAL": "ONNX's Multinomial takes its seed as an attribute",
    }
)
"""By operation; a reason stands for a row where there is none."""
