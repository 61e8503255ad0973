from typing import NamedTuple

import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, F32, I32, Q8, Q8PC, Q8S, ChannelQuant, Operand

torch = pytest.importorskip("torch")
functional = torch.nn.functional

FLOAT32 = 1e-5  # sums of at most 250 products of numbers near 1, in another order
FLOAT16 = 4e-3  # one rounding to 11 bits
ROUNDED = 0.5 + 1e-4  # rounded to a unit, after a product in float32


class Case(NamedTuple):
    """Sizes of one convolution; pairs are (height, width)."""

    batch: int = 1
    image: tuple[int, int] = (7, 6)
    channels: int = 3
    filter: tuple[int, int] = (3, 3)
    out: int = 4
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] | int = (0, 0, 0, 0)
    """Left, right, top, bottom; or NNAPI's scheme."""
    groups: int = 1
    activation: int = 0
    layout: bool = False


CASES = {
    "plain": Case(),
    "pointwise": Case(filter=(1, 1)),
    "pointwise, strided": Case(filter=(1, 1), stride=(2, 3)),
    "batch": Case(batch=3),
    "padded": Case(padding=(1, 1, 1, 1)),
    "padded unevenly": Case(padding=(0, 2, 1, 2)),
    "strided": Case(stride=(2, 3), padding=(1, 1, 1, 1)),
    "dilated": Case(dilation=(2, 1), padding=(1, 0, 2, 2)),
    "filter not square": Case(filter=(1, 5), padding=(2, 2, 0, 0)),
    "filter as large as the image": Case(filter=(7, 6)),
    "same": Case(padding=1),
    "same, strided": Case(padding=1, stride=(2, 2), image=(8, 5)),
    "same, stride over filter": Case(padding=1, stride=(3, 3), filter=(2, 1), image=(8, 7)),
    "same, filter over image": Case(padding=1, filter=(5, 5), image=(3, 2)),
    "same, dilated": Case(padding=1, dilation=(2, 3)),
    "valid": Case(padding=2, stride=(2, 2)),
    "relu": Case(activation=1),
    "relu1": Case(activation=2),
    "relu6": Case(activation=3),
    "channels first": Case(layout=True, padding=(1, 0, 0, 1), stride=(1, 2)),
    "channels first, same": Case(layout=True, padding=1, stride=(2, 1)),
    "no batch": Case(batch=0, padding=(1, 1, 1, 1)),
    "many chunks": Case(image=(40, 600), channels=16, out=2),
}
GROUPED = {
    "two groups": Case(channels=4, out=6, groups=2, padding=(1, 1, 1, 1)),
    "as many groups as channels": Case(channels=4, out=8, groups=4, stride=(2, 1)),
    "one group": Case(groups=1, padding=1),
    "channels first": Case(channels=6, out=3, groups=3, padding=1, layout=True, activation=1),
    "no batch": Case(batch=0, channels=4, out=6, groups=2),
}
DEPTHWISE = {
    name: case._replace(channels=3, out=out)
    for name, case in CASES.items() if name != "many chunks" for out in (3, 6)[: 1 + (name in ("plain", "strided"))]
}  # fmt: skip


def operation_of(case: Case, name: str) -> dict:
    """The scalar inputs of the operation `name` for a case."""
    left = {"padding": case.padding} if isinstance(case.padding, int) else dict(
        zip(("padding_left", "padding_right", "padding_top", "padding_bottom"), case.padding)
    )  # fmt: skip
    scalars = {**left, "stride_height": case.stride[0], "stride_width": case.stride[1]}
    scalars |= {"activation": case.activation, "layout": case.layout}
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        scalars |= {"dilation_height": case.dilation[0], "dilation_width": case.dilation[1]}
    if name == "DEPTHWISE_CONV_2D":
        scalars["depth_multiplier"] = case.out // case.channels
    if name == "GROUPED_CONV_2D":
        scalars["num_groups"] = case.groups
    return scalars


