"""Whether two models compute the same."""

from __future__ import annotations

import numpy as np

from nnapi.drivers.reference import execute
from nnapi.ir.model import Model
from nnapi.ops.types import Array, Operand

RTOL, ATOL = 1e-4, 1e-5
"""float32 sums in another order, and weights rounded once more; magnitudes here are 1 to 1000."""


def sample(operand: Operand, rng: np.random.Generator) -> Array:
    """A random value; unknown dimensions become 2."""
    shape = [d or 2 for d in operand.dimensions]
    dtype = operand.type.dtype
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    info = np.iinfo(dtype)
    low, high = (-5, 6) if dtype.itemsize > 1 else (info.min, info.max + 1)
    return rng.integers(low, high, shape).astype(dtype)


def assert_same_function(before: Model, after: Model, *, seed: int = 0, rtol: float = RTOL, atol: float = ATOL) -> None:
    """Same inputs and outputs, by name, type and shape; same results of the reference on two random inputs.

    Quantized and integer results must agree exactly.
    """
    for one, other in zip(
        (*before.input_operands, *before.output_operands), (*after.input_operands, *after.output_operands), strict=True
    ):
        assert (one.name, one.type, one.scale, one.zero_point) == (
            other.name,
            other.type,
            other.scale,
            other.zero_point,
        )
        assert one.dimensions == other.dimensions
    rng = np.random.default_rng(seed)
    for _ in range(2):
        inputs = [sample(o, rng) for o in before.input_operands]
        for expected, actual in zip(execute(before, inputs), execute(after, inputs), strict=True):
            assert expected.shape == actual.shape
            scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol * scale)
            else:
                np.testing.assert_array_equal(actual, expected)
