"""ncnn's pair of files: which layers come of a model, what is refused and why, written whole or not at all.

No engine is needed for these; what the layers compute is compared in test_ncnn_rows.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import chain
from nnapi.__main__ import main
from nnapi.conformance.generate import generate
from nnapi.errors import ModelError, UnsupportedOperation, UsageError
from nnapi.exporters.ncnn import check_ncnn, export_ncnn, save_ncnn
from nnapi.exporters.ncnn.table import ROWS
from nnapi.exporters.save import save
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ir.recurrence import KINDS
from nnapi.ir.verdict import Accept, Reject
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, F32, I32, Q8, OperandType

Write = Callable[[Builder], Ref | tuple[Ref, ...]]
"""Adds operations and gives the model's outputs."""

PAD_ROWS = [[0, 0], [0, 0], [1, 1], [1, 1]]
WEIGHTS = np.linspace(-1, 1, 4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3)


def built(write: Write) -> Model:
    b = Builder()
    outputs = write(b)
    b.output(*(outputs if isinstance(outputs, tuple) else (outputs,)))
    return b.finish()


def lines(model: Model) -> list[str]:
    """The lines of the layers."""
    magic, counts, *layers = export_ncnn(model).text().splitlines()
    assert magic == "7767517"
    inputs_and_outputs = [line.split()[4 : 4 + int(line.split()[2]) + int(line.split()[3])] for line in layers]
    made = [name for line, ends in zip(layers, inputs_and_outputs) for name in ends[int(line.split()[2]) :]]
    read = [name for line, ends in zip(layers, inputs_and_outputs) for name in ends[: int(line.split()[2])]]
    assert counts == f"{len(layers)} {len(made)}"
    assert len(set(made)) == len(made), "every blob is made once"
    assert len(set(read)) == len(read), "every blob is read once"
    assert set(read) <= set(made)
    return layers


def types(model: Model) -> Counter[str]:
    return Counter(line.split()[0] for line in lines(model)) - Counter(Input=len(model.inputs))


def image(b: Builder, channels: int = 3, size: int = 8, *, nchw: bool = True, batch: int = 1) -> Ref:
    return b.input("x", F32, (batch, channels, size, size) if nchw else (batch, size, size, channels))


def conv(b: Builder, x: Ref, *, nchw: bool = True, **given: Any) -> Ref:
    depth = (x.shape or ())[1 if nchw else 3] or 0
    inputs = {
        "input": x, "filter": np.resize(WEIGHTS, (4, 3, 3, depth)), "bias": np.zeros(4, np.float32), "padding": 1,
        "stride_width": 1, "stride_height": 1, "activation": 0, "layout": nchw,
    }  # fmt: skip
    return b.add("CONV_2D", inputs | given)


def pool(b: Builder, x: Ref, kind: str = "AVERAGE", size: int = 3, *, nchw: bool = True, padding: int = 2) -> Ref:
    window = {"stride_width": 1, "stride_height": 1, "filter_width": size, "filter_height": size}
    return b.add(f"{kind}_POOL_2D", {"input": x, "padding": padding, **window, "activation": 0, "layout": nchw})


def binary(b: Builder, type: str, x: Ref, y: Any) -> Ref:
    given = {"input0": x, "input1": y}
    return b.add(type, given if type in ("MAXIMUM", "MINIMUM") else given | {"activation": 0})


def unary(b: Builder, type: str, x: Ref, **given: Any) -> Ref:
    return b.add(type, {"input": x, **given})


def number(value: float) -> np.ndarray[Any, Any]:
    return np.array([value], np.float32)


def shared(b: Builder) -> Ref:
    x = conv(b, image(b))
    return binary(b, "ADD", binary(b, "ADD", conv(b, x), conv(b, x)), pool(b, x, "MAX", padding=1))


def twice(b: Builder) -> tuple[Ref, Ref]:
    y = unary(b, "RELU", b.input("x", F32, (1, 4)))
    return y, unary(b, "RESHAPE", y, shape=[4])


def also_inside(b: Builder) -> tuple[Ref, Ref]:
    y = unary(b, "RELU", b.input("x", F32, (4,)))
    return y, unary(b, "TANH", y)


def passed_on(b: Builder) -> tuple[Ref, Ref]:
    x = b.input("x", F32, (1, 4))
    return unary(b, "RESHAPE", x, shape=[4]), unary(b, "RELU", x)


