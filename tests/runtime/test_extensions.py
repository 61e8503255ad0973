"""Extensions: codes, composites with their bodies, ATen calls, a driver's own operations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from clients import QUANT8, REFERENCE, TENSOR_FLOAT32, client_model, compiled, computed, device, elementwise, refused
from nnapi.drivers.driver import ACCEPT, Prepared, PrepareOptions, Reject, Verdict
from nnapi.drivers.fake import FakeDriver
from nnapi.ir import composites
from nnapi.ir.builder import Builder
from nnapi.ir.model import COMPOSITE
from nnapi.ir.model import Model as IrModel
from nnapi.ops.types import BOOL, F32, MODEL, Array
from nnapi.runtime import Compilation, Model, devices
from nnapi.runtime import device as device_module
from nnapi.runtime.extensions import COMPOSITES, join_code, split_code

ORG = "org.nnapi.composite"
ATEN = "org.pytorch.aten"
X = np.linspace(-3, 3, 4, dtype=np.float32)


def test_codes_have_the_extension_in_the_high_bits() -> None:
    model = Model()
    first, second = model.get_extension_operation_type(ORG, 3), model.get_extension_operand_type("org.other", 3)
    assert first & 0xFFFF == second & 0xFFFF == 3
    assert first >> 16 != second >> 16
    assert 0 < first < 2**31
    assert first == model.get_extension_operand_type(ORG, 3) == Model().get_extension_operation_type(ORG, 3)
    assert split_code(first) == (ORG, 3)
    assert split_code(3) is None


def test_every_composite_has_a_code() -> None:
    made = {
        name.upper() for name in ("erf", "gelu", "silu", "mish", "softplus", "layer_norm", "rms_norm", "group_norm")
        if hasattr(composites, name)
    }  # fmt: skip
    assert made <= set(COMPOSITES)
    assert COMPOSITES[:2] == ("ERF", "GELU")  # codes that clients hold do not change


def gelu() -> Model:
    """GELU as a client gives it: the composite's operation, with its decomposition as a referenced model."""
    b = Builder()
    b.output(composites.gelu(b, b.input("x", F32, (4,))))
    ir = b.finish()
    (operation,) = ir.operations
    assert operation.type == f"{COMPOSITE}GELU"
    model = Model()
    for type_code, dimensions in ((TENSOR_FLOAT32, [4]), (BOOL, []), (MODEL, []), (TENSOR_FLOAT32, [4])):
        model.add_operand(type_code, dimensions)
    model.set_operand_value(1, np.bool_(False))
    model.set_operand_value_from_model(2, client_model(ir.body(operation)))  # type: ignore[arg-type]
    model.add_operation(model.get_extension_operation_type(ORG, COMPOSITES.index("GELU")), [0, 1, 2], [3])
    model.identify_inputs_and_outputs([0], [3])
    model.finish()
    return model


@pytest.mark.parametrize("name", ["reference", "litert", "pytorch"])
def test_a_composite_runs_everywhere(name: str) -> None:
    found = next((d for d in devices() if d.name == name), None)
    if found is None:
        pytest.skip(f"no {name} here")
    assert found.get_extension_support(ORG)
    assert found.supported(gelu()) == [True]
    (y,) = computed(compiled(gelu(), [found]), [X])
    # Within float32's rounding of a few operations.
    np.testing.assert_allclose(y, [-0.00404969, -0.15865526, 0.8413447, 2.9959502], atol=1e-5)


def aten_relu(overload: bytes | None, arguments: object) -> Model:
    model = Model()
    name = model.add_operand(model.get_extension_operand_type(ATEN, 0))
    if overload is not None:
        model.set_operand_extension_data(name, overload)
    x = model.add_operand(TENSOR_FLOAT32, [4])
    data = np.frombuffer(json.dumps(arguments).encode(), np.uint8)
    packed = model.add_operand(QUANT8, [len(data)], 1.0)
    model.set_operand_value(packed, data)
    y = model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(model.get_extension_operation_type(ATEN, 0), [name, x, packed], [y])
    model.identify_inputs_and_outputs([x], [y])
    model.finish()
    return model


ARGUMENTS = {"args": [{"tensor": 0}], "kwargs": {}}


