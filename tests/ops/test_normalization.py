import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, FLOAT16, Q8, Q8S, Operand

torch = pytest.importorskip("torch")
functional = torch.nn.functional

NEAR = {np.float32: 1e-5, np.float16: 4e-3}  # float32 sums in another order; one rounding to 11 bits
FLOATS = pytest.mark.parametrize("dtype", NEAR, ids=["fp32", "fp16"])
AXES = pytest.mark.parametrize(
    "shape, axis",
    [((2, 3, 4, 5), None), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -4), ((3, 7), -1), ((3, 7), 0), ((9,), 0), ((2, 3, 4), 1)],
    ids=str,
)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def along(axis: int | None) -> dict:
    return {} if axis is None else {"axis": axis}


@FLOATS
@AXES
def test_l2_normalization(apply, shape, axis, dtype):
    x = image(*shape).astype(dtype)
    y = apply("L2_NORMALIZATION", {"input": x, **along(axis)})
    real = functional.normalize(torch.from_numpy(x.astype(np.float64)), dim=-1 if axis is None else axis).numpy()
    assert y.dtype == dtype
    np.testing.assert_allclose(y, real, rtol=NEAR[dtype], atol=NEAR[dtype])


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("scale", [0.05, 1e-9])
@AXES
def test_l2_normalization_quantized(apply, shape, axis, scale, type):
    low = int(np.iinfo(type.dtype).min)
    stored = np.random.default_rng(1).integers(low, low + 256, shape, type.dtype)
    stored.reshape(-1)[:5] = low + 90
    x = Operand(type, shape, scale, low + 90, value=stored)
    y = apply("L2_NORMALIZATION", {"input": x, **along(axis)})
    centered = torch.from_numpy(stored.astype(np.float64) - x.zero_point)
    real = functional.normalize(centered, dim=-1 if axis is None else axis).numpy() * 128 + low + 128
    assert np.abs(y - np.clip(real, low, low + 255)).max() <= 0.5 + 1e-4  # one rounding, of float32 quotients


def test_zeros_stay_zeros(apply):
    np.testing.assert_array_equal(apply("L2_NORMALIZATION", {"input": np.zeros((2, 3), np.float32)}), 0)


def response(x, radius=2, bias=1.0, alpha=0.5, beta=0.75, **axis) -> dict:
    return {"input": x, "radius": radius, "bias": bias, "alpha": alpha, "beta": beta, **axis}


@FLOATS
@pytest.mark.parametrize("radius", [0, 1, 2, 20])
@AXES
def test_local_response_normalization(apply, shape, axis, radius, dtype):
    x = image(*shape).astype(dtype)
    given = response(x, radius, **along(axis))
    if dtype is np.float16:
        given = {k: np16(v) if k in ("bias", "alpha", "beta") else v for k, v in given.items()}
        given["input"] = Operand(F16, x.shape, value=x)
    y = apply("LOCAL_RESPONSE_NORMALIZATION", given)
    moved = np.moveaxis(x.astype(np.float64), -1 if axis is None else axis, -1)
    # PyTorch normalizes axis 1 and averages over its size; alpha is the factor of the sum in NNAPI.
    flat = torch.from_numpy(np.ascontiguousarray(moved)).reshape(-1, moved.shape[-1], 1)
    size = 2 * radius + 1
    real = functional.local_response_norm(flat, size, alpha=0.5 * size, beta=0.75, k=1.0).numpy()
    real = np.moveaxis(real.reshape(moved.shape), -1, -1 if axis is None else axis)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, real, rtol=NEAR[dtype], atol=NEAR[dtype])


def np16(value: float) -> Operand:
    return Operand(FLOAT16, value=np.array(value, np.float16))


