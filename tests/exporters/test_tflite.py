"""TFLite files: what is refused and why, and the file itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import nnapi
from nnapi.errors import ModelError, UnsupportedOperation, UsageError
from nnapi.exporters.tflite import check_tflite, export_tflite, save_tflite, writer
from nnapi.exporters.tflite.table import ROWS
from nnapi.exporters.tflite.versions import DATA_INPUT, VERSIONS
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.verdict import Accept, Reject
from nnapi.ops.types import B8, F16, F32, I32, INT32, OMITTED, Q8, Q8S, Operand, OperandType
from tflite_cases import CONV, LAYOUT, PAIR, POOL, one, per_channel, variable, weights, window


def refused(operation: str, given: dict[str, Any], type: OperandType = F32) -> str:
    (verdict,) = check_tflite(one(operation, given, type)[0])
    assert isinstance(verdict, Reject)
    return verdict.reason


REFUSALS: dict[str, tuple[str, dict[str, Any], OperandType, str]] = {
    "NCHW": ("CONV_2D", CONV | window("none", [1], layout=True) | {"input": variable(2, 8, 13, 12)}, F32,
             "layout is NCHW, TFLite's kernels are NHWC"),
    "float16": ("RELU", {"input": variable(3)}, F16, "TENSOR_FLOAT16, TFLite computes in float32"),
    "per channel beside unsigned": ("CONV_2D", CONV | window("none", [1]) | {"filter": per_channel(0, 16, 3, 3, 8)}, Q8,
                                    "scale per channel beside unsigned activations"),
    "average with padding": ("AVERAGE_POOL_2D", POOL | window("none", [1, 1, 1, 1], (2, 2)), Q8,
                             "padding [(1, 0), (1, 0)] is neither SAME nor VALID"),
    "division by zero": ("DIV", {"input0": variable(2), "input1": np.array([1, 0], np.int32), "activation": 0}, I32,
                         "input1 has a zero"),
    "unknown divisor": ("DIV", {"input0": variable(2), "input1": variable(2), "activation": 0}, I32,
                        "input1 is not a constant"),
    "negative slope of ELU": ("ELU", {"input": variable(2), "alpha": -1.0}, F32, "alpha is -1.0, must not be negative"),
    "widening slope": ("PRELU", {"input": variable(2, 1), "alpha": weights(3)}, F32, "alpha (3,) may widen"),
    "response of a matrix": ("LOCAL_RESPONSE_NORMALIZATION",
                             {"input": variable(2, 3), "radius": 1, "bias": 1.0, "alpha": 1.0, "beta": 1.0}, F32,
                             "input has rank 2, its kernel takes 4"),
    "rank lost": ("ADD", {"input0": variable(2), "input1": weights(1, 1, 1), "activation": 0}, F32,
                  "rank 3 > 1 of the other input"),
    "comparison of booleans": ("LESS", PAIR, B8, "TENSOR_BOOL8, its kernels take TENSOR_FLOAT32, TENSOR_INT32"),
    "integer matrices": ("BATCH_MATMUL",
                         {"input0": variable(2, 3), "input1": variable(3, 2), "adj_x": None, "adj_y": None}, I32,
                         "TENSOR_INT32, its kernels take TENSOR_FLOAT32, TENSOR_QUANT8_ASYMM_SIGNED"),
    "nothing left": ("SLICE", {"input": variable(2), "begin": np.array([1], np.int32), "size": np.array([0], np.int32)},
                     F32, "its output has no elements"),
    "shape from a variable": ("TILE", {"input": variable(2), "multiples": ("variable", (1,))}, I32,
                              "multiples is not a constant, the output's shape hangs on it"),
    "keys in any order": ("HASHTABLE_LOOKUP", {"lookups": variable(1), "keys": np.array([2, 1], np.int32),
                                               "values": np.zeros((2, 2), np.int32)}, I32, "keys do not ascend"),
    "high rank": ("ABS", {"input": variable(1, 1, 1, 1, 1, 1, 2)}, F32, "rank 7 > 6"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_the_limit(name: str) -> None:
    operation, given, type, reason = REFUSALS[name]
    if name == "keys in any order":
        b = Builder()
        table = {**given, "lookups": b.input("x", I32, (1,))}
        b.output(*b.add_many(operation, table, [Operand(I32), Operand(Q8, (), 1.0)]))
        (verdict,) = check_tflite(b.finish())
        assert isinstance(verdict, Reject)
        assert reason in verdict.reason
    else:
        assert reason in refused(operation, given, type)


@pytest.mark.parametrize(
    ("zero", "scale", "reason"),
    [
        (3, 0.1, "signed weights with zero point 3"),
        (0, 1e-6, "weight scale / output scale 500 >= 256"),
        (0, 1e-9, "has scale 1e-09, kernels are made for 9.53674e-07 to 4096"),
    ],
)
def test_signed_weights_and_large_factors_are_refused(zero: int, scale: float, reason: str) -> None:
    model, _ = one("CONV_2D", CONV | window("none", [1]), Q8S)
    operands = [replace(o, zero_point=zero) if o.dimensions == (16, 3, 3, 8) else o for o in model.operands]
    operands[model.outputs[0]] = replace(operands[model.outputs[0]], scale=scale)
    (verdict,) = check_tflite(replace(model, operands=tuple(operands)))
    assert isinstance(verdict, Reject)
    assert reason in verdict.reason


@pytest.mark.parametrize("operation", sorted(name for name, row in ROWS.items() if isinstance(row, str)))
def test_what_has_no_row_has_a_reason(operation: str) -> None:
    assert isinstance(ROWS[operation], str)
    assert len(str(ROWS[operation])) > 20


def test_an_optional_input_that_may_be_omitted_later_is_refused() -> None:
    b = Builder()
    given = {"hash": np.ones((2, 2), np.float32), "input": b.input("x", F32, (3,)), "weight": b.input("w", F32, (3,))}
    b.output(b.add("LSH_PROJECTION", given | {"type": 2}))
    (verdict,) = check_tflite(b.finish())
    assert verdict == Reject("LSH_PROJECTION: weight is an input of the model, which may be omitted")


def test_an_unknown_batch_is_fine_where_the_shapes_follow() -> None:
    given = CONV | window("relu", [1, 1, 1, 1], (2, 2), **LAYOUT) | {"input": variable(0, 13, 12, 8)}
    model, _ = one("TRANSPOSE_CONV_2D", given, F32)
    assert isinstance(check_tflite(model)[0], Reject)
    assert check_tflite(model, shapes_follow=True) == [Accept()]


def test_unknown_dimensions_are_signed() -> None:
    b = Builder()
    b.output(b.add("RELU", {"input": b.input("x", F32, (0, 3))}))
    tensor = schema.ModelT.InitFromObj(schema.Model.GetRootAs(export_tflite(b.finish()))).subgraphs[0].tensors[0]
    assert (tensor.shape.tolist(), tensor.shapeSignature.tolist()) == ([1, 3], [-1, 3])


def layer(size: int = 64) -> Model:
    b = Builder("layer")
    w = np.arange(size * 32, dtype=np.float32).reshape(32, size)
    given = {"input": b.input("x", F32, (1, size)), "filter": w, "bias": np.zeros(32, np.float32), "activation": 0}
    b.output(b.add("FULLY_CONNECTED", given))
    return b.finish()


def test_export_names_what_tflite_does_not_have() -> None:
    model, _ = one("DIV", {"input0": variable(2), "input1": variable(2), "activation": 0}, I32)
    with pytest.raises(UnsupportedOperation, match="DIV: input1 is not a constant"):
        export_tflite(model)


def test_weights_stay_where_they_are() -> None:
    model = layer()
    file = writer.Flatbuffer()
    for operand in model.operands:
        if isinstance(operand.value, np.ndarray) and operand.value.size > 100:
            file.graph("g").tensor(operand)
            parts = [p for p in file.parts() if isinstance(p, memoryview)]
            assert any(np.shares_memory(np.frombuffer(p, np.uint8), operand.value) for p in parts)
            return
    raise AssertionError("no weights")


def test_buffers_are_aligned_and_shared() -> None:
    model = layer()
    content = export_tflite(model)
    root = schema.Model.GetRootAs(content)
    lengths = [root.Buffers(i).DataLength() for i in range(root.BuffersLength())]
    assert sorted(lengths)[-2:] == [32 * 4, 32 * 64 * 4]
    for i, length in enumerate(lengths):
        if length:
            table = root.Buffers(i)._tab
            assert table.Vector(table.Offset(4)) % writer.ALIGNMENT == 0
    b = Builder()
    x = b.input("x", F32, (1, 64))
    w = np.ones((64, 64), np.float32)
    for _ in range(3):
        x = b.add("FULLY_CONNECTED", {"input": x, "filter": w, "bias": np.zeros(64, np.float32), "activation": 1})
    b.output(x)
    assert len(export_tflite(b.finish())) < 2 * w.nbytes


def test_too_large_for_a_flatbuffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_BYTES", 4096)
    with pytest.raises(ModelError, match=r"constants of 8320 bytes, a TFLite file holds 4096; quantize"):
        export_tflite(layer())


def test_saved_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, target = layer(), tmp_path / "model.tflite"
    save_tflite(model, target)
    assert target.read_bytes() == export_tflite(model)
    assert target.read_bytes()[4:8] == writer.IDENTIFIER
    monkeypatch.setattr(writer, "MAX_BYTES", 4096)
    with pytest.raises(ModelError):
        save_tflite(model, target)
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    assert len(target.read_bytes()) > 4096
    monkeypatch.undo()
    with pytest.raises(UsageError):
        save_tflite(model, tmp_path / "absent" / "model.tflite")


HOSTILE: dict[str, Operand] = {
    "a dimension beyond 32 bits": Operand(F32, (2**31,)),
    "a type TFLite has not": Operand(OperandType.TENSOR_QUANT16_ASYMM, (2,), 0.5),
    "a value of another type": replace(Operand(F32, (2,)), value=np.zeros(2, np.float64)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_operands_are_refused(name: str) -> None:
    with pytest.raises(ModelError):
        writer.Flatbuffer().graph("g").tensor(HOSTILE[name])


def test_omitted_operands_have_no_tensor() -> None:
    omitted = Operand(INT32, value=OMITTED)
    assert writer.Flatbuffer().graph("g").tensor(omitted) == writer.OMITTED_TENSOR


def test_versions_name_operators() -> None:
    for name in (*VERSIONS, *DATA_INPUT):
        assert hasattr(schema.BuiltinOperator, name)


def unpacked(model: Model) -> Any:
    """The model's TFLite file as the schema's objects."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(export_tflite(model)))


