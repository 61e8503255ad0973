"""OpenVINO: what the contract and test_by_shape.py do not ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import chain
from nnapi.conformance.runner import run_folder
from nnapi.drivers.driver import PrepareOptions, Reject
from nnapi.drivers.reference import execute
from nnapi.drivers.saturation import saturates
from nnapi.errors import CompileError
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Q8, Q8PC, Q8S, Array, ChannelQuant, Operand, OperandType
from nnapi.runtime.build import legalize

pytest.importorskip("openvino")

from nnapi.drivers import openvino as driver_module
from nnapi.drivers.openvino import OpenVINODriver

DRIVER = OpenVINODriver()
OPTIONS = PrepareOptions()
CASES = ("conv_quant8", "depthwise_conv2d_v1_2", "concat_mixed_quant", "if_same_shape", "roi_align", "strided_slice")
"""Parts of the names of specs that cross most of what the driver does."""


def matrix_product(size: int = 256) -> tuple[Model, Array]:
    rng = np.random.default_rng(0)
    b = Builder("product")
    given = {
        "input": b.input("x", F32, (1, size)), "filter": rng.standard_normal((size, size)).astype(np.float32),
        "bias": np.zeros(size, np.float32), "activation": 0,
    }  # fmt: skip
    b.output(b.add("FULLY_CONNECTED", given))
    return b.finish(), rng.standard_normal((1, size)).astype(np.float32)


def decibels(expected: Array, actual: Array) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - actual).sum(), 1e-300)))


def test_relaxed_runs_in_16_bit_floats_where_the_cpu_has_them() -> None:
    model, x = matrix_product()
    (expected,) = execute(model, [x])
    assert decibels(expected, DRIVER.prepare(model, OPTIONS).run([x])[0]) > 100
    relaxed = DRIVER.prepare(model, PrepareOptions(precision="relaxed"))
    hint = relaxed.engine.compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    assert hint in ("f16", "bf16", "f32")
    # bfloat16 keeps 8 bits of each factor, float16 11: 40 dB and more.
    assert 40 < decibels(expected, relaxed.run([x])[0]) < (90 if hint != "f32" else 200)


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_model_s_own_leave_is_for_float16_which_not_every_cpu_has(relaxed: bool) -> None:
    b = Builder("relaxed", relaxed=relaxed)
    x = b.input("x", F32, (1, 4))
    b.output(b.add("MUL", {"input0": x, "input1": x, "activation": 0}))
    y = np.full((1, 4), 1.0009765625, np.float32)  # a half's next number after 1: bfloat16 has none so near
    assert abs(DRIVER.prepare(b.finish(), OPTIONS).run([y])[0] - y * y).max() < 1e-3


@pytest.mark.parametrize(("heads", "tokens"), [(8, 8), (4, 8), (8, 4)])
def test_attention_of_as_many_heads_as_tokens(heads: int, tokens: int) -> None:
    """Split, reshaped and attended to, as a transformer does; fused, OpenVINO takes heads for tokens."""
    b = Builder("attention")
    x = b.input("x", F32, (3, heads * tokens * 32))
    parts = b.add_many("SPLIT", {"input": x, "axis": 0, "num_splits": 3}, [Operand(F32)] * 3)
    q, k, v = (b.add("RESHAPE", {"input": p, "shape": [1, heads, tokens, 32]}) for p in parts)
    b.output(b.add("TRANSPOSE", {"input": composites.attention(b, q, k, v, scale=0.2), "perm": [0, 2, 1, 3]}))
    model = legalize(b.finish(), DRIVER)
    value = np.random.default_rng(0).standard_normal((3, heads * tokens * 32)).astype(np.float32)
    assert all(not isinstance(verdict, Reject) for verdict in DRIVER.supported(model))
    np.testing.assert_allclose(DRIVER.prepare(model, OPTIONS).run([value])[0], execute(model, [value])[0], atol=1e-5)


def stored(
    b: Builder, type: OperandType, shape: tuple[int, ...], scale: float = 0.25, *, constant: bool = False
) -> Ref:
    operand = Operand(type, shape, scale, 3)
    return b.constant(np.ones(shape, type.dtype), operand) if constant else b.input("x", type, shape, scale, 3)


def _constant_data(b: Builder) -> Ref:
    return b.add("LOGISTIC", {"input": stored(b, Q8, (2, 2), constant=True)})


def _constant_factor(b: Builder) -> Ref:
    x, y = stored(b, Q8S, (2, 2)), stored(b, Q8S, (2, 2), constant=True)
    return b.add("BATCH_MATMUL", {"input0": x, "input1": y}, Operand(Q8S, (), 0.5, 0))


def _grouped_by_one(b: Builder) -> Ref:
    x = stored(b, Q8, (1, 2, 4, 4), 1.0)
    filter = b.constant(np.ones((1, 2, 2, 2), np.uint8), Operand(Q8, (), 0.5, 0))
    bias = b.constant(np.zeros(2, np.int32), Operand(I32, (), 0.5))
    given: dict[str, Any] = {"input": x, "filter": filter, "bias": bias, "padding": 2, "depth_multiplier": 1}
    given |= {"stride_width": 1, "stride_height": 1, "activation": 0, "layout": True}
    return b.add("DEPTHWISE_CONV_2D", given, Operand(Q8, (), 2.0, 0))


REFUSED: dict[str, tuple[Callable[[Builder], Ref], str]] = {
    "constant data": (_constant_data, "its data is a quantized constant"),
    "constant factor": (_constant_factor, "input1 is a quantized constant"),
    "scale 1": (_grouped_by_one, "its input has scale 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_engine_does_wrong_is_refused(case: str) -> None:
    write, reason = REFUSED[case]
    b = Builder(case)
    b.output(write(b))
    (verdict,) = DRIVER.supported(b.finish())
    assert isinstance(verdict, Reject)
    assert reason in verdict.reason


def quantized(seed: int, type: OperandType, *, depthwise: bool) -> tuple[Model, Array]:
    """A convolution of random sizes, scales and zero points, per channel or not."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(type.dtype)
    channels, outputs, size = int(rng.choice([3, 8, 16])), int(rng.choice([4, 16])), int(rng.integers(6, 14))
    outputs = channels if depthwise else outputs
    shape = (1, 3, 3, channels) if depthwise else (outputs, 3, 3, channels)
    per_channel = bool(rng.integers(2))
    scale = float(np.float32(rng.uniform(0.01, 0.05)))
    scales = [float(np.float32(s)) for s in rng.uniform(0.002, 0.02, outputs if per_channel else 1)]
    zero_point = 0 if per_channel else int(rng.choice([0, 7]) + (128 if type == Q8 else 0))
    channel_quant = ChannelQuant(tuple(scales), 3 if depthwise else 0) if per_channel else None
    weights = Operand(
        Q8PC if per_channel else type, shape, 0.0 if per_channel else scales[0], zero_point, channel_quant
    )
    b = Builder("quantized")
    x = b.input("x", type, (1, channels, size, size), scale, int(rng.integers(info.min, info.max)))
    low = -127 if per_channel else info.min
    bias = Operand(I32, (outputs,), 0.0 if per_channel else scale * scales[0])
    given: dict[str, Any] = {
        "input": x,
        "filter": b.constant(rng.integers(low, info.max, shape).astype(weights.type.dtype), weights),
        "bias": b.constant(rng.integers(-2000, 2000, outputs).astype(np.int32), bias),
        "padding": int(rng.integers(1, 3)), "stride_width": 1, "stride_height": 1,
        "activation": int(rng.choice([0, 1, 3])), "layout": True,
    }  # fmt: skip
    output = Operand(type, (), float(np.float32(scale * np.mean(scales) * 400)), int(rng.integers(info.min, info.max)))
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    b.output(b.add(kind, given | ({"depth_multiplier": 1} if depthwise else {}), output))
    return b.finish(), rng.integers(info.min, info.max, (1, channels, size, size)).astype(type.dtype)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("type", [Q8, Q8S])
