"""Arrays from `.npy` and `.npz` files: what a header says is compared with the file before anything is allocated."""

from __future__ import annotations

import io
import math
import os
from typing import Any, Final

import numpy as np

from nnapi.ir.reading import open_file, read_file
from nnapi.ir.zipped import Archive
from nnapi.ops.types import Array

_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_KINDS: Final = "biufc"
"""Kinds of types that are numbers: nothing is unpickled."""


def read_npy(path: str | os.PathLike[str]) -> Array:
    """The array in a `.npy` file; OSError where it cannot be read, ValueError where it is damaged."""
    return _array(read_file(path))


def read_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays in a `.npz` file by name; OSError where it cannot be read, ValueError where it is damaged."""
    with open_file(path) as file:
        archive = Archive(file)
        found = {}
        for member in archive.names:
            try:
                found[member.removesuffix(".npy")] = _array(memoryview(archive.read(member)))  # type: ignore[arg-type]
            except ValueError as error:
                raise ValueError(f"member {member!r}: {error}") from error
        return found


def _array(data: memoryview) -> Array:
    """The array in the bytes of a `.npy` file."""
    shape, is_fortran, dtype, begin = _header(data)
    if dtype.kind not in _KINDS:
        raise ValueError(f"it holds {dtype}, must hold numbers")
    size = math.prod(shape) * dtype.itemsize
    if len(data) - begin < size:
        raise ValueError(f"an array of {dtype} {list(shape)} takes {size} bytes, there are {len(data) - begin}")
    flat = np.frombuffer(data, dtype, math.prod(shape), begin)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _header(data: memoryview) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order and type as the header says, and where the values begin."""
    stream = io.BytesIO(data[: 1 << 20])
    try:
        version = np.lib.format.read_magic(stream)
        read = _HEADERS.get(version)
        if read is None:
            raise ValueError(f"format version {version}")
        shape, is_fortran, dtype = read(stream)
    except Exception as error:  # numpy evaluates the header as a literal, which raises whatever it likes
        raise ValueError(f"no array, or a damaged header: {error}".splitlines()[0]) from error
    if not all(type(d) is int and 0 <= d < 2**48 for d in shape):
        raise ValueError(f"a damaged header: shape {shape}")
    return shape, is_fortran, dtype, stream.tell()
