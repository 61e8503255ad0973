import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import BOOL, I32, OMITTED, Q8, Q8S, Operand

FLOAT32 = 1e-5  # sums of at most 24 products of numbers near 1, in another order
FLOAT16 = 4e-3  # one rounding to 11 bits
ROUNDED = 0.5 + 1e-4  # rounded to a unit, after a product in float32
ROUNDED_TWICE = 0.5 + 2**-8  # the first time at 2**shift, here at most 2**-8


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def stored(type, *shape: int, seed: int = 0) -> np.ndarray:
    info = np.iinfo(type.dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape, type.dtype)


CLAMPS = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}
INPUT_SHAPES = [(5, 24), (1, 24), (5, 4, 6), (2, 3, 4, 6), (4, 36), (0, 24)]


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, FLOAT32), (np.float16, FLOAT16)], ids=["fp32", "fp16"])
@pytest.mark.parametrize("activation", CLAMPS)
@pytest.mark.parametrize("shape", INPUT_SHAPES, ids=str)
def test_fully_connected(apply, shape, activation, dtype, tolerance):
    x, w, b = normal(*shape).astype(dtype), normal(7, 24, seed=1).astype(dtype), normal(7, seed=2).astype(dtype)
    y = apply("FULLY_CONNECTED", {"input": x, "filter": w, "bias": b, "activation": activation})
    real = x.astype(np.float64).reshape(-1, 24) @ w.astype(np.float64).T + b.astype(np.float64)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, np.clip(real, *CLAMPS[activation]), rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("activation", CLAMPS)
def test_fully_connected_quantized(apply, activation, type):
    low = int(np.iinfo(type.dtype).min)
    x = Operand(type, (5, 24), 0.05, low + 100, value=stored(type, 5, 24))
    w = Operand(type, (7, 24), 0.01, low + 140, value=stored(type, 7, 24, seed=1))
    b = Operand(I32, (7,), 0.05 * 0.01, value=np.arange(-3, 4, dtype=np.int32) * 200)
    output = Operand(type, (), 0.3, low + 120)
    y = apply("FULLY_CONNECTED", {"input": x, "filter": w, "bias": b, "activation": activation}, output)
    sums = (x.value.astype(int) - x.zero_point) @ (w.value.astype(int) - w.zero_point).T + b.value
    lowest, highest = CLAMPS[activation]
    # The bounds of the activation are rounded to stored values themselves.
    bounds = [np.clip(np.rint(v / 0.3), -1e6, 1e6) for v in (lowest, highest)]
    real = np.clip(np.clip(sums * 0.05 * 0.01 / 0.3, *bounds) + output.zero_point, low, low + 255)
    assert np.abs(y - real).max() <= ROUNDED


FC = {"input": normal(5, 24), "filter": normal(7, 24), "bias": normal(7), "activation": 0}
FC_ERRORS = [
    ({"filter": normal(7, 25)}, "120 input elements are no multiple of the filter's input size 25"),
    ({"filter": normal(0, 24)}, "filter has units 0, must be at least 1"),
    ({"filter": normal(7, 0)}, "filter has input size 0, must be at least 1"),
    ({"bias": normal(6)}, "bias length is 6, must equal the output channels 7"),
    ({"activation": 5}, "activation is 5, must be 0 to 3"),
    ({"input": normal(24)}, "input has rank 1, must have 2 to 4"),
]


@pytest.mark.parametrize("change, message", FC_ERRORS, ids=[message[:32] for _, message in FC_ERRORS])
def test_fully_connected_refuses(single, change, message):
    with pytest.raises(ModelError, match=message):
        single("FULLY_CONNECTED", {**FC, **change})


def quantized_fc(type, output_scale: float) -> tuple[dict, Operand]:
    x = Operand(type, (1, 4), 0.5, 0, value=np.ones((1, 4), type.dtype))
    w = Operand(type, (2, 4), 0.5, 0, value=np.ones((2, 4), type.dtype))
    b = Operand(I32, (2,), 0.25, value=np.zeros(2, np.int32))
    return {"input": x, "filter": w, "bias": b, "activation": 0}, Operand(type, (), output_scale, 0)


def test_fully_connected_refuses_a_wrong_bias_scale(refuses):
    inputs, output = quantized_fc(Q8, 1.0)
    wrong = Operand(I32, (2,), 0.5, value=np.zeros(2, np.int32))
    refuses("FULLY_CONNECTED", inputs, {"bias": wrong}, "bias scale is 0.5, must be input scale x filter scale", output)


@pytest.mark.parametrize("type, scale, level", [(Q8, 0.26, 1), (Q8, 0.25, 3), (Q8S, 0.26, 4)], ids=str)
def test_feature_levels_of_quantized_fully_connected(single, type, scale, level):
    assert feature_level(single("FULLY_CONNECTED", *quantized_fc(type, scale))) == level


def test_feature_levels_of_fully_connected(single):
    assert feature_level(single("FULLY_CONNECTED", FC)) == 1
    assert feature_level(single("FULLY_CONNECTED", {**FC, "input": normal(0, 24)})) == 3