@pytest.mark.parametrize("depthwise", [False, True], ids=["full", "depthwise"])
def test_quantized_convolutions_are_within_one(type: OperandType, depthwise: bool, seed: int) -> None:
    model, x = quantized(seed, type, depthwise=depthwise)
    actual = DRIVER.prepare(model, OPTIONS).run([x])[0].astype(int)
    assert np.abs(actual - execute(model, [x])[0]).max() <= 1


@pytest.mark.skipif(saturates(), reason="sums of signed bytes saturate on this processor, floats take their place")
def test_convolutions_of_bytes_are_done_in_bytes() -> None:
    model, _ = quantized(0, Q8S, depthwise=False)
    engine = DRIVER.prepare(model, OPTIONS).engine
    kinds = [
        (str(n.get_rt_info()["layerType"].astype(str)), str(n.get_rt_info()["primitiveType"].astype(str)))
        for n in engine.compiled.get_runtime_model().get_ops()
    ]
    convolutions = [primitive for layer, primitive in kinds if layer == "Convolution"]
    assert convolutions and all(primitive.endswith(("i8", "I8", "u8", "U8")) for primitive in convolutions)


def test_what_the_engine_raises_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "export_onnx", lambda model: b"no model")
    with pytest.raises(CompileError, match="OpenVINO: "):
        DRIVER.prepare(chain("ADD"), OPTIONS)