def same_names() -> Model:
    """Every operand has the name of the input, as passes may leave it."""
    b = Builder("same")
    x = b.input("x", F32, (1, 4))
    y = b.add("ADD", {"input0": x, "input1": b.input("x", F32, (1, 4)), "activation": 0}, name="x")
    b.output(b.add("RELU", {"input": y}, name="x"), y, names=["x", "x"])
    return b.finish()


def quantized_with_its_name() -> Model:
    """The tensor before the last DEQUANTIZE is called as the output is."""
    b = Builder("float ends")
    q = b.add("QUANTIZE", {"input": b.input("x", F32, (1, 4))}, Operand(Q8S, (), 0.1, 0, name="x"))
    b.output(b.add("DEQUANTIZE", {"input": q}, name="x"), names=["y"])
    return b.finish()


def branches() -> Model:
    def branch(kind: str) -> Model:
        b = Builder(kind)
        given = {"input0": b.input("v", F32, (2,)), "input1": np.ones(2, np.float32), "activation": 0}
        b.output(b.add("RELU", {"input": b.add(kind, given, name="v")}, name="v"), names=["v"])
        return b.finish()

    b = Builder("branches")
    condition, x = b.input("c", B8, (1,)), b.input("v", F32, (2,))
    given = {"condition": condition, "then_model": b.model(branch("ADD")), "else_model": b.model(branch("SUB"))}
    b.output(*b.add_many("IF", given | {"inputs": [x]}, [Operand(F32, (2,), name="v")]), names=["v"])
    return b.finish()


