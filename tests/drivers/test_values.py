"""Values that an engine had wrong once, or has wrong where it declines: on every driver, what is taken is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Driver, PrepareOptions
from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Q8, Q8PC, Q8S, Array, ChannelQuant, Operand, OperandType
from nnapi.runtime.build import legalize

DRIVERS = registry.available()
Case = tuple[Model, list[Array]]


def linear(b: Builder, x: Ref, rows: int, output: Operand, seed: int, activation: int = 0) -> Ref:
    """A FULLY_CONNECTED of seeded weights in the type of its input."""
    random, type, columns = np.random.default_rng(seed), x.operand.type, x.operand.dimensions[1]
    middle = 128 if type == Q8 else 0
    weights = (random.integers(-127, 128, (rows, columns)) + middle).astype(type.dtype)
    given: dict[str, Any] = {
        "input": x, "filter": b.constant(weights, Operand(type, (), 0.02, middle)), "activation": activation,
        "bias": b.constant(random.integers(-500, 500, rows).astype(np.int32), Operand(I32, (), _product(x, 0.02))),
    }  # fmt: skip
    return b.add("FULLY_CONNECTED", given, output)


def _product(x: Ref, scale: float) -> float:
    return float(np.float32(x.operand.scale) * np.float32(scale))


ACTIVATIONS: dict[str, tuple[float, int] | None] = {
    "none": None, "RELU": (0.1, -128), "RELU1": (0.1, -20), "RELU6": (0.1, -20), "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0), "HARD_SWISH": (0.1, -124),
}  # fmt: skip
"""Scale and zero point, of signed values, of what comes out."""


def perceptron(type: OperandType, activation: str, rows: int) -> Case:
    """Linear -> activation -> Linear."""
    middle, form = 128 if type == Q8 else 0, ACTIVATIONS[activation]
    b = Builder("perceptron")
    x = b.input("x", type, (rows, 16), 0.05, middle - 3)
    hidden = form if form is not None and form[0] == 0.1 and activation != "HARD_SWISH" else (0.1, -20)
    y = linear(b, x, 32, Operand(type, (), hidden[0], hidden[1] + middle), 0)
    if form is not None:
        y = b.add(activation, {"input": y}, Operand(type, (), form[0], form[1] + middle))
    b.output(linear(b, y, 8, Operand(type, (), 0.3 if y.operand.scale > 0.05 else 0.05, middle + 5), 1))
    return b.finish(), [(np.random.default_rng(2).integers(-128, 128, (rows, 16)) + middle).astype(type.dtype)]


def sliced(type: OperandType, begin: list[int], size: list[int]) -> Case:
    """A SLICE whose sizes come with the run."""
    b = Builder("sliced")
    quantization = (0.1, 3) if type == Q8 else ()
    x = b.input("x", type, (3, 4), *quantization)
    b.output(b.add("SLICE", {"input": x, "begin": b.input("begin", I32, (2,)), "size": b.input("size", I32, (2,))}))
    sizes = [np.array(v, np.int32) for v in (begin, size)]
    return b.finish(), [np.arange(12).reshape(3, 4).astype(type.dtype), *sizes]


def normalized_zeros(type: OperandType) -> Case:
    """An L2_NORMALIZATION of what HARD_SWISH makes 0: what engines leave of it must not be taken for a direction."""
    middle = 128 if type == Q8 else 0
    b = Builder("zeros")
    x = b.input("x", type, (2, 8), 0.03, middle + 9)
    y = b.add("HARD_SWISH", {"input": x}, Operand(type, (), 0.07, middle - 31))
    b.output(b.add("L2_NORMALIZATION", {"input": y, "axis": -1}, Operand(type, (), 1 / 128, middle)))
    return b.finish(), [np.full((2, 8), middle + 9, type.dtype)]


def compared(operation: str) -> Case:
    """Integers that float32 does not tell apart."""
    b = Builder("compared")
    x, y = (b.input(name, I32, (3,)) for name in "xy")
    b.output(b.add(operation, {"input0": x, "input1": y}))
    return b.finish(), [np.array(v, np.int32) for v in ([2**24 + 1, 5, -(2**30) - 1], [2**24, 5, -(2**30)])]


def convolved(
    type: OperandType, image: tuple[int, ...], filter: tuple[int, ...], *, groups: int = 1, nchw: bool = True,
    scale: float = 0.05, zero_point: int = -3, filter_zero_point: int = 0, per_channel: bool = False, **more: Any,
) -> Case:  # fmt: skip
    """A convolution, grouped for groups above 1; `filter` [outputs, H, W, inputs of a group], zero points of signed."""
    random = np.random.default_rng(0)
    middle, made = 128 if type == Q8 else 0, filter[0]
    b = Builder("convolved")
    x = b.input("x", type, image, *(() if type == F32 else (scale, zero_point + middle)))
    given: dict[str, Any] = {"input": x, "stride_width": 1, "stride_height": 1, "activation": 0, "layout": nchw}
    if type == F32:
        operand, bias = Operand(F32), Operand(F32)
    elif per_channel:
        operand, bias = Operand(Q8PC, channel_quant=ChannelQuant((0.01,) * made, 0)), Operand(I32)
    else:
        operand, bias = Operand(type, (), 0.01, filter_zero_point + middle), Operand(I32, (), _product(x, 0.01))
    offset = 0 if per_channel else middle
    weights = random.standard_normal(filter) if type == F32 else random.integers(-127, 128, filter) + offset
    given |= {
        "filter": b.constant(weights.astype(operand.type.dtype), operand),
        "bias": b.constant(random.integers(-9, 9, made).astype(bias.type.dtype), bias),
    }
    output = Operand(F32) if type == F32 else Operand(type, (), scale * 0.7, middle)
    grouped = {"num_groups": groups} if groups > 1 else {}
    b.output(b.add("GROUPED_CONV_2D" if grouped else "CONV_2D", given | more | grouped, output))
    values = random.standard_normal(image) if type == F32 else random.integers(-128, 128, image) + middle
    return b.finish(), [values.astype(type.dtype)]


SAME, VALID = {"padding": 1}, {"padding": 2}
CASES: dict[str, Callable[[], Case]] = {
    **{
        f"{type.name}: linear, {name}, linear": lambda type=type, name=name: perceptron(type, name, 4)
        for type in (Q8, Q8S) for name in ACTIVATIONS
    },
    "one row: linear, RELU, linear": lambda: perceptron(Q8S, "RELU", 1),
    **{
        f"{type.name}: slice of {size} from {begin}": lambda type=type, b=begin, s=size: sliced(type, b, s)
        for type in (F32, Q8)
        for begin, size in (([0, 0], [-1, -1]), ([1, 1], [-1, 2]), ([1, 1], [2, -1]), ([1, 0], [2, 2]))
    },
    "normalized zeros": lambda: normalized_zeros(Q8),
    "normalized signed zeros": lambda: normalized_zeros(Q8S),
    **{name: lambda name=name: compared(name) for name in ("EQUAL", "NOT_EQUAL", "LESS", "GREATER_EQUAL")},
    "1x1 windows, stride 2, scale 1": lambda: convolved(
        Q8S, (1, 8, 8, 3), (5, 1, 1, 3), nchw=False, scale=1.0, zero_point=-128, stride_width=2, stride_height=2, **SAME
    ),
    "1x1 windows, stride 2": lambda: convolved(
        Q8S, (1, 8, 8, 3), (5, 1, 1, 3), nchw=False, stride_width=2, stride_height=2, **SAME
    ),
    "unsigned filter, zero point 0": lambda: convolved(Q8, (2, 4, 6, 6), (6, 3, 3, 4), filter_zero_point=-128, **SAME),
    "grouped, unsigned filter, zero point 0": lambda: convolved(
        Q8, (4, 4, 4, 4), (8, 2, 1, 1), groups=4, filter_zero_point=-128, zero_point=0, **VALID
    ),
    "signed filter, zero point at its end": lambda: convolved(
        Q8S, (2, 4, 6, 6), (6, 3, 3, 4), filter_zero_point=-128, **SAME
    ),
    "onto a width of 1": lambda: convolved(F32, (1, 1, 4, 2), (3, 3, 5, 1), stride_width=2, **SAME),
    "onto a width of 1, both strides 2": lambda: convolved(
        F32, (1, 1, 4, 2), (3, 3, 5, 1), stride_width=2, stride_height=2, **SAME
    ),
    "onto a width of 1, two of each channel": lambda: convolved(
        Q8S, (3, 5, 5, 3), (10, 4, 3, 1), groups=5, per_channel=True, stride_width=2, **VALID
    ),
}  # fmt: skip
DECLINED: dict[str, str] = {
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "LESS", "GREATER_EQUAL"), "compares as floats: beyond 16777216"),
    "1x1 windows, stride 2, scale 1": "its 1x1 windows strides (2, 2)",
    "unsigned filter, zero point 0": "is unsigned with zero point 0 beside the input's 125",
    "grouped, unsigned filter, zero point 0": "is unsigned with zero point 0 beside the input's 128",
    "onto a width of 1": "with strides (2, 1) onto a width of 1",
    "onto a width of 1, two of each channel": "with strides (2, 1) onto a width of 1",
}
"""Cases that OpenVINO declines, and the words of it; the cases beside these it takes."""


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
@pytest.mark.parametrize("case", CASES)
def test_what_is_taken_is_right(driver: Driver, case: str) -> None:
    model, inputs = CASES[case]()
    model = legalize(model, driver)
    refused = next((v for v in driver.supported(model) if not isinstance(v, Accept)), None)
    if refused is not None:
        pytest.skip(refused.reason)
    (actual,), (expected,) = driver.prepare(model, PrepareOptions()).run(inputs), execute(model, inputs)
    assert actual.shape == expected.shape
    # One step of quantized values, where a requantization rounds another way; two layers may each have one.
    np.testing.assert_allclose(
        actual.astype(float), expected.astype(float), atol=1e-4 if actual.dtype.kind == "f" else 1
    )


@pytest.mark.parametrize("case", DECLINED)
def test_what_openvino_has_wrong_it_declines_with_the_value(case: str) -> None:
    driver = next((d for d in DRIVERS if d.name == "openvino"), None)
    if driver is None:
        pytest.skip("OpenVINO is not installed")
    verdicts = driver.supported(legalize(CASES[case]()[0], driver))
    assert any(DECLINED[case] in getattr(verdict, "reason", "") for verdict in verdicts)


@pytest.mark.parametrize("case", sorted(CASES.keys() - DECLINED.keys()))
def test_what_openvino_has_right_it_takes(case: str) -> None:
    driver = next((d for d in DRIVERS if d.name == "openvino"), None)
    if driver is None:
        pytest.skip("OpenVINO is not installed")
    assert all(isinstance(verdict, Accept) for verdict in driver.supported(legalize(CASES[case]()[0], driver)))
