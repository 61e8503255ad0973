"""The recipe int16x8: what 16-bit activations cost, where they are, on which engines they run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnapi.cli import main
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, PrepareOptions, Reject
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import execute
from nnapi.errors import ModelError
from nnapi.exporters.save import save
from nnapi.ir import file
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.verify import feature_level, verify
from nnapi.ops.types import F32, Q16SYMM, Array
from nnapi.partitioning.verdict import judge
from nnapi.pipeline import load, optimize, quantize
from nnapi.quantization.apply import apply
from nnapi.quantization.data import Example
from nnapi.quantization.integer import NO_KERNEL
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.params import Choice, Params, params_for, read_table
from nnapi.quantization.quantize import Quantized, quantize_model
from nnapi.quantization.report import measure, real_outputs
from quantization.graphs import examples, small
from tflite_cases import interpret

slow = pytest.mark.slow
PLAIN = {"base": "int16x8", "recovery": []}


def in_floats(quantized: Quantized) -> Model:
    """The same 8-bit weights, computed in float32."""
    choices = {n: Choice("float32") for n in quantized.table.operations}
    return apply(quantized.prepared, replace(quantized.table, operations=choices, operands={}, boundary="float32"))


def cost(quantized: Quantized, images: list[Example]) -> float:
    """The SQNR of 16-bit activations alone: the weights are the same on both sides."""
    exact, stored = (real_outputs(m, images) for m in (in_floats(quantized), quantized.model))
    return min(sqnr(np.stack(x), np.stack(y)) for x, y in zip(zip(*exact), zip(*stored)))


def test_activations_cost_next_to_nothing() -> None:
    model = small()
    assert cost(quantize_model(model, examples(model), PLAIN), examples(model, 8, seed=1)) > 65


@pytest.mark.parametrize(
    "name",
    ["digits", *(pytest.param(n, marks=slow) for n in ("mobilenet_v2", "mobilenet_v3_small")),
     pytest.param("transformer_encoder", marks=slow)],
)  # fmt: skip
def test_networks(name: str) -> None:
    """50 dB and more: random networks of a hundred layers lose some of the 16 bits' 90."""
    torch = pytest.importorskip("torch")
    from nnapi import zoo
    from nnapi.zoo.weights import sample

    module, inputs = zoo.build(name, small=True)
    generator = torch.Generator().manual_seed(3)
    images = [(sample(tuple(inputs[0].shape), generator).numpy(),) for _ in range(4)]
    model = optimize(load(module, inputs))
    quantized = quantize_model(model, images, PLAIN)
    verify(quantized.model)
    assert cost(quantized, images) > 50
    verdicts = judge(registry.get("litert"), quantized.model)
    assert verdicts.accepted == len(verdicts)
    # The weights' 8 bits are what is left of the noise: without recovery int8 has it as well.
    eight = quantize_model(model, images, {"base": "int8", "recovery": []})
    assert quality(model, quantized, images) > quality(model, eight, images)


def quality(model: Model, quantized: Quantized, images: list[Example]) -> float:
    exact, stored = (real_outputs(m, images) for m in (model, quantized.model))
    return min(sqnr(np.stack(x), np.stack(y)) for x, y in zip(zip(*exact), zip(*stored)))


def stored(model: Model) -> Quantized:
    return quantize_model(model, examples(model), PLAIN)


def test_types_and_fixed_scales() -> None:
    result = stored(small()).model
    assert (result.input_operands[0].type, result.output_operands[0].type) == (F32, F32)
    for operation in result.operations:
        for i in operation.outputs:
            operand = result.operands[i]
            assert operand.type == (F32 if operation.type == "DEQUANTIZE" else Q16SYMM)
            if operation.type in ("LOGISTIC", "SOFTMAX"):
                assert operand.scale == 1 / 32768


def test_an_integer_boundary() -> None:
    model = small()
    result = quantize(model, examples(model), PLAIN | {"boundary": "integer"})
    assert {o.type for o in (*result.input_operands, *result.output_operands)} == {Q16SYMM}


