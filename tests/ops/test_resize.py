import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, FLOAT16, Q8, Q8S, Operand

torch = pytest.importorskip("torch")
functional = torch.nn.functional

NEAR32 = 2e-5  # places are float32: a place near 100 is off by 4e-6 of a pixel
NEAR16 = 2e-3  # one rounding to 11 bits
BILINEAR, NEAREST = "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"
SIZES = {"up": (11, 9), "down": (3, 2), "same": (6, 5), "twice": (12, 10), "one": (1, 1), "one way": (13, 2)}


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def given(x, size, layout=False, **flags) -> dict:
    return {"input": x, "height": size[0], "width": size[1], "layout": layout, **flags}


def asymmetric(x: np.ndarray, size) -> np.ndarray:
    """Bilinear with a pixel's corner as its place, in float64: x [N, H, W, C]."""
    for axis, target in ((1, size[0]), (2, size[1])):
        at = np.arange(target) * (x.shape[axis] / target)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        high = np.minimum(low + 1, x.shape[axis] - 1)
        x = x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight
    return x


def interpolated(x: np.ndarray, size, **options) -> np.ndarray:
    """PyTorch's interpolation of x [N, H, W, C]."""
    y = functional.interpolate(torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2), size, **options)
    return y.permute(0, 2, 3, 1).numpy()


FORMS = {
    "asymmetric": ({}, asymmetric),
    "half pixel": ({"half_pixel_centers": True}, lambda x, size: interpolated(x, size, mode="bilinear")),
    "aligned": ({"align_corners": True}, lambda x, size: interpolated(x, size, mode="bilinear", align_corners=True)),
}
NEAREST_FORMS = {
    "asymmetric": ({}, lambda x, size: interpolated(x, size, mode="nearest")),
    "half pixel": ({"half_pixel_centers": True}, lambda x, size: interpolated(x, size, mode="nearest-exact")),
}


@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, NEAR32), (np.float16, NEAR16)], ids=["fp32", "fp16"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("flags, expected", FORMS.values(), ids=FORMS.keys())
def test_bilinear(apply, flags, expected, size, dtype, tolerance, layout):
    x = image(2, 6, 5, 3).astype(dtype)
    y = apply(BILINEAR, given(x.transpose(0, 3, 1, 2) if layout else x, size, layout, **flags))
    y = y.transpose(0, 2, 3, 1) if layout else y
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected(x.astype(np.float64), size), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("flags, expected", FORMS.values(), ids=FORMS.keys())
def test_bilinear_quantized(apply, flags, expected, size, type):
    info = np.iinfo(type.dtype)
    stored = np.random.default_rng(1).integers(info.min, info.max + 1, (1, 6, 5, 3), type.dtype)
    y = apply(BILINEAR, given(Operand(type, stored.shape, 0.5, int(info.min) + 9, value=stored), size, **flags))
    assert y.dtype == type.dtype
    # One rounding of pixels whose weights have 11 bits, along height and along width.
    assert np.abs(y - expected(stored.astype(np.float64), size)).max() <= 0.5 + 255 * 2 * 2**-12


@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("flags, expected", NEAREST_FORMS.values(), ids=NEAREST_FORMS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.int8])
def test_nearest(apply, dtype, flags, expected, size, layout):
    x = (image(2, 6, 5, 3) * 40).astype(np.int8).astype(dtype)
    x = x.transpose(0, 3, 1, 2) if layout else x
    operand = {np.uint8: Operand(Q8, x.shape, 0.5, 3, value=x), np.int8: Operand(Q8S, x.shape, 0.5, 3, value=x)}
    y = apply(NEAREST, given(operand.get(dtype, x), size, layout, **flags))
    real = expected(x.transpose(0, 2, 3, 1) if layout else x, size)
    np.testing.assert_array_equal(y.transpose(0, 2, 3, 1) if layout else y, real)


def test_nearest_with_aligned_corners_rounds_to_the_nearest(apply):
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    y = apply(NEAREST, given(x, (1, 7), align_corners=True))
    np.testing.assert_array_equal(y.ravel(), [0, 1, 1, 2, 2, 3, 3])  # places 0, 0.5, 1, ..., 3; half goes up


def scaled(x, width_scale, height_scale) -> dict:
    return {"input": x, "width_scale": width_scale, "height_scale": height_scale, "layout": False}


