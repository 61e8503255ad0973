"""Elements added around a tensor: by hand, against PyTorch and at the edges."""

import numpy as np
import pytest

from arrays import HUGE, ints, tensor
from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops import padding
from nnapi.ops.types import B8, F16, F32, FLOAT16, FLOAT32, I32, INT32, Q8, Q8S, Operand

torch = pytest.importorskip("torch")

X = tensor(F32, 3)


def pairs(*values):
    return np.array(values, np.int32).reshape(-1, 2)


def scalar(type, value):
    return Operand(type).with_value(np.array(value, type.dtype))


PAD = {"input": X, "paddings": pairs(1, 2)}
PAD_V2 = PAD | {"pad_value": 9.0}
REFLECT, SYMMETRIC = ({"input": X, "paddings": pairs(1, 2), "mode": mode} for mode in (0, 1))
QUANTIZED = tensor(Q8, 2, zero_point=7)
# operation, inputs, expected
GOLDEN = {
    "pad": ("PAD", PAD, [0, 0, 1, 2, 0, 0]),
    "pad by nothing": ("PAD", {"input": X, "paddings": pairs(0, 0)}, [0, 1, 2]),
    "pad two dimensions": ("PAD", {"input": tensor(F32, 1, 2), "paddings": pairs(1, 0, 0, 1)}, [[0, 0, 0], [0, 1, 0]]),
    "pad nothing": ("PAD", {"input": tensor(F32, 0, 2), "paddings": pairs(1, 0, 0, 1)}, [[0, 0, 0]]),
    "pad with real zero": ("PAD", {"input": QUANTIZED, "paddings": pairs(1, 1)}, [7, 0, 1, 7]),
    "pad_v2": ("PAD_V2", PAD_V2, [9, 0, 1, 2, 9, 9]),
    "pad_v2 as stored": (
        "PAD_V2", {"input": QUANTIZED, "paddings": pairs(1, 0), "pad_value": scalar(INT32, 200)}, [200, 0, 1]
    ),
    "pad_v2 as stored, signed": (
        "PAD_V2", {"input": tensor(Q8S, 2), "paddings": pairs(1, 0), "pad_value": scalar(INT32, -128)}, [-128, 0, 1]
    ),
    "reflect": ("MIRROR_PAD", REFLECT, [1, 0, 1, 2, 1, 0]),
    "symmetric": ("MIRROR_PAD", SYMMETRIC, [0, 0, 1, 2, 2, 1]),
    "symmetric in full": ("MIRROR_PAD", SYMMETRIC | {"paddings": pairs(3, 3)}, [2, 1, 0, 0, 1, 2, 2, 1, 0]),
    "reflect in full": ("MIRROR_PAD", REFLECT | {"paddings": pairs(2, 2)}, [2, 1, 0, 1, 2, 1, 0]),
    "reflect beside nothing": (
        "MIRROR_PAD", {"input": tensor(F32, 0, 2), "paddings": pairs(0, 0, 1, 0), "mode": 0}, np.zeros((0, 3))
    ),
}  # fmt: skip
# operation, valid inputs, change, message
ERRORS = {
    "pad negative": ("PAD", PAD, {"paddings": pairs(1, -1)}, "paddings hold -1, must not be negative"),
    "pad too much": ("PAD", PAD, {"paddings": pairs(HUGE, HUGE)}, r"has 4294967297 elements, limit 2147483647"),
    "pad too many bytes": ("PAD", PAD, {"paddings": pairs(0, 2**30)}, "4294967308 bytes, limit 4294967295"),
    "pad nothing too much": (
        "PAD", {"input": tensor(F32, 0, 1), "paddings": pairs(0, 0, 0, 0)}, {"paddings": pairs(0, 0, HUGE, HUGE)},
        "limit 4294967295",
    ),
    "pad count": ("PAD", PAD, {"paddings": pairs(1, 1, 1, 1)}, r"paddings have shape \(2, 2\), must have \(1, 2\)"),
    "pad pairs": ("PAD", PAD, {"paddings": np.zeros((1, 3), np.int32)}, r"shape \(1, 3\), must have \(1, 2\)"),
    "pad rank": ("PAD", PAD, {"paddings": ints(1, 2)}, "paddings has rank 1, must have 2"),
    "pad bool": ("PAD", PAD, {"input": tensor(B8, 3)}, "input is TENSOR_BOOL8, must be"),
    "pad_v2 negative": ("PAD_V2", PAD_V2, {"paddings": pairs(-2, 0)}, "paddings hold -2, must not be negative"),
    "pad_v2 value": (
        "PAD_V2", {"input": QUANTIZED, "paddings": pairs(0, 0), "pad_value": scalar(INT32, 0)}, {"pad_value": 256},
        "pad_value is 256, must be 0 to 255 for TENSOR_QUANT8_ASYMM",
    ),
    "pad_v2 type": ("PAD_V2", PAD_V2, {"pad_value": scalar(INT32, 0)}, "pad_value is INT32, must be FLOAT32"),
    "reflect too much": ("MIRROR_PAD", REFLECT, {"paddings": pairs(3, 0)}, r"\(3, 0\) of dimension 0 exceed its 2"),
    "symmetric too much": ("MIRROR_PAD", SYMMETRIC, {"paddings": pairs(0, 4)}, r"of dimension 0 exceed its 3"),
    "mirror nothing": (
        "MIRROR_PAD", {"input": tensor(F32, 0), "paddings": pairs(0, 0), "mode": 0}, {"paddings": pairs(1, 0)},
        "exceed its 0 to mirror",
    ),
    "mode": ("MIRROR_PAD", REFLECT, {"mode": 2}, r"mode is 2, must be 0 \(reflect\) or 1 \(symmetric\)"),
    "mirror negative": ("MIRROR_PAD", REFLECT, {"paddings": pairs(-1, 0)}, "paddings hold -1, must not be negative"),
}  # fmt: skip
LEVELS = [
    ("PAD", F32, 0, 2), ("PAD", Q8, 0, 2), ("PAD", Q8, 1, 3), ("PAD", F16, 0, 3), ("PAD", Q8S, 1, 4),
    ("MIRROR_PAD", F32, 0, 7), ("MIRROR_PAD", Q8S, 0, 7),
]  # fmt: skip


