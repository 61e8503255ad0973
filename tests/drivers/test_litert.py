"""LiteRT: what the contract does not ask of every driver."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nnapi.conformance.runner import run_folder
from nnapi.drivers import litert
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.litert import LiteRTDriver, PreparedLiteRT
from nnapi.drivers.reference import execute
from nnapi.errors import CompileError, ExecutionError
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import B8, F32, I32, Array, OperandType

DRIVER = LiteRTDriver()
OPTIONS = PrepareOptions()


def separable(*, batch: int = 1, stride: int = 2, relaxed: bool = False) -> Model:
    """Blocks as in MobileNet-V2, with PyTorch's symmetric padding."""
    rng = np.random.default_rng(0)
    b = Builder("separable", relaxed=relaxed)

    def conv(x: Ref, channels: int, size: int, step: int, activation: int, depthwise: bool = False) -> Ref:
        depth = (x.shape or ())[3]
        shape = (1, size, size, depth) if depthwise else (channels, size, size, depth)
        given = {
            "input": x,
            "filter": (rng.standard_normal(shape) / size).astype(np.float32),
            "bias": rng.standard_normal(depth if depthwise else channels).astype(np.float32),
            **{f"padding_{side}": size // 2 for side in ("left", "right", "top", "bottom")},
            "stride_width": step,
            "stride_height": step,
            "activation": activation,
        }
        return b.add("DEPTHWISE_CONV_2D", given | {"depth_multiplier": 1}) if depthwise else b.add("CONV_2D", given)

    x = conv(b.input("image", F32, (batch, 32, 32, 3)), 8, 3, stride, 3)
    y = conv(conv(conv(x, 24, 1, 1, 3), 0, 3, 1, 3, depthwise=True), 8, 1, 1, 0)
    x = b.add("ADD", {"input0": x, "input1": y, "activation": 0})
    x = b.add("MEAN", {"input": x, "axes": [1, 2], "keep_dims": 0})
    weights = rng.standard_normal((10, 8)).astype(np.float32)
    b.output(
        b.add("FULLY_CONNECTED", {"input": x, "filter": weights, "bias": np.zeros(10, np.float32), "activation": 0})
    )
    return b.finish()


def double(type: OperandType = F32, dimensions: tuple[int, ...] = (2, 3)) -> Model:
    b = Builder("double")
    x = b.input("x", type, dimensions)
    b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    return b.finish()


def image(batch: int = 1, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 32, 32, 3)).astype(np.float32)


def operators(prepared: PreparedLiteRT) -> list[str]:
    """The names of the graph's operators, the delegate's last; those it took are still listed."""
    assert prepared._engine is not None
    interpreter = prepared._engine._interpreter
    return [d["op_name"] for d in interpreter._get_ops_details()]


@pytest.mark.parametrize(("stride", "pads"), [(1, 0), (2, 1)])
def test_xnnpack_takes_the_whole_network(stride: int, pads: int) -> None:
    prepared = DRIVER.prepare(separable(stride=stride), OPTIONS)
    names = operators(prepared)
    assert names.count("PAD") == pads
    assert set(names) == {"PAD", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "DELEGATE"} - (
        set() if pads else {"PAD"}
    )
    assert prepared._engine is not None
    delegate = prepared._engine._interpreter._get_ops_details()[-1]
    assert delegate["outputs"].tolist() == prepared._engine._outputs


@pytest.mark.parametrize("batches", [(1,), (3, 1, 3, 5, 2, 4, 3)])
def test_unknown_dimensions_follow_the_inputs(batches: tuple[int, ...]) -> None:
    model = separable(batch=0)
    prepared = DRIVER.prepare(model, OPTIONS)
    for batch in batches:
        x = image(batch)
        (actual,) = prepared.run([x])
        # Sums in another order, which XNNPACK chooses by CPU: some units in the last place of values up to 50.
        np.testing.assert_allclose(actual, execute(model, [x])[0], rtol=2e-6, atol=2e-5)
    assert len(prepared._engines) <= litert.MAX_SHAPES


def test_relaxed_is_computed_in_float32() -> None:
    x = image()
    relaxed = DRIVER.prepare(separable(relaxed=True), PrepareOptions(precision="relaxed"))
    np.testing.assert_array_equal(relaxed.run([x])[0], DRIVER.prepare(separable(), OPTIONS).run([x])[0])


def test_inputs_of_any_memory_layout() -> None:
    model, x = double(), np.arange(12, dtype=np.float32).reshape(3, 4).T[:2]
    assert not x.flags.c_contiguous
    prepared = DRIVER.prepare(model, OPTIONS)
    np.testing.assert_array_equal(prepared.run([x])[0], x * 2)
    x.flags.writeable = False
    np.testing.assert_array_equal(prepared.run([x])[0], x * 2)


def test_one_execution_at_a_time() -> None:
    model = separable()
    prepared = DRIVER.prepare(model, OPTIONS)
    images = [image(seed=n) for n in range(4)]
    expected = [prepared.run([x])[0] for x in images]
    failures: list[object] = []

    def work(n: int) -> None:
        for _ in range(20):
            given = [np.empty_like(expected[n])]
            if not np.array_equal(prepared.run([images[n]], given)[0], expected[n]):
                failures.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