def test_ranges_are_symmetric() -> None:
    assert params_for(-1.0, 3.0, Q16SYMM) == Params(Q16SYMM, float(np.float32(3 / 32767)), 0)
    assert params_for(-4.0, 3.0, Q16SYMM).scale == np.float32(4 / 32767)
    assert params_for(0.0, 0.0, Q16SYMM) == Params(Q16SYMM, 1.0, 0)


@pytest.mark.parametrize("operation", ["HARD_SWISH", "EXP", "L2_NORMALIZATION"])
def test_what_has_no_kernel_stays_in_floats(operation: str) -> None:
    b = Builder()
    x = b.input("x", F32, (2, 8))
    y = b.add("ADD", {"input0": x, "input1": x, "activation": 0})
    b.output(b.add("LOGISTIC", {"input": b.add(operation, {"input": y})}))
    model = b.finish()
    report = measure(model, quantize_model(model, examples(model, 4), PLAIN))
    assert [(r.operation, r.reason) for r in report.floats] == [(operation, NO_KERNEL)]
    assert {r.precision for r in report.rows} == {"int16", "float32"}


def test_files_run(tmp_path: Path) -> None:
    """TFLite's interpreter and the reference agree on the output to a few steps: roundings of nine layers."""
    result = stored(small()).model
    save(result, tmp_path / "m.tflite")
    save(result, tmp_path / "m.nnapi")
    example = examples(result, 1, seed=2)[0]
    (wanted,) = execute(file.load(tmp_path / "m.nnapi"), list(example))
    for actual in (interpret((tmp_path / "m.tflite").read_bytes(), list(example)), on_litert(result, example)):
        assert np.abs(actual[0] - wanted).max() * 32768 <= 6


def on_litert(model: Model, example: Example) -> list[Array]:
    driver = registry.get("litert")
    assert driver.supported(model) == [Accept()] * len(model.operations)
    return driver.prepare(model, PrepareOptions()).run(example)


def test_a_table_is_read_back(tmp_path: Path) -> None:
    model = small()
    found = stored(model)
    found.table.save(tmp_path / "t.json", found.prepared)
    assert read_table(tmp_path / "t.json", found.prepared) == found.table


def test_no_feature_level_takes_it() -> None:
    result = stored(small()).model
    assert feature_level(result) is None
    with pytest.raises(ModelError, match="no NNAPI accelerator takes 16x8: QUANTIZE runs on TFLite's kernels"):
        verify(result, level=8)


def test_no_accelerator_takes_it() -> None:
    result = stored(small()).model
    assert {
        operation.type: verdict.reason
        for operation, verdict in zip(result.operations, judge(FakeDriver("npu"), result))
        if isinstance(verdict, Reject)
    } == {
        o.type: f"no NNAPI accelerator takes 16x8: {o.type} runs on TFLite's kernels" for o in result.operations
    }  # fmt: skip


def test_check_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "m.nnapi")
    save(stored(small()).model, path)
    assert main(["check", path, "-d", "litert,reference"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "litert: takes 11 of 11 operations" in out
    assert "16x8: 11 of 11 operations, on no NNAPI accelerator" in out
    assert "2 CONV_2D no NNAPI accelerator takes 16x8: CONV_2D runs on TFLite's kernels" in out
    assert main(["check", path, "-d", "litert", "--all"]) == 0
    assert "CONV_2D 'conv1' no NNAPI accelerator takes 16x8" in " ".join(capsys.readouterr().out.split())
    assert main(["check", path, "-d", "litert", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["int16x8"]) == 11
    assert main(["check", path, "-d", "litert", "--level", "8"]) == 1
    assert "no NNAPI accelerator takes 16x8" in capsys.readouterr().err


def test_inspect_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "m.nnapi")
    save(stored(small()).model, path)
    assert main(["inspect", path, "--levels"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no feature level (16x8: TFLite's kernels)" in out
    assert "none no NNAPI accelerator takes 16x8: ADD runs on TFLite's kernels 1" in out
    assert main(["inspect", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feature_level"] is None