@pytest.mark.parametrize("operation, inputs, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, expected):
    result = apply(operation, inputs)
    assert result.dtype == inputs["input"].type.dtype
    np.testing.assert_array_equal(result, expected)
    assert result.shape == np.shape(expected)


@pytest.mark.parametrize("operation, inputs, change, message", ERRORS.values(), ids=ERRORS)
def test_errors(refuses, operation, inputs, change, message):
    refuses(operation, inputs, change, message)


@pytest.mark.parametrize("type, kind, value", [(F32, FLOAT32, -1.5), (F16, FLOAT16, -1.5), (Q8, INT32, 3)])
def test_pad_v2_against_pytorch(apply, type, kind, value):
    x = tensor(type, 2, 3, 4, 5)
    expected = torch.nn.functional.pad(torch.from_numpy(x.value), (1, 0, 2, 3, 0, 4, 5, 6), value=value).numpy()
    around = pairs(5, 6, 0, 4, 2, 3, 1, 0)
    result = apply("PAD_V2", {"input": x, "paddings": around, "pad_value": scalar(kind, value)})
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("mode, edge", [(0, 0), (1, 1)], ids=["reflect", "symmetric"])
@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S, I32], ids=lambda t: t.name)
def test_mirror_pad_by_index(apply, type, mode, edge):
    x, around = tensor(type, 1, 2, 4, 5), [(0, 0), (1, 1), (3, 0), (2, 4)]
    expected = x.value
    for axis, (before, after) in enumerate(around):
        size = x.value.shape[axis]
        left = [i - edge for i in range(before, 0, -1)]
        right = [size - 1 - i + edge for i in range(1, after + 1)]
        expected = expected.take([*left, *range(size), *right], axis)
    result = apply("MIRROR_PAD", {"input": x, "paddings": pairs(*np.ravel(around)), "mode": mode})
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("operation, type, zero_point, level", LEVELS)
def test_levels(single, operation, type, zero_point, level):
    x = tensor(type, 3, zero_point=zero_point)
    inputs = {"input": x, "paddings": pairs(1, 1)} | ({} if operation == "PAD" else {"mode": 0})
    assert feature_level(single(operation, inputs)) == level


def test_padding_keeps_the_scale(single):
    with pytest.raises(ModelError, match=r"output has scale and zero point \(1.0, 0\), must have \(0.5, 0\)"):
        single("PAD", {"input": tensor(Q8, 2), "paddings": pairs(1, 1)}, Operand(Q8, scale=1.0))


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in padding.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
