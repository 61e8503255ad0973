"""Every function: used rightly, with each pointer null in turn, with handles that are freed or foreign, out of turn."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nnapi.capi.functions import Row, body
from nnapi.capi.header import Function, functions, handles
from nnapi.runtime import Execution, compilation
from nnapi.runtime.codes import ResultCode, bad_data

OK, NULL, BAD_DATA, BAD_STATE = (
    ResultCode.NO_ERROR,
    ResultCode.UNEXPECTED_NULL,
    ResultCode.BAD_DATA,
    ResultCode.BAD_STATE,
)
FLOATS = 3
FUNCTIONS = {f.name.removeprefix("ANeuralNetworks"): f for f in functions()}


class World:
    """One object of every kind in every state, made when first asked for."""

    def __init__(self, nn: Any) -> None:
        self.nn = nn
        self.ffi = nn.ffi
        self._made: dict[str, Any] = {}
        self._kept: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = getattr(World, f"make_{name}")(self)
        return self._made[name]

    def out(self, type: str) -> Any:
        """A place for a result."""
        made = self.ffi.new(f"{type}*")
        self._kept.append(made)
        return made

    def make_device(self) -> Any:
        return self.nn.devices()["reference"]

    def make_devices(self) -> Any:
        return self.ffi.new("ANeuralNetworksDevice*[]", [self.device])

    def make_type(self) -> Any:
        return self.nn.type(FLOATS, (4,))

    def make_unlisted(self) -> Any:
        """An operand type of one dimension, which is not given."""
        return self.ffi.new("ANeuralNetworksOperandType*", (FLOATS, 1, self.ffi.NULL, 0.0, 0))

    def make_uncounted(self) -> Any:
        """An operand type of no dimensions, with one."""
        return self.ffi.new("ANeuralNetworksOperandType*", (FLOATS, 0, self.nn.indexes(4), 0.0, 0))

    def make_numbers(self) -> Any:
        return self.ffi.new("float[]", [1, 2, 3, 4])

    def make_text(self) -> Any:
        return self.ffi.new("char[]", b"com.example.nobody")

    def make_token(self) -> Any:
        return self.ffi.new("uint8_t[]", 32)

    def make_built(self) -> Any:
        """All but inputs and outputs."""
        model = self.nn.new("Model_create")
        for type in (self.type, self.type, self.nn.type(self.nn.INT32), self.type):
            self.nn.ok("Model_addOperand", model, type)
        self.nn.ok("Model_setOperandValue", model, 2, self.ffi.new("int32_t*"), 4)
        self.nn.ok("Model_addOperation", model, self.nn.ADD, 3, self.nn.indexes(0, 1, 2), 1, self.nn.indexes(3))
        return model

    def make_building(self) -> Any:
        """A model with operands and no operation: a float tensor, its scales, a model, an int."""
        model = self.nn.new("Model_create")
        per_channel = self.nn.type(self.nn.TENSOR_QUANT8_SYMM_PER_CHANNEL, (4,))
        for type in (self.type, per_channel, self.nn.type(self.nn.MODEL), self.nn.type(self.nn.INT32), self.type):
            self.nn.ok("Model_addOperand", model, type)
        return model

    def make_finishable(self) -> Any:
        model = World.make_built(self)
        self.nn.ok("Model_identifyInputsAndOutputs", model, 2, self.nn.indexes(0, 1), 1, self.nn.indexes(3))
        return model

    def make_model(self) -> Any:
        model = World.make_finishable(self)
        self.nn.ok("Model_finish", model)
        return model

    def make_open(self) -> Any:
        """A compilation that is not finished."""
        return self.nn.new("Compilation_createForDevices", self.model, self.devices, 1)

    def make_compilation(self) -> Any:
        compilation = World.make_open(self)
        self.nn.ok("Compilation_finish", compilation)
        return compilation

    def make_fresh(self) -> Any:
        """An execution on which nothing is set."""
        return self.nn.new("Execution_create", self.compilation)

    def make_ready(self) -> Any:
        execution = World.make_fresh(self)
        for i in range(2):
            self.nn.ok("Execution_setInput", execution, i, self.ffi.NULL, self.numbers, 16)
        self.nn.ok("Execution_setOutput", execution, 0, self.ffi.NULL, self.result, 16)
        return execution

    def make_result(self) -> Any:
        return self.ffi.new("float[]", 4)

    def make_done(self) -> Any:
        """An execution that has run, and was timed."""
        execution = World.make_ready(self)
        self.nn.ok("Execution_setMeasureTiming", execution, True)
        self.nn.ok("Execution_compute", execution)
        return execution

    def make_event(self) -> Any:
        event = self.nn.new("Execution_startCompute", World.make_ready(self))
        self.nn.ok("Event_wait", event)
        return event

    def make_events(self) -> Any:
        return self.ffi.new("ANeuralNetworksEvent*[]", [self.event])

    def make_burst(self) -> Any:
        return self.nn.new("Burst_create", self.compilation)

    def make_fd(self) -> int:
        fd = os.memfd_create("nnapi-test")
        os.ftruncate(fd, 4096)
        return fd

    def make_memory(self) -> Any:
        return self.nn.new("Memory_createFromFd", 4096, 3, self.fd, 0)

    def make_other_memory(self) -> Any:
        return World.make_memory(self)

    def make_desc(self) -> Any:
        return self.nn.new("MemoryDesc_create")

    def make_finishable_desc(self) -> Any:
        desc = World.make_desc(self)
        self.nn.ok("MemoryDesc_addInputRole", desc, self.compilation, 0, 1.0)
        return desc

    def make_finished_desc(self) -> Any:
        desc = World.make_finishable_desc(self)
        self.nn.ok("MemoryDesc_finish", desc)
        return desc

    def make_scales(self) -> Any:
        scales = self.ffi.new("float[]", [1, 1, 1, 1])
        made = self.ffi.new("ANeuralNetworksSymmPerChannelQuantParams*", (0, 4, scales))
        self._kept.append(scales)
        return made

    def close(self) -> None:
        if "fd" in self._made:
            os.close(self._made["fd"])


@pytest.fixture
def world(nn: Any) -> Iterator[World]:
    made = World(nn)
    yield made
    made.close()


# Right use: what every function answers when nothing is wrong. Where this platform has nothing to offer, BAD_DATA.
RIGHT: dict[str, tuple[Callable[[World], tuple[Any, ...]], int]] = {
    "_getDeviceCount": (lambda w: (w.out("uint32_t"),), OK),
    "_getDevice": (lambda w: (0, w.out("ANeuralNetworksDevice*")), OK),
    "Device_getName": (lambda w: (w.device, w.out("const char*")), OK),
    "Device_getVersion": (lambda w: (w.device, w.out("const char*")), OK),
    "Device_getType": (lambda w: (w.device, w.out("int32_t")), OK),
    "Device_getFeatureLevel": (lambda w: (w.device, w.out("int64_t")), OK),
    "Device_getExtensionSupport": (lambda w: (w.device, w.text, w.out("bool")), OK),
    "Device_wait": (lambda w: (w.device,), OK),
    "Model_create": (lambda w: (w.out("ANeuralNetworksModel*"),), OK),
    "Model_addOperand": (lambda w: (w.building, w.type), OK),
    "Model_setOperandValue": (lambda w: (w.building, 0, w.numbers, 16), OK),
    "Model_setOperandValueFromMemory": (lambda w: (w.building, 0, w.memory, 0, 16), OK),
    "Model_setOperandValueFromModel": (lambda w: (w.building, 2, w.model), OK),
    "Model_setOperandSymmPerChannelQuantParams": (lambda w: (w.building, 1, w.scales), OK),
    "Model_setOperandExtensionData": (lambda w: (w.building, 0, w.numbers, 16), BAD_DATA),
    "Model_getExtensionOperandType": (lambda w: (w.building, w.text, 1, w.out("int32_t")), OK),
    "Model_getExtensionOperationType": (lambda w: (w.building, w.text, 1, w.out("int32_t")), OK),
    "Model_addOperation": (
        lambda w: (w.built, w.nn.ADD, 3, w.nn.indexes(0, 1, 2), 1, w.nn.indexes(3)),
        OK,
    ),
    "Model_identifyInputsAndOutputs": (lambda w: (w.built, 2, w.nn.indexes(0, 1), 1, w.nn.indexes(3)), OK),
    "Model_relaxComputationFloat32toFloat16": (lambda w: (w.built, True), OK),
    "Model_finish": (lambda w: (w.finishable,), OK),
    "Model_getSupportedOperationsForDevices": (lambda w: (w.model, w.devices, 1, w.out("bool")), OK),
    "Compilation_create": (lambda w: (w.model, w.out("ANeuralNetworksCompilation*")), OK),
    "Compilation_createForDevices": (lambda w: (w.model, w.devices, 1, w.out("ANeuralNetworksCompilation*")), OK),
    "Compilation_setPreference": (lambda w: (w.open, 1), OK),
    "Compilation_setCaching": (lambda w: (w.open, w.text, w.token), OK),
    "Compilation_setPriority": (lambda w: (w.open, 110), OK),
    "Compilation_setTimeout": (lambda w: (w.open, 10**9), OK),
    "Compilation_addExtensionAttribute": (lambda w: (w.open, w.text, 1, w.numbers, 16), BAD_DATA),
    "Compilation_finish": (lambda w: (w.open,), OK),
    "Compilation_getPreferredMemoryAlignmentForInput": (lambda w: (w.compilation, 1, w.out("uint32_t")), OK),
    "Compilation_getPreferredMemoryPaddingForInput": (lambda w: (w.compilation, 1, w.out("uint32_t")), OK),
    "Compilation_getPreferredMemoryAlignmentForOutput": (lambda w: (w.compilation, 0, w.out("uint32_t")), OK),
    "Compilation_getPreferredMemoryPaddingForOutput": (lambda w: (w.compilation, 0, w.out("uint32_t")), OK),
    "Execution_create": (lambda w: (w.compilation, w.out("ANeuralNetworksExecution*")), OK),
    "Execution_setInput": (lambda w: (w.fresh, 0, w.type, w.numbers, 16), OK),
    "Execution_setInputFromMemory": (lambda w: (w.fresh, 0, w.type, w.memory, 0, 16), OK),
    "Execution_setOutput": (lambda w: (w.fresh, 0, w.type, w.result, 16), OK),
    "Execution_setOutputFromMemory": (lambda w: (w.fresh, 0, w.type, w.memory, 0, 16), OK),
    "Execution_setTimeout": (lambda w: (w.fresh, 10**9), OK),
    "Execution_setLoopTimeout": (lambda w: (w.fresh, 10**9), OK),
    "Execution_setMeasureTiming": (lambda w: (w.fresh, True), OK),
    "Execution_setReusable": (lambda w: (w.fresh, True), OK),
    "Execution_enableInputAndOutputPadding": (lambda w: (w.fresh, True), OK),
    "Execution_addExtensionAttribute": (lambda w: (w.fresh, w.text, 1, w.numbers, 16), BAD_DATA),
    "Execution_compute": (lambda w: (w.ready,), OK),
    "Execution_burstCompute": (lambda w: (w.ready, w.burst), OK),
    "Execution_startCompute": (lambda w: (w.ready, w.out("ANeuralNetworksEvent*")), OK),
    "Execution_startComputeWithDependencies": (
        lambda w: (w.ready, w.events, 1, 0, w.out("ANeuralNetworksEvent*")),
        OK,
    ),
    "Execution_getDuration": (lambda w: (w.done, 1, w.out("uint64_t")), OK),
    "Execution_getOutputOperandRank": (lambda w: (w.done, 0, w.out("uint32_t")), OK),
    "Execution_getOutputOperandDimensions": (lambda w: (w.done, 0, w.out("uint32_t")), OK),
    "Event_wait": (lambda w: (w.event,), OK),
    "Event_createFromSyncFenceFd": (lambda w: (w.fd, w.out("ANeuralNetworksEvent*")), BAD_DATA),
    "Event_getSyncFenceFd": (lambda w: (w.event, w.out("int")), BAD_DATA),
    "Burst_create": (lambda w: (w.compilation, w.out("ANeuralNetworksBurst*")), OK),
    "Memory_createFromFd": (lambda w: (4096, 3, w.fd, 0, w.out("ANeuralNetworksMemory*")), OK),
    "Memory_createFromDesc": (lambda w: (w.finished_desc, w.out("ANeuralNetworksMemory*")), OK),
    "Memory_createFromAHardwareBuffer": (
        lambda w: (w.ffi.cast("AHardwareBuffer*", 4096), w.out("ANeuralNetworksMemory*")),
        BAD_DATA,
    ),
    "Memory_copy": (lambda w: (w.memory, w.other_memory), OK),
    "MemoryDesc_create": (lambda w: (w.out("ANeuralNetworksMemoryDesc*"),), OK),
    "MemoryDesc_addInputRole": (lambda w: (w.desc, w.compilation, 0, 0.5), OK),
    "MemoryDesc_addOutputRole": (lambda w: (w.desc, w.compilation, 0, 0.5), OK),
    "MemoryDesc_setDimensions": (lambda w: (w.desc, 1, w.nn.indexes(4)), OK),
    "MemoryDesc_finish": (lambda w: (w.finishable_desc,), OK),
}
FREES = {
    "Model_free": "model",
    "Compilation_free": "compilation",
    "Execution_free": "done",
    "Event_free": "event",
    "Burst_free": "burst",
    "Memory_free": "memory",
    "MemoryDesc_free": "desc",
}
ANSWERS = {
    "_getDefaultLoopTimeout": 2_000_000_000,
    "_getMaximumLoopTimeout": 15_000_000_000,
    "_getRuntimeFeatureLevel": 1000008,
}


def test_the_tables_have_every_function() -> None:
    assert RIGHT.keys() | FREES.keys() | ANSWERS.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("name", RIGHT)
def test_right_use(name: str, world: World) -> None:
    arguments, expected = RIGHT[name]
    assert getattr(world.nn, name)(*arguments(world)) == expected


@pytest.mark.parametrize("name", ANSWERS)
def test_numbers(name: str, nn: Any) -> None:
    assert getattr(nn, name)() == ANSWERS[name]


OPTIONAL = {
    ("Execution_setInput", "type"),
    ("Execution_setInputFromMemory", "type"),
    ("Execution_setOutput", "type"),
    ("Execution_setOutputFromMemory", "type"),
}
"""Pointers that may be null."""


def _pointers(function: Function) -> list[int]:
    return [i for i, p in enumerate(function.parameters) if p.type.endswith("*")]


NULLS = [(name, i) for name in RIGHT for i in _pointers(FUNCTIONS[name])]


@pytest.mark.parametrize(
    ("name", "position"), NULLS, ids=[f"{name}-{FUNCTIONS[name].parameters[i].name}" for name, i in NULLS]
)
def test_each_pointer_null_in_turn(name: str, position: int, world: World) -> None:
    arguments, expected = RIGHT[name]
    given = list(arguments(world))
    given[position] = world.ffi.NULL
    parameters = FUNCTIONS[name].parameters
    optional = (name, parameters[position].name) in OPTIONAL
    result = given[-1] if parameters[-1].is_result and position < len(given) - 1 else None
    if result is not None:
        result[0] = world.ffi.cast(world.ffi.typeof(result).item, 0x1234)
    assert getattr(world.nn, name)(*given) == (expected if optional else NULL)
    if result is not None and not optional:
        assert result[0] == world.ffi.NULL


LISTS: dict[str, tuple[list[str], ResultCode]] = {
    "null": (["device", "null"], NULL),
    "twice": (["device", "device"], BAD_DATA),
    "foreign": (["device", "burst"], BAD_DATA),
}


@pytest.mark.parametrize(("names", "code"), LISTS.values(), ids=LISTS)
def test_lists_of_devices(names: list[str], code: ResultCode, world: World) -> None:
    found = {"device": world.device, "null": world.ffi.NULL, "burst": world.ffi.cast("void*", world.burst)}
    listed = world.ffi.new("ANeuralNetworksDevice*[]", [world.ffi.cast("void*", found[name]) for name in names])
    out = world.out("ANeuralNetworksCompilation*")
    assert world.nn.Compilation_createForDevices(world.model, listed, len(names), out) == code
    assert world.nn.Model_getSupportedOperationsForDevices(world.model, listed, len(names), world.out("bool")) == code


def _handles(function: Function) -> list[int]:
    plain = [p.type.removeprefix("const ").removesuffix("*") for p in function.parameters]
    return [i for i, type in enumerate(plain) if type in handles() and type != "AHardwareBuffer"]


WRONG = [
    (name, i, what)
    for name in RIGHT
    for i in _handles(FUNCTIONS[name])
    for what in ("freed", "foreign", "address")
    if what != "freed" or FUNCTIONS[name].parameters[i].name != "device"  # devices are never freed
]


@pytest.mark.parametrize(
    ("name", "position", "what"), WRONG, ids=[f"{n}-{FUNCTIONS[n].parameters[i].name}-{what}" for n, i, what in WRONG]
)
def test_handles_that_are_none(name: str, position: int, what: str, world: World) -> None:
    arguments, _ = RIGHT[name]
    given = list(arguments(world))
    kind = world.ffi.typeof(given[position])
    if what == "freed":
        object = kind.item.cname.removeprefix("ANeuralNetworks")
        getattr(world.nn, f"{object}_free")(given[position])
    elif what == "foreign":
        stranger = world.burst if "Burst" not in kind.cname else world.memory
        given[position] = world.ffi.cast(kind, stranger)
    else:
        given[position] = world.ffi.cast(kind, world.numbers)
    assert getattr(world.nn, name)(*given) == BAD_DATA


@pytest.mark.parametrize("name", FREES)
def test_free_twice_free_null_free_what_is_no_handle(name: str, world: World) -> None:
    handle = getattr(world, FREES[name])
    free = getattr(world.nn, name)
    free(handle)
    free(handle)
    free(world.ffi.NULL)
    free(world.ffi.cast(world.ffi.typeof(handle), world.numbers))


# Out of turn: the function, its arguments.
STATES: list[tuple[str, Callable[[World], tuple[Any, ...]]]] = [
    ("Model_finish", lambda w: (w.model,)),
    ("Model_addOperand", lambda w: (w.model, w.type)),
    ("Model_setOperandValue", lambda w: (w.model, 2, w.numbers, 4)),
    ("Model_setOperandValueFromMemory", lambda w: (w.model, 2, w.memory, 0, 4)),
    ("Model_setOperandValueFromModel", lambda w: (w.model, 2, w.model)),
    ("Model_setOperandValueFromModel", lambda w: (w.building, 2, w.built)),
    ("Model_setOperandSymmPerChannelQuantParams", lambda w: (w.model, 0, w.scales)),
    ("Model_setOperandExtensionData", lambda w: (w.model, 0, w.numbers, 4)),
    ("Model_addOperation", lambda w: (w.model, 0, 3, w.nn.indexes(0, 1, 2), 1, w.nn.indexes(3))),
    ("Model_identifyInputsAndOutputs", lambda w: (w.model, 2, w.nn.indexes(0, 1), 1, w.nn.indexes(3))),
    ("Model_relaxComputationFloat32toFloat16", lambda w: (w.model, True)),
    ("Model_getSupportedOperationsForDevices", lambda w: (w.finishable, w.devices, 1, w.out("bool"))),
    ("Compilation_create", lambda w: (w.finishable, w.out("ANeuralNetworksCompilation*"))),
    ("Compilation_createForDevices", lambda w: (w.built, w.devices, 1, w.out("ANeuralNetworksCompilation*"))),
    ("Compilation_setPreference", lambda w: (w.compilation, 1)),
    ("Compilation_setCaching", lambda w: (w.compilation, w.text, w.token)),
    ("Compilation_setPriority", lambda w: (w.compilation, 100)),
    ("Compilation_setTimeout", lambda w: (w.compilation, 1)),
    ("Compilation_addExtensionAttribute", lambda w: (w.compilation, w.text, 1, w.numbers, 4)),
    ("Compilation_finish", lambda w: (w.compilation,)),
    ("Compilation_getPreferredMemoryAlignmentForInput", lambda w: (w.open, 0, w.out("uint32_t"))),
    ("Compilation_getPreferredMemoryPaddingForInput", lambda w: (w.open, 0, w.out("uint32_t"))),
    ("Compilation_getPreferredMemoryAlignmentForOutput", lambda w: (w.open, 0, w.out("uint32_t"))),
    ("Compilation_getPreferredMemoryPaddingForOutput", lambda w: (w.open, 0, w.out("uint32_t"))),
    ("Execution_create", lambda w: (w.open, w.out("ANeuralNetworksExecution*"))),
    ("Burst_create", lambda w: (w.open, w.out("ANeuralNetworksBurst*"))),
    ("Execution_setInput", lambda w: (w.ready, 0, w.ffi.NULL, w.numbers, 16)),
    ("Execution_setInputFromMemory", lambda w: (w.ready, 0, w.ffi.NULL, w.memory, 0, 16)),
    ("Execution_setOutput", lambda w: (w.ready, 0, w.ffi.NULL, w.result, 16)),
    ("Execution_setOutputFromMemory", lambda w: (w.ready, 0, w.ffi.NULL, w.memory, 0, 16)),
    ("Execution_enableInputAndOutputPadding", lambda w: (w.ready, True)),
    ("Execution_setInput", lambda w: (w.done, 0, w.ffi.NULL, w.numbers, 16)),
    ("Execution_setInputFromMemory", lambda w: (w.done, 0, w.ffi.NULL, w.memory, 0, 16)),
    ("Execution_setOutput", lambda w: (w.done, 0, w.ffi.NULL, w.result, 16)),
    ("Execution_setOutputFromMemory", lambda w: (w.done, 0, w.ffi.NULL, w.memory, 0, 16)),
    ("Execution_setTimeout", lambda w: (w.done, 1)),
    ("Execution_setLoopTimeout", lambda w: (w.done, 1)),
    ("Execution_setMeasureTiming", lambda w: (w.done, True)),
    ("Execution_setReusable", lambda w: (w.done, True)),
    ("Execution_enableInputAndOutputPadding", lambda w: (w.done, True)),
    ("Execution_addExtensionAttribute", lambda w: (w.done, w.text, 1, w.numbers, 4)),
    ("Execution_compute", lambda w: (w.done,)),
    ("Execution_burstCompute", lambda w: (w.done, w.burst)),
    ("Execution_startCompute", lambda w: (w.done, w.out("ANeuralNetworksEvent*"))),
    ("Execution_startComputeWithDependencies", lambda w: (w.done, w.events, 1, 0, w.out("ANeuralNetworksEvent*"))),
    ("Execution_getDuration", lambda w: (w.ready, 0, w.out("uint64_t"))),
    ("Execution_getOutputOperandRank", lambda w: (w.ready, 0, w.out("uint32_t"))),
    ("Execution_getOutputOperandDimensions", lambda w: (w.ready, 0, w.out("uint32_t"))),
    ("Memory_createFromDesc", lambda w: (w.finishable_desc, w.out("ANeuralNetworksMemory*"))),
    ("MemoryDesc_addInputRole", lambda w: (w.finished_desc, w.compilation, 1, 0.5)),
    ("MemoryDesc_addOutputRole", lambda w: (w.finished_desc, w.compilation, 0, 0.5)),
    ("MemoryDesc_setDimensions", lambda w: (w.finished_desc, 1, w.nn.indexes(4))),
    ("MemoryDesc_finish", lambda w: (w.finished_desc,)),
]


@pytest.mark.parametrize(("name", "arguments"), STATES, ids=[f"{i}-{row[0]}" for i, row in enumerate(STATES)])
def test_calls_out_of_turn(name: str, arguments: Callable[[World], tuple[Any, ...]], world: World) -> None:
    assert getattr(world.nn, name)(*arguments(world)) == BAD_STATE


# Wrong values: the function, its arguments.
HUGE = 2**32 - 1
VALUES: list[tuple[str, Callable[[World], tuple[Any, ...]]]] = [
    ("_getDevice", lambda w: (HUGE, w.out("ANeuralNetworksDevice*"))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(99))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(-1))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(w.nn.FLOAT32, (2,)))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(w.nn.TENSOR_QUANT8_ASYMM, (2,), 1.0, 256))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(w.nn.TENSOR_QUANT8_ASYMM, (2,), -1.0, 0))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(w.nn.TENSOR_QUANT8_ASYMM, (2,), float("nan"), 0))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(FLOATS, (HUGE, HUGE, HUGE)))),
    ("Model_addOperand", lambda w: (w.building, w.nn.type(FLOATS, (1,) * 65))),
    ("Model_addOperand", lambda w: (w.building, w.unlisted)),
    ("Model_addOperand", lambda w: (w.building, w.uncounted)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.unlisted, w.numbers, 16)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.uncounted, w.numbers, 16)),
    ("Execution_setInputFromMemory", lambda w: (w.fresh, 0, w.unlisted, w.memory, 0, 16)),
    ("Execution_setOutput", lambda w: (w.fresh, 0, w.uncounted, w.result, 16)),
    ("Execution_setOutputFromMemory", lambda w: (w.fresh, 0, w.unlisted, w.memory, 0, 16)),
    ("Model_setOperandValue", lambda w: (w.building, 99, w.numbers, 16)),
    ("Model_setOperandValue", lambda w: (w.building, -1, w.numbers, 16)),
    ("Model_setOperandValue", lambda w: (w.building, 0, w.numbers, 15)),
    ("Model_setOperandValue", lambda w: (w.building, 0, w.numbers, 2**64 - 1)),
    ("Model_setOperandValue", lambda w: (w.building, 2, w.numbers, 16)),
    ("Model_setOperandValueFromMemory", lambda w: (w.building, 0, w.memory, 4090, 16)),
    ("Model_setOperandValueFromMemory", lambda w: (w.building, 0, w.memory, 2**64 - 1, 16)),
    ("Model_setOperandValueFromModel", lambda w: (w.building, 0, w.model)),
    ("Model_setOperandSymmPerChannelQuantParams", lambda w: (w.building, 0, w.scales)),
    ("Model_setOperandSymmPerChannelQuantParams", lambda w: (w.building, -2, w.scales)),
    ("Model_addOperation", lambda w: (w.built, 12345, 3, w.nn.indexes(0, 1, 2), 1, w.nn.indexes(3))),
    ("Model_addOperation", lambda w: (w.built, -5, 3, w.nn.indexes(0, 1, 2), 1, w.nn.indexes(3))),
    ("Model_addOperation", lambda w: (w.built, 0, 3, w.nn.indexes(0, 1, HUGE), 1, w.nn.indexes(3))),
    ("Model_addOperation", lambda w: (w.built, 0, HUGE, w.nn.indexes(0, 1, 2), 1, w.nn.indexes(3))),
    ("Model_addOperation", lambda w: (w.built, 0, 3, w.nn.indexes(0, 1, 2), 0, w.nn.indexes(3))),
    ("Model_addOperation", lambda w: (w.built, 0, 0, w.nn.indexes(0), 1, w.nn.indexes(3))),
    ("Model_identifyInputsAndOutputs", lambda w: (w.built, 2, w.nn.indexes(0, 0), 1, w.nn.indexes(3))),
    ("Model_identifyInputsAndOutputs", lambda w: (w.built, 2, w.nn.indexes(0, 2), 1, w.nn.indexes(3))),
    ("Model_identifyInputsAndOutputs", lambda w: (w.built, 2, w.nn.indexes(0, 1), HUGE, w.nn.indexes(3))),
    ("Model_finish", lambda w: (w.building,)),
    ("Model_getSupportedOperationsForDevices", lambda w: (w.model, w.devices, 0, w.out("bool"))),
    ("Model_getSupportedOperationsForDevices", lambda w: (w.model, w.devices, HUGE, w.out("bool"))),
    ("Compilation_createForDevices", lambda w: (w.model, w.devices, 0, w.out("ANeuralNetworksCompilation*"))),
    ("Compilation_createForDevices", lambda w: (w.model, w.devices, HUGE, w.out("ANeuralNetworksCompilation*"))),
    ("Compilation_setPreference", lambda w: (w.open, 3)),
    ("Compilation_setPreference", lambda w: (w.open, -1)),
    ("Compilation_setPriority", lambda w: (w.open, 0)),
    ("Compilation_getPreferredMemoryAlignmentForInput", lambda w: (w.compilation, 2, w.out("uint32_t"))),
    ("Compilation_getPreferredMemoryPaddingForInput", lambda w: (w.compilation, HUGE, w.out("uint32_t"))),
    ("Compilation_getPreferredMemoryAlignmentForOutput", lambda w: (w.compilation, 1, w.out("uint32_t"))),
    ("Compilation_getPreferredMemoryPaddingForOutput", lambda w: (w.compilation, 1, w.out("uint32_t"))),
    ("Execution_setInput", lambda w: (w.fresh, 2, w.ffi.NULL, w.numbers, 16)),
    ("Execution_setInput", lambda w: (w.fresh, -1, w.ffi.NULL, w.numbers, 16)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.ffi.NULL, w.numbers, 0)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.ffi.NULL, w.numbers, 17)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.ffi.NULL, w.numbers, 2**63)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.nn.type(FLOATS, (5,)), w.numbers, 16)),
    ("Execution_setInput", lambda w: (w.fresh, 0, w.nn.type(w.nn.TENSOR_INT32, (4,)), w.numbers, 16)),
    ("Execution_setInputFromMemory", lambda w: (w.fresh, 0, w.ffi.NULL, w.memory, 4096, 16)),
    ("Execution_setInputFromMemory", lambda w: (w.fresh, 0, w.ffi.NULL, w.memory, 0, 0)),
    ("Execution_setOutput", lambda w: (w.fresh, 1, w.ffi.NULL, w.result, 16)),
    ("Execution_setOutput", lambda w: (w.fresh, 0, w.ffi.NULL, w.result, 12)),
    ("Execution_setOutputFromMemory", lambda w: (w.fresh, 0, w.ffi.NULL, w.memory, 0, 2**64 - 1)),
    ("Execution_compute", lambda w: (w.fresh,)),
    ("Execution_startCompute", lambda w: (w.fresh, w.out("ANeuralNetworksEvent*"))),
    ("Execution_startComputeWithDependencies", lambda w: (w.ready, w.events, HUGE, 0, w.out("ANeuralNetworksEvent*"))),
    ("Execution_getDuration", lambda w: (w.done, 4, w.out("uint64_t"))),
    ("Execution_getDuration", lambda w: (w.done, -1, w.out("uint64_t"))),
    ("Execution_getOutputOperandRank", lambda w: (w.done, 1, w.out("uint32_t"))),
    ("Execution_getOutputOperandDimensions", lambda w: (w.done, -1, w.out("uint32_t"))),
    ("Event_createFromSyncFenceFd", lambda w: (-1, w.out("ANeuralNetworksEvent*"))),
    ("Memory_createFromFd", lambda w: (0, 3, w.fd, 0, w.out("ANeuralNetworksMemory*"))),
    ("Memory_createFromFd", lambda w: (4096, 3, -1, 0, w.out("ANeuralNetworksMemory*"))),
    ("Memory_createFromFd", lambda w: (4097, 3, w.fd, 0, w.out("ANeuralNetworksMemory*"))),
    ("Memory_createFromFd", lambda w: (4096, 99, w.fd, 0, w.out("ANeuralNetworksMemory*"))),
    ("Memory_createFromFd", lambda w: (4096, 3, w.fd, 4096, w.out("ANeuralNetworksMemory*"))),
    ("Memory_createFromFd", lambda w: (2**64 - 1, 3, w.fd, 0, w.out("ANeuralNetworksMemory*"))),
    ("MemoryDesc_addInputRole", lambda w: (w.desc, w.open, 0, 0.5)),
    ("MemoryDesc_addInputRole", lambda w: (w.desc, w.compilation, 2, 0.5)),
    ("MemoryDesc_addInputRole", lambda w: (w.desc, w.compilation, 0, float("nan"))),
    ("MemoryDesc_addOutputRole", lambda w: (w.desc, w.compilation, 0, 2.0)),
    ("MemoryDesc_setDimensions", lambda w: (w.desc, HUGE, w.nn.indexes(4))),
    ("MemoryDesc_finish", lambda w: (w.desc,)),
]


@pytest.mark.parametrize(("name", "arguments"), VALUES, ids=[f"{i}-{row[0]}" for i, row in enumerate(VALUES)])
def test_wrong_values(name: str, arguments: Callable[[World], tuple[Any, ...]], world: World) -> None:
    assert getattr(world.nn, name)(*arguments(world)) == BAD_DATA


def test_results_are_unset_where_there_is_none(world: World) -> None:
    fd, duration = world.out("int"), world.out("uint64_t")
    assert world.nn.Event_getSyncFenceFd(world.event, fd) == BAD_DATA
    assert world.nn.Execution_getDuration(world.fresh, 0, duration) == BAD_STATE
    assert (fd[0], duration[0]) == (-1, 2**64 - 1)


def _raise(error: BaseException) -> Callable[[], Any]:
    def call() -> Any:
        raise error

    return call


INTERNAL = "nnapi: Test: OP_FAILED: internal error: "
FAILURES = {
    "bug": (_raise(RuntimeError("a bug")), ResultCode.OP_FAILED, f"{INTERNAL}RuntimeError: a bug\n"),
    "memory": (_raise(MemoryError()), ResultCode.OUT_OF_MEMORY, ""),
    "exit": (_raise(SystemExit(3)), ResultCode.OP_FAILED, f"{INTERNAL}SystemExit: 3\n"),
    "refusal": (lambda: bad_data("no"), ResultCode.BAD_DATA, ""),
    "success": (lambda: None, ResultCode.NO_ERROR, ""),
}


@pytest.mark.parametrize(("call", "code", "line"), FAILURES.values(), ids=FAILURES)
def test_internal_failures_are_answers_and_log_lines(
    call: Callable[[], Any], code: ResultCode, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert body(Row("Test", call))() == 1 + code
    assert capsys.readouterr().err == line


def test_bugs_behind_the_functions_are_logged(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("a bug")

    line = "nnapi: OP_FAILED: internal error: KeyError: 'a bug'\n"
    ready = world.ready
    monkeypatch.setattr(compilation, "compile_model", fail)
    assert world.nn.Compilation_finish(world.open) == ResultCode.OP_FAILED
    assert capsys.readouterr().err == line
    monkeypatch.setattr(Execution, "_prepare", fail)
    assert world.nn.Execution_compute(ready) == ResultCode.OP_FAILED
    assert line.removeprefix("nnapi: ") in capsys.readouterr().err


def test_an_interruption_reaches_the_program_that_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        assert body(Row("Test", _raise(KeyboardInterrupt())))() == 1 + ResultCode.OP_FAILED
        threading.Event().wait(5)
    assert capsys.readouterr().err == ""
