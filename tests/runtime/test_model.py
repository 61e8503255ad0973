"""Models as clients build them: every call in every wrong state and with every wrong argument."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clients import (
    ADD,
    FLOAT32,
    INT32,
    QUANT8,
    REFERENCE,
    RELU,
    TENSOR_FLOAT32,
    TENSOR_INT32,
    MakeMemory,
    client_model,
    compiled,
    elementwise,
    refused,
)  # fmt: skip
from nnapi.conformance.generate import generate
from nnapi.drivers.reference import execute
from nnapi.ops.types import OMITTED, OperandType
from nnapi.runtime import Memory, MemoryDesc, Model, ResultCode

PER_CHANNEL = OperandType.TENSOR_QUANT8_SYMM_PER_CHANNEL
MODEL = OperandType.MODEL
X = np.zeros(4, np.float32)


def unfinished() -> Model:
    """0, 1: inputs [4]; 2: a scalar; 3: [4]; 4: [2, 3] per channel; 5: MODEL; 6: [?, 3]; no values."""
    model = Model()
    for type_code, dimensions in (
        (TENSOR_FLOAT32, [4]), (TENSOR_FLOAT32, [4]), (INT32, []), (TENSOR_FLOAT32, [4]), (PER_CHANNEL, [2, 3]),
        (MODEL, []), (TENSOR_FLOAT32, [0, 3]),
    ):  # fmt: skip
        model.add_operand(type_code, dimensions)
    return model


def invalid() -> Model:
    """A model that `finish` refused."""
    model = elementwise(finish=False)
    model.add_operand(TENSOR_FLOAT32, [4])
    with refused("BAD_DATA", "operand 4 is no input, has no value, and is written by no operation"):
        model.finish()
    return model


CALLS: dict[str, Callable[[Model, Memory], object]] = {
    "add_operand": lambda m, _: m.add_operand(FLOAT32),
    "set_operand_value": lambda m, _: m.set_operand_value(2, np.int32(0)),
    "set_operand_value_from_memory": lambda m, memory: m.set_operand_value_from_memory(0, memory, 0, 16),
    "set_operand_symm_per_channel_quant_params": lambda m, _: m.set_operand_symm_per_channel_quant_params(0, 0, [1]),
    "set_operand_value_from_model": lambda m, _: m.set_operand_value_from_model(0, elementwise()),
    "set_operand_extension_data": lambda m, _: m.set_operand_extension_data(0, b"x"),
    "add_operation": lambda m, _: m.add_operation(RELU, [0], [3]),
    "identify_inputs_and_outputs": lambda m, _: m.identify_inputs_and_outputs([0], [3]),
    "relax_computation_float32_to_float16": lambda m, _: m.relax_computation_float32_to_float16(True),
    "finish": lambda m, _: m.finish(),
}


@pytest.mark.parametrize("made", [elementwise, invalid])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_nothing_changes_a_finished_or_invalid_model(
    call: Callable[[Model, Memory], object], made: Callable[[], Model], make_memory: MakeMemory
) -> None:
    model = made()
    with refused("BAD_STATE", "the model (is finished|was found invalid)"):
        call(model, make_memory(X))


def test_what_is_not_finished_is_no_use() -> None:
    with refused("BAD_STATE", "the model is not finished"):
        REFERENCE.supported(elementwise(finish=False))
    with refused("BAD_STATE", "the model to be referenced is not finished"):
        unfinished().set_operand_value_from_model(5, elementwise(finish=False))


NOBODY = 99
WRONG: dict[str, tuple[Callable[[Model], object], str]] = {
    "operand of no type": (lambda m: m.add_operand(16), "16 is no operand type"),
    "operand of a negative type": (lambda m: m.add_operand(-1), "-1 is no operand type|belongs to no extension"),
    "operand between NNAPI's types and OEM's": (lambda m: m.add_operand(9999), "9999 is no operand type"),
    "OEM scalar with dimensions": (lambda m: m.add_operand(10000, [1]), "scalar OEM_SCALAR has dimensions"),
    "operand of an extension nobody asked for": (lambda m: m.add_operand(0x7FFF0000), "belongs to no extension"),
    "scalar with dimensions": (lambda m: m.add_operand(FLOAT32, [1]), "scalar FLOAT32 has dimensions"),
    "too many dimensions": (lambda m: m.add_operand(TENSOR_FLOAT32, [1] * 65), "rank 65, limit 64"),
    "dimensions whose product is beyond 32 bits": (
        lambda m: m.add_operand(TENSOR_FLOAT32, [5, 4, 4, 786433, 5, 3, 16777216, 4, 5]), "exceed 4 GiB"),
    "beyond 4 GiB": (lambda m: m.add_operand(TENSOR_FLOAT32, [65536, 65536]), "exceed 4 GiB"),
    "negative dimension": (lambda m: m.add_operand(TENSOR_FLOAT32, [-1]), "each must be"),
    "float with a scale": (lambda m: m.add_operand(TENSOR_FLOAT32, [1], 0.5), "scale is 0.5, must be 0"),
    "float with a zero point": (lambda m: m.add_operand(TENSOR_FLOAT32, [1], 0.0, 1), "zero point is 1, must be 0"),
    "quantized without a scale": (lambda m: m.add_operand(QUANT8, [1]), "scale is 0, must be positive"),
    "negative scale": (lambda m: m.add_operand(QUANT8, [1], -1.0), "must be finite and not negative"),
    "scale that is no number": (lambda m: m.add_operand(QUANT8, [1], np.nan), "must be finite"),
    "zero point out of range": (lambda m: m.add_operand(QUANT8, [1], 1.0, 256), "zero point is 256, must be 0 to 255"),
    "per channel with a scale": (lambda m: m.add_operand(PER_CHANNEL, [1], 1.0), "scale is 1.0, must be 0"),
    "value of no operand": (lambda m: m.set_operand_value(NOBODY, X), "operand 99 does not exist, the model has 7"),
    "value of a negative operand": (lambda m: m.set_operand_value(-1, X), "operand -1 does not exist"),
    "value too short": (lambda m: m.set_operand_value(0, X[:3]), "given 12 bytes, TENSOR_FLOAT32 takes 16"),
    "value too long": (lambda m: m.set_operand_value(2, X), "given 16 bytes, INT32 takes 4"),
    "value that is no buffer": (lambda m: m.set_operand_value(2, "text"), "a buffer cannot be used"),
    "value that is not contiguous": (lambda m: m.set_operand_value(0, np.zeros(8, "f4")[::2]), "cannot be used"),
    "value of unknown dimensions": (lambda m: m.set_operand_value(6, X), "a constant's must all be known"),
    "bytes for a model": (lambda m: m.set_operand_value(5, X), "operand 5 is a MODEL"),
    "model for a tensor": (lambda m: m.set_operand_value_from_model(0, elementwise()), "must be MODEL"),
    "model of no operand": (lambda m: m.set_operand_value_from_model(NOBODY, elementwise()), "does not exist"),
    "channel scales of no operand": (
        lambda m: m.set_operand_symm_per_channel_quant_params(NOBODY, 0, [1.0]), "does not exist"),
    "channel scales of floats": (
        lambda m: m.set_operand_symm_per_channel_quant_params(0, 0, [1.0]), "only TENSOR_QUANT8_SYMM_PER_CHANNEL"),
    "channel scales along no dimension": (
        lambda m: m.set_operand_symm_per_channel_quant_params(4, 2, [1.0, 1.0]), "channel dimension is 2, rank is 2"),
    "too few channel scales": (
        lambda m: m.set_operand_symm_per_channel_quant_params(4, 0, [1.0]), "1 scales for 2 channels"),
    "no channel scales": (lambda m: m.set_operand_symm_per_channel_quant_params(4, 0, []), "given no scales"),
    "channel scale of zero": (
        lambda m: m.set_operand_symm_per_channel_quant_params(4, 0, [1.0, 0.0]), "must be positive"),
    "channel scale that is no number": (
        lambda m: m.set_operand_symm_per_channel_quant_params(4, 0, [1.0, np.inf]), "must be positive and finite"),
    "extension data of no operand": (lambda m: m.set_operand_extension_data(NOBODY, b"x"), "does not exist"),
    "extension data of a tensor": (lambda m: m.set_operand_extension_data(0, b"x"), "of no extension's type"),
    "operation of no code": (lambda m: m.add_operation(106, [0], [3]), "106 is no operation's code"),
    "operation below OEM's": (lambda m: m.add_operation(9999, [0], [3]), "9999 is no operation's code"),
    "operation of an extension nobody asked for": (
        lambda m: m.add_operation(0x7FFF0000, [0], [3]), "belongs to no extension"),
    "operation on no operand": (lambda m: m.add_operation(RELU, [NOBODY], [3]), "operand 99 does not exist"),
    "operation to no operand": (lambda m: m.add_operation(RELU, [0], [NOBODY]), "operand 99 does not exist"),
    "operation without outputs": (lambda m: m.add_operation(RELU, [0], []), "has no outputs"),
    "too few inputs": (lambda m: m.add_operation(ADD, [0, 1], [3]), "2 inputs, takes 3"),
    "too many inputs": (lambda m: m.add_operation(RELU, [0, 1], [3]), "2 inputs, takes 1"),
    "inputs of wrong types": (lambda m: m.add_operation(ADD, [0, 1, 3], [3]), "activation is TENSOR_FLOAT32"),
    "input that does not exist": (lambda m: m.identify_inputs_and_outputs([NOBODY], [3]), "operand 99"),
    "output that does not exist": (lambda m: m.identify_inputs_and_outputs([0], [NOBODY]), "operand 99"),
    "no outputs": (lambda m: m.identify_inputs_and_outputs([0], []), "the model has no outputs"),
    "input twice": (lambda m: m.identify_inputs_and_outputs([0, 0], [3]), "name an operand twice"),
    "input and output": (lambda m: m.identify_inputs_and_outputs([0], [0]), "name an operand twice"),
    "extension without a name": (lambda m: m.get_extension_operand_type("", 0), "is no extension's name"),
    "extension's code beyond 16 bits": (lambda m: m.get_extension_operation_type("org.x", 1 << 16), "must be 0 to"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(call: Callable[[Model], object], message: str) -> None:
    model = unfinished()
    with refused("BAD_DATA", message):
        call(model)


def test_a_refused_call_leaves_the_model_as_it_was() -> None:
    model = elementwise(finish=False)
    for call in (lambda: model.add_operand(16), lambda: model.add_operation(ADD, [0], [3])):
        with refused("BAD_DATA"):
            call()
    model.finish()
    assert len(model.ir.operations) == 1
    assert len(model.ir.operands) == 4


MEMORY_REGIONS = {"beyond": (4, 16), "without bytes": (0, 0), "negative": (-4, 16), "too short": (0, 12)}


@pytest.mark.parametrize(("offset", "length"), MEMORY_REGIONS.values(), ids=MEMORY_REGIONS.keys())
def test_values_from_wrong_regions(offset: int, length: int, make_memory: MakeMemory) -> None:
    with refused("BAD_DATA"):
        unfinished().set_operand_value_from_memory(0, make_memory(X), offset, length)


def test_a_memory_of_the_device_is_no_constant() -> None:
    desc = MemoryDesc()
    desc.add_input_role(compiled(elementwise()), 0, 1.0)
    desc.finish()
    with refused("BAD_DATA", "cannot be a constant"):
        unfinished().set_operand_value_from_memory(0, Memory.from_desc(desc), 0, 0)


def test_a_constant_from_a_memory_is_not_copied(make_memory: MakeMemory) -> None:
    memory = make_memory(np.arange(6, dtype=np.float32))
    model = elementwise(dimensions=[4], finish=False)
    model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operand(TENSOR_FLOAT32, [4])
    model.set_operand_value_from_memory(4, memory, 8, 16)
    model.add_operation(ADD, [0, 4, 2], [5])
    model.finish()
    np.testing.assert_array_equal(model.ir.operands[4].value, [2, 3, 4, 5])
    assert np.shares_memory(model.ir.operands[4].value, memory.region(0, 24))


def test_short_values_are_copied_long_ones_referenced() -> None:
    short, long = np.zeros(32, np.float32), np.zeros(33, np.float32)
    model = Model()
    for array in (short, long):
        model.set_operand_value(model.add_operand(TENSOR_FLOAT32, array.shape), array)
    short[0] = long[0] = 1
    values = [operand.value for operand in model._operands]
    assert values[0][0] == 0
    assert values[1][0] == 1


NOT_MODELS: dict[str, tuple[Callable[[Model], object], str]] = {
    "nothing": (lambda m: None, "no operations|no outputs"),
    "an output nobody writes": (lambda m: m.identify_inputs_and_outputs([0], [3]), "written by no operation"),
    "a temporary nobody writes": (
        lambda m: (m.add_operation(RELU, [0], [3]), m.identify_inputs_and_outputs([0], [3])), "operand 1 is no input"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "message"), NOT_MODELS.values(), ids=NOT_MODELS.keys())
def test_what_is_no_model_is_refused_when_finished(build: Callable[[Model], object], message: str) -> None:
    model = Model()
    for _ in range(4):
        model.add_operand(TENSOR_FLOAT32, [4])
    if message.startswith("no"):
        model = Model()
    build(model)
    with refused("BAD_DATA", message):
        model.finish()
    with refused("BAD_STATE", "found invalid"):
        model.finish()


def test_what_only_tflite_takes_is_refused_when_added() -> None:
    """16-bit activations are in the operation table, and at no feature level."""
    model = Model()
    for _ in range(2):
        model.add_operand(OperandType.TENSOR_QUANT16_SYMM, [4], 0.5)
    with refused("BAD_DATA", "no NNAPI accelerator takes 16x8: RELU runs on TFLite's kernels"):
        model.add_operation(RELU, [0], [1])


def test_a_cycle_is_no_model() -> None:
    model = Model()
    for _ in range(3):
        model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(RELU, [1], [2])
    model.add_operation(RELU, [2], [1])
    model.identify_inputs_and_outputs([0], [2])
    with refused("BAD_DATA", r"operation 0 \(RELU\) waits for its own result"):
        model.finish()


def test_two_operations_do_not_write_one_operand() -> None:
    model = Model()
    for _ in range(2):
        model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(RELU, [0], [1])
    model.add_operation(RELU, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    with refused("BAD_DATA", "written twice"):
        model.finish()


def test_inputs_and_outputs_are_identified_once_and_are_no_constants() -> None:
    model = elementwise(finish=False)
    with refused("BAD_DATA", "identified already"):
        model.identify_inputs_and_outputs([0, 1], [3])
    with refused("BAD_DATA", "operand 0 is an input or output"):
        model.set_operand_value(0, X)
    other = unfinished()
    other.set_operand_value(0, X)
    with refused("BAD_DATA", "operand 0 is a constant"):
        other.identify_inputs_and_outputs([0], [3])


def test_operations_may_come_in_any_order() -> None:
    model = Model()
    for _ in range(4):
        model.add_operand(TENSOR_FLOAT32, [4])
    for read, written in ((2, 3), (0, 1), (1, 2)):
        model.add_operation(RELU, [read], [written])
    model.identify_inputs_and_outputs([0], [3])
    model.finish()
    assert model.order == (1, 2, 0)
    assert [o.inputs for o in model.ir.operations] == [(0,), (1,), (2,)]
    (y,) = execute(model.ir, [np.array([-1, 0, 1, 2], np.float32)])
    np.testing.assert_array_equal(y, [0, 0, 1, 2])


def test_booleans_are_whatever_is_not_zero() -> None:
    model = Model()
    index = model.add_operand(OperandType.TENSOR_BOOL8, [3])
    model.set_operand_value(index, np.array([0, 1, 255], np.uint8))
    assert model._operands[index].value.tolist() == [False, True, True]


def test_an_omitted_value() -> None:
    model = Model()
    index = model.add_operand(TENSOR_FLOAT32, [0])
    model.set_operand_value(index, None)
    assert model._operands[index].value is OMITTED


def test_relaxed() -> None:
    model = elementwise(finish=False)
    model.relax_computation_float32_to_float16(True)
    model.finish()
    assert model.ir.relaxed


@pytest.mark.parametrize("seed", range(60))
def test_a_model_made_by_a_client_is_the_model(seed: int) -> None:
    made = generate(seed, length=4)
    model = client_model(made.model)
    for expected, got in zip(made.outputs, execute(model.ir, made.inputs)):
        np.testing.assert_array_equal(got, expected)


def test_scales_are_single_precision() -> None:
    model = Model()
    model.add_operand(QUANT8, [1], 0.1)
    assert model._operands[0].scale == float(np.float32(0.1))
    model.add_operand(TENSOR_INT32, [1], 0.25)
    assert model._operands[1].scale == 0.25


def test_codes_are_complete() -> None:
    assert [code.name for code in ResultCode][:4] == ["NO_ERROR", "OUT_OF_MEMORY", "INCOMPLETE", "UNEXPECTED_NULL"]
    assert len(ResultCode) == 15
