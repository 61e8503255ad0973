"""NNAPI's vocabulary: operand types, feature levels, and the operand itself."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Dimensions = tuple[int, ...]
"""As NNAPI writes them: 0 is an unspecified dimension, () on a tensor an unspecified rank."""
Shape = tuple[int | None, ...] | None
"""As inference works with them: None is unknown, 0 is really zero."""

MAX_ELEMENTS: Final = 2**31 - 1
"""NNAPI counts bytes and elements of one operand in 32 bits."""
MAX_RANK: Final = 64
"""NumPy's limit: NNAPI has none for operands, only for what particular operations take."""


class OperandType(enum.IntEnum):
    """The operand codes of NNAPI, with their NumPy type and the feature level they appeared in.

    >>> OperandType.TENSOR_QUANT8_ASYMM.dtype, OperandType.TENSOR_QUANT8_ASYMM.since
    (dtype('uint8'), 1)
    """

    FLOAT32 = 0
    INT32 = 1
    UINT32 = 2
    TENSOR_FLOAT32 = 3
    TENSOR_INT32 = 4
    TENSOR_QUANT8_ASYMM = 5
    BOOL = 6
    TENSOR_QUANT16_SYMM = 7
    TENSOR_FLOAT16 = 8
    TENSOR_BOOL8 = 9
    FLOAT16 = 10
    TENSOR_QUANT8_SYMM_PER_CHANNEL = 11
    TENSOR_QUANT16_ASYMM = 12
    TENSOR_QUANT8_SYMM = 13
    TENSOR_QUANT8_ASYMM_SIGNED = 14
    MODEL = 15
    OEM_SCALAR = 10000
    TENSOR_OEM_BYTE = 10001

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPES[self]

    @property
    def since(self) -> int:
        return 1 if self <= 5 or self.is_oem else 4 if self >= 14 else 3

    @property
    def is_tensor(self) -> bool:
        return self in _TENSORS

    @property
    def is_quantized(self) -> bool:
        return self in _ZERO_POINTS

    @property
    def is_oem(self) -> bool:
        """Whether the type is one of the deprecated two that only a manufacturer's own operation takes."""
        return self >= OEM_SCALAR

    @property
    def is_float(self) -> bool:
        return self in (F32, F16, FLOAT32, FLOAT16)

    @property
    def zero_point_range(self) -> tuple[int, int]:
        """Lowest and highest zero point the type may have; (0, 0) where it has none."""
        return _ZERO_POINTS.get(self, (0, 0))


(
    FLOAT32, INT32, UINT32, F32, I32, Q8, BOOL, Q16SYMM, F16, B8, FLOAT16, Q8PC, Q16, Q8SYMM, Q8S, MODEL,
    OEM_SCALAR, TENSOR_OEM_BYTE,
) = OperandType  # fmt: skip
"""Short names for the operation tables: Q8 is TENSOR_QUANT8_ASYMM, Q8S its signed twin, Q8PC per channel."""

_TENSORS = frozenset((F32, I32, Q8, Q16SYMM, F16, B8, Q8PC, Q16, Q8SYMM, Q8S, TENSOR_OEM_BYTE))
_ZERO_POINTS = {Q8: (0, 255), Q8S: (-128, 127), Q16: (0, 65535), Q8SYMM: (0, 0), Q16SYMM: (0, 0), Q8PC: (0, 0)}
_DTYPES: dict[OperandType, np.dtype[Any]] = {
    FLOAT32: np.dtype("<f4"), F32: np.dtype("<f4"), FLOAT16: np.dtype("<f2"), F16: np.dtype("<f2"),
    INT32: np.dtype("<i4"), I32: np.dtype("<i4"), UINT32: np.dtype("<u4"), BOOL: np.dtype("?"), B8: np.dtype("?"),
    Q8: np.dtype("u1"), Q8S: np.dtype("i1"), Q8SYMM: np.dtype("i1"), Q8PC: np.dtype("i1"),
    Q16: np.dtype("<u2"), Q16SYMM: np.dtype("<i2"), MODEL: np.dtype("O"),
    OEM_SCALAR: np.dtype("u1"), TENSOR_OEM_BYTE: np.dtype("u1"),
}  # fmt: skip

ANDROID: Final = {
    1: "Android 8.1", 2: "Android 9", 3: "Android 10", 4: "Android 11", 5: "Android 12",
    6: "Android 12 with the NNAPI module updated", 7: "Android 13", 8: "Android 14",
}  # fmt: skip
"""The first Android release of each NNAPI feature level."""
MAX_FEATURE_LEVEL: Final = 8
BEYOND: Final = MAX_FEATURE_LEVEL + 1
"""The level of what no feature level has: 16-bit activations beside 8-bit weights, 16x8, as TFLite's kernels take."""


class _Omitted(enum.Enum):
    OMITTED = "omitted"

    def __repr__(self) -> str:
        return "OMITTED"


OMITTED: Final = _Omitted.OMITTED
"""The value of an operand that is left out (NNAPI: lifetime NO_VALUE)."""


@dataclass(frozen=True, slots=True)
class ChannelQuant:
    """Per-channel scales of a TENSOR_QUANT8_SYMM_PER_CHANNEL operand along dimension `axis`."""

    scales: tuple[float, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Operand:
    """One NNAPI operand: type, dimensions, quantization and, for a constant, its value.

    `value` is None for a variable, OMITTED for a left out optional operand, a Model for type MODEL, else an array.

    >>> Operand(TENSOR_FLOAT32, (1, 0, 4)).shape
    (1, None, 4)
    """

    type: OperandType
    dimensions: Dimensions = ()
    scale: float = 0.0
    zero_point: int = 0
    channel_quant: ChannelQuant | None = None
    name: str = ""
    value: Any = field(default=None, compare=False, repr=False)

    @property
    def shape(self) -> Shape:
        """The dimensions for inference: None where unknown; exact where there is a value."""
        if isinstance(self.value, np.ndarray):
            return self.value.shape
        if not self.type.is_tensor:
            return ()
        return tuple(d or None for d in self.dimensions) or None

    @property
    def is_constant(self) -> bool:
        return self.value is not None

    @property
    def is_omitted(self) -> bool:
        return self.value is OMITTED

    @property
    def elements(self) -> int | None:
        """How many elements it has; None where a dimension is unknown."""
        shape = self.shape
        if shape is None or None in shape:
            return None
        return math.prod(shape)  # type: ignore[arg-type]

    @property
    def bytes(self) -> int | None:
        """Its size; None where a dimension is unknown."""
        elements = self.elements
        return None if elements is None else elements * self.type.dtype.itemsize

    def with_value(self, value: Any) -> Operand:
        """The same operand holding `value`; an array gives it its dimensions too."""
        if isinstance(value, np.ndarray) and self.type.is_tensor:
            return replace(self, dimensions=value.shape, value=value)
        return replace(self, value=value)


TENSOR_FLOAT32 = F32
