"""The pytorch devices: eager and compiled compute the same; what is missing is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnapi.drivers import registry
from nnapi.drivers.driver import PrepareOptions
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