WRONG_INPUTS: dict[str, tuple[list[Array | None], str]] = {
    "none": ([], "0 inputs given, the model takes 1"),
    "another type": ([np.zeros((2, 3), np.float64)], "input 'x' is float64, must be float32 for TENSOR_FLOAT32"),
    "another shape": ([np.zeros((3, 2), np.float32)], "input 'x' has shape (3, 2), must have (2, 3)"),
    "omitted": ([None], "input 'x' is omitted, LiteRT has no optional inputs"),
}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_wrong_inputs(name: str) -> None:
    inputs, message = WRONG_INPUTS[name]
    with pytest.raises(ExecutionError) as error:
        DRIVER.prepare(double(), OPTIONS).run(inputs)
    assert message in str(error.value)


@pytest.mark.parametrize("array", [np.empty((1, 1), np.float32), np.empty((2, 3), np.float64)], ids=["shape", "type"])
def test_wrong_outputs(array: Array) -> None:
    prepared = DRIVER.prepare(double(), OPTIONS)
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ExecutionError, match=r"output array is .* must be float32"):
        prepared.run([x], [array])
    assert prepared.run([x])[0].tolist() == (x * 2).tolist()


def test_empty_tensors_are_refused_when_they_come() -> None:
    with pytest.raises(ExecutionError, match=r"input 'x' has shape \(0, 3\), LiteRT takes no empty tensors"):
        DRIVER.prepare(double(dimensions=(0, 3)), OPTIONS).run([np.zeros((0, 3), np.float32)])


def test_what_it_does_not_take_does_not_compile() -> None:
    b = Builder()
    x = b.input("x", B8, (2,))
    b.output(b.add("LESS", {"input0": x, "input1": x}))
    with pytest.raises(CompileError, match="LESS: TENSOR_BOOL8"):
        DRIVER.prepare(b.finish(), OPTIONS)


def test_an_engine_that_refuses_is_a_compile_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "export_tflite", lambda model: b"not a model")
    with pytest.raises(CompileError, match=r"^LiteRT: "):
        DRIVER.prepare(double(), OPTIONS)


def test_an_engine_that_fails_is_an_execution_error() -> None:
    b = Builder()
    x, at = np.zeros((2, 3), np.float32), b.input("at", I32, (1,))
    b.output(b.add("GATHER", {"input": x, "axis": 0, "indices": at}))
    prepared = DRIVER.prepare(b.finish(), OPTIONS)
    with pytest.raises(ExecutionError, match=r"^LiteRT: "):
        prepared.run([np.array([7], np.int32)])
    assert prepared.run([np.array([1], np.int32)])[0].shape == (1, 3)


def test_estimates_grow_with_the_work() -> None:
    small, large = (DRIVER.estimate(separable(batch=n)) for n in (1, 64))
    assert small.source == "modelled"
    assert 0 < small.seconds < large.seconds
    assert large.joules > small.joules


QUIET = """
import sys
import numpy as np
from nnapi.drivers.litert import LiteRTDriver
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.quiet import quiet
from nnapi.ir.builder import Builder
from nnapi.ops.types import F32
b = Builder()
x = b.input("x", F32, (0, 2))
b.output(b.add("RELU", {"input": x}))
prepared = LiteRTDriver().prepare(b.finish(), PrepareOptions())
prepared.run([np.ones((3, 2), np.float32)])
with quiet((b"INFO: ",)):
    print("mine", file=sys.stderr, flush=True)
"""


def test_the_engine_is_quiet_and_others_are_heard() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "mine\n")


def test_importing_nnapi_loads_no_engine() -> None:
    code = "import sys, nnapi; sys.exit('ai_edge_litert' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.alone
@pytest.mark.slow
def test_a_run_costs_little_more_than_the_engine() -> None:
    """At most 50 us: the median of pairs taken in turn, so that the machine's other work hits both alike."""
    prepared = DRIVER.prepare(separable(), OPTIONS)
    x = image()
    prepared.run([x])
    engine = prepared._engine
    assert engine is not None
    interpreter = engine._interpreter

    def bare() -> None:
        interpreter.set_tensor(engine._inputs[0], x)
        interpreter.invoke()
        interpreter.get_tensor(engine._outputs[0])

    def timed(function: object) -> float:
        start = time.perf_counter()
        function()  # type: ignore[operator]
        return time.perf_counter() - start

    extra = [timed(lambda: prepared.run([x])) - timed(bare) for _ in range(500)]
    assert statistics.median(extra) < 50e-6


ACCEPTED = {"V1_0": 238, "V1_1": 271, "V1_2": 1420, "V1_3": 757, "V1_3_cts_only": 26}
"""Conformance cases that it must take at least; those of float16, NCHW and variable shapes are not among them."""
SLOW = {"V1_2", "V1_3"}


@pytest.mark.parametrize("version", [pytest.param(v, marks=[pytest.mark.slow] if v in SLOW else []) for v in ACCEPTED])
def test_every_conformance_case_it_takes_passes(vectors: Path, version: str) -> None:
    outcomes = list(run_folder(vectors / version, DRIVER))
    failed = [f"{o.case}: {o.detail}" for o in outcomes if o.status == "failed"]
    assert not failed
    assert sum(o.status == "passed" for o in outcomes) >= ACCEPTED[version]
