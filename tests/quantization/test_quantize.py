"""Whole models through every recipe: legal, close to float, and NNAPI's rules by construction."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnapi.drivers.reference import execute
from nnapi.errors import QuantizeError
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ir.verify import feature_level, verify
from nnapi.ops.numeric import dequantize
from nnapi.ops.types import BEYOND, F16, F32, I32, Q8, Q8PC, Q8S
from nnapi.pipeline import quantize
from nnapi.quantization.judge import quantized_inputs
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.page import page
from nnapi.quantization.quantize import Quantized, quantize_model
from nnapi.quantization.recipe import OBSERVERS
from nnapi.quantization.report import measure
from quantization.graphs import conv, examples, image, small

# recipe, least SQNR in dB of `small` (8 bits give about 45 per layer; one scale per tensor less), feature level
RECIPES = [
    ("fp16", 55, 3),
    ("dynamic_range", 35, 3),
    ("int8_float_io", 28, 4),
    ("int8", 28, 4),
    ("uint8", 22, 3),
    # of these inputs one lies far outside what half of the examples show
    ({"base": "mixed", "target_sqnr": 35.0}, 25, 4),
    ("int16x8", 40, BEYOND),
]


def real(model: Model, example: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    outputs = execute(model, quantized_inputs(model, example))
    return [dequantize(y, o) for y, o in zip(outputs, model.output_operands)]


def quality(model: Model, quantized: Model, seed: int = 1) -> float:
    """The lowest SQNR of any output, on inputs that calibration did not see."""
    pairs = [(execute(model, list(x)), real(quantized, x)) for x in examples(model, 4, seed)]
    exact, stored = ([np.stack(y) for y in zip(*outputs)] for outputs in zip(*pairs))
    return min(sqnr(x, y) for x, y in zip(exact, stored))


@pytest.mark.parametrize("recipe, least, level", RECIPES, ids=lambda v: str(v))
def test_recipes(recipe: str, least: float, level: int) -> None:
    model = small()
    result = quantize(model, examples(model), recipe)
    verify(result, level=level)
    assert quality(model, result) > least


@pytest.mark.parametrize(
    "recipe, boundary, inside",
    [
        ("fp16", (F32, F32), F16),
        ("dynamic_range", (F32, F32), F32),
        ("int8_float_io", (F32, F32), Q8S),
        ("int8", (Q8S, Q8S), Q8S),
        ("uint8", (Q8, Q8), Q8),
    ],
)
def test_types(recipe: str, boundary: tuple[int, int], inside: int) -> None:
    model = small()
    result = quantize(model, examples(model), recipe)
    assert (result.input_operands[0].type, result.output_operands[0].type) == boundary
    convolution = next(o for o in result.operations if o.type == "CONV_2D")
    assert result.operands[convolution.outputs[0]].type == inside
    if boundary[0] in (Q8, Q8S):
        assert not any(result.operands[i].type == F32 for o in result.operations for i in o.outputs)


@pytest.mark.parametrize("recipe", ["int8", "uint8"])
def test_rules_hold(recipe: str) -> None:
    model = small()
    result = quantize(model, examples(model), recipe)
    by_name = {o.name: result.call(o) for o in result.operations}
    for name in ("conv1", "depthwise2", "conv3"):
        x, w, bias = (by_name[name][k] for k in ("input", "filter", "bias"))
        assert bias.type == I32
        if recipe == "int8":
            assert w.type == Q8PC
            assert bias.scale == 0
        else:
            assert math.isclose(bias.scale, x.scale * w.scale, rel_tol=1e-6)
            assert np.float32(x.scale) * np.float32(w.scale) < by_name[name].output.scale
    pool = by_name["pool"]
    assert (pool["input"].scale, pool["input"].zero_point) == (pool.output.scale, pool.output.zero_point)
    assert by_name["gate"].output.scale == 1 / 256


def test_a_product_of_scales_beyond_the_output_is_rescaled() -> None:
    """A large filter that nearly cancels: the product of scales exceeds the output's until that is widened."""
    b = Builder("cancel")
    x = image(b)
    filter = np.full((1, 3, 3, 3), 1e-4, np.float32)
    filter[0, 0, 0, 0] = 900.0
    filter[0, 1, 1, 1] = -900.0
    keys = ("padding_left", "padding_right", "padding_top", "padding_bottom")
    inputs = {"input": x, "filter": filter, "bias": np.zeros(1, np.float32)} | dict.fromkeys(keys, 0)
    b.output(b.add("CONV_2D", inputs | {"stride_width": 1, "stride_height": 1, "activation": 3}))
    model = b.finish()
    result = quantize(model, examples(model), "uint8")
    assert feature_level(result) == 1


