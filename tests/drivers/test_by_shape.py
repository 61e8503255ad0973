"""Engines that models of unknown dimensions are built for: what both OpenVINO and ONNX Runtime must keep."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import nnapi
from nnapi.drivers import by_shape, registry
from nnapi.drivers.by_shape import PreparedByShape, PreparedOnce
from nnapi.drivers.driver import Driver, Portable, PrepareOptions, Reject
from nnapi.drivers.reference import execute
from nnapi.errors import CompileError, DeviceUnavailable, ExecutionError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S, Array, OperandType

RNG = np.random.default_rng(0)
OPTIONS = PrepareOptions()


def engines() -> list[Driver]:
    found = []
    for name in ("openvino", "onnxruntime"):
        try:
            found.append(registry.get(name))
        except DeviceUnavailable:
            continue
    return found


pytestmark = pytest.mark.skipif(not engines(), reason="neither openvino nor onnxruntime is installed")
each = pytest.mark.parametrize("driver", engines(), ids=lambda d: d.name)


def convolution(batch: int = 1, size: int = 8, *, scheme: int = 1) -> Model:
    """A convolution whose padding depends on the image's size."""
    b = Builder("convolution")
    given = {
        "input": b.input("x", F32, (batch, 3, size, size)),
        "filter": np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32),
        "bias": np.ones(4, np.float32), "padding": scheme, "stride_width": 2, "stride_height": 2, "activation": 1,
        "layout": True,
    }  # fmt: skip
    b.output(b.add("CONV_2D", given))
    return b.finish()


def blocks(batch: int) -> Model:
    """What neither engine takes with an unknown batch."""
    b = Builder("blocks")
    x = b.input("x", F32, (batch, 2, 4, 4))
    b.output(
        b.add("SPACE_TO_BATCH_ND", {"input": x, "block_shape": [2, 2], "paddings": [[0, 0], [0, 0]], "layout": True})
    )
    return b.finish()


def images(batch: int = 1, channels: int = 3, size: int = 8) -> Array:
    return RNG.standard_normal((batch, channels, size, size)).astype(np.float32)


def double(type: OperandType = F32, shape: Sequence[int] = (2, 3)) -> Model:
    b = Builder("double")
    x = b.input("x", type, shape, *((0.5, 3) if type.is_quantized else ()))
    b.output(b.add("MAXIMUM", {"input0": x, "input1": x}, x.operand))
    return b.finish()


def prepared(driver: Driver, model: Model, options: PrepareOptions = OPTIONS) -> Any:
    assert not [v for v in driver.supported(model) if isinstance(v, Reject)]
    return driver.prepare(model, options)


