"""Compilations: states, arguments, which devices run what, what happens when one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from clients import ADD, REFERENCE, bound, compiled, computed, device, elementwise, refused
from nnapi.drivers.driver import Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference
from nnapi.errors import CompileError, DeadObject, ExecutionError, ModelError, UsageError
from nnapi.ir.model import Model as IrModel
from nnapi.ops.types import Array
from nnapi.runtime import Burst, Compilation, Execution, MemoryDesc, PreferenceCode, PriorityCode
from nnapi.runtime import compilation as compilation_module

MUL = 18
X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
TOKEN = bytes(32)
CALLS: dict[str, Callable[[Compilation], object]] = {
    "set_preference": lambda c: c.set_preference(PreferenceCode.LOW_POWER),
    "set_caching": lambda c: c.set_caching("/nowhere", TOKEN),
    "set_priority": lambda c: c.set_priority(PriorityCode.HIGH),
    "set_timeout": lambda c: c.set_timeout(10**9),
    "add_extension_attribute": lambda c: c.add_extension_attribute("org.nnapi.composite", 0, b"x"),
    "finish": lambda c: c.finish(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_nothing_changes_a_finished_compilation(call: Callable[[Compilation], object]) -> None:
    compilation = compiled(elementwise())
    with refused("BAD_STATE", "the compilation is finished"):
        call(compilation)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_everything_may_be_set_before(call: Callable[[Compilation], object]) -> None:
    call(Compilation(elementwise(), [REFERENCE]))


PREFERRED = ("alignment_for_input", "padding_for_input", "alignment_for_output", "padding_for_output")
USES: dict[str, tuple[Callable[[Compilation], object], str]] = {
    "Execution": (Execution, "BAD_STATE"),
    "Burst": (Burst, "BAD_STATE"),
    "input role": (lambda c: MemoryDesc().add_input_role(c, 0, 1.0), "BAD_DATA"),
    "output role": (lambda c: MemoryDesc().add_output_role(c, 0, 1.0), "BAD_DATA"),
    **{
        name: (lambda c, name=name: getattr(c, f"get_preferred_memory_{name}")(0), "BAD_STATE")  # type: ignore[misc]
        for name in PREFERRED
    },
}


@pytest.mark.parametrize(("use", "code"), USES.values(), ids=USES.keys())
@pytest.mark.parametrize("is_failed", [False, True], ids=["unfinished", "failed"])
def test_what_is_not_compiled_is_no_use(use: Callable[[Compilation], object], code: str, is_failed: bool) -> None:
    compilation = Compilation(elementwise(), [device(FakeDriver("fails", fails_to_compile=["ADD"]))])
    if is_failed:
        with refused("OP_FAILED", "fails on purpose"):
            compilation.finish()
    with refused(code):
        use(compilation)


WRONG: dict[str, tuple[Callable[[Compilation], object], str]] = {
    "preference": (lambda c: c.set_preference(3), "preference 3, must be 0"),
    "negative preference": (lambda c: c.set_preference(-1), "preference -1"),
    "priority": (lambda c: c.set_priority(0), "priority 0, must be 90"),
    "short token": (lambda c: c.set_caching("/tmp", bytes(31)), "a token of 31 bytes, must have 32"),
    "token that is no buffer": (lambda c: c.set_caching("/tmp", 5), "a buffer cannot be used"),
    "timeout of two devices": (
        lambda c: Compilation(c.model, [REFERENCE, device(FakeDriver())]).set_timeout(1), "for one named device"),
    "timeout of all devices": (lambda c: Compilation(c.model).set_timeout(1), "for one named device"),
    "attribute of all devices": (
        lambda c: Compilation(c.model).add_extension_attribute("org.nnapi.composite", 0, b""), "for one named device"),
    "attribute of an extension the device does not have": (
        lambda c: c.add_extension_attribute("org.nobody", 0, b""), "does not have extension 'org.nobody'"),
    "no devices": (lambda c: Compilation(c.model, []), "no device is named"),
    "a device twice": (lambda c: Compilation(c.model, [REFERENCE, REFERENCE]), "name one twice"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(call: Callable[[Compilation], object], message: str) -> None:
    with refused("BAD_DATA", message):
        call(Compilation(elementwise(), [REFERENCE]))


def test_an_attribute_is_set_once() -> None:
    compilation = Compilation(elementwise(), [REFERENCE])
    compilation.add_extension_attribute("org.nnapi.composite", 0, b"x")
    with refused("BAD_DATA", "is set already"):
        compilation.add_extension_attribute("org.nnapi.composite", 0, b"x")


@pytest.mark.parametrize("name", PREFERRED)
def test_preferred_memory(name: str) -> None:
    compilation = compiled(elementwise())
    value = getattr(compilation, f"get_preferred_memory_{name}")(0)
    assert value > 0
    assert value & (value - 1) == 0
    with refused("BAD_DATA", "does not exist"):
        getattr(compilation, f"get_preferred_memory_{name}")(2)


def test_a_compilation_needs_a_finished_model() -> None:
    with refused("BAD_STATE", "the model is not finished"):
        Compilation(elementwise(finish=False))


# Which devices


def test_a_named_device_must_take_everything() -> None:
    picky = device(FakeDriver("picky", costs={"MUL": 1e-6}, default_cost=None))
    compilation = Compilation(elementwise(ADD), [picky])
    with refused("BAD_DATA", "picky: ADD: takes MUL only"):
        compilation.finish()
    assert compiled(elementwise(MUL), [picky]).require_program().devices == ("picky",)


def test_named_devices_share_the_work() -> None:
    adds = device(FakeDriver("adds", costs={"ADD": 1e-6}, default_cost=None))
    muls = device(FakeDriver("muls", costs={"MUL": 1e-6}, default_cost=None))
    model = two_operations()
    program = compiled(model, [adds, muls]).require_program()
    assert program.devices == ("adds", "muls")
    assert (program.accepted, program.operations) == (2, 2)
    np.testing.assert_array_equal(computed(compiled(model, [adds, muls]), [X, Y])[0], (X + Y) * Y)


def two_operations():  # type: ignore[no-untyped-def]
    model = elementwise(ADD, finish=False)
    model.add_operand(3, [4])
    model.add_operation(MUL, [3, 1, 2], [4])
    model._outputs = (4,)
    model.finish()
    return model


def test_what_no_device_takes_goes_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    adds = device(FakeDriver("adds", costs={"ADD": 1e-6}, default_cost=None))
    monkeypatch.setattr(compilation_module, "devices", lambda: [adds, REFERENCE])
    compilation = compiled(two_operations(), None)
    program = compilation.require_program()
    assert program.devices == ("adds", "reference")
    assert (program.accepted, program.operations) == (1, 2)
    np.testing.assert_array_equal(computed(compilation, [X, Y])[0], (X + Y) * Y)


def test_a_device_of_a_lower_level_does_not_get_what_it_cannot_have() -> None:
    old = FakeDriver("old", feature_level=2)
    model = elementwise(dimensions=[4])
    assert device(old).supported(model) == [True]
    half = halves()
    assert device(old).supported(half) == [False]
    with refused("BAD_DATA", "needs feature level 3"):
        Compilation(half, [device(old)]).finish()


def halves():  # type: ignore[no-untyped-def]
    """ADD of TENSOR_FLOAT16, which came with feature level 3."""
    from nnapi.runtime import Model

    model = Model()
    for type_code, dimensions in ((8, [4]), (8, [4]), (1, []), (8, [4])):
        model.add_operand(type_code, dimensions)
    model.set_operand_value(2, np.int32(0))
    model.add_operation(ADD, [0, 1, 2], [3])
    model.identify_inputs_and_outputs([0, 1], [3])
    model.finish()
    return model


# Failing devices

RAISED: dict[str, tuple[Exception, str]] = {
    "CompileError": (CompileError("no room"), "OP_FAILED"),
    "DeadObject": (DeadObject("gone"), "DEAD_OBJECT"),
    "an engine's own": (RuntimeError("segment 7"), "OP_FAILED"),
    "MemoryError": (MemoryError("no room"), "OUT_OF_MEMORY"),
}
FINAL: dict[str, Exception] = {"ModelError": ModelError("bad weights"), "UsageError": UsageError("no such option")}


@dataclass
class Failing(FakeDriver):
    """A device that fails as it is told."""

    name: str = "failing"
    compiling: Exception | None = None
    running: Exception | None = None
    runs: list[int] = field(default_factory=list)

    def prepare(self, model: IrModel, options: PrepareOptions) -> Prepared:
        if self.compiling is not None:
            raise self.compiling
        return _Prepared(self, PreparedReference(model))


@dataclass
class _Prepared:
    driver: Failing
    inner: PreparedReference

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        self.driver.runs.append(1)
        if self.driver.running is not None:
            raise self.driver.running
        return self.inner.run(inputs, outputs)


@pytest.mark.parametrize(("error", "code"), RAISED.values(), ids=RAISED.keys())
def test_a_named_device_that_fails_to_compile_is_an_error(error: Exception, code: str) -> None:
    compilation = Compilation(elementwise(), [device(Failing(compiling=error))])
    with refused(code, str(error)):
        compilation.finish()


@pytest.mark.parametrize(("error", "code"), RAISED.values(), ids=RAISED.keys())
def test_a_named_device_that_fails_to_run_is_an_error(error: Exception, code: str) -> None:
    compilation = compiled(elementwise(), [device(Failing(running=error))])
    with refused(code, str(error)):
        bound(compilation, [X, Y], [np.empty(4, np.float32)]).compute()


@pytest.mark.parametrize(("error", "code"), RAISED.values(), ids=RAISED.keys())
def test_among_all_devices_the_reference_takes_over(
    error: Exception, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    for driver in (Failing(compiling=error), Failing()):
        monkeypatch.setattr(compilation_module, "devices", lambda driver=driver: [device(driver), REFERENCE])
        compilation = compiled(elementwise(), None)
        driver.runs.clear()
        driver.running = error
        np.testing.assert_array_equal(computed(compilation, [X, Y])[0], X + Y)
        said = capsys.readouterr().err
        assert (
            "1 operations kept off failing: " if driver.compiling else "fall back from failing to the reference: "
        ) in said
        assert str(error) in said
        assert len(driver.runs) == (0 if driver.compiling else 1)


@pytest.mark.parametrize("error", FINAL.values(), ids=FINAL.keys())
def test_bad_data_never_falls_back(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(Failing(compiling=error)), REFERENCE])
    with refused("BAD_DATA", str(error)):
        Compilation(elementwise()).finish()
    driver = Failing()
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(driver), REFERENCE])
    compilation = compiled(elementwise(), None)
    driver.running = error
    with refused("BAD_DATA", str(error)):
        computed(compilation, [X, Y])


def test_a_device_may_fail_once_only() -> None:
    driver = Failing(running=ExecutionError("busy"))
    compilation = compiled(elementwise(), [device(driver)])
    z = np.empty(4, np.float32)
    with refused("OP_FAILED", "busy"):
        bound(compilation, [X, Y], [z]).compute()
    driver.running = None
    bound(compilation, [X, Y], [z]).compute()
    np.testing.assert_array_equal(z, X + Y)


def test_a_pass_that_fails_leaves_the_model_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnapi.runtime import compile

    def broken(model: IrModel) -> IrModel:
        raise ModelError("a pass is wrong")

    monkeypatch.setenv("NNAPI_LOG", "info")
    monkeypatch.setattr(compile, "run_passes", broken)
    np.testing.assert_array_equal(computed(compiled(elementwise()), [X, Y])[0], X + Y)
    assert "the model stays as it is: a pass is wrong" in capsys.readouterr().err
