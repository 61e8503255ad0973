"""Conversions: every pair of types, by hand, and back again."""

import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops import conversion
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8PC, Q8S, Q8SYMM, Q16, Q16SYMM, ChannelQuant, Operand

INF, NAN = np.inf, np.nan


def of(type, scale=None, zero_point=0, channel_quant=None):
    if scale is None:
        scale = 1.0 if type.is_quantized and type != Q8PC else 0.0
    return Operand(type, (), scale, zero_point, channel_quant)


def tensor(type, values, *quant):
    return of(type, *quant).with_value(np.array(values, type.dtype))


PER_CHANNEL = tensor(Q8PC, [[1, -2], [3, -128]], 0.0, 0, ChannelQuant((0.5, 2.0), 0))
PER_COLUMN = tensor(Q8PC, [[1, -2], [3, -128]], 0.0, 0, ChannelQuant((0.5, 2.0), 1))
# id: operation, input, output, expected
GOLDEN = {
    "CAST float to int truncates": ("CAST", tensor(F32, [-1.9, 1.9, 0.5]), of(I32), [-1, 1, 0]),
    "CAST float to int edges": (
        "CAST", tensor(F32, [NAN, INF, -INF, 3e9, 2147483520]), of(I32),
        [0, 2**31 - 1, -(2**31), 2**31 - 1, 2147483520],
    ),
    "CAST float to uint8": ("CAST", tensor(F32, [-3, 1.9, 255.9, 1e9, NAN]), of(Q8, 0.25, 7), [0, 1, 255, 255, 0]),
    "CAST float16 to int": ("CAST", tensor(F16, [65504, INF]), of(I32), [65504, 2**31 - 1]),
    "CAST int to uint8": ("CAST", tensor(I32, [-1, 255, 256]), of(Q8), [0, 255, 255]),
    "CAST int to float": ("CAST", tensor(I32, [2**24 + 1, -3]), of(F32), [2**24, -3]),
    "CAST uint8 ignores the scale": ("CAST", tensor(Q8, [0, 9, 255], 0.25, 7), of(F32), [0, 9, 255]),
    "CAST to float16": ("CAST", tensor(F32, [1.5, 1e6, NAN]), of(F16), [1.5, INF, NAN]),
    "CAST bool": ("CAST", tensor(B8, [True, False]), of(B8), [True, False]),
    "CAST 16 bit": ("CAST", tensor(Q16, [0, 65535]), of(Q16), [0, 65535]),
    "CAST 16 bit signed": ("CAST", tensor(Q16SYMM, [-32768, 5]), of(Q16SYMM), [-32768, 5]),
    "QUANTIZE": ("QUANTIZE", tensor(F32, [-1, 0, 0.24, 0.26, 99]), of(Q8, 0.5, 10), [8, 10, 10, 11, 208]),
    "QUANTIZE half to even": ("QUANTIZE", tensor(F32, [-1.5, -0.5, 0.5, 2.5]), of(Q8S, 1.0, 0), [-2, 0, 0, 2]),
    "QUANTIZE edges": ("QUANTIZE", tensor(F32, [-INF, INF, NAN, 1e38]), of(Q8S, 1e-3, 5), [-128, 127, 5, 127]),
    "QUANTIZE float16": ("QUANTIZE", tensor(F16, [-INF, 3]), of(Q8, 0.5, 1), [0, 7]),
    "QUANTIZE of nothing": ("QUANTIZE", tensor(F32, np.zeros((0, 2))), of(Q8, 0.5, 1), np.zeros((0, 2))),
    "DEQUANTIZE": ("DEQUANTIZE", tensor(Q8, [0, 128, 255], 0.5, 128), of(F32), [-64, 0, 63.5]),
    "DEQUANTIZE signed": ("DEQUANTIZE", tensor(Q8S, [-128, 127], 0.5, -28), of(F16), [-50, 77.5]),
    "DEQUANTIZE symmetric": ("DEQUANTIZE", tensor(Q8SYMM, [-128, 127], 0.5), of(F32), [-64, 63.5]),
    "DEQUANTIZE per channel": ("DEQUANTIZE", PER_CHANNEL, of(F32), [[0.5, -1], [6, -256]]),
    "DEQUANTIZE per column": ("DEQUANTIZE", PER_COLUMN, of(F16), [[0.5, -4], [1.5, -256]]),
    "DEQUANTIZE float16 overflows": ("DEQUANTIZE", tensor(Q8, [255], 1e6, 0), of(F16), [INF]),
    "DEQUANTIZE of nothing": ("DEQUANTIZE", tensor(Q8, np.zeros((2, 0)), 0.5, 1), of(F32), np.zeros((2, 0))),
}  # fmt: skip
# operation, input, output: no level takes it
ERRORS = [
    ("CAST", tensor(B8, [1]), of(F32)), ("CAST", tensor(F32, [1]), of(B8)), ("CAST", tensor(Q8S, [1]), of(F32)),
    ("CAST", tensor(Q8, [1]), of(Q8S)), ("CAST", tensor(Q16, [1]), of(Q16SYMM)), ("CAST", PER_CHANNEL, of(F32)),
    ("QUANTIZE", tensor(I32, [1]), of(Q8)), ("QUANTIZE", tensor(F32, [1]), of(Q8SYMM)),
    ("QUANTIZE", tensor(F32, [1]), of(Q16)), ("QUANTIZE", tensor(F32, [1]), of(F16)),
    ("DEQUANTIZE", tensor(Q16, [1]), of(F32)), ("DEQUANTIZE", tensor(F32, [1]), of(F32)),
    ("DEQUANTIZE", tensor(Q8, [1]), of(I32)), ("DEQUANTIZE", tensor(Q8, np.zeros((1,) * 5)), of(F32)),
]  # fmt: skip
LEVELS = [
    *(("CAST", t, o, 3) for t in (F32, F16, I32, Q8) for o in (F32, F16, I32, Q8)),
    *(("CAST", t, t, 4) for t in (B8, Q8S, Q8SYMM, Q16, Q16SYMM)),
    ("QUANTIZE", F32, Q8, 3), ("QUANTIZE", F16, Q8, 3), ("QUANTIZE", F32, Q8S, 4), ("QUANTIZE", F16, Q8S, 4),
    ("DEQUANTIZE", Q8, F32, 1), ("DEQUANTIZE", Q8, F16, 3), ("DEQUANTIZE", Q8SYMM, F32, 3),
    ("DEQUANTIZE", Q8S, F32, 4), ("DEQUANTIZE", Q8S, F16, 4),
]  # fmt: skip


@pytest.mark.parametrize("operation, x, output, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, x, output, expected):
    result = apply(operation, {"input": x}, output)
    np.testing.assert_array_equal(result, np.array(expected, output.type.dtype), strict=True)


@pytest.mark.parametrize("operation, x, output", ERRORS, ids=lambda v: v if isinstance(v, str) else v.type.name)
def test_refused(single, operation, x, output):
    with pytest.raises(ModelError, match=r"must be|must have") as refused:
        single(operation, {"input": x}, output)
    assert refused.value.operation == operation


@pytest.mark.parametrize("operation, type, output, level", LEVELS, ids=lambda v: getattr(v, "name", str(v)))
def test_level(single, operation, type, output, level):
    assert feature_level(single(operation, {"input": tensor(type, [1])}, of(output))) == level


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
def test_there_and_back(apply, type):
    low = np.iinfo(type.dtype).min
    x = tensor(type, np.arange(256) + low, 0.1, low + 77)
    real = apply("DEQUANTIZE", {"input": x}, of(F32))
    np.testing.assert_array_equal(apply("QUANTIZE", {"input": tensor(F32, real)}, x), x.value)


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in conversion.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS}
