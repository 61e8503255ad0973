"""Quantized networks of the zoo on the engines: LiteRT as the reference to the step, every engine as good as it."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

import nnapi
from nnapi.drivers import registry
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.reference import execute
from nnapi.errors import DeviceUnavailable
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array, Operand
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.quantize import quantize_model
from nnapi.runtime.build import legalize

torch = pytest.importorskip("torch")
slow = pytest.mark.slow

QUICK = ("digits", "mlp", "vdsr", "mobilenet_v2")
SLOW = (
    "mobilenet_v3_small", "mobilenet_v3_large", "inception_v3", "unet", "srgan", "deeplab_v3_plus", "vgg19",
    "transformer_encoder",
)  # fmt: skip
SOME = [*QUICK, pytest.param("mobilenet_v3_small", marks=slow), pytest.param("transformer_encoder", marks=slow)]
ENGINES = ("litert", "openvino", "onnxruntime")
CALIBRATION = 3
WITHIN_ONE = 0.999
"""Of the outputs, by the goal; of these networks all are."""
DECIBELS = 2.0
"""Engines that round otherwise than the reference come out better or worse, by about as much as two roundings do."""


@cache
def images(name: str) -> list[Array]:
    from nnapi import zoo
    from nnapi.zoo.weights import sample

    shape = tuple(zoo.build(name, small=True)[1][0].shape)
    generator = torch.Generator().manual_seed(3)
    return [sample(shape, generator).numpy() for _ in range(CALIBRATION)]


@cache
def floats(name: str) -> Model:
    from nnapi import zoo

    return nnapi.optimize(nnapi.load(*zoo.build(name, small=True)))


@cache
def quantized(name: str, recipe: str) -> tuple[Model, tuple[Array, ...], Array]:
    """The network in integers, an input, and the reference's output."""
    how = {"base": recipe, "recovery": []}
    model = nnapi.optimize(quantize_model(floats(name), images(name), how).model)
    example = (quantize(images(name)[0], model.input_operands[0]),)
    return model, example, execute(model, example)[0]


def step(operand: Operand, exact: Array) -> float:
    """Of stored integers 1; of floats one of 255 between the lowest and the highest."""
    return 1.0 if operand.type.is_quantized else float(np.ptp(exact)) / 255


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        *itertools.product(QUICK, ("int8", "uint8")),
        *(pytest.param(name, "int8", marks=slow) for name in SLOW),  # uint8: benchmarks/agreement.py
    ],
)
def test_litert_agrees_with_the_reference(name: str, recipe: str) -> None:
    pytest.importorskip("ai_edge_litert")
    model, example, exact = quantized(name, recipe)
    driver = registry.get("litert")
    (actual,) = driver.prepare(legalize(model, driver), PrepareOptions()).run(example)
    apart = np.abs(actual.astype(np.float64) - exact.astype(np.float64))
    assert (apart <= step(model.output_operands[0], exact)).mean() >= WITHIN_ONE


@pytest.mark.filterwarnings("ignore::nnapi.partitioning.gate.AccuracyWarning")  # what is asked here is looser
@pytest.mark.filterwarnings("ignore::nnapi.errors.ReferenceWarning")  # OpenVINO refuses DEQUANTIZE of constants
@pytest.mark.parametrize("recipe", ["int8", "uint8", "int8_float_io", "dynamic_range"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SOME)
def test_engines_are_as_near_the_float_network_as_the_reference(name: str, engine: str, recipe: str) -> None:
    try:
        registry.get(engine)
    except DeviceUnavailable as missing:
        pytest.skip(str(missing))
    model, example, exact = quantized(name, recipe)
    session = nnapi.compile(model, devices=[engine], accept_inaccurate=True)
    elsewhere = [device for device in session.plan.placement.values() if device != engine]
    assert len(session.fallbacks) == len(elsewhere)
    assert all(fallback.reason for fallback in session.fallbacks)
    operand = model.output_operands[0]
    (expected,) = execute(floats(name), [images(name)[0]])
    reached = sqnr(expected, dequantize(exact, operand))
    assert sqnr(expected, dequantize(session(*example)[0], operand)) >= reached - DECIBELS