def test_operations_without_integer_form_are_islands_with_a_reason() -> None:
    model = small(float_end=True)
    found = quantize_model(model, examples(model), "int8")
    assert Counter(o.type for o in found.model.operations)["DEQUANTIZE"] == 1
    (row,) = measure(model, found).floats
    assert row.operation == "LOG_SOFTMAX"
    assert "no form of it in TENSOR_QUANT8_ASYMM_SIGNED" in row.reason


@pytest.mark.parametrize(
    "override", [{"name": "conv3"}, {"type": "DEPTHWISE_CONV_2D"}, {"pattern": "de*"}], ids=lambda o: next(iter(o))
)
def test_overrides_keep_floats(override: dict[str, str]) -> None:
    model = small()
    found = quantize_model(model, examples(model), {"base": "int8", "overrides": [override]})
    assert all(next(iter(override)) in row.reason for row in measure(model, found).floats)
    assert measure(model, found).floats


# the average of extremes cuts off half of them, and entropy cuts deeper than squared error would
LEAST = {"min_max": 28, "percentile": 27, "mse": 27, "moving_average": 14, "entropy": 24}


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("recovery", [[], ["equalization", "rounding", "bias_correction"]], ids=["plain", "recovery"])
def test_observers_and_recovery(observer: str, recovery: list[str]) -> None:
    model = small()
    result = quantize(model, examples(model), {"base": "int8", "observer": observer, "recovery": recovery})
    assert quality(model, result) > LEAST[observer]


def test_mixed_keeps_the_fewest_floats_that_reach_the_target() -> None:
    """Judged on the half of the examples that chose no ranges."""
    model = small()
    recipe = {"base": "mixed", "recovery": []}
    given = examples(model, 16)
    counts = []
    for target in (20.0, 45.0, 60.0):
        found = quantize_model(model, given, recipe | {"target_sqnr": target})
        report = measure(model, found)
        assert min(report.outputs) >= target
        counts.append(len(report.floats))
    assert counts[0] == 0 < counts[1] < counts[2]


def test_mixed_reaches_a_target_only_with_recovery() -> None:
    """Recovery counts: fewer floats are needed with it."""
    model = small()
    given = examples(model, 4)
    recipe = {"base": "mixed", "observer": "min_max", "target_sqnr": 45.0}
    counts = [
        len(measure(model, quantize_model(model, given, recipe | {"recovery": r})).floats)
        for r in (["bias_correction"], [])
    ]
    assert counts[0] <= counts[1]


def test_mixed_for_accuracy() -> None:
    model = small()
    given = examples(model, 32)
    labels = [int(np.argmax(execute(model, list(x))[0])) for x in given]
    label_of = {x[0].tobytes(): label for x, label in zip(given, labels)}
    counts = []
    for loss in (1.0, 0.0):
        recipe = {"base": "mixed", "activations": "uint8", "weights": "per_tensor", "max_loss": loss}
        found = quantize_model(model, given, recipe | {"percentile": 95.0, "recovery": []}, labels=labels)
        assert len(found.examples) == 16
        report = measure(model, found, found.examples, [label_of[x[0].tobytes()] for x in found.examples])
        assert report.accuracy_after is not None
        assert 1 - report.accuracy_after <= loss
        counts.append(len(report.floats))
    assert counts[0] == 0 < counts[1]


@pytest.mark.parametrize(
    "recipe, count, message",
    [
        pytest.param("int8", 4, "asks for no accuracy", id="not mixed"),
        pytest.param("mixed", 5, "5 labels for 4 calibration examples", id="more labels"),
        pytest.param({"base": "mixed", "boundary": "integer", "target_sqnr": 199.0}, None, "no mixture", id="too much"),
    ],
)
def test_what_mixed_cannot_do_is_explained(recipe: object, count: int | None, message: str) -> None:
    model = small()
    with pytest.raises(QuantizeError, match=message):
        quantize_model(model, examples(model, 4), recipe, labels=None if count is None else [0] * count)  # type: ignore[arg-type]


