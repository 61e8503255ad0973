"""Arrays as people give them, in the type that an operand stores: no value changes but by a float's rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnapi.ops.types import Array, Operand


def stored(given: Any, operand: Operand) -> Array:
    """`given` as an array of the operand's type; ValueError says why not, and which value is lost.

    Floats are rounded to shorter ones, but none becomes infinite; integers must be held exactly, and floats be whole
    where integers are wanted. What is quantized comes as it is stored.

    >>> from nnapi.ops.types import I32
    >>> stored([1.0, 2.0], Operand(I32, (2,)))
    array([1, 2], dtype=int32)
    >>> stored([2**40], Operand(I32, (1,)))
    Traceback (most recent call last):
    ValueError: holds 1099511627776 at (0,), int32 holds -2147483648 to 2147483647
    """
    try:
        array, is_masked = np.asarray(given), np.ma.is_masked(given)
    except Exception as error:  # whatever a foreign object's conversion raises
        raise ValueError(f"is no array: {error}") from error
    if is_masked:
        raise ValueError("holds masked values, a model has none")
    wanted = operand.type.dtype
    if array.dtype == wanted:
        return array
    if array.dtype == wanted.newbyteorder():
        return array.astype(wanted)
    if array.dtype == object and all(type(v) is int for v in array.flat):
        raise ValueError(f"holds {max(array.flat, key=abs)}, {wanted} does not")
    if operand.type.is_quantized or wanted.kind not in "iuf":
        raise ValueError(f"is {array.dtype}, must be {wanted} for {operand.type.name}")
    if np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"is {array.dtype}, must be {wanted} for {operand.type.name}")
    with np.errstate(all="ignore"):
        result = array.astype(wanted)
        lost = _lost(array, result)
    if lost.any():
        where = np.unravel_index(int(lost.argmax()), array.shape)
        at = f" at {tuple(map(int, where))}" if where else ""
        raise ValueError(f"holds {array[where]}{at}, {_range(wanted)}")
    return result


def _lost(array: Array, result: Array) -> Array:
    """Mask of the places where `result` is another value than `array`, or infinite where that is not."""
    if array.dtype.kind == "f" and result.dtype.kind == "f":
        return np.asarray(np.isinf(result) & np.isfinite(array))
    if result.dtype.kind != "f":
        return np.asarray(result != array)
    beyond = float(np.iinfo(array.dtype).max) + 1  # a power of two, which the integers end before
    return np.asarray((result >= beyond) | (result.astype(array.dtype) != array))


def _range(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return f"{dtype} holds {info.min:.6g} to {info.max:.6g}, integers to {2 ** (info.nmant + 1)}"
    return f"{dtype} holds {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