NAMED: dict[str, tuple[Model, list[str], list[str]]] = {
    "all alike": (same_names(), ["x", "x_1"], ["x", "x_1"]),
    "before DEQUANTIZE": (quantized_with_its_name(), ["x"], ["y"]),
    "subgraphs": (branches(), ["c", "v"], ["v"]),
    "none": (one("RELU", {"input": variable(3)}, F32)[0], ["input"], ["output0"]),
}


@pytest.mark.parametrize("name", NAMED)
def test_every_tensor_has_a_name_of_its_own_and_the_signature_the_models(name: str) -> None:
    model, inputs, outputs = NAMED[name]
    file = unpacked(model)
    for graph in file.subgraphs:
        names = [tensor.name for tensor in graph.tensors]
        assert all(names)
        assert len(set(names)) == len(names)
    (signature,) = file.signatureDefs
    assert signature.signatureKey == b"serving_default"
    graph = file.subgraphs[signature.subgraphIndex]
    assert [(m.name.decode(), m.tensorIndex) for m in signature.inputs] == list(zip(inputs, graph.inputs))
    assert [(m.name.decode(), m.tensorIndex) for m in signature.outputs] == list(zip(outputs, graph.outputs))
    assert [graph.tensors[i].name.decode() for i in graph.inputs] == inputs


def test_an_intermediate_tensor_gives_its_name_to_the_output() -> None:
    b = Builder()
    y = b.add("RELU", {"input": b.input("x", F32, (2,))}, name="y")
    b.output(b.add("TANH", {"input": y}), names=["y"])
    (graph,) = unpacked(b.finish()).subgraphs
    assert [graph.tensors[i].name for i in graph.outputs] == [b"y"]


def test_a_file_says_who_wrote_it() -> None:
    file = unpacked(layer())
    assert file.description == f"nnapi {nnapi.__version__}: layer".encode()
    found = {m.name.decode(): bytes(file.buffers[m.buffer].data).decode() for m in file.metadata}
    assert found == {"producer_name": "nnapi", "producer_version": nnapi.__version__}


PADDED = {
    "PAD_V2": ("PAD_V2", {"input": variable(2, 3), "paddings": np.ones((2, 2), np.int32), "pad_value": 1.5}),
    "MAX_POOL_2D": ("MAX_POOL_2D", POOL | window("none", [1, 0, 1, 0], (2, 2))),
}


@pytest.mark.parametrize("name", PADDED)
def test_what_is_padded_with_is_a_scalar(name: str) -> None:
    (graph,) = unpacked(one(*PADDED[name], F32)[0]).subgraphs
    assert graph.tensors[graph.operators[0].inputs[2]].shape.size == 0