def test_bias_correction_helps() -> None:
    model = small()
    with_, without = (
        quality(model, quantize(model, examples(model, 16), {"base": "int8", "observer": "mse", "recovery": r}))
        for r in (["bias_correction"], [])
    )
    assert with_ > without - 0.5  # half a dB of luck on four inputs


def test_tables_are_saved_edited_and_read(tmp_path: Path) -> None:
    model = small()
    found = quantize_model(model, examples(model), {"base": "int8", "recovery": []})
    path = tmp_path / "table.json"
    found.table.save(path, found.prepared)
    again = quantize_model(model, table=path)
    x = quantized_inputs(found.model, examples(model)[0])
    np.testing.assert_array_equal(execute(found.model, x)[0], execute(again.model, x)[0])
    content = json.loads(path.read_text())
    n = next(n for n, o in content["operations"].items() if "conv3" in o["name"])
    content["operations"][n] |= {"precision": "float32", "reason": "by hand"}
    del content["operations"][n]["filter"]
    path.write_text(json.dumps(content))
    assert [r.reason for r in measure(model, quantize_model(model, table=path)).floats] == ["by hand"]


def test_tables_with_calibration_data_are_recovered() -> None:
    model = small()
    found = quantize_model(model, examples(model), "int8")
    again = quantize_model(model, examples(model), "int8", table=found.table)
    plain = quantize_model(model, table=found.table)
    values = [[o.value for o in f.model.operands if o.is_constant] for f in (found, again, plain)]
    same = [[np.array_equal(x, y) for x, y in zip(values[0], other)] for other in values[1:]]
    assert all(same[0])
    assert not all(same[1])  # biases


