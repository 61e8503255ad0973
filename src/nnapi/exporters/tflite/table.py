"""Every NNAPI operation that TFLite can express, and why it cannot express some: one visible list of families."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nnapi.exporters.tflite import activation, control, convolution, elementwise, movement, reduction
from nnapi.exporters.tflite.lowering import Row

FAMILIES = (elementwise, activation, convolution, reduction, movement, control)

_STATE: Final = "its state is a variable inside TFLite's kernel, and goes in and out in NNAPI"
RECURRENT: Final = (
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "QUANTIZED_16BIT_LSTM", "QUANTIZED_LSTM",
    "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
)  # fmt: skip

ROWS: Final[Mapping[str, Row | str]] = MappingProxyType(
    {
        **{name: row for family in FAMILIES for name, row in family.ROWS.items()},
        **dict.fromkeys(RECURRENT, _STATE),
        "RANDOM_MULTINOMIAL": "TFLite's MULTINOMIAL keeps its seed between executions",
        "WHILE": "TFLite cannot stop a loop at its deadline",
    }
)
"""By operation; a reason stands for a row where there is none."""
