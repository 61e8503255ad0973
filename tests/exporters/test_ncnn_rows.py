"""Every row of the ncnn table computes what the reference does, in every shape it takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.reference import execute
from nnapi.errors import ModelError
from nnapi.exporters.ncnn.table import ROWS
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import COMPOSITE, Model
from nnapi.ir.verdict import Reject
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F32, Array

pytest.importorskip("ncnn")

from nnapi.drivers.ncnn import NCNNDriver

DRIVER = NCNNDriver()
RNG = np.random.default_rng(0)
EXACT = (0.0, 0.0)
"""(absolute, relative to the largest value), what only moves numbers."""
ROUNDED = (1e-6, 1e-6)
"""One operation of each number."""
SUMMED = (1e-5, 1e-5)
"""Sums in another order, other approximations of exp, tanh and the error function."""
CONVOLVED = (1e-4, 3e-5)
"""Winograd's transforms of 3x3 filters lose about two of seven digits."""
FEW = settings(max_examples=60, deadline=None, derandomize=True)

Write = Callable[[Builder], Ref | Sequence[Ref]]


def built(write: Write) -> Model:
    b = Builder()
    outputs = write(b)
    b.output(*([outputs] if isinstance(outputs, Ref) else outputs))
    return b.finish()


def check(write: Write, tolerance: tuple[float, float], *inputs: Array) -> None:
    """The driver takes the model, computes what the reference does, and leaves its inputs as they were."""
    model = built(write)
    refused = [verdict.reason for verdict in DRIVER.supported(model) if isinstance(verdict, Reject)]
    assert not refused
    arrays = inputs or [RNG.standard_normal(o.dimensions).astype(np.float32) for o in model.input_operands]
    given = [array.copy() for array in arrays]
    absolute, relative = tolerance
    for actual, expected in zip(
        DRIVER.prepare(model, PrepareOptions()).run(given), execute(model, arrays), strict=True
    ):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        limit = absolute + relative * np.abs(expected).max(initial=0, where=np.isfinite(expected))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)
    for before, after in zip(arrays, given):
        np.testing.assert_array_equal(before, after)


class X(tuple[int, ...]):
    """The dimensions of an input of the model."""


def op(type: str, **given: Any) -> Write:
    """One operation; what is given as an `X`, or a list of them, are inputs of the model."""

    def resolved(b: Builder, name: str, value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], X):
            return [resolved(b, name, item) for item in value]
        return b.input(name, F32, value) if isinstance(value, X) else value

    return lambda b: b.add_many(type, {name: resolved(b, name, value) for name, value in given.items()})


def one(type: str, shape: Sequence[int], **given: Any) -> Write:
    """One operation of one variable."""
    return op(type, input=X(shape), **given)


def random(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


# Convolutions and pools.

CHANNELS = st.sampled_from([1, 3, 5, 8, 12, 16, 33])
"""Of one vector, of none, and of some and a rest."""
KINDS = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "GROUPED_CONV_2D", "TRANSPOSE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D",
)  # fmt: skip


@st.composite
def pairs(draw: st.DrawFn, low: int, high: int) -> tuple[int, int]:
    """Two sizes, often the same."""
    first = draw(st.integers(low, high))
    return first, draw(st.just(first) | st.integers(low, high))


