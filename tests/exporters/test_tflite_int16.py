"""16x8: every row of the operation table that is beyond NNAPI's feature levels runs on TFLite's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from nnapi.drivers.reference import execute
from nnapi.exporters.tflite import check_tflite, export_tflite
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.verdict import Accept, Reject
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import BEYOND, F32, I32, Q8PC, Q8S, Q16SYMM, Array, ChannelQuant, Operand
from nnapi.quantization.integer import CHANNEL_AXIS
from tflite_cases import CASES, SCALE, interpret, one, per_channel

ROWS = {name for name, op in OPERATIONS.items() if any(row.since == BEYOND for row in op.types)}
APART = {
    "QUANTIZE": "conversions below", "DEQUANTIZE": "conversions below", "CONCATENATION": "joins below",
    "PACK": "joins below",
}  # fmt: skip
STEPS = {
    "LOGISTIC": (2, "its kernel interpolates in a table of 256 values"),
    "TANH": (3, "its kernel interpolates in a table of 256 values"),
    "SOFTMAX": (4, "its kernel reads exponentials from a table of 513 values"),
}
"""By how many steps of 16 bits a kernel may be off, and why; others by one, which is their rounding."""


def in_16_bits(operation: str, given: dict[str, Any]) -> dict[str, Any]:
    """The case with a scale per channel of its weights, as all kernels of 16-bit activations take them."""
    if operation not in CHANNEL_AXIS or given["filter"][0] == "per channel":
        return given
    return given | {"filter": per_channel(CHANNEL_AXIS[operation], *given["filter"][1])}


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        pytest.param(operation, in_16_bits(operation, given), id=f"{operation} {name}")
        for name, operation, given, types in CASES
        if operation in ROWS and Q8S in types
    ],
)
def test_a_kernel_computes_what_the_reference_does(operation: str, given: dict[str, Any]) -> None:
    model, inputs = one(operation, given, Q16SYMM)
    assert check_tflite(model) == [Accept()]
    assert_within(model, interpret(export_tflite(model), inputs), execute(model, inputs), STEPS.get(operation, (1,))[0])


def assert_within(model: Model, actual: list[Array], expected: list[Array], steps: int) -> None:
    for operand, a, e in zip(model.output_operands, actual, expected, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape) == (operand.type.dtype, operand.dimensions)
        off = np.abs(a.astype(np.float64) - e.astype(np.float64))
        assert off.max() <= (steps if operand.type == Q16SYMM else 0)


def test_every_row_is_tried() -> None:
    tried = {operation for _, operation, _, types in CASES if Q8S in types}
    assert tried & ROWS | APART.keys() == ROWS


def test_conversions() -> None:
    b = Builder()
    stored = b.add("QUANTIZE", {"input": b.input("x", F32, (3, 40))}, Operand(Q16SYMM, (), SCALE[Q16SYMM]))
    b.output(stored, b.add("DEQUANTIZE", {"input": stored}, Operand(F32)))
    model = b.finish()
    x = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    x[0, :2] = 100, -100
    (q, real), (wanted, exact) = interpret(export_tflite(model), [x]), execute(model, [x])
    assert np.array_equal(q, wanted) and q[0, :2].tolist() == [32767, -32768]
    assert np.array_equal(real, exact)


def test_joins() -> None:
    b = Builder()
    scales = (SCALE[Q16SYMM], SCALE[Q16SYMM] / 3)
    x, y = (b.input(n, Q16SYMM, (2, 7), s) for n, s in zip("xy", scales))
    like = Operand(Q16SYMM, (), SCALE[Q16SYMM])
    b.output(
        b.add("CONCATENATION", {"inputs": [x, y], "axis": 1}, like), b.add("PACK", {"axis": 1, "inputs": [x, x]}, like)
    )
    model = b.finish()
    inputs = [np.random.default_rng(n).integers(-32768, 32768, (2, 7)).astype(np.int16) for n in range(2)]
    assert_within(model, interpret(export_tflite(model), inputs), execute(model, inputs), 1)


def dense(*, constant: bool) -> Model:
    """A fully connected layer whose bias may be an input."""
    b = Builder()
    filter = Operand(Q8PC, (3, 4), channel_quant=ChannelQuant((0.1, 0.2, 0.3), 0))
    given = {
        "input": b.input("x", Q16SYMM, (1, 4), 0.001),
        "filter": b.constant(np.ones((3, 4), np.int8), filter),
        "bias": b.constant(np.arange(3, dtype=np.int32) * 1000, Operand(I32)) if constant else b.input("b", I32, (3,)),
        "activation": 0,
    }
    b.output(b.add("FULLY_CONNECTED", given, Operand(Q16SYMM, (), 0.001)))
    return b.finish()


def test_a_bias_has_64_bits() -> None:
    file = schema.Model.GetRootAs(export_tflite(dense(constant=True)))
    operator = file.Subgraphs(0).Operators(0)
    bias = file.Subgraphs(0).Tensors(operator.Inputs(2))
    assert bias.Type() == schema.TensorType.INT64
    assert file.Buffers(bias.Buffer()).DataAsNumpy().view(np.int64).tolist() == [0, 1000, 2000]
    assert np.allclose(bias.Quantization().ScaleAsNumpy(), [1e-4, 2e-4, 3e-4])


def test_a_bias_that_varies_is_refused() -> None:
    (verdict,) = check_tflite(dense(constant=False))
    assert isinstance(verdict, Reject)
    assert verdict.reason == (
        "FULLY_CONNECTED: bias is not a constant, kernels of 16-bit activations take one of 64 bits"
    )


@pytest.mark.parametrize("factor", [2.0**12, 2.0**14, 2.0**18])
@pytest.mark.parametrize("kind", ["ADD", "SUB"])
def test_a_sum_far_finer_than_its_inputs(kind: str, factor: float) -> None:
    """The kernel's check of its fixed point would end the process."""
    b = Builder()
    given = {name: b.input(name, Q16SYMM, (2, 8), 1e-3) for name in ("input0", "input1")}
    b.output(b.add(kind, given | {"activation": 0}, Operand(Q16SYMM, (), 1e-3 / factor)))
    model = b.finish()
    inputs = [np.random.default_rng(n).integers(-2, 3, (2, 8)).astype(np.int16) for n in range(2)]
    assert_within(model, interpret(export_tflite(model), inputs), execute(model, inputs), 1)
