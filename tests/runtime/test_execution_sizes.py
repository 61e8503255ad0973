"""Executions: operand types given late, sizes known late, padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from clients import (
    INT32,
    QUANT8,
    REFERENCE,
    RELU,
    TENSOR_FLOAT32,
    TENSOR_INT32,
    MakeMemory,
    bound,
    compiled,
    computed,
    device,
    elementwise,
    refused,
)  # fmt: skip
from nnapi.drivers.fake import FakeDriver
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import Array
from nnapi.runtime import (
    Compilation,
    Execution,
    Model,
)  # fmt: skip
from nnapi.runtime import compilation as compilation_module
from nnapi.runtime.codes import OutputInsufficientSize

X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
DEQUANTIZE, RANK, TILE = (OPERATIONS[name].code for name in ("DEQUANTIZE", "RANK", "TILE"))


def room(count: int = 4) -> Array:
    return np.full(count, -1, np.float32)


# Types given late


def unspecified(dimensions: Sequence[int]) -> Compilation:
    return compiled(elementwise(dimensions=dimensions))


@pytest.mark.parametrize("declared", [(0, 0), (0, 3), (2, 0), ()], ids=str)
def test_dimensions_given_with_the_input(declared: tuple[int, ...]) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (z,) = computed(unspecified(declared), [x, x])
    np.testing.assert_array_equal(z, x + x)


def test_every_execution_may_have_others() -> None:
    compilation = unspecified((0, 3))
    for rows in (1, 5, 2):
        x = np.ones((rows, 3), np.float32)
        assert computed(compilation, [x, x])[0].shape == (rows, 3)


@pytest.mark.parametrize("type", [None, (TENSOR_FLOAT32, [0, 3], 0.0, 0)], ids=["none", "still unknown"])
def test_dimensions_must_be_known_with_the_input(type: tuple[int, Sequence[int], float, int] | None) -> None:
    execution = Execution(unspecified((0, 3)))
    with refused("BAD_DATA", "input 0 has dimensions"):
        execution.set_input(0, type, np.ones((2, 3), np.float32))


def test_dimensions_that_do_not_go_together_are_found_when_it_runs() -> None:
    execution = Execution(unspecified((0, 3)))
    for i, rows in enumerate((2, 5)):
        execution.set_input(i, (TENSOR_FLOAT32, [rows, 3], 0.0, 0), np.ones((rows, 3), np.float32))
    execution.set_output(0, None, room(99))
    with refused("OP_FAILED"):
        execution.compute()


def quantized(scale: float = 0.5, zero_point: int = 128) -> Model:
    """DEQUANTIZE of [4]."""
    model = Model()
    model.add_operand(QUANT8, [4], scale, zero_point)
    model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(DEQUANTIZE, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    return model


@pytest.mark.parametrize(("scale", "zero_point"), [(0.5, 128), (0.25, 128), (0.5, 0), (2.0, 7)])
def test_scale_and_zero_point_given_with_the_input_hold(scale: float, zero_point: int) -> None:
    compilation = compiled(quantized())
    q, z = np.array([0, 7, 128, 255], np.uint8), room()
    execution = Execution(compilation)
    execution.set_input(0, (QUANT8, [4], scale, zero_point), q)
    execution.set_output(0, None, z)
    execution.compute()
    np.testing.assert_allclose(z, (q.astype(np.float32) - zero_point) * scale)
    (again,) = computed(compilation, [q])
    np.testing.assert_allclose(again, (q.astype(np.float32) - 128) * 0.5)


def test_the_programs_for_other_types_are_kept_but_not_for_ever() -> None:
    compilation = compiled(quantized())
    q = np.zeros(4, np.uint8)
    for n in range(compilation_module.MAX_VARIANTS + 3):
        execution = Execution(compilation)
        execution.set_input(0, (QUANT8, [4], 0.5 + n, 1), q)
        execution.set_output(0, None, room())
        execution.compute()
    assert len(compilation._variants) == compilation_module.MAX_VARIANTS


def test_a_quantization_that_an_operation_does_not_take_is_brought_to_its_own() -> None:
    model = Model()
    for _ in range(2):
        model.add_operand(QUANT8, [4], 0.5, 128)
    model.add_operation(RELU, [0], [1])  # gives the scale it gets
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    execution = Execution(compiled(model))
    got = np.zeros(4, np.uint8)
    execution.set_input(0, (QUANT8, [4], 0.25, 100), np.array([0, 100, 104, 255], np.uint8))
    execution.set_output(0, None, got)
    execution.compute()
    assert got.tolist() == [128, 128, 130, 206]  # 0, 0, 1 and 38.75, which lies between two quanta


def test_known_dimensions_bring_operations_back_to_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Static(FakeDriver):
        def supported(self, model):  # type: ignore[no-untyped-def]
            from nnapi.drivers.null import NullDriver

            return NullDriver().supported(model)

    monkeypatch.setattr(compilation_module, "devices", lambda: [device(Static("static")), REFERENCE])
    compilation = compiled(elementwise(dimensions=(0, 3)), None)
    assert compilation.require_program().devices == ("reference",)
    execution = Execution(compilation)
    for i in range(2):
        execution.set_input(i, (TENSOR_FLOAT32, [2, 3], 0.0, 0), np.ones((2, 3), np.float32))
    execution.set_output(0, None, np.zeros(100, np.float32))
    execution.compute()
    assert execution._program.devices == ("static",)
    assert execution.get_output_operand_dimensions(0) == (2, 3)


# Sizes known late


def tile() -> Compilation:
    """TILE of [2] by an input: how long the result is, only the run knows."""
    model = Model()
    for type_code, dimensions in ((TENSOR_FLOAT32, [2]), (TENSOR_INT32, [1]), (TENSOR_FLOAT32, [0])):
        model.add_operand(type_code, dimensions)
    model.add_operation(TILE, [0, 1], [2])
    model.identify_inputs_and_outputs([0, 1], [2])
    model.finish()
    return compiled(model)


def tiled(times: int, output: Array, type: tuple[int, Sequence[int], float, int] | None = None) -> Execution:
    execution = Execution(tile())
    execution.set_input(0, None, np.array([1, 2], np.float32))
    execution.set_input(1, None, np.array([times], np.int32))
    execution.set_output(0, type, output)
    return execution


def test_a_buffer_that_is_large_enough() -> None:
    output = room(10)
    execution = tiled(3, output)
    execution.compute()
    assert execution.get_output_operand_rank(0) == 1
    assert execution.get_output_operand_dimensions(0) == (6,)
    np.testing.assert_array_equal(output, [1, 2, 1, 2, 1, 2, -1, -1, -1, -1])


def test_a_buffer_that_is_too_small() -> None:
    output = room(5)
    execution = tiled(3, output)
    with refused("OUTPUT_INSUFFICIENT_SIZE", r"output 0 has dimensions \(6,\)"):
        execution.compute()
    for get in (execution.get_output_operand_rank, execution.get_output_operand_dimensions):
        with refused("OUTPUT_INSUFFICIENT_SIZE") as caught:
            get(0)
        assert isinstance(caught.value, OutputInsufficientSize)
        assert caught.value.dimensions == (6,)
    with refused("BAD_STATE"):
        execution.get_duration(0)


def test_a_large_buffer_beside_one_that_is_too_small() -> None:
    """RELU's result is known, TILE's is not."""
    model = Model()
    for type_code, dimensions in (
        (TENSOR_FLOAT32, [2]), (TENSOR_INT32, [1]), (TENSOR_FLOAT32, [0]), (TENSOR_FLOAT32, [2]),
    ):  # fmt: skip
        model.add_operand(type_code, dimensions)
    model.add_operation(TILE, [0, 1], [2])
    model.add_operation(RELU, [0], [3])
    model.identify_inputs_and_outputs([0, 1], [2, 3])
    model.finish()
    execution = bound(compiled(model), [np.array([1, 2], np.float32), np.array([9], np.int32)], [room(2), room(2)])
    with refused("OUTPUT_INSUFFICIENT_SIZE"):
        execution.compute()
    with refused("OUTPUT_INSUFFICIENT_SIZE"):
        execution.get_output_operand_dimensions(0)
    assert execution.get_output_operand_dimensions(1) == (2,)


def test_dimensions_that_the_client_promised() -> None:
    output = room(6)
    tiled(3, output, (TENSOR_FLOAT32, [6], 0.0, 0)).compute()
    np.testing.assert_array_equal(output, [1, 2] * 3)
    with refused("BAD_DATA", "takes 24 bytes, given 20"):
        tiled(3, room(5), (TENSOR_FLOAT32, [6], 0.0, 0))
    with refused("OP_FAILED", r"output 0 has dimensions \(4,\), \(6,\) were given"):
        tiled(2, room(6), (TENSOR_FLOAT32, [6], 0.0, 0)).compute()


def test_reusable_with_another_size_each_time() -> None:
    times, output = np.array([1], np.int32), room(10)
    execution = Execution(tile())
    execution.set_reusable(True)
    execution.set_input(0, None, np.array([1, 2], np.float32))
    execution.set_input(1, None, times)
    execution.set_output(0, None, output)
    for n, answer in ((1, None), (6, "OUTPUT_INSUFFICIENT_SIZE"), (5, None), (-1, "OP_FAILED"), (2, None)):
        times[0] = n
        if answer:
            with refused(answer):
                execution.compute()
        else:
            execution.compute()
            assert execution.get_output_operand_dimensions(0) == (2 * n,)


def test_a_scalar_has_rank_0_and_no_dimensions() -> None:
    model = Model()
    for type_code, dimensions in ((TENSOR_FLOAT32, [2]), (INT32, [])):
        model.add_operand(type_code, dimensions)
    model.add_operation(RANK, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    rank = np.zeros((), np.int32)
    execution = bound(compiled(model), [np.zeros(2, np.float32)], [rank])
    execution.compute()
    assert rank == 1
    assert execution.get_output_operand_rank(0) == 0
    with refused("BAD_DATA", "is a scalar"):
        execution.get_output_operand_dimensions(0)


# Padding


def test_padded_buffers() -> None:
    execution = Execution(compiled(elementwise()))
    execution.enable_input_and_output_padding(True)
    z = room(6)
    execution.set_input(0, None, np.concatenate([X, [9, 9]]).astype(np.float32))
    execution.set_input(1, None, Y)
    execution.set_output(0, None, z)
    execution.compute()
    np.testing.assert_array_equal(z, [*(X + Y), -1, -1])


def test_padded_memories(make_memory: MakeMemory) -> None:
    execution = Execution(compiled(elementwise()))
    execution.enable_input_and_output_padding(True)
    memory = make_memory(np.arange(10, dtype=np.float32))
    execution.set_input_from_memory(0, None, memory, 0, 20)
    execution.set_input_from_memory(1, None, memory, 0, 16)
    execution.set_output_from_memory(0, None, memory, 20, 20)
    execution.compute()
    np.testing.assert_array_equal(memory.region(20, 20).view(np.float32), [0, 2, 4, 6, 9])


def test_padding_is_decided_before_anything_is_set() -> None:
    execution = Execution(compiled(elementwise()))
    execution.set_input(0, None, X)
    with refused("BAD_STATE", "is set already"):
        execution.enable_input_and_output_padding(True)


def test_padding_does_not_make_short_buffers_long() -> None:
    execution = Execution(compiled(elementwise()))
    execution.enable_input_and_output_padding(True)
    with refused("BAD_DATA", "takes 16 bytes, given 12"):
        execution.set_input(0, None, X[:3])
