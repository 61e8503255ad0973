"""Every NNAPI operation that ncnn can express: one visible list of families."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nnapi.exporters.ncnn import activation, composite, convolution, elementwise, movement, reduction
from nnapi.exporters.ncnn.lowering import Row

FAMILIES = (elementwise, activation, convolution, reduction, movement, composite)

ROWS: Final[Mapping[str, Row | str]] = MappingProxyType(
    {name: row for family in FAMILIES for name, row in family.ROWS.items()}
)
"""By operation."""