@pytest.mark.parametrize(
    "edit, message",
    [
        pytest.param(lambda t: t.update(format="other"), "is no table of", id="format"),
        pytest.param(lambda t: t["operations"].pop("0"), "of another model", id="model"),
        pytest.param(lambda t: t.update(weights="0"), "other weights", id="weights"),
        pytest.param(lambda t: t.pop("weights"), "lacks something", id="no digest"),
        pytest.param(lambda t: t["operands"]["0"].update(scale=0), "scale 0", id="scale"),
        pytest.param(lambda t: t["operands"]["0"].update(scale="big"), "scale 'big'.*must be numbers", id="word"),
        pytest.param(lambda t: t["operands"]["0"].update(zero_point=300), "zero point 300", id="zero point"),
        pytest.param(lambda t: t["operands"].update({"9999": t["operands"]["0"]}), "operand 9999", id="operand"),
        pytest.param(lambda t: t["operations"]["0"].update(precision="int4"), "precision 'int4'", id="precision"),
        pytest.param(
            lambda t: t["operands"].update({"-1": t["operands"]["0"]}), "'-1' is no index", id="before the first"
        ),
        pytest.param(lambda t: t["operands"]["0"].update(scale=1e300), "scale 1e.300", id="large scale"),
        pytest.param(
            lambda t: t["operands"]["0"].update(zero_point=1e999), "zero point inf, must be numbers", id="no zero point"
        ),
        pytest.param(lambda t: t["operations"]["0"].pop("filter"), "0 scales of the filter, must have", id="filter"),
        pytest.param(
            lambda t: t["operations"]["0"]["filter"].pop(), "scales of the filter, must have 1 or", id="channels"
        ),
        pytest.param(lambda t: t["operations"].update({"0": []}), "wrong kind of value", id="list"),
        pytest.param(lambda t: t.update(operations=3), "wrong kind of value", id="number"),
        pytest.param(lambda t: t["operands"].clear(), "no parameters of operand", id="missing"),
    ],
)
def test_bad_tables_are_explained(edit, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = small()
    found = quantize_model(model, examples(model), "int8")
    path = tmp_path / "table.json"
    found.table.save(path, found.prepared)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(QuantizeError, match=message):
        quantize_model(model, table=path)


@pytest.mark.parametrize(
    "calibration, message",
    [
        pytest.param(None, "no calibration data", id="none"),
        pytest.param([np.ones((1, 6, 6, 3), np.float32)], "is 1 everywhere", id="constant"),
        pytest.param([np.full((1, 6, 6, 3), 1e38, np.float32)] * 2, "everywhere|not finite", id="huge"),
    ],
)
def test_bad_calibration_is_explained(calibration: object, message: str) -> None:
    with pytest.raises(QuantizeError, match=message):
        quantize(small(), calibration)


def test_quantized_models_are_not_quantized_again() -> None:
    model = small()
    with pytest.raises(QuantizeError, match="no float32 tensors"):
        quantize(quantize(model, examples(model), "int8"), examples(model))


def test_a_range_of_zero_stays_float() -> None:
    b = Builder("dead")
    x = image(b)
    rng = np.random.default_rng(0)
    alive = conv(b, x, 4, 1)
    lowered = b.add("SUB", {"input0": alive, "input1": np.full((1,), 1e3, np.float32), "activation": 1}, name="dead")
    b.output(b.add("ADD", {"input0": lowered, "input1": alive, "activation": 0}, name="sum"))
    model = b.finish()
    found = quantize_model(model, [(rng.normal(size=(1, 6, 6, 3)).astype(np.float32),) for _ in range(4)], "int8")
    assert {r.operation for r in measure(model, found).floats} == {"SUB 'dead'", "ADD 'sum'"}
    assert all("0 on all calibration data" in r.reason for r in measure(model, found).floats)


def test_report() -> None:
    model = small()
    found: Quantized = quantize_model(model, examples(model), "int8")
    given = examples(model, 5, seed=2)
    labels = [int(np.argmax(execute(model, list(x))[0])) for x in given]
    report = measure(model, found, given, labels)
    assert report.accuracy_before == 1.0
    assert report.bytes_after < 0.5 * report.bytes_before
    finite = [r.sqnr for r in report.rows if r.sqnr is not None]
    assert finite == sorted(finite)
    assert json.loads(json.dumps(report.to_json()))["recipe"] == "int8"
    html = page(report)
    assert "<svg" in html
    assert "CONV_2D &#x27;conv1&#x27;" in html
    with pytest.raises(QuantizeError, match="1 labels for 5 examples"):
        measure(model, found, given, [0])


KINDS = ("conv", "relu6", "add", "concat", "max", "pool", "logistic", "mul", "tanh", "reshape")


@st.composite
def graphs(draw: st.DrawFn) -> Model:
    """Random convolutions, elementwise operations and joins of images of one size."""
    b = Builder("random")
    values: list[Ref] = [image(b)]
    for n, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))):
        x, y = (draw(st.sampled_from(values)) for _ in range(2))
        channels = x.operand.dimensions[3]
        if y.operand.dimensions != x.operand.dimensions:
            y = conv(b, y, channels, 50 + n)
        values.append(_grown(b, kind, x, y, n))
    last = values[-1]
    b.output(last if len(values) > 1 else conv(b, last, 2))
    return b.finish()


def _grown(b: Builder, kind: str, x: Ref, y: Ref, n: int) -> Ref:
    if kind in ("conv", "relu6"):
        return conv(b, x, 4, n, activation=3 if kind == "relu6" else 0)
    if kind in ("add", "mul"):
        return b.add(kind.upper(), {"input0": x, "input1": y, "activation": 0})
    if kind == "concat":
        return b.add("CONCATENATION", {"inputs": [x, y], "axis": 3})
    if kind == "max":
        return b.add("MAXIMUM", {"input0": x, "input1": y})
    if kind == "pool":
        sides = dict.fromkeys(("padding_left", "padding_right", "padding_top", "padding_bottom"), 1)
        window = {"stride_width": 1, "stride_height": 1, "filter_width": 3, "filter_height": 3, "activation": 0}
        return b.add("AVERAGE_POOL_2D", {"input": x} | sides | window)
    if kind == "reshape":
        return b.add("RESHAPE", {"input": x, "shape": list(x.operand.dimensions)})
    return b.add(kind.upper(), {"input": x})


@given(model=graphs(), recipe=st.sampled_from(["int8", "int8_float_io", "uint8", "dynamic_range", "fp16"]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_random_graphs_quantize_to_valid_models(model: Model, recipe: str) -> None:
    result = quantize(model, examples(model), recipe)
    verify(result)
    assert quality(model, result) > 8  # six noisy layers and products of noise; a wrong scale gives less than 3
