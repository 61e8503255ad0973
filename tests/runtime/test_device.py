"""Devices: which there are, what they say of a model, what the runtime says on standard error."""

from __future__ import annotations

import numpy as np
import pytest

from clients import (
    ADD,
    INT32,
    REFERENCE,
    RELU,
    TENSOR_FLOAT32,
    bound,
    client_model,
    compiled,
    device,
    elementwise,
    refused,
)  # fmt: skip
from models import chain
from nnapi import runtime
from nnapi.drivers import registry
from nnapi.drivers.fake import FakeDriver
from nnapi.ir.builder import Builder
from nnapi.ops.types import F32
from nnapi.runtime import Device, DeviceTypeCode, FeatureLevelCode, Model, devices
from nnapi.runtime import compilation as compilation_module

MUL, IF, TENSOR_BOOL8, MODEL = 18, 96, 9, 15
X = np.arange(4, dtype=np.float32)


def test_every_device_says_what_it_is() -> None:
    found = devices()
    assert "reference" in [d.name for d in found]
    for each in found:
        assert each.version
        assert each.type in DeviceTypeCode
        assert each.feature_level in list(FeatureLevelCode)
        each.wait()


def test_a_device_is_the_same_object_each_time() -> None:
    assert devices() == devices()
    assert all(a is b for a, b in zip(devices(), devices()))


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("reference", ["reference"]),
        ("null,reference", ["null", "reference"]),
        (" reference , fake ,", ["reference", "fake"]),
        ("reference,reference", ["reference"]),
        ("nobody,reference", ["reference"]),
        ("nobody", []),
    ],
)
def test_the_environment_restricts_and_orders_them(
    variable: str, names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNAPI_DEVICES", variable)
    monkeypatch.setenv("NNAPI_LOG", "info")
    assert [d.name for d in devices()] == names
    assert ("nnapi: NNAPI_DEVICES: no device 'nobody'" in capsys.readouterr().err) == ("nobody" in variable)


def test_without_devices_the_reference_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNAPI_DEVICES", "nobody")
    compilation = compiled(elementwise(), None)
    assert compilation.require_program().devices == ("reference",)
    z = np.zeros(4, np.float32)
    bound(compilation, [X, X], [z]).compute()
    np.testing.assert_array_equal(z, 2 * X)


def test_the_runtime_s_level() -> None:
    assert runtime.get_runtime_feature_level() == FeatureLevelCode.LEVEL_8 == 1000008


@pytest.mark.parametrize(("level", "code"), [(1, 27), (2, 28), (3, 29), (4, 30), (5, 31), (6, 1000006), (8, 1000008)])
def test_levels_are_numbered_as_nnapi_does(level: int, code: int) -> None:
    assert Device(FakeDriver(feature_level=level)).feature_level == code


def test_what_is_taken_is_said_in_the_order_of_the_client() -> None:
    model = Model()
    for _ in range(3):
        model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operand(1)
    model.set_operand_value(3, np.int32(0))
    model.add_operation(MUL, [1, 0, 3], [2])
    model.add_operation(ADD, [0, 0, 3], [1])
    model.identify_inputs_and_outputs([0], [2])
    model.finish()
    adds = device(FakeDriver("adds", costs={"ADD": 1.0}, default_cost=None))
    assert adds.supported(model) == [False, True]
    assert REFERENCE.supported(model) == [True, True]


def images(channels_first: bool) -> Model:
    b = Builder()
    x = b.input("x", F32, (1, 2, 6, 6) if channels_first else (1, 6, 6, 2))
    b.output(
        b.add(
            "MAX_POOL_2D",
            {
                "input": x,
                "padding": 1,
                "stride_width": 1,
                "stride_height": 1,
                "filter_width": 2,
                "filter_height": 2,
                "activation": 0,
                "layout": channels_first,
            },
        )
    )
    return client_model(b.finish())


@pytest.mark.parametrize("channels_first", [False, True])
def test_a_layout_is_no_reason_to_refuse(channels_first: bool) -> None:
    litert = next((d for d in devices() if d.name == "litert"), None)
    if litert is None:
        pytest.skip("no litert here")
    model = images(channels_first)
    assert litert.supported(model) == [True]
    assert compiled(model, [litert]).require_program().devices == ("litert",)


def test_a_device_that_fails_to_answer_takes_nothing() -> None:
    class Broken(FakeDriver):
        def supported(self, model):  # type: ignore[no-untyped-def]
            raise RuntimeError("no answer")

    broken = device(Broken("broken"))
    assert broken.supported(elementwise()) == [False]
    with refused("BAD_DATA", "the driver failed to answer"):
        compiled(elementwise(), [broken])


# What is said


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("level", ["", "none", "INFO"])
def test_silent_by_default(level: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNAPI_LOG", level)
    compiled(elementwise())
    assert said(capsys) == []


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_line_per_compilation_and_partition(
    level: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNAPI_LOG", level)
    compiled(elementwise())
    assert said(capsys) == [
        "nnapi: compiled 1 of 1 operations: reference",
        "nnapi: partition 0: 1 operations on reference",
    ]


def test_a_line_per_fallback_with_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    adds = FakeDriver("adds", costs={"ADD": 1e-9}, default_cost=None, launch_cost=1e-9)
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(adds), REFERENCE])
    compiled(client_model(chain("ADD", "MUL", "ADD")), None)
    assert said(capsys) == [
        "nnapi: MUL is left to the reference: adds: MUL: takes ADD only",
        "nnapi: compiled 2 of 3 operations: adds, reference",
        "nnapi: partition 0: 1 operations on adds",
        "nnapi: partition 1: 1 operations on reference",
        "nnapi: partition 2: 1 operations on adds",
    ]


def test_nothing_is_said_without_a_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    monkeypatch.setattr("sys.stderr", None)
    compiled(elementwise())


def half_wrong() -> Model:
    """r = relu(x); s = r + [1, 2, 3], where r has four values; t = relu(s)."""
    model = Model()
    for dimensions in ([4], [4], [3], [4], [4]):
        model.add_operand(TENSOR_FLOAT32, dimensions)
    model.add_operand(INT32)
    model.set_operand_value(2, np.arange(3, dtype=np.float32))
    model.set_operand_value(5, np.int32(0))
    model.add_operation(RELU, [0], [1])
    model.add_operation(ADD, [1, 2, 5], [3])
    model.add_operation(RELU, [3], [4])
    model.identify_inputs_and_outputs([0], [4])
    return model


@pytest.mark.parametrize("driver", ["litert", "reference"])
def test_devices_refuse_what_is_wrong_and_take_the_rest(driver: str) -> None:
    model = half_wrong()
    model.finish(is_strict=False)
    assert device(registry.get(driver)).supported(model) == [True, False, True]


def test_the_python_objects_are_strict_unless_told_otherwise() -> None:
    with refused("BAD_DATA", r"ADD: .*\(4,\).*\(3,\)"):
        half_wrong().finish()


def test_what_holds_a_model_that_cannot_run_cannot_run() -> None:
    inner = half_wrong()
    inner.finish(is_strict=False)
    outer = Model()
    for type_code, dimensions in (
        (TENSOR_BOOL8, [1]),
        (MODEL, []),
        (MODEL, []),
        (TENSOR_FLOAT32, [4]),
        (TENSOR_FLOAT32, [4]),
    ):
        outer.add_operand(type_code, dimensions)
    for operand in (1, 2):
        outer.set_operand_value_from_model(operand, inner)
    outer.add_operation(IF, [0, 1, 2, 3], [4])
    outer.identify_inputs_and_outputs([0, 3], [4])
    outer.finish(is_strict=False)
    assert REFERENCE.supported(outer) == [False]
    condition, z = np.ones(1, np.bool_), np.zeros(4, np.float32)
    with refused("OP_FAILED", "ADD"):
        bound(compiled(outer, None), [condition, X], [z]).compute()