def check(ready: Any, model: Model, *inputs: Array) -> None:
    for actual, expected in zip(ready.run(list(inputs)), execute(model, list(inputs)), strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@each
@pytest.mark.parametrize("model", [convolution(0, 0), convolution(0), blocks(0)], ids=["all", "batch", "blocks"])
def test_unknown_dimensions_are_what_comes(driver: Driver, model: Model) -> None:
    ready = prepared(driver, model)
    channels = model.input_operands[0].dimensions[1]
    size = model.input_operands[0].dimensions[2]
    for batch, side in ((1, size or 8), (3, size or 8), (1, size or 9), (1, size or 8)):
        check(ready, model, images(batch, channels, side))


@each
def test_few_engines_are_kept(driver: Driver) -> None:
    ready = prepared(driver, blocks(0))
    assert isinstance(ready, PreparedByShape)
    for batch in range(1, by_shape.MAX_SHAPES + 3):
        ready.run([images(batch, 2, 4)])
    assert len(ready._engines) == by_shape.MAX_SHAPES


@each
def test_onnx_runtime_alone_takes_unknown_dimensions_itself(driver: Driver) -> None:
    assert isinstance(prepared(driver, convolution(0, 0)), PreparedOnce) == (driver.name == "onnxruntime")


WRONG: dict[str, tuple[list[Array | None], str]] = {
    "too few": ([], "0 inputs given, the model takes 1"),
    "too many": ([images(), images()], "2 inputs given"),
    "omitted": ([None], "is omitted|has no optional"),
    "type": ([images().astype(np.float64)], "is float64, must be float32"),
    "rank": ([images()[0]], "has shape"),
    "channels": ([images(1, 4)], "has shape"),
}


@each
@pytest.mark.parametrize("batch", [0, 1], ids=["open", "fixed"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_explained_and_the_next_right_ones_run(driver: Driver, batch: int, case: str) -> None:
    inputs, reason = WRONG[case]
    model = convolution(batch, scheme=2)
    ready = prepared(driver, model)
    with pytest.raises(ExecutionError, match=reason):
        ready.run(inputs)
    check(ready, model, images())


@each
def test_an_empty_batch_is_computed_or_refused(driver: Driver) -> None:
    model = convolution(0, scheme=2)
    ready = prepared(driver, model)
    try:
        (actual,) = ready.run([images(0)])
    except ExecutionError as error:
        assert "takes no empty tensors" in str(error)
    else:
        assert actual.shape == execute(model, [images(0)])[0].shape


@each
def test_shapes_that_an_operation_refuses_are_an_execution_s_error(driver: Driver) -> None:
    ready = prepared(driver, convolution(0, 0, scheme=2))
    with pytest.raises(ExecutionError):
        ready.run([images(1, 3, 1)])
    check(ready, convolution(0, 0, scheme=2), images(1, 3, 5))


@each
@pytest.mark.parametrize("type", [F32, F16, I32, Q8, Q8S])
@pytest.mark.parametrize("shape", [(2, 3), (1, 64, 32, 32)], ids=["small", "large"])
def test_results_belong_to_the_caller(driver: Driver, type: OperandType, shape: tuple[int, ...]) -> None:
    model = double(type, shape)
    ready = prepared(driver, model)
    x, y = (RNG.integers(0, 100, shape).astype(type.dtype) for _ in range(2))
    (first,) = ready.run([x])
    kept = first.copy()
    (second,) = ready.run([y])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(second, y)
    assert first.flags.writeable
    first[...] = 0
    np.testing.assert_array_equal(ready.run([y])[0], y)


@each
@pytest.mark.parametrize("shape", [(2, 3), (1, 64, 32, 32)], ids=["small", "large"])
def test_results_are_written_where_they_are_wanted(driver: Driver, shape: tuple[int, ...]) -> None:
    ready = prepared(driver, double(F32, shape))
    x, given = RNG.standard_normal(shape).astype(np.float32), np.empty(shape, np.float32)
    assert ready.run([x], [given])[0] is given
    np.testing.assert_array_equal(given, x)
    for wrong in (np.empty(shape, np.float64), np.empty((*shape, 1), np.float32)):
        with pytest.raises(ExecutionError, match="output array is"):
            ready.run([x], [wrong])


@each
@pytest.mark.parametrize("shape", [(4, 6), (1, 64, 32, 32)], ids=["small", "large"])
def test_inputs_may_be_read_only_and_strided(driver: Driver, shape: tuple[int, ...]) -> None:
    ready = prepared(driver, double(F32, shape))
    x = RNG.standard_normal(shape).astype(np.float32)
    frozen = x.copy()
    frozen.flags.writeable = False
    strided = np.asfortranarray(x)
    for given in (frozen, strided, np.repeat(x, 2, 0)[::2]):
        np.testing.assert_array_equal(ready.run([given])[0], x)


@each
def test_executions_may_come_from_many_threads(driver: Driver) -> None:
    model = convolution(0)
    ready = prepared(driver, model)
    cases = [(x, execute(model, [x])[0]) for x in (images(1), images(2), images(1))]
    wrong: list[str] = []

    def work(x: Array, expected: Array) -> None:
        for _ in range(20):
            (actual,) = ready.run([x])
            if actual.shape != expected.shape or np.abs(actual - expected).max() > 1e-5:
                wrong.append(f"{actual.shape} for {expected.shape}")

    threads = [threading.Thread(target=work, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@each
def test_an_input_that_nobody_reads_is_still_an_input(driver: Driver) -> None:
    b = Builder("unread")
    unread, x = b.input("unread", B8, (7,)), b.input("x", F32, (2,))
    b.output(b.add("RANK", {"input": unread}), b.add("RELU", {"input": x}))
    model = b.finish()
    ready = prepared(driver, model)
    check(ready, model, np.zeros(7, bool), np.array([-1, 2], np.float32))


@each
def test_what_was_prepared_is_read_back(driver: Driver) -> None:
    assert isinstance(driver, Portable)
    model, x = convolution(), images()
    ready = prepared(driver, model)
    artifact = driver.artifact(ready)
    assert artifact
    again = driver.restore(artifact, model.input_operands, model.output_operands, OPTIONS)
    np.testing.assert_array_equal(again.run([x])[0], ready.run([x])[0])
    with pytest.raises(ExecutionError, match="is float64"):
        again.run([x.astype(np.float64)])
    assert driver.artifact(prepared(driver, blocks(0))) is None
    with pytest.raises(CompileError):
        driver.restore(b"something else", model.input_operands, model.output_operands, OPTIONS)


@each
@pytest.mark.parametrize("threads", [1, 2])
def test_the_engine_has_the_threads_asked_for(driver: Driver, threads: int) -> None:
    engine = prepared(driver, convolution(), PrepareOptions(num_threads=threads)).engine
    if driver.name == "onnxruntime":
        found = engine._session.get_session_options().intra_op_num_threads
    else:
        found = engine.compiled.get_property("INFERENCE_NUM_THREADS") or 1  # none of its own: it is the caller's
    assert found == threads


@each
def test_a_loop_is_refused_with_its_reason(driver: Driver) -> None:
    condition, body = Builder("condition"), Builder("body")
    for builder, type in ((condition, "LESS"), (body, "ADD")):
        x = builder.input("x", I32, (1,))
        given: dict[str, Any] = {"input0": x, "input1": np.array([3], np.int32)}
        builder.output(builder.add(type, given if type == "LESS" else given | {"activation": 0}))
    b = Builder("loop")
    x = b.input("x", I32, (1,))
    given = {"condition_model": condition.finish(), "body_model": body.finish(), "inputs": [x]}
    b.output(b.add("WHILE", given, x.operand))
    (verdict,) = driver.supported(b.finish())
    assert isinstance(verdict, Reject)
    assert "WHILE" in verdict.reason and "time is over" in verdict.reason


QUICK = ("digits", "mlp", "mobilenet_v3_small", "transformer_encoder")
NETWORKS = (
    "mobilenet_v2", "mobilenet_v3_large", "inception_v3", "unet", "srgan", "vdsr", "deeplab_v3_plus", "vgg19",
)  # fmt: skip


@functools.cache
def network(name: str) -> tuple[Model, list[Array], Array]:
    """A network of the zoo at its small size, an input, and what PyTorch makes of it."""
    torch = pytest.importorskip("torch")
    from nnapi import zoo

    module, inputs = zoo.build(name, small=True)
    with torch.inference_mode():
        expected: Array = module(*inputs).numpy()
    return nnapi.load(module, inputs), [x.numpy() for x in inputs], expected


@each
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS)])
def test_networks_run_whole_and_right(driver: Driver, name: str) -> None:
    model, inputs, expected = network(name)
    session = nnapi.compile(model, devices=[driver], fallback=False)
    assert [p.device for p in session.plan.partitions] == [driver.name]
    (actual,) = session(*inputs)
    noise = np.square(actual.astype(float) - expected).sum()
    assert 10 * np.log10(np.square(expected.astype(float)).sum() / max(noise, 1e-300)) >= 90  # dB