@pytest.mark.slow
def test_conformance(vectors: Path) -> None:
    """Some specs here; `nnapi conformance` runs all."""
    taken = 0
    for path in sorted(vectors.rglob("*.json.gz")):
        if any(part in path.name for part in CASES):
            for outcome in run_folder(path, DRIVER):
                assert outcome.status != "failed", f"{outcome.case}: {outcome.detail}"
                taken += outcome.status == "passed"
    assert taken > 100


def test_sums_of_signed_filters_do_not_saturate() -> None:
    """Two layers of filters up to 127: summed two by two in 16 bits a third of the values would be wrong."""
    random = np.random.default_rng(1)
    b = Builder("layers")
    x = b.input("x", F32, (1, 16, 16, 16))
    y = b.add("QUANTIZE", {"input": x}, Operand(Q8, (), 0.02, 128))
    for _ in range(2):
        filter = random.integers(-127, 128, (16, 3, 3, 16)).astype(np.int8)
        per_channel = Operand(Q8PC, (), channel_quant=ChannelQuant((0.004,) * 16, 0))
        given: dict[str, Any] = {
            "input": y, "filter": b.constant(filter, per_channel),
            "bias": b.constant(np.zeros(16, np.int32), Operand(I32)),
            "padding": 1, "stride_width": 1, "stride_height": 1, "activation": 0,
        }  # fmt: skip
        y = b.add("CONV_2D", given, Operand(Q8, (), 0.1, 128))
    b.output(y)
    model = b.finish()
    values = [random.standard_normal((1, 16, 16, 16)).astype(np.float32)]

    (actual,) = DRIVER.prepare(legalize(model, DRIVER), OPTIONS).run(values)
    apart = np.abs(actual.astype(int) - execute(model, values)[0])
    assert apart.max() <= 2  # of the first layer's roundings, each one step, few meet in one sum


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_models_on_one_thread_have_none_of_their_own() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    model, x = matrix_product()
    smallest = np.float32(1e-40)
    before = threads()
    held = [DRIVER.prepare(model, OPTIONS) for _ in range(20)]
    for prepared in held:
        prepared.run([x])
    assert threads() <= before + 2  # of the engine's compiler
    assert smallest * np.float32(0.5) > 0  # the caller's arithmetic is as it was: denormals are no zeros
