"""All operations, by name and by code: one visible list of families."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nnapi.ops import (
    activation,
    arithmetic,
    blocks,
    comparison,
    control,
    conversion,
    convolution,
    detection,
    joining,
    linear,
    lookup,
    lstm,
    multinomial,
    normalization,
    padding,
    pooling,
    proposals,
    quantized_lstm,
    recurrent,
    reduction,
    reshaping,
    resize,
    roi,
    search,
    sequence,
    slicing,
    unary,
)
from nnapi.ops.op import Op

FAMILIES = (
    activation,
    arithmetic,
    blocks,
    comparison,
    control,
    conversion,
    convolution,
    detection,
    joining,
    linear,
    lookup,
    lstm,
    multinomial,
    normalization,
    padding,
    pooling,
    proposals,
    quantized_lstm,
    recurrent,
    reduction,
    reshaping,
    resize,
    roi,
    search,
    sequence,
    slicing,
    unary,
)

OPERATIONS: Final[Mapping[str, Op]] = MappingProxyType({op.name: op for family in FAMILIES for op in family.OPERATIONS})
CODES: Final[Mapping[int, Op]] = MappingProxyType({op.code: op for op in OPERATIONS.values()})
