"""One input, one value after the other: against PyTorch, by hand, and at the edges."""

import numpy as np
import pytest

from nnapi.ir.verify import feature_level
from nnapi.ops import unary
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S, Operand

torch = pytest.importorskip("torch")

INF, NAN, LOWEST = np.inf, np.nan, -(2**31)
FLOAT32 = 4e-7  # relative: a few units in the last place, two libraries
FLOAT16 = 1e-3  # relative: one rounding to 11 bits
POSITIVE, ANY = (0.01, 9.0), (-9.0, 9.0)

# operation: PyTorch's function, the interval to test it on
REFERENCES = {
    "ABS": (torch.abs, ANY), "EXP": (torch.exp, ANY), "FLOOR": (torch.floor, ANY), "LOG": (torch.log, POSITIVE),
    "NEG": (torch.neg, ANY), "RSQRT": (torch.rsqrt, POSITIVE), "SIN": (torch.sin, ANY), "SQRT": (torch.sqrt, POSITIVE),
}  # fmt: skip
# operation, type, input, output
GOLDEN = [
    ("ABS", F32, [-1.5, 0.0, -INF, NAN], [1.5, 0.0, INF, NAN]),
    ("ABS", I32, [-7, 0, 2**31 - 1, LOWEST], [7, 0, 2**31 - 1, LOWEST]),
    ("EXP", F32, [0.0, 1.0, -INF, 1000.0, NAN], [1.0, 2.7182817, 0.0, INF, NAN]),
    ("EXP", F16, [12.0], [INF]),
    ("FLOOR", F32, [-1.5, -0.2, 2.999, -INF, NAN], [-2.0, -1.0, 2.0, -INF, NAN]),
    ("LOG", F32, [1.0, 0.0, -1.0, INF], [0.0, -INF, NAN, INF]),
    ("LOGICAL_NOT", B8, [True, False], [False, True]),
    ("NEG", F32, [1.5, -INF, NAN], [-1.5, INF, NAN]),
    ("NEG", I32, [3, -4, LOWEST], [-3, 4, LOWEST]),
    ("RSQRT", F32, [4.0, 0.0, -1.0, INF], [0.5, INF, NAN, 0.0]),
    ("SIN", F32, [0.0, INF, NAN], [0.0, NAN, NAN]),
    ("SQRT", F32, [2.25, 0.0, -1.0, INF], [1.5, 0.0, NAN, INF]),
]
# operation, type, level that takes it
LEVELS = [
    ("FLOOR", F32, 1), ("FLOOR", F16, 3), ("ABS", F32, 3), ("ABS", I32, 4), ("NEG", I32, 3), ("LOGICAL_NOT", B8, 3),
    ("SQRT", F16, 3), ("RSQRT", F32, 3), ("RSQRT", Q8, 7), ("RSQRT", Q8S, 7),
]  # fmt: skip
# operation, valid type, wrong operand, message
ERRORS = [
    ("ABS", F32, Operand(B8, (2,)), "input is TENSOR_BOOL8, must be"),
    ("EXP", F32, Operand(I32, (2,)), "input is TENSOR_INT32, must be"),
    ("FLOOR", F32, Operand(F32, (1, 1, 1, 1, 2)), "input has rank 5, must have 1 to 4"),
    ("LOG", F32, Operand(Q8, (2,), 0.1, 0), "input is TENSOR_QUANT8_ASYMM, must be"),
    ("LOGICAL_NOT", B8, Operand(I32, (2,)), "input is TENSOR_INT32, must be TENSOR_BOOL8"),
    ("NEG", F32, Operand(B8, (2,)), "input is TENSOR_BOOL8, must be"),
    ("RSQRT", F32, Operand(I32, (2,)), "input is TENSOR_INT32, must be"),
    ("SIN", F32, Operand(I32, (2,)), "input is TENSOR_INT32, must be"),
    ("SQRT", F32, Operand(Q8S, (2,), 0.1, 0), "input is TENSOR_QUANT8_ASYMM_SIGNED, must be"),
]


def tensor(type, values):
    array = np.array(values, type.dtype)
    scale = 0.25 if type.is_quantized else 0.0
    return Operand(type, array.shape, scale).with_value(array)


@pytest.mark.parametrize("operation, type, given, expected", GOLDEN, ids=lambda v: getattr(v, "name", None))
def test_golden(apply, operation, type, given, expected):
    result = apply(operation, {"input": tensor(type, given)})
    np.testing.assert_allclose(result, np.array(expected, type.dtype), FLOAT32)
    assert result.dtype == type.dtype


@pytest.mark.parametrize("type, rtol", [(F32, FLOAT32), (F16, FLOAT16)], ids=["float32", "float16"])
@pytest.mark.parametrize("operation", REFERENCES)
def test_against_pytorch(apply, operation, type, rtol):
    function, interval = REFERENCES[operation]
    x = np.linspace(*interval, 120, dtype=np.float32).astype(type.dtype).reshape(2, 3, 4, 5)
    expected = function(torch.from_numpy(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(apply(operation, {"input": tensor(type, x)}), expected, rtol, atol=rtol)


@pytest.mark.parametrize("type, offset", [(Q8, 0), (Q8S, -128)], ids=["unsigned", "signed"])
def test_quantized_rsqrt(apply, type, offset):
    # 0.25 to 4 -> 2 to 0.5; 0 -> infinity, saturated.
    x = Operand(type, (4,), 0.25, offset).with_value((np.array([0, 1, 4, 16]) + offset).astype(type.dtype))
    result = apply("RSQRT", {"input": x}, Operand(type, (), 0.01, offset))
    assert (result.astype(int) - offset).tolist() == [255, 200, 100, 50]


@pytest.mark.parametrize("operation, type, level", LEVELS, ids=lambda v: getattr(v, "name", None))
def test_level(single, operation, type, level):
    output = Operand(type, (), 0.25) if type.is_quantized else None
    assert feature_level(single(operation, {"input": tensor(type, [1, 1])}, output)) == level


@pytest.mark.parametrize("operation, type, wrong, message", ERRORS, ids=[e[0] for e in ERRORS])
def test_refused(refuses, operation, type, wrong, message):
    value = np.zeros(wrong.dimensions, wrong.type.dtype)
    refuses(operation, {"input": tensor(type, [1, 1])}, {"input": wrong.with_value(value)}, message)


@pytest.mark.parametrize("operation", REFERENCES)
def test_nothing_in_nothing_out(apply, operation):
    assert apply(operation, {"input": tensor(F32, np.zeros((0, 3)))}).shape == (0, 3)


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in unary.OPERATIONS}
    assert {case[0] for case in GOLDEN} == names == {case[0] for case in ERRORS}