def tensors_of(case: Case, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, filter and bias."""
    image = (case.channels, *case.image) if case.layout else (*case.image, case.channels)
    filter = (
        (1, *case.filter, case.out)
        if name == "DEPTHWISE_CONV_2D"
        else (case.out, *case.filter, case.channels // case.groups)
    )
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(s).astype(np.float32) for s in ((case.batch, *image), filter, (case.out,)))


def padding_of(case: Case) -> tuple[int, int, int, int]:
    """Left, right, top, bottom, with the schemes spelled out as TensorFlow defines them."""
    if not isinstance(case.padding, int):
        return case.padding
    if case.padding == 2:
        return 0, 0, 0, 0
    ends = []
    for size, filter, stride, dilation in list(zip(case.image, case.filter, case.stride, case.dilation))[::-1]:
        total = max((int(np.ceil(size / stride)) - 1) * stride + (filter - 1) * dilation + 1 - size, 0)
        ends += [total // 2, total - total // 2]
    return tuple(ends)


def clamped(y, activation: int):
    low, high = {0: (None, None), 1: (0, None), 2: (-1, 1), 3: (0, 6)}[activation]
    return y if low is None else torch.clamp(y, low, high)


def expected(case: Case, name: str, x, w, b) -> np.ndarray:
    """PyTorch's answer, in float64."""
    x, w, b = (torch.from_numpy(np.asarray(a, np.float64)) for a in (x, w, b))
    x = x if case.layout else x.permute(0, 3, 1, 2)
    groups = case.channels if name == "DEPTHWISE_CONV_2D" else case.groups
    w = w.permute(3, 0, 1, 2) if name == "DEPTHWISE_CONV_2D" else w.permute(0, 3, 1, 2)
    x = functional.pad(x, padding_of(case))
    y = functional.conv2d(x, w, b, stride=case.stride, dilation=case.dilation, groups=groups)
    return clamped(y if case.layout else y.permute(0, 2, 3, 1), case.activation).numpy()


ALL = [
    pytest.param(name, case, id=f"{name} {id}")
    for name, cases in (("CONV_2D", CASES), ("GROUPED_CONV_2D", GROUPED), ("DEPTHWISE_CONV_2D", DEPTHWISE))
    for id, case in cases.items()
]


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, FLOAT32), (np.float16, FLOAT16)], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name, case", ALL)
def test_float(apply, name, case, dtype, tolerance):
    x, w, b = (a.astype(dtype) for a in tensors_of(case, name))
    y = apply(name, {"input": x, "filter": w, "bias": b, **operation_of(case, name)})
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(np.float64), expected(case, name, x, w, b), rtol=tolerance, atol=tolerance * 10)


def quantized_tensors(case: Case, name: str, type, per_channel: bool) -> tuple[dict, Operand, float]:
    """Random stored tensors as operands, the output operand, and the exact real values of the three tensors."""
    rng = np.random.default_rng(1)
    shapes = [a.shape for a in tensors_of(case, name)]
    axis = 3 if name == "DEPTHWISE_CONV_2D" else 0
    info = np.iinfo(type.dtype)
    x = Operand(
        type, shapes[0], 0.05, int(info.min) + 100, value=rng.integers(info.min, info.max + 1, shapes[0], type.dtype)
    )
    if per_channel:
        scales = tuple(float(np.float32(s)) for s in rng.uniform(0.001, 0.02, case.out))
        value = rng.integers(-127, 128, shapes[1], np.int8)
        w = Operand(Q8PC, shapes[1], channel_quant=ChannelQuant(scales, axis), value=value)
        bias_scale, real = 0.0, np.array(scales)
    else:
        value = rng.integers(info.min, info.max + 1, shapes[1], type.dtype)
        w = Operand(type, shapes[1], 0.01, int(info.min) + 130, value=value)
        bias_scale, real = 0.05 * 0.01, np.array([0.01])
    b = Operand(I32, shapes[2], bias_scale, value=rng.integers(-1000, 1000, shapes[2], np.int32))
    y = Operand(type, (), 0.3, int(info.min) + 120)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    reals = (
        (x.value.astype(np.float64) - x.zero_point) * 0.05,
        (w.value.astype(np.float64) - w.zero_point) * real.reshape(shape),
        b.value * 0.05 * real,
    )
    return {"input": x, "filter": w, "bias": b}, y, reals


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("name, case", ALL)
def test_quantized(apply, name, case, type, per_channel):
    inputs, output, reals = quantized_tensors(case, name, type, per_channel)
    stored = apply(name, {**inputs, **operation_of(case, name)}, output)
    info = np.iinfo(type.dtype)
    real = np.clip(expected(case, name, *reals) / output.scale + output.zero_point, info.min, info.max)
    assert np.abs(stored - real).max(initial=0) <= ROUNDED
    assert stored.dtype == type.dtype