def counted(b: Builder, *, is_read: bool = False) -> Ref | tuple[Ref, ...]:
    padded = unary(b, "PAD", image(b), paddings=PAD_ROWS)
    y = pool(b, padded)
    return (y, padded) if is_read else y


def vector(b: Builder, size: int) -> Ref:
    return b.constant(np.linspace(0.5, 2, size, dtype=np.float32))


def attention(b: Builder) -> Ref:
    x = b.input("x", F32, (1, 2, 8, 4))
    return composites.attention(b, x, x, x, scale=0.5)


LAYERS: dict[str, tuple[Write, Mapping[str, int]]] = {
    "an activation is the convolution's": (lambda b: conv(b, image(b), activation=3), {"Convolution": 1}),
    "a depthwise one of 1 channel is an ordinary one": (
        lambda b: b.add(
            "DEPTHWISE_CONV_2D",
            {
                "input": image(b, 1), "filter": np.ones((1, 3, 3, 4), np.float32), "bias": np.zeros(4, np.float32),
                "padding": 1, "stride_width": 1, "stride_height": 1, "depth_multiplier": 4, "activation": 0,
                "layout": True,
            },
        ),
        {"Convolution": 1},
    ),
    "one Split for a shared blob": (shared, {"Split": 1, "Convolution": 3, "Pooling": 1, "BinaryOp": 2}),
    "padding that a pool counts": (counted, {"Pooling": 1}),
    "padding that others read": (lambda b: counted(b, is_read=True), {"Padding": 1, "Split": 1, "Pooling": 1}),
    "a pool as large as the image": (lambda b: pool(b, image(b), size=8), {"Pooling": 1, "Reshape": 1}),
    "a mean of an image": (
        lambda b: unary(b, "MEAN", image(b), axes=[2, 3], keep_dims=False),
        {"Pooling": 1, "Reshape": 2},
    ),
    "a mean of something else": (
        lambda b: unary(b, "MEAN", image(b), axes=[1, 2], keep_dims=True), {"Reduction": 1},
    ),
    "a constant number is a parameter": (
        lambda b: binary(b, "MUL", b.input("x", F32, (2, 3)), number(0.5)), {"BinaryOp": 1},
    ),
    "an infinite one cannot be": (
        lambda b: binary(b, "MINIMUM", b.input("x", F32, (2, 3)), number(np.inf)),
        {"BinaryOp": 1, "MemoryData": 1, "Reshape": 1},
    ),
    "a constant that two read": (
        lambda b: binary(b, "ADD", binary(b, "MUL", b.input("x", F32, (4,)), vector(b, 4)), vector(b, 4)),
        {"BinaryOp": 2, "MemoryData": 1, "Split": 1},
    ),
    "a quotient is a product": (
        lambda b: binary(b, "DIV", b.input("x", F32, (4,)), np.array([1, 2, 3, 4], np.float32)),
        {"BinaryOp": 1, "MemoryData": 1},
    ),
    "images with channels last": (
        lambda b: conv(b, pool(b, conv(b, image(b, nchw=False), nchw=False), nchw=False), nchw=False),
        {"Permute": 2, "Convolution": 2, "Pooling": 1},
    ),
    "an output that is an input's blob": (passed_on, {"Split": 1, "ReLU": 1}),
    "two outputs of one blob": (twice, {"ReLU": 1, "Split": 1}),
    "an output that is read": (also_inside, {"ReLU": 1, "Split": 1, "TanH": 1}),
    "a batch of 1 needs no view": (lambda b: unary(b, "RESHAPE", b.input("x", F32, (1, 6)), shape=[6]), {"Split": 1}),
    "rows of a product": (
        lambda b: b.add(
            "FULLY_CONNECTED",
            {"input": b.input("x", F32, (2, 4)), "filter": np.ones((3, 4), np.float32),
             "bias": np.ones(3, np.float32), "activation": 1},
        ),
        {"Gemm": 1, "ReLU": 1},
    ),
    "layer normalization": (
        lambda b: composites.layer_norm(b, b.input("x", F32, (1, 6, 4)), vector(b, 4), vector(b, 4), epsilon=1e-5),
        {"LayerNorm": 1},
    ),
    "attention as its body": (attention, {"MatMul": 2, "Softmax": 1, "Split": 1, "BinaryOp": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS)
def test_layers(case: str) -> None:
    write, expected = LAYERS[case]
    model = built(write)
    assert check_ncnn(model) == [Accept()] * len(model.operations) or case == "attention as its body"
    assert types(model) == Counter(expected)


def test_the_text_of_a_small_network() -> None:
    def write(b: Builder) -> Ref:
        x = conv(b, image(b), activation=3)
        return binary(b, "SUB", number(1.5), pool(b, x, "MAX", 2, padding=1))

    model = built(write)
    assert lines(model) == [
        "Input layer0 0 1 in0 2=3 1=8 0=8",
        "Convolution layer1 1 1 in0 b1 1=3 11=3 2=1 12=1 3=1 13=1 14=1 4=1 16=1 15=1 9=3 "
        "-23310=2,0.00000000e+00,6.00000000e+00 0=4 5=1 6=108",
        "Pooling layer2 1 1 b1 b2 0=0 1=2 11=2 2=1 12=1 3=0 13=0 14=1 15=1 5=1 6=0",
        "BinaryOp layer3 1 1 b2 out0 0=7 1=1 2=1.50000000e+00",
    ]
    content = b"".join(export_ncnn(model).weights())
    assert len(content) == 4 + 4 * (108 + 4), "what tells that the filter is float32, the filter, the bias"
    assert content[:4] == bytes(4)
    np.testing.assert_array_equal(np.frombuffer(content, np.float32, 108, 4), WEIGHTS.transpose(0, 3, 1, 2).ravel())


SHAPES = {
    "a batch of 1 is dropped": ((1, 3, 8, 9), "2=3 1=8 0=9"),
    "another batch is kept": ((2, 3, 8, 9), "2=2 11=3 1=8 0=9"),
    "a vector": ((5,), "0=5"),
    "a row": ((1, 5), "0=5"),
    "rows": ((4, 5), "1=4 0=5"),
    "a number": ((1,), "0=1"),
    "only one of two batches": ((1, 1, 5), "1=1 0=5"),
    "rank 5": ((1, 2, 3, 4, 5), "2=2 11=3 1=4 0=5"),
}


@pytest.mark.parametrize(("shape", "parameters"), SHAPES.values(), ids=SHAPES.keys())
def test_shapes(shape: tuple[int, ...], parameters: str) -> None:
    model = built(lambda b: b.add("ABS", {"input": b.input("x", F32, shape)}))
    assert lines(model) == [f"Input layer0 0 1 in0 {parameters}", "UnaryOp layer1 1 1 in0 out0 0=0"]


def operand(b: Builder, type: OperandType = F32, shape: Sequence[int] = (1, 4)) -> Ref:
    return b.input("x", type, shape, *((0.5, 3) if type.is_quantized else ()))


def relu(type: OperandType = F32, shape: Sequence[int] = (1, 4)) -> Write:
    return lambda b: unary(b, "RELU", operand(b, type, shape))


def resize(type: str, **flags: bool) -> Write:
    return lambda b: unary(b, type, image(b), width=16, height=16, layout=True, **flags)


def product(**given: bool) -> Write:
    return lambda b: b.add(
        "BATCH_MATMUL", {"input0": b.input("x", F32, (2, 4, 4)), "input1": b.input("y", F32, (2, 4, 4)), **given}
    )


def quotient(value: Sequence[float] | None) -> Write:
    def write(b: Builder) -> Ref:
        x = b.input("x", F32, (2,))
        return binary(b, "DIV", x, b.input("y", F32, (2,)) if value is None else np.array(value, np.float32))

    return write


def strided(*strides: int) -> Write:
    given = {"begin_mask": 0, "end_mask": 0, "shrink_axis_mask": 0}
    return lambda b: unary(
        b, "STRIDED_SLICE", b.input("x", F32, (4, 4)), begin=[0, 0], end=[4, 4], strides=list(strides), **given
    )


def transposed(b: Builder) -> Ref:
    given = {
        "input": image(b), "filter": np.ones((2, 2, 2, 3), np.float32), "bias": np.ones(2, np.float32),
        "output_shape": np.array([1, 2, 17, 17], np.int32), "padding": 2, "stride_width": 2, "stride_height": 2,
        "activation": 0, "layout": True,
    }  # fmt: skip
    return b.add("TRANSPOSE_CONV_2D", given)


def normalized(b: Builder) -> Ref:
    return composites.layer_norm(b, b.input("x", F32, (1, 4)), b.input("y", F32, (4,)), vector(b, 4), epsilon=1e-5)


REFUSED: dict[str, tuple[Write, str]] = {
    "images in a batch": (lambda b: conv(b, image(b, batch=2)), "CONV_2D: a batch of 2, ncnn takes one image"),
    "pooled in a batch": (lambda b: pool(b, image(b, batch=2)), "AVERAGE_POOL_2D: a batch of 2"),
    "groups in a batch": (
        lambda b: composites.group_norm(b, image(b, 4, batch=2), vector(b, 4), vector(b, 4), groups=2, epsilon=1e-5),
        "GROUP_NORM: a batch",
    ),
    "5 dimensions": (
        lambda b: unary(b, "ABS", b.input("x", F32, (2, 1, 2, 2, 2))), "ABS: rank 5, ncnn's blobs have up to 4",
    ),
    "no elements": (
        lambda b: binary(b, "ADD", b.input("x", F32, (2,)), b.constant(np.ones((0, 2), np.float32))), "ADD: an operand",
    ),
    "6 dimensions": (lambda b: unary(b, "ABS", b.input("x", F32, (1, 2, 1, 2, 2, 2))), "ABS: rank 6"),
    "an unknown dimension": (relu(shape=(0, 4)), "RELU: dimensions (0, 4) of x are not known"),
    "float16": (relu(F16), "RELU: TENSOR_FLOAT16, its layers take TENSOR_FLOAT32"),
    "quantized": (relu(Q8), "RELU: TENSOR_QUANT8_ASYMM, its layers take TENSOR_FLOAT32"),
    "not mapped": (
        lambda b: b.add("ARGMAX", {"input": b.input("x", F32, (1, 4)), "axis": 1}), "ARGMAX: not mapped to ncnn here",
    ),
    "a filter that varies": (
        lambda b: conv(b, image(b), filter=b.input("f", F32, (4, 3, 3, 3))), "CONV_2D: filter is not a constant",
    ),
    "a bias that varies": (
        lambda b: conv(b, image(b), bias=b.input("f", F32, (4,))), "CONV_2D: bias is not a constant",
    ),
    "slopes of a norm that vary": (normalized, "LAYER_NORM: input 1 is not a constant"),
    "paddings that vary": (
        lambda b: unary(b, "PAD", b.input("x", F32, (4, 4)), paddings=b.input("p", I32, (2, 2))), "PAD: ",
    ),
    "corners between pixels": (resize("RESIZE_BILINEAR"), "RESIZE_BILINEAR: align_corners and half_pixel_centers are"),
    "nearest of half pixels": (
        resize("RESIZE_NEAREST_NEIGHBOR", half_pixel_centers=True), "RESIZE_NEAREST_NEIGHBOR: align_corners or",
    ),
    "adj_x": (product(adj_x=True, adj_y=False), "BATCH_MATMUL: adj_x is True"),
    "strides": (strided(1, 2), "STRIDED_SLICE: strides are [1, 2], ncnn's Crop has only 1"),
    "backwards": (strided(-1, 1), "STRIDED_SLICE: "),
    "beyond the windows": (transposed, "TRANSPOSE_CONV_2D: the output is 1 beyond the windows' reach"),
    "4 dimensions padded": (
        lambda b: unary(b, "PAD", b.input("x", F32, (2, 2, 2, 2)), paddings=[[0, 1]] * 4),
        "PAD: 4 dimensions, ncnn's Padding has 3",
    ),
    "padded with infinity": (
        lambda b: unary(b, "PAD_V2", b.input("x", F32, (2,)), paddings=[[0, 1]], pad_value=-np.inf),
        "PAD_V2: a parameter is -inf, ncnn reads only finite ones",
    ),
    "across something else than channels": (
        lambda b: unary(
            b, "LOCAL_RESPONSE_NORMALIZATION", image(b), radius=1, bias=1.0, alpha=1.0, beta=0.5, axis=-1
        ),
        "LOCAL_RESPONSE_NORMALIZATION: is not along the channels",
    ),
    "shuffled, but not channels": (
        lambda b: unary(b, "CHANNEL_SHUFFLE", image(b), num_groups=2, axis=3), "CHANNEL_SHUFFLE: is not along",
    ),
    "a quotient of two that vary": (quotient(None), "DIV: input1 is not a constant, and by 0"),
    "by 0": (quotient([1, 0]), "DIV: input1 has numbers without a reciprocal"),
    "by infinity": (quotient([1, np.inf]), "DIV: input1 has numbers without a reciprocal"),
    "by NaN": (quotient([1, np.nan]), "DIV: input1 has numbers without a reciprocal"),
    "a reciprocal that is denormal": (quotient([3e38]), "DIV: input1 has numbers without a reciprocal"),
    **{
        type: (lambda b, type=type: unary(b, type, operand(b)), f"{type}: {ROWS[type]}")
        for type in ("EXP", "LOG", "RSQRT", "SIN")
    },
}  # fmt: skip
"""What ncnn does not have, or does wrong: design 0009."""


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    write, reason = REFUSED[case]
    model = built(write)
    refused = [v.reason for v in check_ncnn(model) if isinstance(v, Reject)]
    assert len(refused) == 1
    assert refused[0].startswith(reason)
    with pytest.raises(UnsupportedOperation) as raised:
        save(model, tmp_path / "m.param")
    assert raised.value.message == refused[0].partition(": ")[2]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_what_is_accepted_can_be_written(operation: str) -> None:
    for seed in range(4):
        try:
            sample = generate(seed, length=1, operations=[operation])
        except ModelError:
            continue
        (verdict,) = check_ncnn(sample.model)
        if isinstance(verdict, Accept):
            assert lines(sample.model)
            assert not isinstance(ROWS[operation], str)
        else:
            assert verdict.reason.startswith(f"{operation}: ")
            if operation in KINDS:  # step by step, where nothing else is in the way
                continue
            with pytest.raises(UnsupportedOperation):
                export_ncnn(sample.model)


def test_files_beside_each_other(tmp_path: Path) -> None:
    model = built(lambda b: conv(b, image(b)))
    save(model, tmp_path / "m.param")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.bin", "m.param"]
    assert (tmp_path / "m.param").read_text() == export_ncnn(model).text((["x"], ["out0"]))
    assert (tmp_path / "m.bin").read_bytes() == b"".join(export_ncnn(model).weights())
    save(chain("ADD"), tmp_path / "m.param")
    assert (tmp_path / "m.bin").read_bytes() == b""


@pytest.mark.parametrize("taken", ["m.param", "m.bin"])
def test_both_files_or_none(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(UsageError, match=f"{taken}: it is a directory"):
        save_ncnn(built(lambda b: conv(b, image(b))), tmp_path / "m.param")
    assert [p.name for p in tmp_path.iterdir()] == [taken]


def test_an_unwritable_path_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        save(chain("ADD"), tmp_path / "none" / "m.param")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(tmp_path / "m.nnapi"), tmp_path / "m.param"
    save(built(lambda b: conv(b, image(b))), source)
    assert main(["convert", source, "-o", str(target), "--layout", "nchw"]) == 0
    assert str(target) in capsys.readouterr().out
    assert target.read_text().startswith("7767517\n2 2\nInput ")
    assert (tmp_path / "m.bin").stat().st_size == 4 + 4 * (108 + 4)
    save(built(relu(F16)), source)
    assert main(["convert", source, "-o", str(tmp_path / "n.param")]) == 1
    assert "RELU" in capsys.readouterr().err
    assert not (tmp_path / "n.param").exists() and not (tmp_path / "n.bin").exists()


def test_a_file_keeps_the_names_that_the_format_can_hold(tmp_path: Path) -> None:
    b = Builder("named")
    x = b.input("an image", F32, (1, 4))
    y = b.add("ADD", {"input0": x, "input1": b.input("b2", F32, (1, 4)), "activation": 1}, name="block.0/sum")
    z = b.add("TANH", {"input": y}, name="block.0/sum")
    b.output(z, b.add("ABS", {"input": z}, name="é" * 200), names=["an image", "scores"])
    model = b.finish()
    save(model, tmp_path / "m.param")
    rows = [line.split() for line in (tmp_path / "m.param").read_text().splitlines()[2:]]
    layers, blobs = [row[1] for row in rows], {name for row in rows for name in row[4 : 4 + int(row[2]) + int(row[3])]}
    assert layers[:5] == ["an_image", "b2", "block.0/sum", "block.0/sum_1", "block.0/sum_2"]
    assert len(set(layers)) == len(layers)
    assert {"an_image", "b2", "an_image_1", "scores"} <= blobs
    assert all(len(name.encode()) <= 255 for name in (*layers, *blobs))
    ncnn = pytest.importorskip("ncnn")
    net = ncnn.Net()
    assert net.load_param(str(tmp_path / "m.param")) == 0
    assert net.load_model(str(tmp_path / "m.bin")) == 0
    assert (net.input_names(), net.output_names()) == (["an_image", "b2"], ["an_image_1", "scores"])