@pytest.mark.parametrize("name", [BILINEAR, NEAREST])
@pytest.mark.parametrize(
    "width_scale, height_scale, size",
    [(2.0, 0.5, (3, 10)), (1.5, 1.9, (11, 7)), (np.float32(1.4), 1.0, (6, 7)), (0.2, 0.17, (1, 1))],
    ids=["twice and half", "rounded down", "a product that float32 rounds up", "one pixel"],
)
def test_scales(apply, name, width_scale, height_scale, size):
    x = image(1, 6, 5, 2)
    y = apply(name, scaled(x, float(width_scale), height_scale))
    np.testing.assert_array_equal(y, apply(name, given(x, size)))


def test_scales_of_float16_images_are_float16(apply):
    x = image(1, 6, 5, 2).astype(np.float16)
    scale = Operand(FLOAT16, value=np.array(2, np.float16))
    y = apply(BILINEAR, scaled(Operand(F16, x.shape, value=x), scale, scale))
    assert y.shape == (1, 12, 10, 2)


def test_no_batch(apply):
    for name in (BILINEAR, NEAREST):
        assert apply(name, given(image(0, 6, 5, 2), (3, 4))).shape == (0, 3, 4, 2)


BASE = given(image(1, 6, 5, 2), (3, 4), align_corners=False, half_pixel_centers=True)
ERRORS = [
    ({"width": 0}, "width is 0, must be at least 1"),
    ({"height": -3}, "height is -3, must be at least 1"),
    ({"align_corners": True}, "align_corners and half_pixel_centers are both true, must be at most one"),
    ({"input": image(1, 0, 5, 2)}, "input height is 0, only the batch may be"),
    ({"width": 2**30}, "has 6442450944 elements, limit 2147483647"),
]
SCALE_ERRORS = [
    ({"width_scale": 0.1}, "width_scale 0.1.* leaves 0 of 5 pixels, must be at least 1"),
    ({"height_scale": -1.0}, "height_scale is -1.0, must be positive and finite"),
    ({"height_scale": np.float32("inf")}, "height_scale is inf, must be positive and finite"),
    ({"width_scale": np.float32("nan")}, "width_scale is nan, must be positive and finite"),
    ({"width_scale": np.float32(3e38)}, "width_scale 3.* makes .* pixels of 5"),
]
ALL_ERRORS = [(BASE, *row) for row in ERRORS] + [(scaled(image(1, 6, 5, 2), 1.0, 1.0), *row) for row in SCALE_ERRORS]


@pytest.mark.parametrize("name", [BILINEAR, NEAREST])
@pytest.mark.parametrize("valid, change, message", ALL_ERRORS, ids=[row[2][:32] for row in ALL_ERRORS])
def test_bad_values_are_refused(refuses, name, valid, change, message):
    refuses(name, valid, change, message)


def test_nearest_needs_its_layout(single):
    with pytest.raises(ModelError, match="takes"):
        single(NEAREST, {"input": image(1, 6, 5, 2), "width": 2, "height": 2})


LEVELS = [
    ("sizes", BILINEAR, {}, 1),
    ("channels first", BILINEAR, {"layout": True}, 3),
    ("fp16", BILINEAR, {"input": image(1, 6, 5, 2).astype(np.float16)}, 3),
    ("half pixel", BILINEAR, {"half_pixel_centers": True}, 4),
    ("aligned", BILINEAR, {"align_corners": True}, 4),
    ("nearest", NEAREST, {}, 3),
    ("nearest, half pixel", NEAREST, {"half_pixel_centers": True}, 4),
]


@pytest.mark.parametrize("name, change, level", [row[1:] for row in LEVELS], ids=[row[0] for row in LEVELS])
def test_feature_levels(single, name, change, level):
    assert feature_level(single(name, {**given(image(1, 6, 5, 2), (3, 4)), **change})) == level


def test_scales_need_level_3(single):
    assert feature_level(single(BILINEAR, scaled(image(1, 6, 5, 2), 1.0, 1.0))) == 3


def test_macs(single):
    model = single(BILINEAR, BASE)
    assert OPERATIONS[BILINEAR].macs(model.call(model.operations[0])) == 4 * 3 * 4 * 2