TRANSPOSED = {
    "plain": (Case(), None),
    "strided": (Case(stride=(2, 3)), None),
    "padded": (Case(stride=(2, 2), padding=(1, 0, 1, 2)), None),
    "output padding": (Case(stride=(2, 2), padding=(1, 0, 1, 0)), None),
    "negative padding behind": (Case(stride=(3, 3), padding=(0, -2, 0, -1)), None),
    "filter below stride": (Case(filter=(1, 2), stride=(3, 3)), None),
    "valid": (Case(stride=(2, 2), padding=2), (15, 13)),
    "valid with a rest": (Case(stride=(3, 3), padding=2), (22, 20)),
    "same": (Case(stride=(2, 2), padding=1), (13, 12)),
    "same, stride over filter": (Case(stride=(3, 2), filter=(1, 1), padding=1), (20, 12)),
    "relu, channels first": (Case(stride=(2, 2), padding=1, activation=1, layout=True), (14, 11)),
    "channels first": (Case(stride=(1, 2), layout=True, batch=2), None),
    "no batch": (Case(batch=0), None),
}


def transposed_inputs(case: Case, size) -> dict:
    given = operation_of(case, "TRANSPOSE_CONV_2D")
    if not isinstance(case.padding, int):
        return given
    shape = (case.batch, case.out, *size) if case.layout else (case.batch, *size, case.out)
    return {**given, "output_shape": np.array(shape, np.int32)}


