from typing import NamedTuple

import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import Q8, Q8S, Operand

torch = pytest.importorskip("torch")
functional = torch.nn.functional

FLOAT32 = 1e-6  # a mean of at most 42 numbers near 1, in another order
FLOAT16 = 1e-3  # one rounding to 11 bits


class Case(NamedTuple):
    """Sizes of one pool; pairs are (height, width), paddings left, right, top, bottom or NNAPI's scheme."""

    batch: int = 1
    image: tuple[int, int] = (7, 6)
    filter: tuple[int, int] = (3, 2)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] | int = (0, 0, 0, 0)
    activation: int = 0
    layout: bool = False


CASES = {
    "plain": Case(),
    "batch": Case(batch=2),
    "strided": Case(stride=(2, 3)),
    "padded": Case(padding=(1, 1, 2, 2)),
    "padded unevenly": Case(padding=(1, 0, 0, 2), stride=(2, 2)),
    "same": Case(padding=1, stride=(2, 2), image=(8, 5)),
    "same, stride over filter": Case(padding=1, stride=(4, 3)),
    "same, filter over image": Case(padding=1, filter=(9, 9), image=(3, 4)),
    "valid": Case(padding=2, stride=(3, 1)),
    "global": Case(filter=(7, 6)),
    "relu": Case(activation=1),
    "relu1": Case(activation=2),
    "relu6": Case(activation=3),
    "channels first": Case(layout=True, padding=(1, 1, 0, 1)),
    "channels first, same": Case(layout=True, padding=1, stride=(2, 2)),
    "no batch": Case(batch=0, padding=1),
}
NAMES = ("AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D")


def inputs_of(case: Case, x) -> dict:
    ends = ("padding_left", "padding_right", "padding_top", "padding_bottom")
    padding = {"padding": case.padding} if isinstance(case.padding, int) else dict(zip(ends, case.padding))
    return {
        "input": x, **padding, "stride_height": case.stride[0], "stride_width": case.stride[1],
        "filter_height": case.filter[0], "filter_width": case.filter[1], "activation": case.activation,
        "layout": case.layout,
    }  # fmt: skip


def image_of(case: Case) -> np.ndarray:
    shape = (case.batch, 3, *case.image) if case.layout else (case.batch, *case.image, 3)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 3