def test_a_call_of_aten() -> None:
    found = next((d for d in devices() if d.name == "pytorch"), None)
    if found is None:
        pytest.skip("no pytorch here")
    assert found.get_extension_support(ATEN)
    assert not REFERENCE.get_extension_support(ATEN)
    (y,) = computed(compiled(aten_relu(b"relu.default", ARGUMENTS), [found]), [X])
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    with refused("BAD_DATA", "an extension, the reference knows NNAPI's operations only"):
        compiled(aten_relu(b"relu.default", ARGUMENTS))


def test_wrong_calls_of_aten() -> None:
    with refused("BAD_DATA", "the overload's name is no UTF-8"):
        aten_relu(b"\xff", ARGUMENTS)
    with refused("BAD_DATA"):
        aten_relu(None, ARGUMENTS)
    with refused("BAD_DATA"):
        compiled(aten_relu(b"no_such.thing", ARGUMENTS), None)
    model = Model()
    for _ in range(2):
        model.add_operand(TENSOR_FLOAT32, [4])
    with refused("BAD_DATA", "the first input must name the overload"):
        model.add_operation(model.get_extension_operation_type(ATEN, 0), [0], [1])
    with refused("BAD_DATA", "has no operation 1"):
        model.add_operation(model.get_extension_operation_type(ATEN, 1), [0], [1])
    with refused("BAD_DATA", "has no operand type 1"):
        model.add_operand(model.get_extension_operand_type(ATEN, 1))
    name = model.add_operand(model.get_extension_operand_type(ATEN, 0))
    with refused("BAD_DATA", "it has data and no value"):
        model.set_operand_value(name, b"relu")
    with refused("BAD_DATA", "RELU|input is INT32"):
        model.add_operation(19, [name], [1])
    model.set_operand_extension_data(name, b"relu.default")
    model.set_operand_extension_data(name, None)


def test_extensions_nobody_has() -> None:
    model = elementwise(finish=False)
    for call in (
        lambda: model.add_operand(model.get_extension_operand_type("org.nobody", 0)),
        lambda: model.add_operation(model.get_extension_operation_type("org.nobody", 0), [0], [3]),
    ):
        with refused("BAD_DATA", "'org.nobody' has no"):
            call()


@dataclass
class Fibonacci(FakeDriver):
    """A device with an operation of its own."""

    name: str = "fibonacci"
    extensions: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"org.example": ("SQUARE", "FIBONACCI")})

    def supported(self, model: IrModel) -> list[Verdict]:
        return [ACCEPT if o.type == "org.example/FIBONACCI" else Reject(f"{o.type}: no") for o in model.operations]

    def prepare(self, model: IrModel, options: PrepareOptions) -> Prepared:
        return _Prepared()


class _Prepared:
    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        a, b, found = 0.0, 1.0, []
        for _ in range(4):
            found.append(a)
            a, b = b, a + b
        assert inputs[0] is not None
        result = inputs[0] * np.array(found, np.float32)
        if outputs is None:
            return [result]
        outputs[0][...] = result
        return list(outputs)


def test_an_operation_of_a_driver_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    example = device(Fibonacci())
    monkeypatch.setattr(device_module, "devices", lambda: [example, REFERENCE])
    assert example.get_extension_support("org.example")
    assert not REFERENCE.get_extension_support("org.example")
    model = Model()
    for _ in range(2):
        model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(model.get_extension_operation_type("org.example", 1), [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    assert model.ir.operations[0].type == "org.example/FIBONACCI"
    assert example.supported(model) == [True]
    (y,) = computed(compiled(model, [example]), [np.ones(4, np.float32)])
    assert y.tolist() == [0, 1, 1, 2]
    with refused("BAD_DATA"):
        Compilation(model, [REFERENCE]).finish()


def test_there_may_be_many_but_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnapi.runtime import extensions

    monkeypatch.setattr(extensions, "_prefixes", {f"org.x{n}": n + 1 for n in range((1 << 15) - 1)})
    assert join_code("org.x0", 5) == 1 << 16 | 5
    with refused("BAD_DATA", "no more are possible"):
        join_code("org.one.more", 0)
    assert join_code("org.x32766", 0) == 32767 << 16