def transposed_expected(case: Case, size, x, w, b) -> np.ndarray:
    """PyTorch's full transposed convolution, cropped or extended to the output."""
    x, w, b = (torch.from_numpy(np.asarray(a, np.float64)) for a in (x, w, b))
    x = x if case.layout else x.permute(0, 3, 1, 2)
    y = functional.conv_transpose2d(x, w.permute(3, 0, 1, 2), stride=case.stride)
    full = tuple(y.shape[2:])
    if isinstance(case.padding, int):
        same = case.padding == 1
        top, left = (max(f - s, 0) // 2 if same else 0 for f, s in zip(full, size))
        bottom, right = full[0] - size[0] - top, full[1] - size[1] - left
    else:
        left, right, top, bottom = case.padding
    y = functional.pad(y, (-left, -right, -top, -bottom)) + b.reshape(-1, 1, 1)
    return clamped(y if case.layout else y.permute(0, 2, 3, 1), case.activation).numpy()


@pytest.mark.parametrize("case, size", TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_transposed_float(apply, case, size):
    x, w, b = tensors_of(case, "TRANSPOSE_CONV_2D")
    y = apply("TRANSPOSE_CONV_2D", {"input": x, "filter": w, "bias": b, **transposed_inputs(case, size)})
    np.testing.assert_allclose(y, transposed_expected(case, size, x, w, b), rtol=FLOAT32, atol=FLOAT32 * 10)


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("case, size", TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_transposed_quantized(apply, case, size, type, per_channel):
    inputs, output, reals = quantized_tensors(case, "TRANSPOSE_CONV_2D", type, per_channel)
    stored = apply("TRANSPOSE_CONV_2D", {**inputs, **transposed_inputs(case, size)}, output)
    info = np.iinfo(type.dtype)
    real = transposed_expected(case, size, *reals) / output.scale + output.zero_point
    assert np.abs(stored - np.clip(real, info.min, info.max)).max(initial=0) <= ROUNDED


def test_integers_beyond_float32_are_exact(apply):
    """3000 products of 255 * 255 exceed 2**24: float32 would round."""
    x = np.full((1, 1, 1, 3000), 255, np.uint8)
    w = np.full((1, 1, 1, 3000), 255, np.uint8)
    w[..., -1] = 254
    inputs = {
        "input": Operand(Q8, x.shape, 1.0, 0, value=x),
        "filter": Operand(Q8, w.shape, 1.0, 0, value=w),
        "bias": Operand(I32, (1,), 1.0, value=np.array([-(255 * 255 * 3000) + 255 + 100], np.int32)),
    }
    y = apply("CONV_2D", {**inputs, **operation_of(Case(), "CONV_2D")}, Operand(Q8, (), 1.0, 0))
    assert y.item() == 100


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


VALID = {
    "CONV_2D": {
        "input": floats(1, 5, 5, 4), "filter": floats(6, 3, 3, 4), "bias": floats(6),
        "padding_left": 1, "padding_right": 1, "padding_top": 1, "padding_bottom": 1,
        "stride_width": 1, "stride_height": 1, "activation": 0, "layout": False,
        "dilation_width": 1, "dilation_height": 1,
    },
    "DEPTHWISE_CONV_2D": {
        "input": floats(1, 5, 5, 4), "filter": floats(1, 3, 3, 8), "bias": floats(8), "padding": 1,
        "stride_width": 1, "stride_height": 1, "depth_multiplier": 2, "activation": 0, "layout": False,
        "dilation_width": 1, "dilation_height": 1,
    },
    "GROUPED_CONV_2D": {
        "input": floats(1, 5, 5, 4), "filter": floats(6, 3, 3, 2), "bias": floats(6), "padding": 2,
        "stride_width": 1, "stride_height": 1, "num_groups": 2, "activation": 0, "layout": False,
    },
    "TRANSPOSE_CONV_2D": {
        "input": floats(1, 2, 2, 4), "filter": floats(6, 3, 3, 4), "bias": floats(6),
        "output_shape": np.array([1, 5, 5, 6], np.int32), "padding": 2,
        "stride_width": 2, "stride_height": 2, "activation": 0, "layout": False,
    },
}  # fmt: skip
ERRORS = [
    ("CONV_2D", {"filter": floats(6, 3, 3, 3)}, "input channels is 4, must equal filter depth x groups 3"),
    ("CONV_2D", {"bias": floats(5)}, "bias length is 5, must equal the output channels 6"),
    ("CONV_2D", {"stride_width": 0}, "stride_width is 0, must be at least 1"),
    ("CONV_2D", {"stride_height": -1}, "stride_height is -1, must be at least 1"),
    ("CONV_2D", {"dilation_height": 0}, "dilation_height is 0, must be at least 1"),
    ("CONV_2D", {"padding_left": -1}, "padding_left is -1, must be at least 0"),
    ("CONV_2D", {"padding_bottom": 3}, "padding_bottom is 3, must be below the filter's height 3; put a PAD"),
    ("CONV_2D", {"activation": 4}, "activation is 4, must be 0 to 3"),
    ("CONV_2D", {"dilation_width": 4}, "filter width 9 exceeds the padded input's 7"),
    ("CONV_2D", {"input": floats(1, 0, 5, 4)}, "input height is 0, only the batch may be"),
    ("CONV_2D", {"layout": True}, "input channels is 5, must equal filter depth x groups 4"),
    ("DEPTHWISE_CONV_2D", {"filter": floats(2, 3, 3, 8)}, "filter's first dimension is 2, must be 1"),
    ("DEPTHWISE_CONV_2D", {"depth_multiplier": 1}, "filter depth is 8, must equal input channels x depth_multiplier 4"),
    ("DEPTHWISE_CONV_2D", {"depth_multiplier": 0}, "depth_multiplier is 0, must be at least 1"),
    ("DEPTHWISE_CONV_2D", {"padding": 3}, r"padding is 3, must be 1 \(same\) or 2 \(valid\)"),
    ("DEPTHWISE_CONV_2D", {"bias": floats(4)}, "bias length is 4, must equal the output channels 8"),
    ("GROUPED_CONV_2D", {"num_groups": 4}, "filter's output channels 6 do not divide into 4 groups"),
    ("GROUPED_CONV_2D", {"num_groups": 3}, "input channels 4 do not divide into 3 groups"),
    ("GROUPED_CONV_2D", {"num_groups": 0}, "num_groups is 0, must be at least 1"),
    ("GROUPED_CONV_2D", {"num_groups": 1}, "input channels is 4, must equal filter depth x groups 2"),
    ("GROUPED_CONV_2D", {"filter": floats(6, 6, 3, 2)}, "filter height 6 exceeds the padded input's 5"),
    ("GROUPED_CONV_2D", {"filter": floats(6, 0, 3, 2)}, "each must be at least 1"),
    ("TRANSPOSE_CONV_2D", {"filter": floats(6, 3, 3, 5)}, "input channels is 4, must equal filter depth 5"),
    ("TRANSPOSE_CONV_2D", {"output_shape": np.array([1, 7, 5, 6])}, "input height is 2, must equal .* height 7: 3"),
    ("TRANSPOSE_CONV_2D", {"output_shape": np.array([1, 5, -5, 6])}, "output_shape has width -5, must be at least 1"),
    ("TRANSPOSE_CONV_2D", {"output_shape": np.array([1, 5, 5, 4])}, "output_shape's channels is 4, must equal"),
    ("TRANSPOSE_CONV_2D", {"output_shape": np.array([1, 5, 5])}, "output_shape has 3 values, must have 4"),
    ("TRANSPOSE_CONV_2D", {"stride_height": 0}, "stride_height is 0, must be at least 1"),
    ("TRANSPOSE_CONV_2D", {"padding": 0}, r"padding is 0, must be 1 \(same\) or 2 \(valid\)"),
    ("TRANSPOSE_CONV_2D", {"activation": 9}, "activation is 9, must be 0 to 3"),
]  # fmt: skip


@pytest.mark.parametrize("name, change, message", ERRORS, ids=[f"{n} {'+'.join(c)} {m[:24]}" for n, c, m in ERRORS])
def test_bad_values_are_refused(refuses, name, change, message):
    refuses(name, VALID[name], change, message)


def test_paddings_that_leave_no_output_are_refused(refuses):
    explicit = {k: v for k, v in VALID["TRANSPOSE_CONV_2D"].items() if k not in ("padding", "output_shape")}
    explicit |= {f"padding_{side}": 0 for side in ("left", "right", "top", "bottom")}
    refuses("TRANSPOSE_CONV_2D", explicit, {"padding_top": 9}, "paddings 9 and 0 leave an output height of -4")
    refuses("TRANSPOSE_CONV_2D", explicit, {"padding_left": -1}, "padding_left is -1, must be at least 0")


def test_one_dilation_alone_is_refused(single):
    with pytest.raises(ModelError, match="one dilation is given, must be both or none"):
        single("CONV_2D", {k: v for k, v in VALID["CONV_2D"].items() if k != "dilation_height"})


@pytest.mark.parametrize("name", VALID)
def test_scales(refuses, name):
    case = Case(channels=4, out=4)
    inputs, output, _ = quantized_tensors(case, name, Q8, per_channel=False)
    inputs |= transposed_inputs(case, None) if name == "TRANSPOSE_CONV_2D" else operation_of(case, name)
    bias = np.zeros(4, np.int32)
    wrong = Operand(I32, (4,), 0.001, value=bias)
    refuses(name, inputs, {"bias": wrong}, "bias scale is 0.001, must be input scale x filter scale", output)

    inputs, output, _ = quantized_tensors(case, name, Q8S, per_channel=True)
    inputs |= transposed_inputs(case, None) if name == "TRANSPOSE_CONV_2D" else operation_of(case, name)
    wrong = Operand(I32, (4,), 0.001, value=bias)
    refuses(name, inputs, {"bias": wrong}, "bias scale is 0.001, must be 0 beside per-channel scales", output)
    filter = inputs["filter"]
    right = filter.channel_quant.axis
    scales = (0.01,) * filter.value.shape[1]
    wrong = Operand(Q8PC, filter.dimensions, channel_quant=ChannelQuant(scales, 1), value=filter.value)
    refuses(name, inputs, {"filter": wrong}, f"channel dimension is 1, must be {right}", output)


LEVELS = [
    ("CONV_2D fp32", "CONV_2D", {}, 1, None),
    ("CONV_2D dilated", "CONV_2D", {"dilation_width": 2}, 3, None),
    ("CONV_2D channels first", "CONV_2D", {"layout": True, "input": floats(1, 4, 5, 5)}, 3, None),
    ("CONV_2D empty batch", "CONV_2D", {"input": floats(0, 5, 5, 4)}, 3, None),
    ("DEPTHWISE_CONV_2D fp32", "DEPTHWISE_CONV_2D", {}, 1, None),
    ("GROUPED_CONV_2D fp32", "GROUPED_CONV_2D", {}, 3, None),
    ("TRANSPOSE_CONV_2D fp32", "TRANSPOSE_CONV_2D", {}, 3, None),
]  # fmt: skip


@pytest.mark.parametrize("name, change, level", [row[1:4] for row in LEVELS], ids=[row[0] for row in LEVELS])
def test_feature_levels(single, name, change, level):
    assert feature_level(single(name, {**VALID[name], **change})) == level


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    "type, per_channel, scale, level",
    [(Q8, False, 0.3, 1), (Q8, False, 0.05 * 0.01, 3), (Q8, True, 0.3, 3), (Q8S, False, 0.3, 4), (Q8S, True, 0.3, 4)],
    ids=["unsigned", "product scale not below output scale", "per channel", "signed", "signed per channel"],
)
def test_feature_levels_of_quantized(single, name, type, per_channel, scale, level):
    case = Case(channels=4, out=4)
    inputs, output, _ = quantized_tensors(case, name, type, per_channel)
    model = single(name, {**inputs, **operation_of(case, name)}, Operand(type, (), scale, output.zero_point))
    assert feature_level(model) == level


@pytest.mark.parametrize(
    "name, macs",
    [
        ("CONV_2D", 25 * 6 * 9 * 4),
        ("DEPTHWISE_CONV_2D", 25 * 8 * 9),
        ("GROUPED_CONV_2D", 9 * 6 * 9 * 2),
        ("TRANSPOSE_CONV_2D", 4 * 4 * 6 * 9),
    ],
)
def test_macs(single, name, macs):
    model = single(name, VALID[name])
    assert OPERATIONS[name].macs(model.call(model.operations[0])) == macs


def test_float_types_do_not_mix(single):
    mixed = {**VALID["CONV_2D"], "filter": Operand(F16, (6, 3, 3, 4), value=np.ones((6, 3, 3, 4), np.float16))}
    mixed["input"] = Operand(F32, (1, 5, 5, 4), value=floats(1, 5, 5, 4))
    with pytest.raises(ModelError, match="filter is TENSOR_FLOAT16, must be TENSOR_FLOAT32"):
        single("CONV_2D", mixed)