MATMULS = [
    pytest.param((3, 4), (4, 5), id="matrices"),
    pytest.param((2, 3, 4), (2, 4, 5), id="rank 3"),
    pytest.param((2, 3, 1, 4), (2, 3, 4, 6), id="rank 4"),
    pytest.param((0, 3, 4), (0, 4, 5), id="no batch"),
]
ADJOINTS = pytest.mark.parametrize("adj_x, adj_y", [(False, False), (True, False), (False, True), (True, True)])


def swapped(array: np.ndarray, swap: bool) -> np.ndarray:
    return np.ascontiguousarray(array.swapaxes(-1, -2)) if swap else array


@ADJOINTS
@pytest.mark.parametrize("left, right", MATMULS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, FLOAT32), (np.float16, FLOAT16)], ids=["fp32", "fp16"])
def test_batch_matmul(apply, left, right, adj_x, adj_y, dtype, tolerance):
    x, y = normal(*left).astype(dtype), normal(*right, seed=1).astype(dtype)
    given = {"input0": swapped(x, adj_x), "input1": swapped(y, adj_y), "adj_x": adj_x, "adj_y": adj_y}
    result = apply("BATCH_MATMUL", given)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, x.astype(float) @ y.astype(float), rtol=tolerance, atol=tolerance * 10)


@ADJOINTS
@pytest.mark.parametrize("left, right", MATMULS)
def test_batch_matmul_quantized(apply, left, right, adj_x, adj_y):
    x, y = stored(Q8S, *left), stored(Q8S, *right, seed=1)
    given = {
        "input0": Operand(Q8S, swapped(x, adj_x).shape, 0.02, 3, value=swapped(x, adj_x)),
        "input1": Operand(Q8S, swapped(y, adj_y).shape, 0.03, -7, value=swapped(y, adj_y)),
        "adj_x": adj_x, "adj_y": adj_y,
    }  # fmt: skip
    result = apply("BATCH_MATMUL", given, Operand(Q8S, (), 0.2, 10))
    real = (x.astype(float) - 3) @ (y.astype(float) + 7) * (0.02 * 0.03 / 0.2) + 10
    assert np.abs(result - np.clip(real, -128, 127)).max(initial=0) <= ROUNDED_TWICE


@ADJOINTS
def test_batch_matmul_of_integers_is_exact_and_wraps(apply, adj_x, adj_y):
    x = np.array([[2**30 + 1, 3], [-5, 2**31 - 1]], np.int32)
    y = np.array([[2, 1], [7, -(2**31)]], np.int32)
    given = {"input0": swapped(x, adj_x), "input1": swapped(y, adj_y), "adj_x": adj_x, "adj_y": adj_y}
    exact = x.astype(object) @ y.astype(object)
    wrapped = (exact + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(apply("BATCH_MATMUL", given), wrapped.astype(np.int32))


def test_omitted_flags_mean_false(apply):
    omitted = Operand(BOOL, value=OMITTED)
    given = {"input0": normal(2, 3), "input1": normal(3, 2), "adj_x": omitted, "adj_y": omitted}
    np.testing.assert_allclose(apply("BATCH_MATMUL", given), normal(2, 3) @ normal(3, 2), rtol=FLOAT32)


MATMUL = {"input0": normal(2, 3, 4), "input1": normal(2, 4, 5), "adj_x": False, "adj_y": False}
MATMUL_ERRORS = [
    ({"input1": normal(2, 3, 5)}, "input0's inner dimension is 4, must equal input1's 3"),
    ({"adj_x": True}, "input0's inner dimension is 3, must equal input1's 4"),
    ({"input1": normal(3, 4, 5)}, "input0's batch dimension 0 is 2, must equal input1's 3"),
    ({"input0": normal(2, 0, 4)}, "only batch dimensions may be 0"),
]


@pytest.mark.parametrize("change, message", MATMUL_ERRORS, ids=[message[:32] for _, message in MATMUL_ERRORS])
def test_batch_matmul_refuses(refuses, change, message):
    refuses("BATCH_MATMUL", MATMUL, change, message)


def test_batch_matmul_refuses_different_ranks(single):
    with pytest.raises(ModelError, match="input0 has rank 3 and input1 2, must be equal"):
        single("BATCH_MATMUL", {**MATMUL, "input1": normal(4, 5)})


def test_batch_matmul_needs_level_6(single):
    assert feature_level(single("BATCH_MATMUL", MATMUL)) == 6


@pytest.mark.parametrize(
    "name, inputs, macs",
    [("FULLY_CONNECTED", FC, 5 * 24 * 7), ("BATCH_MATMUL", MATMUL, 2 * 3 * 4 * 5)],
    ids=["fully connected", "matmul"],
)
def test_macs(single, name, inputs, macs):
    model = single(name, inputs)
    assert OPERATIONS[name].macs(model.call(model.operations[0])) == macs