def padding_of(case: Case) -> tuple[int, int, int, int]:
    if not isinstance(case.padding, int):
        return case.padding
    if case.padding == 2:
        return 0, 0, 0, 0
    ends = []
    for size, filter, stride in list(zip(case.image, case.filter, case.stride))[::-1]:
        total = max((int(np.ceil(size / stride)) - 1) * stride + filter - size, 0)
        ends += [total // 2, total - total // 2]
    return tuple(ends)


def expected(name: str, case: Case, x: np.ndarray, activation: bool = True) -> np.ndarray:
    """PyTorch's answer in float64; means are sums over counts of pixels that are there."""
    x = torch.from_numpy(x.astype(np.float64))
    x = x if case.layout else x.permute(0, 3, 1, 2)
    fill = -np.inf if name == "MAX_POOL_2D" else 0.0
    padded = functional.pad(x.square() if name == "L2_POOL_2D" else x, padding_of(case), value=fill)
    if name == "MAX_POOL_2D":
        y = functional.max_pool2d(padded, case.filter, case.stride)
    else:
        there = functional.pad(torch.ones_like(x), padding_of(case))
        y = functional.avg_pool2d(padded, case.filter, case.stride)
        y = y / functional.avg_pool2d(there, case.filter, case.stride)
        y = y.sqrt() if name == "L2_POOL_2D" else y
    low, high = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}[case.activation if activation else 0]
    return torch.clamp(y if case.layout else y.permute(0, 2, 3, 1), low, high).numpy()


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, FLOAT32), (np.float16, FLOAT16)], ids=["fp32", "fp16"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("name", NAMES)
def test_float(apply, name, case, dtype, tolerance):
    x = image_of(case).astype(dtype)
    y = apply(name, inputs_of(case, x))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(np.float64), expected(name, case, x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_quantized(apply, name, case, type):
    info = np.iinfo(type.dtype)
    stored = np.random.default_rng(1).integers(info.min, info.max + 1, image_of(case).shape, type.dtype)
    zero_point = int(info.min) + 100
    y = apply(name, inputs_of(case, Operand(type, stored.shape, 0.05, zero_point, value=stored)))
    assert y.dtype == type.dtype
    unit = 1 / 0.05
    low, high = {0: (-1e9, 1e9), 1: (0, 1e9), 2: (-unit, unit), 3: (0, 6 * unit)}[case.activation]
    real = np.clip(expected(name, case, stored, activation=False), low + zero_point, high + zero_point)
    assert np.abs(y - real).max(initial=0) <= 0.5  # one rounding


def test_half_rounds_away_from_zero(apply):
    x = Operand(Q8S, (1, 1, 2, 2), 1.0, 0, value=np.array([1, -1, 2, -2], np.int8).reshape(1, 1, 2, 2))
    y = apply("AVERAGE_POOL_2D", inputs_of(Case(filter=(1, 2)), x))
    np.testing.assert_array_equal(y.ravel(), [2, -2])


BASE = inputs_of(Case(padding=(1, 1, 1, 1), filter=(3, 3)), np.ones((1, 5, 5, 2), np.float32))
ERRORS = [
    ({"stride_width": 0}, "stride_width is 0, must be at least 1"),
    ({"stride_height": -2}, "stride_height is -2, must be at least 1"),
    ({"filter_width": 0}, "filter_width is 0, must be at least 1"),
    ({"filter_height": -1}, "filter_height is -1, must be at least 1"),
    ({"filter_height": 8}, "filter height 8 exceeds the padded input's 7"),
    ({"padding_right": -1}, "padding_right is -1, must be at least 0"),
    ({"padding_top": 3}, "padding_top is 3, must be below the filter's height 3; put a PAD in front"),
    ({"activation": -1}, "activation is -1, must be 0 to 3"),
    ({"input": np.ones((1, 5, 0, 2), np.float32)}, "input width is 0, only the batch may be"),
    ({"input": np.ones((1, 5, 5, 0), np.float32)}, "input channels is 0, only the batch may be"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change, message", ERRORS, ids=[message[:32] for _, message in ERRORS])
def test_bad_values_are_refused(refuses, name, change, message):
    refuses(name, BASE, change, message)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_scheme_is_refused(refuses, name):
    valid = inputs_of(Case(padding=1), np.ones((1, 5, 5, 2), np.float32))
    refuses(name, valid, {"padding": 0}, r"padding is 0, must be 1 \(same\) or 2 \(valid\)")


@pytest.mark.parametrize("name", NAMES)
def test_a_rank_other_than_4_is_refused(single, name):
    with pytest.raises(ModelError, match="input has rank 3, must have 4"):
        single(name, {**BASE, "input": np.ones((5, 5, 2), np.float32)})


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_the_output_keeps_the_input_quantization(single, name):
    x = Operand(Q8, (1, 5, 5, 2), 0.5, 3, value=np.ones((1, 5, 5, 2), np.uint8))
    with pytest.raises(ModelError, match="output has scale and zero point"):
        single(name, {**BASE, "input": x}, Operand(Q8, (), 0.25, 3))


def test_l2_pool_takes_no_quantized_input(single):
    x = Operand(Q8, (1, 5, 5, 2), 0.5, 3, value=np.ones((1, 5, 5, 2), np.uint8))
    with pytest.raises(ModelError, match="input is TENSOR_QUANT8_ASYMM, must be TENSOR_FLOAT"):
        single("L2_POOL_2D", {**BASE, "input": x}, Operand(Q8, (), 0.5, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change, level",
    [
        ({}, 1),
        ({"layout": True}, 3),
        ({"input": np.ones((1, 5, 5, 2), np.float16)}, 3),
        ({"input": np.ones((0, 5, 5, 2), np.float32)}, 3),
    ],
    ids=["fp32", "channels first", "fp16", "empty batch"],
)
def test_feature_levels(single, name, change, level):
    change = {"input": np.ones((1, 2, 5, 5), np.float32), **change} if "layout" in change else change
    assert feature_level(single(name, {**BASE, **change})) == level


@pytest.mark.parametrize("name", NAMES)
def test_macs(single, name):
    model = single(name, BASE)
    assert OPERATIONS[name].macs(model.call(model.operations[0])) == 25 * 2 * 9