@st.composite
def windows(draw: st.DrawFn, kind: str) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The dimensions of an image, and the other inputs of an operation that moves a window over it."""
    channels, outputs, nchw = draw(CHANNELS), draw(CHANNELS), draw(st.booleans())
    filter, stride, dilation = draw(pairs(1, 7)), draw(pairs(1, 3)), draw(pairs(1, 2))
    given: dict[str, Any] = {"stride_height": stride[0], "stride_width": stride[1], "layout": nchw}
    given["activation"] = draw(st.integers(0, 3))
    if draw(st.booleans()):
        given["padding"] = draw(st.sampled_from([1, 2]))
    else:
        sides = (("top", filter[0]), ("bottom", filter[0]), ("left", filter[1]), ("right", filter[1]))
        given |= {f"padding_{side}": draw(st.integers(0, min(3, size - 1))) for side, size in sides}
    if kind == "GROUPED_CONV_2D":
        groups, outputs_each = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(1, 5))
        channels, outputs = groups * draw(st.integers(1, 5)), groups * outputs_each
        given |= {"num_groups": groups, "filter": random(outputs, *filter, channels // groups)}
    elif kind == "DEPTHWISE_CONV_2D":
        multiplier = draw(st.sampled_from([1, 1, 2, 3]))
        outputs = channels * multiplier
        given |= {"depth_multiplier": multiplier, "filter": random(1, *filter, outputs)}
    elif "POOL" in kind:
        given |= {"filter_height": filter[0], "filter_width": filter[1]}
    else:
        given |= {"filter": random(outputs, *filter, channels)}
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        given |= {"dilation_height": dilation[0], "dilation_width": dilation[1]}
    if "filter" in given:
        given["bias"] = random(outputs)
    height, width = draw(pairs(1, 20))
    if kind == "TRANSPOSE_CONV_2D" and "padding" in given:
        whole = [(i - 1) * s + f for i, s, f in zip((height, width), stride, filter)]
        same = [draw(st.integers(max((i - 1) * s + 1, 1), i * s)) for i, s in zip((height, width), stride)]
        wanted = [min(a, b) for a, b in zip(same, whole)] if given["padding"] == 1 else whole
        given["output_shape"] = [1, outputs, *wanted] if nchw else [1, *wanted, outputs]
    return (1, channels, height, width) if nchw else (1, height, width, channels), given


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data())
def test_windows(kind: str, data: st.DataObject) -> None:
    shape, given = data.draw(windows(kind))
    write = one(kind, shape, **given)
    try:
        built(write)
    except ModelError:  # the filter is larger than the padded image
        assume(False)
    check(write, CONVOLVED if "filter" in given else SUMMED)


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (64, 14), (33, 21), (8, 64)])
def test_convolutions_that_are_transformed(channels: int, size: int) -> None:
    given = {
        "filter": random(channels, 3, 3, channels), "bias": random(channels), "padding": 1, "stride_width": 1,
        "stride_height": 1, "activation": 0, "layout": True,
    }  # fmt: skip
    check(one("CONV_2D", (1, channels, size, size), **given), CONVOLVED)


@FEW
@given(data=st.data())
def test_pools_that_count_what_is_padded(data: st.DataObject) -> None:
    """Also by more than the window, on one side alone, or beyond what the stride reaches."""
    nchw, channels = data.draw(st.booleans()), data.draw(CHANNELS)
    sizes, filter, stride = (data.draw(pairs(low, high)) for low, high in ((1, 9), (1, 5), (1, 3)))
    padded = [[data.draw(st.integers(0, 4)) for _ in range(2)] for _ in range(2)]
    assume(all(size + sum(pads) >= f for size, pads, f in zip(sizes, padded, filter)))
    none = [0, 0]
    window = {
        "padding": 2, "stride_height": stride[0], "stride_width": stride[1], "filter_height": filter[0],
        "filter_width": filter[1], "activation": data.draw(st.integers(0, 3)), "layout": nchw,
    }  # fmt: skip

    def write(b: Builder) -> Ref:
        x = b.input("x", F32, (1, channels, *sizes) if nchw else (1, *sizes, channels))
        paddings = [none, none, *padded] if nchw else [none, *padded, none]
        y = b.add("PAD", {"input": x, "paddings": np.array(paddings, np.int32)})
        return b.add("AVERAGE_POOL_2D", {"input": y, **window})

    check(write, SUMMED)


# Products.


@pytest.mark.parametrize("rows", [(1,), (2,), (17,), (1, 3), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("depth", [1, 3, 8, 33])
def test_fully_connected(rows: tuple[int, ...], depth: int) -> None:
    for units, activation in itertools.product((1, 4, 5, 33), range(4)):
        given = {"filter": random(units, depth), "bias": random(units), "activation": activation}
        check(one("FULLY_CONNECTED", (*rows, depth), **given), SUMMED)


@pytest.mark.parametrize("lead", [(), (1,), (3,), (1, 3), (2, 3), (2, 1)], ids=str)
@pytest.mark.parametrize("is_constant", [False, True], ids=["variable", "constant"])
def test_batch_matmul(lead: tuple[int, ...], is_constant: bool) -> None:
    for (m, k, n), turned in itertools.product([(1, 1, 1), (3, 4, 5), (8, 16, 8), (17, 5, 33)], (False, True)):
        second = X((*lead, n, k) if turned else (*lead, k, n))
        given = {"input1": random(*second) if is_constant else second, "adj_x": False, "adj_y": turned}
        check(op("BATCH_MATMUL", input0=X((*lead, m, k)), **given), SUMMED)


# Arithmetic.

PAIRED = [shape for rank in range(1, 5) for shape in itertools.product((1, 3), repeat=rank)]
PACKED = [(4,), (2, 4), (16, 1, 1), (1, 16, 1, 1), (1, 16, 5, 4), (5, 4), (8, 1, 4), (2, 8, 5, 4), (1, 8, 1, 4)]
"""Some of which are as wide as vectors."""


@pytest.mark.parametrize("shape", [*PAIRED, *PACKED], ids=str)
def test_broadcasting(shape: tuple[int, ...]) -> None:
    """Against every shape there is, as another input and as a constant on either side."""
    for other in PACKED if shape in PACKED else PAIRED:
        try:
            np.broadcast_shapes(shape, other)
        except ValueError:
            continue
        value = random(*other)
        check(op("SUB", input0=X(shape), input1=X(other), activation=0), ROUNDED)
        check(op("SUB", input0=X(shape), input1=value, activation=0), ROUNDED)
        check(op("SUB", input0=value, input1=X(shape), activation=0), ROUNDED)


@pytest.mark.parametrize("operation", ["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"])
@pytest.mark.parametrize("constant", [(1,), (4,), (16, 1, 1), (1, 16, 5, 4)], ids=str)
@pytest.mark.parametrize("activation", range(4))
def test_arithmetic_with_constants(operation: str, constant: tuple[int, ...], activation: int) -> None:
    value = RNG.uniform(0.2, 2, constant).astype(np.float32)
    fused = {} if operation in ("MAXIMUM", "MINIMUM") else {"activation": activation}
    check(op(operation, input0=X((1, 16, 5, 4)), input1=value, **fused), ROUNDED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, 1e-38, -0.0], ids=str)
@pytest.mark.parametrize("operation", ["ADD", "MUL"])
def test_constants_that_text_has_no_word_for(operation: str, value: float) -> None:
    number = np.array([value], np.float32)
    check(op(operation, input0=X((3,)), input1=number, activation=0), EXACT, np.array([1, -2, 0], np.float32))


@FEW
@given(bits=st.integers(0, 2**32 - 1))
def test_a_number_in_the_text_is_read_as_it_was(bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    assume(np.isfinite(value[0]))
    check(op("MAXIMUM", input0=X((3,)), input1=value), EXACT, np.full(3, value[0]))


# Functions of one number.

_SIZES = (0, 1.2e-38, 1e-20, 1e-5, 0.5, 1, 2.5, 3, 6, 20, 88, 89, 100, 1e3, 1e6, 8388607.5, 2**31, 1e20, 3.4e38)
ORDINARY = np.array([*_SIZES, *(-size for size in _SIZES), -0.0], np.float32)
"""What every row must be right for: what becomes of denormal numbers, infinities and NaN is open, design 0009."""
UNARY: dict[str, dict[str, Any]] = {
    "RELU": {}, "RELU1": {}, "RELU6": {}, "LOGISTIC": {}, "TANH": {}, "HARD_SWISH": {}, "ABS": {}, "FLOOR": {},
    "NEG": {}, "SQRT": {}, "ELU": {"alpha": 1.0}, "PRELU": {"alpha": np.array([0.25], np.float32)},
}  # fmt: skip
FUNCTIONS: dict[str, Callable[[Builder, Ref], Ref]] = {
    "GELU": composites.gelu,
    "GELU of tanh": lambda b, x: composites.gelu(b, x, tanh=True),
    "SILU": composites.silu,
    "MISH": composites.mish,
}


@pytest.mark.parametrize("operation", UNARY)
def test_functions_of_any_number(operation: str) -> None:
    """In vectors, in what is left of one, and in images packed by channels."""
    values = ORDINARY[ORDINARY >= 0] if operation == "SQRT" else ORDINARY
    for x in (values, values[::-1], _packed(values), *(np.full(3, value) for value in values)):
        close(one(operation, x.shape, **UNARY[operation]), x)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_composite_functions_of_any_number(function: str) -> None:
    values = ORDINARY[abs(ORDINARY) < 1e38]
    for x in (values, _packed(values), np.linspace(-12, 12, 601, dtype=np.float32)):
        close(lambda b: FUNCTIONS[function](b, b.input("x", F32, x.shape)), x)  # noqa: B023


def _packed(values: Array) -> Array:
    """As channels of an image, as many as fill vectors."""
    return np.resize(values, (1, 48, 1, 1)).repeat(4, axis=3)


def close(write: Write, x: Array) -> None:
    """Each number by itself: within 2e-6 or 1e-5 of itself, an infinity and NaN the same."""
    model = built(write)
    assert not [v for v in DRIVER.supported(model) if isinstance(v, Reject)]
    (actual,), (expected,) = DRIVER.prepare(model, PrepareOptions()).run([x]), execute(model, [x])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("shape", "alpha"),
    [
        ((1, 4, 5, 5), (4, 1, 1)), ((1, 16, 5, 5), (16, 1, 1)), ((1, 4, 5, 5), (1, 4, 1, 1)), ((1, 5, 5, 4), (4,)),
        ((3, 4), (4,)), ((1, 4), (4,)), ((1, 4), (1,)), ((2, 4, 5, 5), (4, 1, 1)), ((1, 4, 5, 5), (4, 5, 5)),
        ((1, 1, 1, 4), (4, 1, 1)), ((1, 4, 5, 5), (2, 4, 5, 5)), ((4, 5, 5), (4, 1, 1)), ((5, 5), (1, 5, 5)),
    ],
    ids=str,
)  # fmt: skip
def test_slopes(shape: tuple[int, ...], alpha: tuple[int, ...]) -> None:
    slopes = RNG.uniform(0.1, 2, alpha).astype(np.float32)
    check(one("PRELU", shape, alpha=slopes), ROUNDED)
    check(one("PRELU", shape, alpha=X(alpha)), ROUNDED)


# What moves numbers.

SHAPES = [
    (5,), (1, 5), (4, 5), (1, 4, 5), (3, 4, 5), (1, 3, 4, 5), (2, 3, 4, 5), (1, 16, 4, 5), (16, 4, 5), (2, 16, 4, 4),
    (1, 8, 1, 1), (1, 1, 1, 4),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_joining_and_splitting(shape: tuple[int, ...]) -> None:
    for axis in range(-len(shape), len(shape)):
        at = axis % len(shape)
        parts = [X((*shape[:at], shape[at] + n, *shape[at + 1 :])) for n in range(3)]
        check(op("CONCATENATION", inputs=parts, axis=at), EXACT)
        wide = (*shape[:at], 2 * shape[at], *shape[at + 1 :])
        check(one("SPLIT", wide, axis=axis, num_splits=2), EXACT)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_input_joined_with_itself(shape: tuple[int, ...]) -> None:
    def write(b: Builder) -> Ref:
        x = b.input("x", F32, shape)
        return b.add("CONCATENATION", {"inputs": [x, x], "axis": len(shape) - 1})

    check(write, EXACT)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (4, 1), (2, 3, 4), (1, 3, 4), (3, 1, 4), (16, 8, 4)], ids=str)
def test_transposing_up_to_three(shape: tuple[int, ...]) -> None:
    for order in itertools.permutations(range(len(shape))):
        check(one("TRANSPOSE", shape, perm=list(order)), EXACT)


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids=str)
def test_transposing_four(order: tuple[int, ...]) -> None:
    for shape in [(2, 3, 4, 5), (1, 3, 4, 5), (3, 1, 4, 5), (3, 4, 5, 1), (1, 16, 8, 4), (8, 1, 16, 4)]:
        check(one("TRANSPOSE", shape, perm=list(order)), EXACT)


@FEW
@given(data=st.data())
def test_padding(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([s for s in SHAPES if len(s) < 4 or s[0] == 1]))
    sides = st.lists(st.sampled_from([0, 0, 1, 2, 4, 8]), min_size=2, max_size=2)
    first = st.just([0, 0]) if len(shape) == 4 else sides
    paddings = np.array([data.draw(sides if n else first) for n in range(len(shape))], np.int32)
    check(one("PAD", shape, paddings=paddings), EXACT)
    check(one("PAD_V2", shape, paddings=paddings, pad_value=-1.5), EXACT)


@FEW
@given(data=st.data())
def test_slicing(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([*SHAPES, (1, 32, 8, 8), (2, 32, 4, 4)]))
    begin = [data.draw(st.just(0) | st.integers(0, d - 1)) for d in shape]
    size = [data.draw(st.just(-1) | st.integers(1, d - b)) for d, b in zip(shape, begin)]
    check(one("SLICE", shape, begin=begin, size=size), EXACT)
    end = [d if s < 0 else b + s for d, b, s in zip(shape, begin, size)]
    from_behind = [data.draw(st.booleans()) for _ in shape]
    masks = {name: data.draw(st.integers(0, 2 ** len(shape) - 1)) for name in ("begin_mask", "end_mask")}
    given = {
        "begin": [b - d if back else b for b, d, back in zip(begin, shape, from_behind)], "end": end,
        "strides": [1] * len(shape), "shrink_axis_mask": sum(1 << n for n, s in enumerate(size) if s == 1), **masks,
    }  # fmt: skip
    write = one("STRIDED_SLICE", shape, **given)
    try:
        built(write)
    except ModelError:  # a mask opens a dimension that shrinks
        assume(False)
    check(write, EXACT)


@pytest.mark.parametrize("nchw", [True, False], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [4, 16, 36])
def test_blocks_and_sizes(channels: int, nchw: bool) -> None:
    shape = (1, channels, 6, 12) if nchw else (1, 6, 12, channels)
    for size in (1, 2, 3):
        if channels % size**2 == 0:
            check(one("DEPTH_TO_SPACE", shape, block_size=size, layout=nchw), EXACT)
        check(one("SPACE_TO_DEPTH", shape, block_size=size, layout=nchw), EXACT)
    for height, width in [(6, 12), (12, 24), (9, 13), (1, 1), (3, 6), (18, 12), (7, 7)]:
        given = {"width": width, "height": height, "layout": nchw}
        check(one("RESIZE_NEAREST_NEIGHBOR", shape, **given), EXACT)
        for flag in ("align_corners", "half_pixel_centers"):
            check(one("RESIZE_BILINEAR", shape, **given, **{flag: True}), SUMMED)


@pytest.mark.parametrize("channels", [4, 12, 16])
@pytest.mark.parametrize("axis", [1, -3])
def test_along_channels(channels: int, axis: int) -> None:
    shape = (1, channels, 5, 3)
    for groups in (1, 2, 4):
        check(one("CHANNEL_SHUFFLE", shape, num_groups=groups, axis=axis), EXACT)
    for radius in (0, 1, 2, 5):
        given = {"radius": radius, "bias": 1.5, "alpha": 0.3, "beta": 0.6, "axis": axis}
        check(one("LOCAL_RESPONSE_NORMALIZATION", shape, **given), SUMMED)


# Reductions and normalizations.

REDUCTIONS = ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_SUM")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("operation", REDUCTIONS)
def test_reducing(operation: str, shape: tuple[int, ...]) -> None:
    for axes in subsets(range(len(shape))):
        for keep in (False, True):
            check(one(operation, shape, axes=axes, keep_dims=keep), SUMMED)


def subsets(of: Sequence[int]) -> Iterable[list[int]]:
    """All but the empty one."""
    return (list(axes) for count in range(1, len(of) + 1) for axes in itertools.combinations(of, count))


@pytest.mark.parametrize("shape", [*SHAPES, (1, 8, 16, 16), (2, 16)], ids=str)
def test_softmax(shape: tuple[int, ...]) -> None:
    for axis, beta in itertools.product(range(-len(shape), len(shape)), (1.0, 0.3)):
        check(one("SOFTMAX", shape, axis=axis, beta=beta), SUMMED)
    check(one("SOFTMAX", shape, beta=1.0), SUMMED, 200 * random(*shape))


NORMALIZED = [
    (shape, count)
    for shape in [(4,), (1, 4), (5, 4), (1, 6, 4), (2, 3, 6, 4), (1, 16, 8, 8)]
    for count in range(1, len(shape) + 1)
]


@pytest.mark.parametrize(("shape", "count"), NORMALIZED)
def test_layer_and_rms_norm(shape: tuple[int, ...], count: int) -> None:
    """Over the last `count` dimensions."""

    def layer(b: Builder) -> Ref:
        return composites.layer_norm(b, b.input("x", F32, shape), *vectors(b, 2, shape[-count:]), epsilon=1e-5)

    def rms(b: Builder) -> Ref:
        return composites.rms_norm(b, b.input("x", F32, shape), *vectors(b, 1, shape[-count:]), epsilon=1e-5)

    check(layer, SUMMED)
    check(rms, SUMMED)


def vectors(b: Builder, many: int, shape: tuple[int, ...]) -> list[Ref]:
    return [b.constant(RNG.uniform(0.5, 2, shape).astype(np.float32)) for _ in range(many)]


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 16), (1, 8, 4), (1, 8, 6, 4), (1, 16, 8, 8), (1, 32, 3, 5)], ids=str)
def test_group_norm(shape: tuple[int, ...], groups: int) -> None:
    def write(b: Builder) -> Ref:
        affine = vectors(b, 2, shape[1:2])
        return composites.group_norm(b, b.input("x", F32, shape), *affine, groups=groups, epsilon=1e-5)

    check(write, SUMMED)


@pytest.mark.parametrize("nchw", [True, False], ids=["nchw", "nhwc"])
def test_instance_norm(nchw: bool) -> None:
    for shape in [(1, 4, 4, 6), (1, 16, 8, 8), (1, 1, 6, 6)]:
        given = {"gamma": 0.5, "beta": 0.2, "epsilon": 1e-3, "layout": nchw}
        check(one("INSTANCE_NORMALIZATION", shape, **given), SUMMED)


TRIED = {
    *KINDS, "FULLY_CONNECTED", "BATCH_MATMUL", "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", *UNARY,
    "CONCATENATION", "SPLIT", "TRANSPOSE", "PAD", "PAD_V2", "SLICE", "STRIDED_SLICE", "DEPTH_TO_SPACE",
    "SPACE_TO_DEPTH", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "CHANNEL_SHUFFLE", "LOCAL_RESPONSE_NORMALIZATION",
    *REDUCTIONS, "SOFTMAX", "INSTANCE_NORMALIZATION",
    *(COMPOSITE + name for name in ("GELU", "SILU", "MISH", "LAYER_NORM", "RMS_NORM", "GROUP_NORM")),
}  # fmt: skip
VIEWS: dict[str, dict[str, Any]] = {
    "RESHAPE": {"shape": [4, -1]},
    "SQUEEZE": {"axes": [0]},
    "EXPAND_DIMS": {"axis": 1},
}


@pytest.mark.parametrize("operation", VIEWS)
def test_views(operation: str) -> None:
    for shape in [(1, 4), (1, 4, 6), (1, 16, 4)]:
        check(op(operation, input=X(shape), **VIEWS[operation]), EXACT)


def test_every_row_is_tried() -> None:
    rows = {name for name, row in ROWS.items() if not isinstance(row, str)}
    assert rows == TRIED | VIEWS.keys()
    assert {name for name in ROWS if not name.startswith(COMPOSITE)} <= OPERATIONS.keys()
