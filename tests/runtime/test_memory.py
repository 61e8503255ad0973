"""Memories: files that are mapped, contents that stay on the device, copies between them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from clients import (
    QUANT8,
    REFERENCE,
    RELU,
    TENSOR_FLOAT32,
    MakeFile,
    MakeMemory,
    compiled,
    device,
    elementwise,
    refused,
)  # fmt: skip
from nnapi.drivers.fake import FakeDriver
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import Array
from nnapi.runtime import Compilation, Execution, Memory, MemoryDesc, Model
from nnapi.runtime.memory import DeviceMemory

READ, BOTH = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
PAGE = mmap.ALLOCATIONGRANULARITY
X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)

# Files


def test_a_mapped_file_is_shared(make_file: MakeFile) -> None:
    fd = make_file(X.tobytes())
    memory = Memory.from_fd(16, BOTH, fd, 0)
    os.pwrite(fd, Y.tobytes(), 0)
    np.testing.assert_array_equal(memory.region(0, 16).view(np.float32), Y)
    memory.region(0, 16)[:] = X.view(np.uint8)
    assert os.pread(fd, 16, 0) == X.tobytes()


def test_the_descriptor_may_be_closed(make_file: MakeFile) -> None:
    fd = os.dup(make_file(X.tobytes()))
    memory = Memory.from_fd(16, READ, fd, 0)
    os.close(fd)
    np.testing.assert_array_equal(memory.region(0, 16).view(np.float32), X)


def test_a_part_of_a_file(make_file: MakeFile) -> None:
    memory = Memory.from_fd(16, READ, make_file(bytes(PAGE) + X.tobytes()), PAGE)
    np.testing.assert_array_equal(memory.region(0, 16).view(np.float32), X)


WRONG_FILES: dict[str, tuple[int, int, int | None, int, str]] = {
    "no bytes": (0, READ, None, 0, "BAD_DATA"),
    "more than the file has": (PAGE + 1, READ, None, 0, "BAD_DATA"),
    "an offset beyond the file": (16, READ, None, 2 * PAGE, "BAD_DATA"),
    "a file shorter than offset and size": (16, READ, None, PAGE, "BAD_DATA"),
    "an offset within a page": (16, READ, None, 8, "BAD_DATA"),
    "a negative offset": (16, READ, None, -PAGE, "BAD_DATA"),
    "a protection that there is not": (16, 8, None, 0, "BAD_DATA"),
    "a negative descriptor": (16, READ, -1, 0, "BAD_DATA"),
    "a closed descriptor": (16, READ, 10_000, 0, "BAD_DATA"),
    "a size beyond everything": (1 << 62, READ, None, 0, "BAD_DATA"),
}


@pytest.mark.parametrize(("size", "protect", "fd", "offset", "code"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_wrong_files(
    size: int, protect: int, fd: int | None, offset: int, code: str, make_file: MakeFile
) -> None:  # fmt: skip
    with refused(code):
        Memory.from_fd(size, protect, make_file(bytes(PAGE)) if fd is None else fd, offset)


def test_what_cannot_be_mapped() -> None:
    reader, writer = os.pipe()
    with refused("UNMAPPABLE"):
        Memory.from_fd(16, READ, reader, 0)
    os.close(reader)
    os.close(writer)


def test_writing_to_a_file_opened_for_reading_is_unmappable(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "data"
    path.write_bytes(bytes(16))
    fd = os.open(path, os.O_RDONLY)
    with refused("UNMAPPABLE"):
        Memory.from_fd(16, BOTH, fd, 0)
    os.close(fd)


def test_a_file_that_became_shorter_is_not_read(make_file: MakeFile) -> None:
    fd = make_file(bytes(2 * PAGE))
    memory = Memory.from_fd(2 * PAGE, BOTH, fd, 0)
    os.ftruncate(fd, PAGE)
    with refused("BAD_DATA", "it was made shorter"):
        memory.region(PAGE, 16)


def test_there_are_no_hardware_buffers() -> None:
    with refused("BAD_DATA", "no AHardwareBuffer"):
        Memory.from_hardware_buffer(None)


# Descriptors


def described(compilation: Compilation, *roles: tuple[str, int], dimensions: Sequence[int] | None = None) -> MemoryDesc:
    desc = MemoryDesc()
    for kind, index in roles:
        getattr(desc, f"add_{kind}_role")(compilation, index, 1.0)
    if dimensions is not None:
        desc.set_dimensions(dimensions)
    desc.finish()
    return desc


def device_memory(
    compilation: Compilation, *roles: tuple[str, int], dimensions: Sequence[int] | None = None
) -> DeviceMemory:
    return Memory.from_desc(described(compilation, *roles, dimensions=dimensions))


FLOATS = compiled(elementwise())
DESC_CALLS: dict[str, Callable[[MemoryDesc], object]] = {
    "add_input_role": lambda d: d.add_input_role(FLOATS, 0, 1.0),
    "add_output_role": lambda d: d.add_output_role(FLOATS, 0, 1.0),
    "set_dimensions": lambda d: d.set_dimensions([4]),
    "finish": lambda d: d.finish(),
}


@pytest.mark.parametrize("call", DESC_CALLS.values(), ids=DESC_CALLS.keys())
def test_nothing_changes_a_finished_descriptor(call: Callable[[MemoryDesc], object]) -> None:
    with refused("BAD_STATE", "the memory descriptor is finished"):
        call(described(FLOATS, ("output", 0)))


def quantized() -> Compilation:
    model = Model()
    for _ in range(2):
        model.add_operand(QUANT8, [4], 0.5, 128)
    model.add_operation(RELU, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    return compiled(model)


WRONG_DESC: dict[str, tuple[Callable[[MemoryDesc], object], str]] = {
    "no role": (lambda d: d.finish(), "the memory has no role"),
    "input that does not exist": (lambda d: d.add_input_role(FLOATS, 2, 1.0), "input 2 does not exist"),
    "output that does not exist": (lambda d: d.add_output_role(FLOATS, 1, 1.0), "output 1 does not exist"),
    "frequency of 0": (lambda d: d.add_input_role(FLOATS, 0, 0.0), "frequency is 0.0"),
    "frequency above 1": (lambda d: d.add_input_role(FLOATS, 0, 1.5), "frequency is 1.5"),
    "frequency that is no number": (lambda d: d.add_input_role(FLOATS, 0, float("nan")), "frequency is nan"),
    "a role twice": (
        lambda d: (d.add_input_role(FLOATS, 0, 1.0), d.add_input_role(FLOATS, 0, 1.0)), "has a role already"),
    "roles of two types": (
        lambda d: (d.add_input_role(FLOATS, 0, 1.0), d.add_output_role(quantized(), 0, 1.0)), "is stored as"),
    "other dimensions": (lambda d: (d.add_input_role(FLOATS, 0, 1.0), d.set_dimensions([5])), "do not go with"),
    "other rank": (lambda d: (d.set_dimensions([2, 2]), d.add_input_role(FLOATS, 0, 1.0)), "do not go with"),
    "negative dimensions": (lambda d: d.set_dimensions([-1]), "must not be negative"),
    "a compilation that is not finished": (
        lambda d: d.add_input_role(Compilation(elementwise(), [REFERENCE]), 0, 1.0), "not finished"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG_DESC.values(), ids=WRONG_DESC.keys())
def test_wrong_descriptors(call: Callable[[MemoryDesc], object], message: str) -> None:
    with refused("BAD_DATA", message):
        call(MemoryDesc())


def test_a_scalar_has_no_dimensions() -> None:
    model = Model()
    for type_code, dimensions in ((TENSOR_FLOAT32, [4]), (1, [])):
        model.add_operand(type_code, dimensions)
    model.add_operation(OPERATIONS["RANK"].code, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    for calls in (("set_dimensions", "add_output_role"), ("add_output_role", "set_dimensions")):
        desc = MemoryDesc()
        with refused("BAD_DATA", "a scalar has no dimensions"):
            for name in calls:
                getattr(desc, name)(*([[1]] if name == "set_dimensions" else [compiled(model), 0, 1.0]))


def test_a_memory_needs_a_finished_descriptor() -> None:
    with refused("BAD_STATE", "the memory descriptor is not finished"):
        Memory.from_desc(MemoryDesc())


# On the device


def run(compilation: Compilation, inputs: Sequence[Array | Memory], output: Array | Memory) -> Execution:
    execution = Execution(compilation)
    for i, value in enumerate(inputs):
        if isinstance(value, Memory):
            execution.set_input_from_memory(i, None, value, 0, 0)
        else:
            execution.set_input(i, None, value)
    if isinstance(output, Memory):
        execution.set_output_from_memory(0, None, output, 0, 0)
    else:
        execution.set_output(0, None, output)
    execution.compute()
    return execution


def test_a_result_stays_on_the_device_and_goes_on_from_there() -> None:
    memory = device_memory(FLOATS, ("output", 0), ("input", 0), ("input", 1))
    run(FLOATS, [X, Y], memory)
    content = memory.content
    z = np.zeros(4, np.float32)
    run(FLOATS, [memory, memory], z)
    np.testing.assert_array_equal(z, 2 * (X + Y))
    assert memory.content is content


def test_a_state_that_is_read_and_written_in_turn() -> None:
    state = device_memory(FLOATS, ("output", 0), ("input", 0))
    run(FLOATS, [X, Y], state)
    for _ in range(3):
        run(FLOATS, [state, Y], state)
    np.testing.assert_array_equal(state.content, X + 4 * Y)


def test_reusable_executions_read_what_is_there_now() -> None:
    memory = device_memory(FLOATS, ("output", 0), ("input", 0))
    z = np.zeros(4, np.float32)
    reader = Execution(FLOATS)
    reader.set_reusable(True)
    reader.set_input_from_memory(0, None, memory, 0, 0)
    reader.set_input(1, None, Y)
    reader.set_output(0, None, z)
    for factor in (1, 3):
        run(FLOATS, [factor * X, Y], memory)
        reader.compute()
        np.testing.assert_array_equal(z, factor * X + 2 * Y)


WRONG_USES: dict[str, Callable[[Execution, DeviceMemory], object]] = {
    "a role it does not have": lambda e, m: e.set_input_from_memory(1, None, m, 0, 0),
    "an output where it is an input": lambda e, m: e.set_output_from_memory(0, None, m, 0, 0),
    "another compilation": lambda e, m: Execution(compiled(elementwise())).set_input_from_memory(0, None, m, 0, 0),
    "a part of it": lambda e, m: e.set_input_from_memory(0, None, m, 0, 16),
    "an offset": lambda e, m: e.set_input_from_memory(0, None, m, 4, 0),
}


@pytest.mark.parametrize("use", WRONG_USES.values(), ids=WRONG_USES.keys())
def test_a_memory_is_used_in_its_roles_only(use: Callable[[Execution, DeviceMemory], object]) -> None:
    with refused("BAD_DATA"):
        use(Execution(FLOATS), device_memory(FLOATS, ("input", 0)))


def test_a_memory_without_content_is_no_input() -> None:
    memory = device_memory(FLOATS, ("input", 0), ("output", 0))
    with refused("OP_FAILED", "without content"):
        run(FLOATS, [memory, Y], X.copy())


def test_a_failed_execution_leaves_no_content() -> None:
    dead = compiled(elementwise(), [device(FakeDriver("dead", fails_to_run=True))])
    desc = MemoryDesc()
    desc.add_output_role(FLOATS, 0, 1.0)
    desc.add_output_role(dead, 0, 0.5)
    desc.finish()
    memory = Memory.from_desc(desc)
    run(FLOATS, [X, Y], memory)
    with refused("OP_FAILED", "fails on purpose"):
        run(dead, [X, Y], memory)
    with refused("BAD_DATA", "no content"):
        Memory.copy(memory, device_memory(FLOATS, ("input", 0)))


def test_a_memory_does_not_keep_its_compilations() -> None:
    import gc
    import weakref

    compilation = compiled(elementwise())
    alive = weakref.ref(compilation)
    memory = device_memory(compilation, ("input", 0))
    del compilation
    gc.collect()
    assert alive() is None
    assert memory.content is None


def open_dimensions() -> Compilation:
    return compiled(elementwise(dimensions=[0]))


def run_open(compilation: Compilation, size: int, output: DeviceMemory) -> None:
    execution = Execution(compilation)
    for i in range(2):
        execution.set_input(i, (TENSOR_FLOAT32, [size], 0.0, 0), np.ones(size, np.float32))
    execution.set_output_from_memory(0, None, output, 0, 0)
    execution.compute()


def test_a_memory_of_unknown_dimensions_takes_what_comes() -> None:
    compilation = open_dimensions()
    memory = device_memory(compilation, ("output", 0), ("input", 0))
    for size in (3, 5):
        run_open(compilation, size, memory)
        assert memory.content is not None
        assert memory.content.shape == (size,)
    execution = Execution(compilation)
    execution.set_input_from_memory(0, (TENSOR_FLOAT32, [4], 0.0, 0), memory, 0, 0)
    execution.set_input(1, (TENSOR_FLOAT32, [4], 0.0, 0), X)
    execution.set_output(0, None, X.copy())
    with refused("OP_FAILED", r"a memory of \(5,\) is given for an input \(4,\)"):
        execution.compute()


def test_a_memory_of_known_dimensions_takes_no_others() -> None:
    compilation = open_dimensions()
    memory = device_memory(compilation, ("output", 0), dimensions=[4])
    with refused("OP_FAILED", r"output 0 has dimensions \(3,\), \(4,\) were given"):
        run_open(compilation, 3, memory)


# Copies


def filled(array: Array, compilation: Compilation = FLOATS) -> DeviceMemory:
    memory = device_memory(compilation, ("input", 0), ("output", 0))
    memory.content = array
    return memory


def test_copies_in_every_direction(make_memory: MakeMemory) -> None:
    file, there, back = make_memory(X), device_memory(FLOATS, ("input", 0)), make_memory(np.zeros(4, np.float32))
    other = device_memory(FLOATS, ("input", 1))
    for src, dst in ((file, there), (there, other), (other, back)):
        Memory.copy(src, dst)
    np.testing.assert_array_equal(back.region(0, 16).view(np.float32), X)
    Memory.copy(back, back)
    file.region(0, 16)[:] = 0
    np.testing.assert_array_equal(there.content, X)


def test_a_copy_takes_over_the_dimensions() -> None:
    compilation = open_dimensions()
    src, dst = (device_memory(compilation, ("output", 0), ("input", 0)) for _ in range(2))
    run_open(compilation, 7, src)
    Memory.copy(src, dst)
    assert dst.content is not None
    assert dst.content.shape == (7,)


WRONG_COPIES: dict[str, Callable[[MakeMemory], tuple[Memory, Memory]]] = {
    "files of two sizes": lambda make: (make(X), make(X[:3])),
    "a file that is too short": lambda make: (make(X[:3]), filled(X)),
    "a file for unknown dimensions": lambda make: (make(X), filled(X, open_dimensions())),
    "to a file that is too short": lambda make: (filled(X), make(X[:3])),
    "nothing": lambda make: (device_memory(FLOATS, ("input", 0)), make(X)),
    "another type": lambda make: (filled(X), filled(np.zeros(4, np.uint8), quantized())),
    "other dimensions": lambda make: (filled(X[:3]), filled(X)),
}


@pytest.mark.parametrize("made", WRONG_COPIES.values(), ids=WRONG_COPIES.keys())
def test_wrong_copies(made: Callable[[MakeMemory], tuple[Memory, Memory]], make_memory: MakeMemory) -> None:
    src, dst = made(make_memory)
    with refused("BAD_DATA"):
        Memory.copy(src, dst)
    if isinstance(dst, DeviceMemory):
        assert dst.content is None


def test_copies_against_the_protection(make_memory: MakeMemory) -> None:
    with refused("UNMAPPABLE"):
        Memory.copy(make_memory(X, 0), make_memory(X))
    with refused("UNMAPPABLE"):
        Memory.copy(make_memory(X), make_memory(X, READ))
