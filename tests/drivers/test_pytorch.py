"""The pytorch devices: eager and compiled compute the same; what is missing is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nnapi.drivers import registry
from nnapi.drivers.aten_precision import Multiplication
from nnapi.drivers.driver import Precision, PrepareOptions
from nnapi.drivers.pytorch import CompiledPyTorchDriver, CUDAPyTorchDriver, PyTorchDriver
from nnapi.drivers.reference import execute
from nnapi.errors import DeviceUnavailable, ExecutionError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32

OPTIONS = PrepareOptions()


def layer(batch: int = 2) -> Model:
    """A convolution, a pool and a SOFTMAX, in NCHW."""
    b, generator = Builder("layer"), np.random.default_rng(0)
    x = b.input("x", F32, (batch, 3, 8, 8))
    filter = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
    padding = {f"padding_{side}": 1 for side in ("left", "right", "top", "bottom")}
    step = {"stride_width": 1, "stride_height": 1, "activation": 1, "layout": True}
    y = b.add("CONV_2D", {"input": x, "filter": filter, "bias": np.ones(4, np.float32), **padding, **step})
    y = b.add("MAX_POOL_2D", {"input": y, "padding": 2, "filter_width": 8, "filter_height": 8, **step})
    y = b.add("RESHAPE", {"input": y, "shape": [batch or -1, 4]})
    b.output(b.add("SOFTMAX", {"input": y, "beta": 1.0}))
    return b.finish()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch deprecates
def test_compiled_computes_what_eager_does() -> None:
    try:
        driver = registry.get("pytorch_compiled")
    except DeviceUnavailable as error:
        pytest.skip(str(error))
    model = layer()
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    prepared = driver.prepare(model, OPTIONS)
    for _ in range(2):
        np.testing.assert_allclose(prepared.run([x])[0], execute(model, [x])[0], atol=1e-6)  # probabilities


def test_what_fails_names_its_operation() -> None:
    b = Builder("sum")
    x, y = (b.input(name, F32, (0,)) for name in "xy")
    b.output(b.add("ADD", {"input0": x, "input1": y, "activation": 0}))
    prepared = PyTorchDriver().prepare(b.finish(), OPTIONS)
    with pytest.raises(ExecutionError, match="ADD"):
        prepared.run([np.zeros(2, np.float32), np.zeros(3, np.float32)])


def test_outputs_are_written_where_they_are_asked_for() -> None:
    model = layer()
    x, given = np.ones((2, 3, 8, 8), np.float32), np.empty((2, 4), np.float32)
    assert PyTorchDriver().prepare(model, OPTIONS).run([x], [given])[0] is given
    np.testing.assert_allclose(given, execute(model, [x])[0], atol=1e-6)  # probabilities


def test_no_compiler_is_no_compiled_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeviceUnavailable, match="no C\\+\\+ compiler 'no-such-compiler'"):
        CompiledPyTorchDriver()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_is_no_cuda_device() -> None:
    with pytest.raises(DeviceUnavailable, match="no CUDA device"):
        CUDAPyTorchDriver()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")
def test_cuda_computes_what_the_reference_does() -> None:
    model = layer()
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    actual = CUDAPyTorchDriver().prepare(model, OPTIONS).run([x])[0]
    np.testing.assert_allclose(actual, execute(model, [x])[0], atol=1e-3)  # TensorFloat-32 has 11 bits


def test_devices_that_must_be_named_are_not_chosen() -> None:
    assert not registry.ONLY_NAMED.keys() & {d.name for d in registry.available()}


SETTINGS = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> CUDAPyTorchDriver:
    """CUDA's driver where there is no CUDA: it computes on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(CUDAPyTorchDriver, "device", "cpu")
    return CUDAPyTorchDriver()


@pytest.fixture(params=[False, True], ids=["TF32 where PyTorch likes", "TF32 everywhere"])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    """The user's setting for matrix products."""
    torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32 = False


def allowed() -> tuple[Any, ...]:
    """Settings of PyTorch's users, in both ways of asking."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return (*(s.fp32_precision for s in SETTINGS), cuda.allow_tf32, cudnn.allow_tf32)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch before 2.9 has other settings")
@pytest.mark.parametrize(("precision", "expected"), [("fp32", "ieee"), ("relaxed", "tf32")])
def test_cuda_multiplies_as_it_is_asked_to_and_leaves_the_settings_alone(
    on_cuda: CUDAPyTorchDriver, tf32: bool, precision: Precision, expected: str
) -> None:
    model, x = layer(), np.ones((2, 3, 8, 8), np.float32)
    before = allowed()
    prepared = on_cuda.prepare(model, PrepareOptions(precision=precision))
    seen: list[list[str]] = []
    compute = prepared._compute

    def watched(tensors: Any) -> Any:
        seen.append([s.fp32_precision for s in SETTINGS])
        return compute(tensors)

    prepared._compute = watched
    prepared.run([x])
    assert seen == [[expected] * 3]
    assert allowed() == before
    prepared._compute = lambda tensors: 1 / 0
    with pytest.raises(ExecutionError, match="ZeroDivisionError"):
        prepared.run([x])
    assert allowed() == before


def test_runs_overlap_that_want_the_same_and_wait_for_others() -> None:
    setting = SimpleNamespace(fp32_precision="none")
    multiplication = Multiplication([setting])
    ended = threading.Event()

    def other() -> None:
        with multiplication.held("tf32"):
            assert setting.fp32_precision == "tf32"
            ended.set()

    with multiplication.held("ieee"):
        with multiplication.held("ieee"):
            pass
        assert setting.fp32_precision == "ieee"
        thread = threading.Thread(target=other)
        thread.start()
        assert not ended.wait(0.1)
    assert ended.wait(10)
    thread.join()
    assert setting.fp32_precision == "none"


def test_cpu_multiplies_in_floats_whatever_the_user_allows() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        b = Builder("product")
        x = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
        weights = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
        given = {"input": b.input("x", F32, x.shape), "filter": weights, "bias": np.zeros(64, np.float32)}
        b.output(b.add("FULLY_CONNECTED", {**given, "activation": 0}))
        model = b.finish()
        (y,) = PyTorchDriver().prepare(model, OPTIONS).run([x])
        np.testing.assert_allclose(y, execute(model, [x])[0], atol=2e-4)  # sums of 256 in another order
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