@FLOATS
@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (1, 1, 1, 2), (0, 4, 5, 3)], ids=str)
def test_instance_normalization(apply, shape, layout, dtype):
    x = image(*shape).astype(dtype)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout else x
    scalars = {"gamma": 1.5, "beta": -0.25, "epsilon": 1e-3}
    if dtype is np.float16:
        given = {"input": Operand(F16, x.shape, value=x), "layout": layout, **{k: np16(v) for k, v in scalars.items()}}
    else:
        given = {"input": x, "layout": layout, **scalars}
    y = apply("INSTANCE_NORMALIZATION", given)
    assert y.dtype == dtype and y.shape == x.shape
    first = x.astype(np.float64) if layout else x.astype(np.float64).transpose(0, 3, 1, 2)
    mean, variance = (f(first, axis=(2, 3), keepdims=True) for f in (np.mean, np.var))
    real = (first - mean) / np.sqrt(variance + 1e-3) * 1.5 - 0.25
    np.testing.assert_allclose(y, real if layout else real.transpose(0, 2, 3, 1), rtol=NEAR[dtype], atol=NEAR[dtype])


VALID = {
    "L2_NORMALIZATION": {"input": image(2, 3, 4, 5), "axis": 1},
    "LOCAL_RESPONSE_NORMALIZATION": response(image(2, 3, 4, 5), axis=1),
    "INSTANCE_NORMALIZATION": {
        "input": image(2, 3, 4, 5), "gamma": 1.0, "beta": 0.0, "epsilon": 1e-3, "layout": False,
    },
}  # fmt: skip
ERRORS = [
    ("L2_NORMALIZATION", {"axis": 4}, "axis 4 is outside rank 4; use -4 to 3"),
    ("L2_NORMALIZATION", {"axis": -5}, "axis -5 is outside rank 4; use -4 to 3"),
    ("LOCAL_RESPONSE_NORMALIZATION", {"axis": 4}, "axis 4 is outside rank 4; use -4 to 3"),
    ("LOCAL_RESPONSE_NORMALIZATION", {"radius": -1}, "radius is -1, must be at least 0"),
    ("INSTANCE_NORMALIZATION", {"input": image(2, 0, 4, 5)}, "input height is 0, only the batch may be"),
]


@pytest.mark.parametrize("name, change, message", ERRORS, ids=[f"{name} {message[:24]}" for name, _, message in ERRORS])
def test_bad_values_are_refused(refuses, name, change, message):
    refuses(name, VALID[name], change, message)


@pytest.mark.parametrize("name, rank", [("L2_NORMALIZATION", "1 to 4"), ("INSTANCE_NORMALIZATION", "4")])
def test_ranks(single, name, rank):
    with pytest.raises(ModelError, match=f"input has rank 5, must have {rank}"):
        single(name, {**VALID[name], "input": image(1, 1, 2, 2, 2)})


def test_quantized_l2_normalization_has_a_fixed_output(single):
    x = Operand(Q8, (1, 4), 0.5, 3, value=np.ones((1, 4), np.uint8))
    with pytest.raises(ModelError, match="output has scale and zero point"):
        single("L2_NORMALIZATION", {"input": x}, Operand(Q8, (), 0.5, 128))


LEVELS = [
    ("L2_NORMALIZATION", {"axis": -1}, 1),
    ("L2_NORMALIZATION", {"axis": 1}, 3),
    ("L2_NORMALIZATION", {"input": image(3, 4, 5), "axis": -1}, 3),
    ("LOCAL_RESPONSE_NORMALIZATION", {"axis": -1}, 1),
    ("LOCAL_RESPONSE_NORMALIZATION", {"axis": 0}, 3),
    ("LOCAL_RESPONSE_NORMALIZATION", {"input": image(3, 4), "axis": -1}, 3),
    ("INSTANCE_NORMALIZATION", {}, 3),
]


@pytest.mark.parametrize("name, change, level", LEVELS, ids=[f"{row[0]} {n}" for n, row in enumerate(LEVELS)])
def test_feature_levels(single, name, change, level):
    assert feature_level(single(name, {**VALID[name], **change})) == level


@pytest.mark.parametrize(
    "name, macs",
    [("L2_NORMALIZATION", 240), ("LOCAL_RESPONSE_NORMALIZATION", 120 * (3 + 2)), ("INSTANCE_NORMALIZATION", 240)],
)
def test_macs(single, name, macs):
    model = single(name, VALID[name])
    assert OPERATIONS[name].macs(model.call(model.operations[0])) == macs
