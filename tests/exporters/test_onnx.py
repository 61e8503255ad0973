"""ONNX files: valid by ONNX's own checker, written whole or not at all, run by ONNX Runtime as by the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnapi
from models import chain
from nnapi.conformance.generate import generate
from nnapi.drivers.reference import execute
from nnapi.errors import ModelError, UnsupportedOperation, UsageError
from nnapi.exporters.save import save
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ir.verdict import Accept, Reject
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F32, I32, Q8, Q8PC, Q8S, Array, ChannelQuant, Operand, OperandType

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from nnapi.exporters.onnx import OPSET, check_onnx, export_onnx, save_onnx, writer  # noqa: E402
from nnapi.exporters.onnx.table import ROWS  # noqa: E402

X = np.arange(4, dtype=np.float32).reshape(1, 4)
RNG = np.random.default_rng(0)


def graph_of(model: Model) -> Any:
    """The graph of the exported file, which the checker takes."""
    proto = onnx.load_from_string(export_onnx(model))
    onnx.checker.check_model(proto, full_check=True)
    return proto.graph


def nodes(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in graph_of(model).node)


def run(content: bytes | str, inputs: Sequence[Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs)))
    return results


def image(b: Builder, channels: int = 3, size: int = 8, *, nchw: bool = True, type: OperandType = F32) -> Ref:
    shape = (1, channels, size, size) if nchw else (1, size, size, channels)
    return b.input("x", type, shape) if type == F32 else b.input("x", type, shape, 0.05, 10)


def conv(b: Builder, x: Ref, channels: int, *, nchw: bool = True, **given: Any) -> Ref:
    depth = (x.shape or ())[1 if nchw else 3]
    filter = RNG.standard_normal((channels, 3, 3, depth or 0)).astype(np.float32)
    inputs = {
        "input": x, "filter": filter, "bias": np.zeros(channels, np.float32), "padding": 1, "stride_width": 1,
        "stride_height": 1, "activation": 0, "layout": nchw,
    }  # fmt: skip
    return b.add("CONV_2D", inputs | given)


def quantized_conv(b: Builder, x: Ref, channels: int, output: Operand, *, activation: int = 0) -> Ref:
    """A convolution with a scale per channel."""
    depth = (x.shape or ())[1]
    scales = tuple(float(np.float32(s)) for s in RNG.uniform(0.005, 0.02, channels))
    shape = (channels, 3, 3, depth or 0)
    filter = b.constant(
        RNG.integers(-127, 128, shape).astype(np.int8), Operand(Q8PC, shape, channel_quant=ChannelQuant(scales, 0))
    )
    bias = b.constant(RNG.integers(-500, 500, channels).astype(np.int32), Operand(I32, (channels,)))
    inputs = {
        "input": x, "filter": filter, "bias": bias, "padding": 1, "stride_width": 1, "stride_height": 1,
        "activation": activation, "layout": True,
    }  # fmt: skip
    return b.add("CONV_2D", inputs, output)


def test_a_file_is_valid_and_states_its_opset(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(chain("ADD", "MUL", "MAXIMUM"), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_what_is_accepted_is_valid_and_what_is_not_has_a_reason(operation: str) -> None:
    valid = refused = 0
    for seed in range(3):
        try:
            sample = generate(seed, length=1, operations=[operation])
        except ModelError:
            continue
        (verdict,) = check_onnx(sample.model)
        if isinstance(verdict, Accept):
            graph_of(sample.model)
            valid += 1
        else:
            assert verdict.reason.startswith(f"{operation}: ")
            assert len(verdict.reason) > len(operation) + 10
            with pytest.raises(UnsupportedOperation):
                export_onnx(sample.model)
            refused += 1
    assert valid + refused > 0
    assert isinstance(ROWS[operation], str) <= (valid == 0)


def test_onnx_runtime_computes_what_the_reference_does() -> None:
    model = chain("ADD", "MUL", "MAXIMUM")
    (actual,) = run(export_onnx(model), [X])
    np.testing.assert_allclose(actual, execute(model, [X])[0], rtol=1e-6)


@pytest.mark.parametrize("operation", ["IF", "WHILE"])
@pytest.mark.parametrize("seed", range(4))
def test_control_flow_runs(operation: str, seed: int) -> None:
    sample = generate(seed, length=1, operations=[operation])
    for actual, expected in zip(run(export_onnx(sample.model), sample.inputs), sample.outputs, strict=True):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        # Integers and requantized bytes may round another way, float16 keeps three digits.
        tolerance = {"f": 5e-3, "b": 0}.get(actual.dtype.kind, 1.01)
        np.testing.assert_allclose(actual.astype(float), expected.astype(float), rtol=5e-3, atol=tolerance)


def test_what_onnx_has_no_form_for_is_refused_with_a_reason() -> None:
    b = Builder("draw")
    seeds = np.array([1, 2], np.int32)
    b.output(b.add("RANDOM_MULTINOMIAL", {"input": b.input("x", F32, (1, 3)), "sample_count": 5, "seeds": seeds}))
    (verdict,) = check_onnx(b.finish())
    assert isinstance(verdict, Reject)
    assert "RANDOM_MULTINOMIAL" in verdict.reason
    assert check_onnx(chain("ADD")) == [Accept()]


def test_an_unwritable_path_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        save(chain("ADD"), tmp_path / "none" / "m.onnx")


def test_names_are_kept_and_distinct() -> None:
    b = Builder("names")
    x, y = b.input("same", F32, (2,)), b.input("same", F32, (2,))
    b.output(b.add("ADD", {"input0": x, "input1": y, "activation": 0}), names=["same"])
    graph = graph_of(b.finish())
    assert [i.name for i in graph.input] == ["same", "same_1"]
    assert graph.output[0].name not in ("same", "same_1")


def test_two_outputs_may_be_the_same_value() -> None:
    b = Builder("outputs")
    x, matrix = b.input("x", F32, (1, 4)), np.eye(4, dtype=np.float32)
    given = {"input": x, "weights": matrix, "recurrent_weights": matrix, "hidden_state": x, "activation": 0}
    b.output(*b.add_many("RNN", given | {"bias": np.ones(4, np.float32)}))
    model = b.finish()
    assert nodes(model)["Identity"] == 1
    for actual, expected in zip(run(export_onnx(model), [X]), execute(model, [X]), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_unknown_dimensions_stay_open() -> None:
    b = Builder("open")
    x = b.input("x", F32, (0, 3, 8, 8))
    y = b.add("RELU", {"input": conv(b, x, 4)})
    b.output(y)
    model = b.finish()
    assert graph_of(model).input[0].type.tensor_type.shape.dim[0].dim_param
    content = export_onnx(model)
    for batch in (1, 3):
        x_value = RNG.standard_normal((batch, 3, 8, 8)).astype(np.float32)
        np.testing.assert_allclose(
            run(content, [x_value])[0], execute(model, [x_value])[0], atol=1e-5, err_msg=f"batch {batch}"
        )


def test_images_with_channels_last_are_transposed_at_the_ends_only() -> None:
    b = Builder("nhwc")
    x = conv(b, image(b, nchw=False), 4, nchw=False)
    b.output(conv(b, x, 5, nchw=False))
    assert nodes(b.finish()) == {"Transpose": 2, "Conv": 2}


def test_weights_are_stored_once_in_the_order_of_their_reader() -> None:
    b = Builder("weights")
    b.output(conv(b, image(b), 4))
    (filter,) = [i for i in graph_of(b.finish()).initializer if len(i.dims) == 4]
    assert [*filter.dims] == [4, 3, 3, 3]
    model = b.finish()
    assert len(export_onnx(model)) < model.operands[model.operations[0].inputs[1]].value.nbytes + 1000


def test_equal_constants_are_stored_once() -> None:
    shared = RNG.standard_normal((64, 64)).astype(np.float32)
    b = Builder("shared")
    x = b.input("x", F32, (1, 64))
    for _ in range(2):
        given = {"input": x, "filter": shared, "bias": np.zeros(64, np.float32), "activation": 0}
        x = b.add("FULLY_CONNECTED", given)
    b.output(x)
    assert len(export_onnx(b.finish())) < 1.5 * shared.nbytes


def test_one_filter_of_two_layers() -> None:
    """ONNX Runtime makes signed filters unsigned, each once: it gets one for each layer."""
    b = Builder("tied")
    how = Operand(Q8S, (), 0.5, 3)
    y: Ref = b.input("x", Q8S, (1, 8), 0.5, 3)
    filter = b.constant(RNG.integers(-127, 128, (8, 8)).astype(np.int8), Operand(Q8S, (), 0.0625, 0))
    bias = b.constant(np.zeros(8, np.int32), Operand(I32, (), 0.5 * 0.0625))
    for _ in range(2):
        y = b.add("FULLY_CONNECTED", {"input": y, "filter": filter, "bias": bias, "activation": 0}, how)
    b.output(y)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession(export_onnx(b.finish()), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("type", [Q8, Q8S])
def test_quantized_convolutions_become_integer_kernels(type: OperandType, tmp_path: Path) -> None:
    """ONNX Runtime fuses what is between DequantizeLinear and QuantizeLinear, residual connections among it."""
    b = Builder("qdq")
    x = image(b, 8, type=type)
    kept = Operand(type, (), 0.1, 3)
    first = quantized_conv(b, x, 8, kept)
    second = quantized_conv(b, first, 8, kept)
    b.output(b.add("ADD", {"input0": first, "input1": second, "activation": 0}, kept))
    model = b.finish()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.add_session_config_entry("session.x64quantprecision", "1")  # or sums saturate where there is no VNNI
    session = onnxruntime.InferenceSession(export_onnx(model), options, providers=["CPUExecutionProvider"])
    kernels = Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kernels["QLinearConv"] == 2
    assert kernels["QLinearAdd"] == 1
    assert "Conv" not in kernels
    stored = RNG.integers(0, 100, (1, 8, 8, 8)).astype(type.dtype)
    actual = session.run(None, {"x": stored})[0].astype(int)
    assert np.abs(actual - execute(model, [stored])[0]).max() <= 3  # three requantizations, each within one


@pytest.mark.parametrize(("scale", "zero_point", "clips"), [(6 / 255, 0, 0), (0.1, 0, 1), (6 / 255, 20, 1)])
def test_a_fused_activation_that_the_type_implies_costs_nothing(scale: float, zero_point: int, clips: int) -> None:
    b = Builder("relu6")
    output = Operand(Q8, (), float(np.float32(scale)), zero_point)
    b.output(quantized_conv(b, image(b, type=Q8), 4, output, activation=3))
    assert nodes(b.finish())["Clip"] == clips


COMPOSITES: Mapping[str, tuple[Any, set[str]]] = {
    "erf": (composites.erf, {"Erf"}),
    "gelu": (composites.gelu, {"Gelu"}),
    "silu": (composites.silu, {"Sigmoid", "Mul"}),
    "mish": (composites.mish, {"Mish"}),
    "softplus": (composites.softplus, {"Softplus"}),
    "layer_norm": (
        lambda b, x: composites.layer_norm(b, x, *_vectors(b, 4, 2), epsilon=1e-5),
        {"LayerNormalization"},
    ),
    "group_norm": (
        lambda b, x: composites.group_norm(b, x, *_vectors(b, 6, 2), groups=2, epsilon=1e-5),
        {"GroupNormalization"},
    ),
    "rms_norm": (lambda b, x: composites.rms_norm(b, x, *_vectors(b, 4, 1), epsilon=1e-5), {"ReduceMean", "Mul"}),
    "attention": (
        lambda b, x: composites.attention(b, x, x, x, scale=0.5, causal=True),
        {"MatMul", "Softmax", "Add"},
    ),
}


def _vectors(b: Builder, size: int, count: int) -> list[Ref]:
    return [b.constant(RNG.uniform(0.5, 2, size).astype(np.float32)) for _ in range(count)]


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_become_onnx_s_own_nodes(name: str) -> None:
    write, expected = COMPOSITES[name]
    b = Builder(name)
    b.output(write(b, b.input("x", F32, (1, 6, 5, 4))))
    model = b.finish()
    assert expected <= nodes(model).keys()
    x = RNG.standard_normal((1, 6, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(run(export_onnx(model), [x])[0], execute(model, [x])[0], atol=1e-5)


def large(rows: int = 300) -> Model:
    b = Builder("large")
    given = {
        "input": b.input("x", F32, (1, 64)), "filter": RNG.standard_normal((rows, 64)).astype(np.float32),
        "bias": RNG.standard_normal(rows).astype(np.float32), "activation": 0,
    }  # fmt: skip
    b.output(b.add("FULLY_CONNECTED", given))
    return b.finish()


def test_beyond_protobuf_s_limit_weights_are_in_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_BYTES", 50_000)
    model, x = large(), RNG.standard_normal((1, 64)).astype(np.float32)
    with pytest.raises(ModelError, match="protobuf reads 50000"):
        export_onnx(model)
    save_onnx(model, tmp_path / "m.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx").stat().st_size < 5000
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    np.testing.assert_allclose(
        run(str(tmp_path / "m.onnx"), [x])[0], execute(model, [x])[0], rtol=1e-4, atol=1e-4
    )  # sums of 64 products in another order


def test_a_failed_export_leaves_no_file(tmp_path: Path) -> None:
    b = Builder("draw")
    seeds = np.array([1, 2], np.int32)
    b.output(b.add("RANDOM_MULTINOMIAL", {"input": b.input("x", F32, (1, 3)), "sample_count": 5, "seeds": seeds}))
    with pytest.raises(UnsupportedOperation, match="RANDOM_MULTINOMIAL"):
        save_onnx(b.finish(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


SPATIAL = {True: [[0, 0], [0, 0], [1, 0], [2, 1]], False: [[0, 0], [1, 0], [2, 1], [0, 0]]}
CHANNELS = [[0, 0], [1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize("type", [F32, Q8S], ids=lambda t: t.name)
@pytest.mark.parametrize("nchw", [True, False], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("paddings", "padding", "is_read", "pads"),
    [
        pytest.param(None, {"padding": 2}, False, 0, id="scheme VALID"),
        pytest.param(None, {f"padding_{s}": 0 for s in ("left", "right", "top", "bottom")}, False, 0, id="explicit 0"),
        pytest.param(None, {"padding": 1}, False, 1, id="the pool pads too"),
        pytest.param(None, {"padding": 2}, True, 1, id="read elsewhere too"),
        pytest.param(CHANNELS, {"padding": 2}, False, 1, id="channels are padded"),
    ],
)
def test_a_pool_counts_what_is_padded(
    paddings: list[list[int]] | None, padding: dict[str, int], is_read: bool, pads: int, nchw: bool, type: OperandType
) -> None:
    b = Builder()
    x = image(b, nchw=nchw, type=type)
    scale = {} if type == F32 else {"like": Operand(type, (), 0.05, 10)}
    padded = b.add("PAD", {"input": x, "paddings": paddings or SPATIAL[nchw]}, *scale.values())
    window = {"stride_width": 1, "stride_height": 1, "filter_width": 3, "filter_height": 2, "activation": 0}
    y = b.add("AVERAGE_POOL_2D", {"input": padded, **padding, **window, "layout": nchw}, *scale.values())
    b.output(y)
    if is_read:
        b.output(padded)
    model = b.finish()
    assert nodes(model)["Pad"] == pads
    assert all(isinstance(v, Accept) for v in check_onnx(model))
    shape = model.input_operands[0].dimensions
    given = [(RNG.standard_normal(shape) * 30).astype(type.dtype)]
    for actual, expected in zip(run(export_onnx(model), given), execute(model, given), strict=True):
        # Sums of values up to 100 in another order; a mean of integers may round another way.
        worst = 2e-5 if type == F32 else 1
        assert np.abs(actual.astype(float) - expected).max() <= worst


def test_a_file_says_who_wrote_it() -> None:
    proto = onnx.load_from_string(export_onnx(chain("ADD")))
    assert (proto.producer_name, proto.producer_version) == ("nnapi", nnapi.__version__)
    assert proto.doc_string == f"nnapi {nnapi.__version__}: chain"
    assert {p.key for p in proto.metadata_props} == {"producer_name", "producer_version"}


def open_model(kind: str) -> Model:
    """Inputs with unknown dimensions that meet, that do not, or that only one of them has."""
    b = Builder(kind)
    if kind == "one input":
        x = b.input("x", F32, (0, 3))
        b.output(b.add("RELU", {"input": x}, name="y"))
    elif kind == "inputs that meet":
        x, y = b.input("x", F32, (0, 3)), b.input("y", F32, (0, 3))
        b.output(b.add("ADD", {"input0": x, "input1": y, "activation": 0}, name="z"))
    elif kind == "inputs apart":
        for name in ("x", "y"):
            b.output(b.add("RELU", {"input": b.input(name, F32, (0, 3))}, name=f"{name}_out"))
    elif kind == "two dimensions":
        x = b.input("x", F32, (0, 0, 3))
        b.output(b.add("TRANSPOSE", {"input": x, "perm": [1, 0, 2]}, name="y"))
    else:
        x = b.input("x", F32, (0, 3))
        b.output(b.add("CONCATENATION", {"inputs": [x, x], "axis": 0}, name="y"))
    return b.finish()


SYMBOLS: dict[str, tuple[list[list[Any]], list[list[Any]]]] = {
    "one input": ([["x_0", 3]], [["x_0", 3]]),
    "inputs that meet": ([["x_0", 3], ["x_0", 3]], [["x_0", 3]]),
    "inputs apart": ([["x_0", 3], ["y_0", 3]], [["x_0", 3], ["y_0", 3]]),
    "two dimensions": ([["x_0", "x_1", 3]], [["x_1", "x_0", 3]]),
    "twice as large": ([["x_0", 3]], [["y_0", 3]]),
}


@pytest.mark.parametrize("kind", SYMBOLS)
def test_one_dimension_has_one_name(kind: str) -> None:
    graph = graph_of(open_model(kind))
    found = tuple(
        [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in ends]
        for ends in (graph.input, graph.output)
    )
    assert found == SYMBOLS[kind]


@pytest.mark.parametrize("type", [Q8, Q8S, "per channel"], ids=["unsigned", "signed", "per channel"])
def test_filters_of_transposed_convolutions_are_stored_in_8_bits(type: OperandType | str) -> None:
    """No engine has integer kernels for these, so the numbers become real before it, and engines fold that."""
    b = Builder("up")
    stored = Q8S if type == "per channel" else type
    assert isinstance(stored, OperandType)
    x = b.input("x", stored, (1, 4, 5, 6), 0.05, 3)
    shape = (8, 2, 2, 6)
    value = RNG.integers(-100, 100, shape).astype(np.int8)
    like = Operand(stored, shape, 0.01, 7 if stored == Q8 else 0)
    if type == "per channel":
        like = Operand(
            Q8PC, shape, channel_quant=ChannelQuant(tuple(np.float32(RNG.uniform(0.01, 0.02, 8)).tolist()), 0)
        )
    filter = b.constant(value.view(like.type.dtype), like)
    bias = b.constant(np.arange(8, dtype=np.int32), Operand(I32, (8,), 0.0 if type == "per channel" else 0.05 * 0.01))
    given = {"input": x, "filter": filter, "bias": bias, "padding": 2, "stride_width": 2, "stride_height": 2,
             "output_shape": np.array([1, 8, 10, 8], np.int32), "activation": 0, "layout": False}  # fmt: skip
    b.output(b.add("TRANSPOSE_CONV_2D", given, Operand(stored, (), 0.1, 5)))
    model = b.finish()
    assert {i.data_type for i in graph_of(model).initializer if len(i.dims) == 4 and i.dims[0] == 6} <= {2, 3}
    x_value = RNG.integers(0, 100, (1, 4, 5, 6)).astype(stored.dtype)
    (found,), (right,) = run(export_onnx(model), [x_value]), execute(model, [x_value])
    assert np.abs(found.astype(int) - right.astype(int)).max() <= 1  # a sum that ends between two steps


def test_a_constant_is_reshaped_when_it_is_written() -> None:
    b = Builder("slopes")
    alpha = np.full(3, 0.2, np.float32)
    alpha[1] = 0.3
    b.output(b.add("PRELU", {"input": image(b, nchw=False), "alpha": alpha}))
    assert "Reshape" not in nodes(b.finish())
