"""Whatever an engine raises, where it prepares a model and where it runs one, comes out as an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest

from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.errors import CompileError, DeviceUnavailable, ExecutionError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32

PREPARE = {
    "litert": "nnapi.drivers.litert.Interpreter",
    "ncnn": "nnapi.drivers.ncnn.ncnn.Net",
    "openvino": "nnapi.drivers.openvino._Request",
    "onnxruntime": "nnapi.drivers.onnxruntime.onnxruntime.InferenceSession",
    "pytorch": "nnapi.drivers.pytorch.tensor_of",
}
"""Prepared models of each driver, of constants or of inputs."""
RUN: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "litert": lambda prepared: (prepared._engine, "_interpreter"),
    "ncnn": lambda prepared: (prepared.engine, "_net"),
    "openvino": lambda prepared: (prepared.engine, "_request"),
    "onnxruntime": lambda prepared: (prepared.engine, "_session"),
    "pytorch": lambda prepared: (prepared, "_compute"),
}
"""Attributes in which each prepared model keeps its engine."""
ERRORS = (RuntimeError("can't start new thread"), MemoryError("no memory"), TypeError("another"), OSError("no file"))


class Failing:
    """An engine of which everything that is asked raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise self.error

    def __getattr__(self, name: str) -> Failing:
        return self


def tripled() -> Model:
    b = Builder("tripled")
    three = np.array([3], np.float32)
    b.output(b.add("MUL", {"input0": b.input("x", F32, (1, 4)), "input1": three, "activation": 0}))
    return b.finish()


def driver(name: str) -> Driver:
    try:
        return registry.get(name)
    except DeviceUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", PREPARE)
def test_what_is_raised_when_a_model_is_prepared(name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    device, model = driver(name), tripled()
    monkeypatch.setattr(PREPARE[name], Failing(error))
    with pytest.raises(CompileError, match=str(error)):
        device.prepare(model, PrepareOptions())


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", RUN)
def test_what_is_raised_when_a_model_runs(name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tripled()
    prepared = driver(name).prepare(model, PrepareOptions())
    inputs = [np.ones(o.dimensions, o.type.dtype) for o in model.input_operands]
    prepared.run(inputs)
    monkeypatch.setattr(*RUN[name](prepared), Failing(error))
    with pytest.raises(ExecutionError, match=str(error)):
        prepared.run(inputs)
