"""One row per function of NNAPI: its arguments, what is called with them, and where the result goes."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from nnapi.capi.arguments import (
    BOOL,
    CHANNEL_QUANT,
    CONSTANT,
    DIMENSIONS,
    EXTENSION_CODE,
    FLOAT,
    INDEXES,
    INPUT,
    INT,
    INT32,
    NANOSECONDS,
    OPERATION,
    OPTIONAL_TYPE,
    OUTPUT,
    SIZE,
    STRING,
    STRING_RESULT,
    TOKEN,
    TYPE,
    UINT32,
    Argument,
    Result,
    distinct_list,
    freed,
    handle,
    handle_list,
    new,
    number,
    numbers,
)  # fmt: skip
from nnapi.capi.client import ClientModel
from nnapi.capi.handles import Handles, null
from nnapi.capi.header import functions
from nnapi.errors import NnapiError
from nnapi.runtime import (
    Burst,
    Compilation,
    Device,
    Event,
    Execution,
    Memory,
    MemoryDesc,
    Model,
    devices,
    get_runtime_feature_level,
    log,
)
from nnapi.runtime.codes import (
    DEFAULT_LOOP_TIMEOUT,
    MAXIMUM_LOOP_TIMEOUT,
    NO_DURATION,
    OutputInsufficientSize,
    ResultCode,
    bad_data,
    code_of,
)  # fmt: skip

ANSWERED: Final = 1
"""Added to every result code: 0, the answer of a function without a body, must not be NO_ERROR (see library.c)."""

MODELS: Final[Handles[ClientModel]] = Handles("a model")
COMPILATIONS: Final[Handles[Compilation]] = Handles("a compilation")
EXECUTIONS: Final[Handles[Execution]] = Handles("an execution")
EVENTS: Final[Handles[Event]] = Handles("an event")
BURSTS: Final[Handles[Burst]] = Handles("a burst")
MEMORIES: Final[Handles[Memory]] = Handles("a memory")
DESCRIPTORS: Final[Handles[MemoryDesc]] = Handles("a memory descriptor")
DEVICES: Final[Handles[Device]] = Handles("a device")
_device_handles: dict[Device, int] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Row:
    """One function: `call` gets one value per argument; what it returns goes through the last parameter."""

    name: str
    call: Callable[..., Any]
    arguments: tuple[Argument, ...] = ()
    result: Result | None = None


def device_count() -> int:
    """How many devices there are."""
    return len(devices())


def device_at(index: int) -> Device:
    """The device of that number; BAD_DATA beyond the last."""
    found = devices()
    if index >= len(found):
        bad_data(f"device {index} does not exist, there are {len(found)}")
    return found[index]


def write_device(pointer: Any, device: Device) -> None:
    """A device has one handle, for ever."""
    with _lock:
        if device not in _device_handles:
            _device_handles[device] = DEVICES.add(device)
    pointer[0] = _device_handles[device]


def supported(model: Model, chosen: Sequence[Device]) -> list[bool]:
    """Whether any of the devices takes each operation, in the order they were added."""
    return [any(taken) for taken in zip(*(device.supported(model) for device in chosen))]


def add_operand(model: Model, type: tuple[int, Sequence[int], float, int]) -> None:
    """Add an operand of that type."""
    model.add_operand(*type)


def set_channel_quant(model: Model, index: int, quant: tuple[int, Sequence[float]]) -> None:
    """Give an operand its scales per channel."""
    model.set_operand_symm_per_channel_quant_params(index, *quant)


def free_execution(number: int) -> None:
    """Free an execution, but not one that runs: its buffers are in use."""
    execution = EXECUTIONS.get(number)
    if execution is not None and not execution.is_running:
        EXECUTIONS.free(number)


def free_event(number: int) -> None:
    """Free an event, once its execution has ended."""
    event = EVENTS.free(number)
    if event is not None:
        with suppress(NnapiError):  # whoever wants to know how it ended waits for it
            event.wait()


MODEL = handle("ANeuralNetworksModel", MODELS)
COMPILATION = handle("ANeuralNetworksCompilation", COMPILATIONS)
EXECUTION = handle("ANeuralNetworksExecution", EXECUTIONS)
EVENT = handle("ANeuralNetworksEvent", EVENTS)
BURST = handle("ANeuralNetworksBurst", BURSTS)
MEMORY = handle("ANeuralNetworksMemory", MEMORIES)
DESCRIPTOR = handle("ANeuralNetworksMemoryDesc", DESCRIPTORS)
DEVICE = handle("ANeuralNetworksDevice", DEVICES)
DEVICE_LIST = distinct_list("ANeuralNetworksDevice", DEVICES)
EVENT_LIST = handle_list("ANeuralNetworksEvent", EVENTS)
HARDWARE_BUFFER = handle("AHardwareBuffer", Handles("an AHardwareBuffer"))
NEW_MODEL = new("ANeuralNetworksModel", MODELS)
NEW_COMPILATION = new("ANeuralNetworksCompilation", COMPILATIONS)
NEW_EXECUTION = new("ANeuralNetworksExecution", EXECUTIONS)
NEW_EVENT = new("ANeuralNetworksEvent", EVENTS)
NEW_BURST = new("ANeuralNetworksBurst", BURSTS)
NEW_MEMORY = new("ANeuralNetworksMemory", MEMORIES)
NEW_DESCRIPTOR = new("ANeuralNetworksMemoryDesc", DESCRIPTORS)

# fmt: off
FUNCTIONS: Final = (
    Row("ANeuralNetworks_getDeviceCount", device_count, (), number("uint32_t")),
    Row("ANeuralNetworks_getDevice", device_at, (UINT32,), Result("ANeuralNetworksDevice**", write_device)),
    Row("ANeuralNetworks_getDefaultLoopTimeout", lambda: DEFAULT_LOOP_TIMEOUT),
    Row("ANeuralNetworks_getMaximumLoopTimeout", lambda: MAXIMUM_LOOP_TIMEOUT),
    Row("ANeuralNetworks_getRuntimeFeatureLevel", get_runtime_feature_level),

    Row("ANeuralNetworksDevice_getName", attrgetter("name"), (DEVICE,), STRING_RESULT),
    Row("ANeuralNetworksDevice_getVersion", attrgetter("version"), (DEVICE,), STRING_RESULT),
    Row("ANeuralNetworksDevice_getType", attrgetter("type"), (DEVICE,), number("int32_t")),
    Row("ANeuralNetworksDevice_getFeatureLevel", attrgetter("feature_level"), (DEVICE,), number("int64_t")),
    Row("ANeuralNetworksDevice_getExtensionSupport", Device.get_extension_support, (DEVICE, STRING), number("bool")),
    Row("ANeuralNetworksDevice_wait", Device.wait, (DEVICE,)),

    Row("ANeuralNetworksModel_create", ClientModel, (), NEW_MODEL),
    Row("ANeuralNetworksModel_free", MODELS.free, (freed("ANeuralNetworksModel"),)),
    Row("ANeuralNetworksModel_addOperand", add_operand, (MODEL, TYPE)),
    Row("ANeuralNetworksModel_setOperandValue", ClientModel.set_operand_value, (MODEL, INT32, CONSTANT)),
    Row("ANeuralNetworksModel_setOperandValueFromMemory", ClientModel.set_operand_value_from_memory,
        (MODEL, INT32, MEMORY, SIZE, SIZE)),
    Row("ANeuralNetworksModel_setOperandValueFromModel", Model.set_operand_value_from_model, (MODEL, INT32, MODEL)),
    Row("ANeuralNetworksModel_setOperandSymmPerChannelQuantParams", set_channel_quant, (MODEL, INT32, CHANNEL_QUANT)),
    Row("ANeuralNetworksModel_setOperandExtensionData", Model.set_operand_extension_data, (MODEL, INT32, INPUT)),
    Row("ANeuralNetworksModel_getExtensionOperandType", Model.get_extension_operand_type,
        (MODEL, STRING, EXTENSION_CODE), number("int32_t")),
    Row("ANeuralNetworksModel_getExtensionOperationType", Model.get_extension_operation_type,
        (MODEL, STRING, EXTENSION_CODE), number("ANeuralNetworksOperationType")),
    Row("ANeuralNetworksModel_addOperation", Model.add_operation, (MODEL, OPERATION, INDEXES, INDEXES)),
    Row("ANeuralNetworksModel_identifyInputsAndOutputs", Model.identify_inputs_and_outputs, (MODEL, INDEXES, INDEXES)),
    Row("ANeuralNetworksModel_relaxComputationFloat32toFloat16", Model.relax_computation_float32_to_float16,
        (MODEL, BOOL)),
    Row("ANeuralNetworksModel_finish", ClientModel.finish, (MODEL,)),
    Row("ANeuralNetworksModel_getSupportedOperationsForDevices", supported, (MODEL, DEVICE_LIST), numbers("bool")),

    Row("ANeuralNetworksCompilation_create", Compilation, (MODEL,), NEW_COMPILATION),
    Row("ANeuralNetworksCompilation_createForDevices", Compilation, (MODEL, DEVICE_LIST), NEW_COMPILATION),
    Row("ANeuralNetworksCompilation_free", COMPILATIONS.free, (freed("ANeuralNetworksCompilation"),)),
    Row("ANeuralNetworksCompilation_setPreference", Compilation.set_preference, (COMPILATION, INT32)),
    Row("ANeuralNetworksCompilation_setCaching", Compilation.set_caching, (COMPILATION, STRING, TOKEN)),
    Row("ANeuralNetworksCompilation_setPriority", Compilation.set_priority, (COMPILATION, INT)),
    Row("ANeuralNetworksCompilation_setTimeout", Compilation.set_timeout, (COMPILATION, NANOSECONDS)),
    Row("ANeuralNetworksCompilation_addExtensionAttribute", Compilation.add_extension_attribute,
        (COMPILATION, STRING, EXTENSION_CODE, INPUT)),
    Row("ANeuralNetworksCompilation_finish", Compilation.finish, (COMPILATION,)),
    Row("ANeuralNetworksCompilation_getPreferredMemoryAlignmentForInput",
        Compilation.get_preferred_memory_alignment_for_input, (COMPILATION, UINT32), number("uint32_t")),
    Row("ANeuralNetworksCompilation_getPreferredMemoryPaddingForInput",
        Compilation.get_preferred_memory_padding_for_input, (COMPILATION, UINT32), number("uint32_t")),
    Row("ANeuralNetworksCompilation_getPreferredMemoryAlignmentForOutput",
        Compilation.get_preferred_memory_alignment_for_output, (COMPILATION, UINT32), number("uint32_t")),
    Row("ANeuralNetworksCompilation_getPreferredMemoryPaddingForOutput",
        Compilation.get_preferred_memory_padding_for_output, (COMPILATION, UINT32), number("uint32_t")),

    Row("ANeuralNetworksExecution_create", Execution, (COMPILATION,), NEW_EXECUTION),
    Row("ANeuralNetworksExecution_free", free_execution, (freed("ANeuralNetworksExecution"),)),
    Row("ANeuralNetworksExecution_setInput", Execution.set_input, (EXECUTION, INT32, OPTIONAL_TYPE, INPUT)),
    Row("ANeuralNetworksExecution_setInputFromMemory", Execution.set_input_from_memory,
        (EXECUTION, INT32, OPTIONAL_TYPE, MEMORY, SIZE, SIZE)),
    Row("ANeuralNetworksExecution_setOutput", Execution.set_output, (EXECUTION, INT32, OPTIONAL_TYPE, OUTPUT)),
    Row("ANeuralNetworksExecution_setOutputFromMemory", Execution.set_output_from_memory,
        (EXECUTION, INT32, OPTIONAL_TYPE, MEMORY, SIZE, SIZE)),
    Row("ANeuralNetworksExecution_setTimeout", Execution.set_timeout, (EXECUTION, NANOSECONDS)),
    Row("ANeuralNetworksExecution_setLoopTimeout", Execution.set_loop_timeout, (EXECUTION, NANOSECONDS)),
    Row("ANeuralNetworksExecution_setMeasureTiming", Execution.set_measure_timing, (EXECUTION, BOOL)),
    Row("ANeuralNetworksExecution_setReusable", Execution.set_reusable, (EXECUTION, BOOL)),
    Row("ANeuralNetworksExecution_enableInputAndOutputPadding", Execution.enable_input_and_output_padding,
        (EXECUTION, BOOL)),
    Row("ANeuralNetworksExecution_addExtensionAttribute", Execution.add_extension_attribute,
        (EXECUTION, STRING, EXTENSION_CODE, INPUT)),
    Row("ANeuralNetworksExecution_compute", Execution.compute, (EXECUTION,)),
    Row("ANeuralNetworksExecution_burstCompute", Execution.burst_compute, (EXECUTION, BURST)),
    Row("ANeuralNetworksExecution_startCompute", Execution.start_compute, (EXECUTION,), NEW_EVENT),
    Row("ANeuralNetworksExecution_startComputeWithDependencies", Execution.start_compute_with_dependencies,
        (EXECUTION, EVENT_LIST, NANOSECONDS), NEW_EVENT),
    Row("ANeuralNetworksExecution_getDuration", Execution.get_duration, (EXECUTION, INT32),
        number("uint64_t", unset=NO_DURATION)),
    Row("ANeuralNetworksExecution_getOutputOperandRank", Execution.get_output_operand_rank, (EXECUTION, INT32),
        number("uint32_t", of_short=len)),
    Row("ANeuralNetworksExecution_getOutputOperandDimensions", Execution.get_output_operand_dimensions,
        (EXECUTION, INT32), numbers("uint32_t", of_short=tuple)),

    Row("ANeuralNetworksEvent_wait", Event.wait, (EVENT,)),
    Row("ANeuralNetworksEvent_free", free_event, (freed("ANeuralNetworksEvent"),)),
    Row("ANeuralNetworksEvent_createFromSyncFenceFd", Event.from_sync_fence_fd, (INT,), NEW_EVENT),
    Row("ANeuralNetworksEvent_getSyncFenceFd", Event.get_sync_fence_fd, (EVENT,), number("int", unset=-1)),

    Row("ANeuralNetworksBurst_create", Burst, (COMPILATION,), NEW_BURST),
    Row("ANeuralNetworksBurst_free", BURSTS.free, (freed("ANeuralNetworksBurst"),)),

    Row("ANeuralNetworksMemory_createFromFd", Memory.from_fd, (SIZE, INT, INT, SIZE), NEW_MEMORY),
    Row("ANeuralNetworksMemory_createFromDesc", Memory.from_desc, (DESCRIPTOR,), NEW_MEMORY),
    Row("ANeuralNetworksMemory_createFromAHardwareBuffer", Memory.from_hardware_buffer, (HARDWARE_BUFFER,), NEW_MEMORY),
    Row("ANeuralNetworksMemory_copy", Memory.copy, (MEMORY, MEMORY)),
    Row("ANeuralNetworksMemory_free", MEMORIES.free, (freed("ANeuralNetworksMemory"),)),

    Row("ANeuralNetworksMemoryDesc_create", MemoryDesc, (), NEW_DESCRIPTOR),
    Row("ANeuralNetworksMemoryDesc_free", DESCRIPTORS.free, (freed("ANeuralNetworksMemoryDesc"),)),
    Row("ANeuralNetworksMemoryDesc_addInputRole", MemoryDesc.add_input_role, (DESCRIPTOR, COMPILATION, UINT32, FLOAT)),
    Row("ANeuralNetworksMemoryDesc_addOutputRole", MemoryDesc.add_output_role,
        (DESCRIPTOR, COMPILATION, UINT32, FLOAT)),
    Row("ANeuralNetworksMemoryDesc_setDimensions", MemoryDesc.set_dimensions, (DESCRIPTOR, DIMENSIONS)),
    Row("ANeuralNetworksMemoryDesc_finish", MemoryDesc.finish, (DESCRIPTOR,)),
)
# fmt: on


def body(row: Row) -> Callable[..., int]:
    """What the C function does: a result code, whatever happens."""
    reads: list[tuple[Callable[..., Any], slice]] = []
    at = 0
    for argument in row.arguments:
        reads.append((argument.read, slice(at, at + len(argument.types))))
        at += len(argument.types)
    call, result = row.call, row.result

    def answer(*given: Any) -> int:
        try:
            if result is None:
                call(*[read(*given[part]) for read, part in reads])
                return ANSWERED
            pointer = given[-1]
            if not pointer:
                null("where the result goes")
            if result.unset is not None:
                pointer[0] = result.unset
            result.write(pointer, call(*[read(*given[part]) for read, part in reads]))
            return ANSWERED
        except OutputInsufficientSize as error:
            if result is not None and result.of_short is not None:
                result.write(given[-1], result.of_short(error.dimensions))
            return ANSWERED + refuse(row.name, error)
        except BaseException as error:  # nothing may pass into C
            return ANSWERED + refuse(row.name, error)

    return answer


def refuse(name: str, error: BaseException) -> int:
    """The code that says `error`; a mistake of ours is always logged."""
    if isinstance(error, KeyboardInterrupt):
        _thread.interrupt_main()  # the program that called, if it is one in Python, gets it when we return
    elif isinstance(error, (NnapiError, MemoryError)):
        log.debug(f"{name}: {error}")
    else:
        log.failure(f"{name}: OP_FAILED: internal error: {type(error).__name__}: {error}")
    return code_of(error)


def attach(bodies: Any) -> None:
    """Give every function of the C library its body; `bodies` is the module that cffi made."""
    answers_itself = {f.name for f in functions() if f.returns not in ("int", "void")}
    for row in FUNCTIONS:
        answer = row.call if row.name in answers_itself else body(row)
        failed = 0 if row.name in answers_itself else ANSWERED + ResultCode.OP_FAILED
        bodies.ffi.def_extern(name=f"python_{row.name}", error=failed)(answer)
