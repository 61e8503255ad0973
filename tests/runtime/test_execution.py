"""Executions: states, bindings, values, interruption, timing, reuse."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import pytest

from clients import (
    REFERENCE,
    RELU,
    TENSOR_FLOAT32,
    TENSOR_INT32,
    MakeMemory,
    bound,
    client_model,
    compiled,
    computed,
    device,
    elementwise,
    refused,
)  # fmt: skip
from nnapi.conformance.generate import generate
from nnapi.drivers.fake import FakeDriver
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import Array, OperandType
from nnapi.runtime import (
    Burst,
    Device,
    DurationCode,
    Event,
    Execution,
    Memory,
    Model,
    ResultCode,
    devices,
)  # fmt: skip
from nnapi.runtime import compilation as compilation_module
from nnapi.runtime.codes import NO_DURATION
from nnapi.runtime.queue import QUEUE

X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
LOGICAL_NOT = OPERATIONS["LOGICAL_NOT"].code


def room(count: int = 4) -> Array:
    return np.full(count, -1, np.float32)


def ready(**kwargs: bool) -> Execution:
    """Everything bound."""
    return bound(compiled(elementwise()), [X, Y], [room()])


def done() -> Execution:
    """Run once."""
    execution = ready()
    execution.compute()
    return execution


def failed() -> Execution:
    """Run once, and failed."""
    execution = bound(compiled(elementwise(), [device(FakeDriver("dead", fails_to_run=True))]), [X, Y], [room()])
    with refused("OP_FAILED"):
        execution.compute()
    return execution


SETTERS: dict[str, Callable[[Execution, Memory], object]] = {
    "set_input": lambda e, _: e.set_input(0, None, X),
    "set_input_from_memory": lambda e, m: e.set_input_from_memory(0, None, m, 0, 16),
    "set_output": lambda e, _: e.set_output(0, None, room()),
    "set_output_from_memory": lambda e, m: e.set_output_from_memory(0, None, m, 0, 16),
    "set_timeout": lambda e, _: e.set_timeout(10**9),
    "set_loop_timeout": lambda e, _: e.set_loop_timeout(10**9),
    "set_measure_timing": lambda e, _: e.set_measure_timing(True),
    "set_reusable": lambda e, _: e.set_reusable(True),
    "enable_input_and_output_padding": lambda e, _: e.enable_input_and_output_padding(True),
    "add_extension_attribute": lambda e, _: e.add_extension_attribute("org.nnapi.composite", 0, b"x"),
}
RUNNERS: dict[str, Callable[[Execution, Memory], object]] = {
    "compute": lambda e, _: e.compute(),
    "burst_compute": lambda e, _: e.burst_compute(Burst(e.compilation)),
    "start_compute": lambda e, _: e.start_compute().wait(),
    "start_compute_with_dependencies": lambda e, _: e.start_compute_with_dependencies([]).wait(),
}
GETTERS: dict[str, Callable[[Execution, Memory], object]] = {
    "get_duration": lambda e, _: e.get_duration(DurationCode.ON_HARDWARE),
    "get_output_operand_rank": lambda e, _: e.get_output_operand_rank(0),
    "get_output_operand_dimensions": lambda e, _: e.get_output_operand_dimensions(0),
}
Call = Callable[[Execution, Memory], object]


@pytest.mark.parametrize("call", SETTERS.values(), ids=SETTERS.keys())
@pytest.mark.parametrize("made", [done, failed])
def test_nothing_changes_an_execution_that_has_run(
    made: Callable[[], Execution], call: Call, make_memory: MakeMemory
) -> None:
    with refused("BAD_STATE", "the execution is completed"):
        call(made(), make_memory(X))


@pytest.mark.parametrize("call", SETTERS.values(), ids=SETTERS.keys())
def test_nothing_changes_an_execution_that_runs(call: Call, make_memory: MakeMemory) -> None:
    execution = ready()
    never = Event(None, lambda: None)  # type: ignore[arg-type,return-value]
    event = execution.start_compute_with_dependencies([never])
    with refused("BAD_STATE", "the execution is running"):
        call(execution, make_memory(X))
    never.finish(None)
    event.wait()


@pytest.mark.parametrize("call", (RUNNERS | GETTERS).values(), ids=(RUNNERS | GETTERS).keys())
def test_an_execution_that_runs_is_not_started_again_nor_asked(call: Call, make_memory: MakeMemory) -> None:
    execution = ready()
    execution.compilation.is_for_one_device  # noqa: B018
    never = Event(None, lambda: None)  # type: ignore[arg-type,return-value]
    event = execution.start_compute_with_dependencies([never])
    with refused("BAD_STATE", "the execution is running"):
        call(execution, make_memory(X))
    never.finish(None)
    event.wait()


@pytest.mark.parametrize("call", RUNNERS.values(), ids=RUNNERS.keys())
def test_an_execution_runs_once(call: Call, make_memory: MakeMemory) -> None:
    execution = ready()
    call(execution, make_memory(X))
    for again in RUNNERS.values():
        with refused("BAD_STATE", "the execution is completed"):
            again(execution, make_memory(X))


@pytest.mark.parametrize("call", RUNNERS.values(), ids=RUNNERS.keys())
def test_a_reusable_execution_runs_as_often_as_one_likes(call: Call, make_memory: MakeMemory) -> None:
    x, z = X.copy(), room()
    execution = bound(compiled(elementwise()), [x, Y], [z])
    # A reusable execution may be set so at any time before the first run.
    execution.set_reusable(True)
    for value in range(3):
        x[:] = value
        call(execution, make_memory(X))
        np.testing.assert_array_equal(z, x + Y)


@pytest.mark.parametrize("call", GETTERS.values(), ids=GETTERS.keys())
@pytest.mark.parametrize("made", [ready, failed])
def test_there_is_nothing_to_get_before_the_end_or_after_a_failure(
    made: Callable[[], Execution], call: Call, make_memory: MakeMemory
) -> None:
    with refused("BAD_STATE"):
        call(made(), make_memory(X))


@pytest.mark.parametrize("call", RUNNERS.values(), ids=RUNNERS.keys())
@pytest.mark.parametrize("missing", ["input 1", "output 0"])
def test_everything_must_be_set(call: Call, missing: str, make_memory: MakeMemory) -> None:
    execution = Execution(compiled(elementwise()))
    execution.set_input(0, None, X)
    if missing != "input 1":
        execution.set_input(1, None, Y)
    else:
        execution.set_output(0, None, room())
    with refused("BAD_DATA", f"{missing} is not set"):
        call(execution, make_memory(X))
    with refused("BAD_STATE", "the execution is completed"):
        call(execution, make_memory(X))


WRONG: dict[str, tuple[Call, str]] = {
    "input beyond": (lambda e, _: e.set_input(2, None, X), "index 2, the model has 2"),
    "input below": (lambda e, _: e.set_input(-1, None, X), "index -1"),
    "input from memory beyond": (lambda e, m: e.set_input_from_memory(2, None, m, 0, 16), "index 2"),
    "output beyond": (lambda e, _: e.set_output(1, None, room()), "index 1, the model has 1"),
    "output from memory beyond": (lambda e, m: e.set_output_from_memory(1, None, m, 0, 16), "index 1"),
    "short input": (lambda e, _: e.set_input(0, None, X[:3]), "input 0 takes 16 bytes, given 12"),
    "long input": (lambda e, _: e.set_input(0, None, np.zeros(5, "f4")), "takes 16 bytes, given 20"),
    "empty input": (lambda e, _: e.set_input(0, None, X[:0]), "a buffer without bytes"),
    "input that is no buffer": (lambda e, _: e.set_input(0, None, 7), "a buffer cannot be used"),
    "input that is not contiguous": (lambda e, _: e.set_input(0, None, np.zeros(8, "f4")[::2]), "cannot be used"),
    "short output": (lambda e, _: e.set_output(0, None, room(3)), "output 0 takes 16 bytes, given 12"),
    "long output": (lambda e, _: e.set_output(0, None, room(5)), "takes 16 bytes, given 20"),
    "output that is read only": (lambda e, _: e.set_output(0, None, bytes(16)), "read only"),
    "short region": (lambda e, m: e.set_input_from_memory(0, None, m, 0, 12), "takes 16 bytes, given 12"),
    "region beyond": (lambda e, m: e.set_input_from_memory(0, None, m, 4, 16), "16 bytes from 4 of a memory of 16"),
    "region without a length": (lambda e, m: e.set_input_from_memory(0, None, m, 0, 0), "0 bytes from 0"),
    "output region beyond": (lambda e, m: e.set_output_from_memory(0, None, m, 4, 16), "of a memory of 16"),
    "other type": (lambda e, _: e.set_input(0, (TENSOR_INT32, [4], 0.0, 0), X), "given operand type 4"),
    "no type": (lambda e, _: e.set_input(0, (77, [4], 0.0, 0), X), "given operand type 77"),
    "other dimensions": (lambda e, _: e.set_input(0, (TENSOR_FLOAT32, [5], 0.0, 0), X), r"dimensions \(4,\), given"),
    "other rank": (lambda e, _: e.set_input(0, (TENSOR_FLOAT32, [2, 2], 0.0, 0), X), r"dimensions \(4,\), given"),
    "a scale for floats": (lambda e, _: e.set_input(0, (TENSOR_FLOAT32, [4], 1.0, 0), X), "scale is 1.0, must be 0"),
    "duration": (lambda e, _: e.get_duration(4), "duration 4"),
    "burst of another": (lambda e, _: e.burst_compute(Burst(compiled(elementwise()))), "of another compilation"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(call: Call, message: str, make_memory: MakeMemory) -> None:
    with refused("BAD_DATA", message):
        call(Execution(compiled(elementwise())), make_memory(X))


def test_everything_is_set_once(make_memory: MakeMemory) -> None:
    for name in ("set_input", "set_input_from_memory", "set_output", "set_output_from_memory"):
        with refused("BAD_STATE", "is set already"):
            SETTERS[name](ready(), make_memory(X))


@pytest.mark.parametrize("index", [1, -1])
@pytest.mark.parametrize("get", ["get_output_operand_rank", "get_output_operand_dimensions"])
def test_outputs_that_do_not_exist(get: str, index: int) -> None:
    with refused("BAD_DATA", f"index {index}"):
        getattr(done(), get)(index)


ONE_DEVICE: dict[str, Call] = {
    "set_timeout": lambda e, _: e.set_timeout(1),
    "set_measure_timing": lambda e, _: e.set_measure_timing(True),
    "duration": lambda e, _: e.start_compute_with_dependencies([], 1),
    "add_extension_attribute": lambda e, _: e.add_extension_attribute("org.nnapi.composite", 0, b"x"),
}


@pytest.mark.parametrize("call", ONE_DEVICE.values(), ids=ONE_DEVICE.keys())
@pytest.mark.parametrize("named", [None, [REFERENCE, device(FakeDriver())]], ids=["all", "two"])
def test_what_needs_one_named_device(
    call: Call, named: list[Device] | None, make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation_module, "devices", lambda: [REFERENCE])
    execution = bound(compiled(elementwise(), named), [X, Y], [room()])
    with refused("BAD_DATA", "one named device"):
        call(execution, make_memory(X))


# Values


def test_memories_are_read_and_written_in_place(make_memory: MakeMemory) -> None:
    inputs, output = make_memory(np.stack([X, Y])), make_memory(np.zeros(6, np.float32))
    execution = Execution(compiled(elementwise()))
    execution.set_input_from_memory(0, None, inputs, 0, 16)
    execution.set_input_from_memory(1, None, inputs, 16, 16)
    execution.set_output_from_memory(0, None, output, 4, 16)
    execution.compute()
    np.testing.assert_array_equal(output.region(0, 24).view(np.float32), [0, *(X + Y), 0])


@pytest.mark.parametrize(
    ("protect", "bind"),
    [
        pytest.param(0, lambda e, m: e.set_input_from_memory(0, None, m, 0, 16), id="read"),
        pytest.param(mmap.PROT_READ, lambda e, m: e.set_output_from_memory(0, None, m, 0, 16), id="write"),
    ],
)
def test_a_memory_whose_protection_is_against_it_is_unmappable(
    protect: int, bind: Call, make_memory: MakeMemory
) -> None:
    execution = Execution(compiled(elementwise()))
    bind(execution, make_memory(X, protect))
    rest = [lambda: execution.set_input(0, None, X), lambda: execution.set_input(1, None, Y),
            lambda: execution.set_output(0, None, room())]  # fmt: skip
    for each in rest:
        try:
            each()
        except Exception as error:
            assert "is set already" in str(error)
    with refused("UNMAPPABLE"):
        execution.compute()


def test_unaligned_buffers() -> None:
    data = np.zeros(17 + 17, np.uint8)
    data[1:17] = X.view(np.uint8)
    execution = bound(compiled(elementwise()), [data[1:17], Y], [data[18:34]])
    execution.compute()
    np.testing.assert_array_equal(data[18:34].copy().view(np.float32), X + Y)


def test_booleans_are_whatever_is_not_zero() -> None:
    model = Model()
    for _ in range(2):
        model.add_operand(OperandType.TENSOR_BOOL8, [3])
    model.add_operation(LOGICAL_NOT, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    result = np.full(3, 9, np.uint8)
    bound(compiled(model), [np.array([0, 1, 200], np.uint8)], [result]).compute()
    assert result.tolist() == [1, 0, 0]


def test_an_omitted_output_is_not_written() -> None:
    execution = Execution(compiled(elementwise()))
    execution.set_input(0, None, X)
    execution.set_input(1, None, Y)
    execution.set_output(0, None, None)
    execution.compute()


def test_an_input_that_is_needed_must_not_be_omitted() -> None:
    execution = Execution(compiled(elementwise()))
    execution.set_input(0, None, None)
    execution.set_input(1, None, Y)
    execution.set_output(0, None, room())
    with refused("BAD_DATA", "input 0 is omitted, the model needs it"):
        execution.compute()


def test_two_partitions_one_after_the_other() -> None:
    adds = device(FakeDriver("adds", costs={"ADD": 1e-6}, default_cost=None))
    relus = device(FakeDriver("relus", costs={"RELU": 1e-6}, default_cost=None))
    model = elementwise(finish=False)
    model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(RELU, [3], [4])
    model._outputs = (4,)
    model.finish()
    z = room()
    execution = bound(compiled(model, [adds, relus]), [-X, Y], [z])
    execution.compute()
    np.testing.assert_array_equal(z, np.maximum(Y - X, 0))
    assert execution.get_output_operand_dimensions(0) == (4,)


# Interruption


def test_an_interrupted_execution_is_over() -> None:
    class Interrupted(FakeDriver):
        def prepare(self, model, options):  # type: ignore[no-untyped-def]
            return self

        def run(self, inputs, outputs=None):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    execution = bound(compiled(elementwise(), [device(Interrupted("interrupted"))]), [X, Y], [room()])
    with pytest.raises(KeyboardInterrupt):
        execution.compute()
    assert not execution.is_running
    with refused("BAD_STATE", "the execution failed: OP_FAILED: the execution was interrupted"):
        execution.get_output_operand_rank(0)
    assert QUEUE._free == QUEUE.slots


# Timing


def test_durations_are_measured_on_demand() -> None:
    execution = ready()
    execution.set_measure_timing(True)
    execution.compute()
    on_hardware, in_driver = (execution.get_duration(c) for c in (DurationCode.ON_HARDWARE, DurationCode.IN_DRIVER))
    fenced = [execution.get_duration(c) for c in (DurationCode.FENCED_ON_HARDWARE, DurationCode.FENCED_IN_DRIVER)]
    assert 0 < on_hardware <= in_driver < 10**9
    assert fenced == [on_hardware, in_driver]
    assert on_hardware != NO_DURATION


def test_no_duration_without_measuring() -> None:
    with refused("BAD_STATE", "no duration was measured"):
        done().get_duration(DurationCode.ON_HARDWARE)


# Engines

COMMON = (
    "ADD",
    "MUL",
    "RELU",
    "LOGISTIC",
    "SOFTMAX",
    "RESHAPE",
    "CONCATENATION",
    "MAX_POOL_2D",
    "CONV_2D",
    "TRANSPOSE",
)


@pytest.mark.parametrize("name", ["litert", "pytorch"])
@pytest.mark.parametrize("seed", range(25))
def test_whatever_a_device_takes_it_computes(seed: int, name: str) -> None:
    found = {d.name: d for d in devices()}
    if name not in found:
        pytest.skip(f"no {name} here")
    made = generate(seed, length=3, operations=COMMON)
    model = client_model(made.model)
    if not all(found[name].supported(model)):
        with refused("BAD_DATA"):
            compiled(model, [found[name]])
        return
    for expected, got in zip(made.outputs, computed(compiled(model, [found[name]]), made.inputs)):
        # 8-bit results may be rounded differently by one step, floats in the last bits, halves in the last of 11.
        tolerance = 1 if got.dtype.kind in "iu" else 2e-2 if got.dtype == np.float16 else 1e-4
        np.testing.assert_allclose(got.astype("f8"), expected.astype("f8"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", range(25))
def test_all_devices_together_compute_every_model(seed: int) -> None:
    made = generate(seed + 1000, length=4)
    for expected, got in zip(made.outputs, computed(compiled(client_model(made.model), None), made.inputs)):
        tolerance = 1 if got.dtype.kind in "iu" else 2e-2 if got.dtype == np.float16 else 1e-4
        np.testing.assert_allclose(got.astype("f8"), expected.astype("f8"), rtol=tolerance, atol=tolerance)


def test_the_code_of_success_is_not_raised() -> None:
    assert ResultCode.NO_ERROR == 0
    done()
