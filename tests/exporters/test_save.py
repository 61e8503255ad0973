"""Files for readers: the layout is theirs, whatever the model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nnapi
from nnapi.drivers.reference import execute
from nnapi.exporters.save import FORMATS
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.passes.layout import to_layout

X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def images(size: int = 8) -> Model:
    """As a model comes from PyTorch: channels first, two convolutions and a pool."""
    rng, b = np.random.default_rng(1), Builder("images")
    y = b.input("x", F32, (1, 3, size, size))
    for depth, channels in ((3, 4), (4, 5)):
        given = {
            "filter": rng.standard_normal((channels, 3, 3, depth)).astype(np.float32),
            "bias": np.ones(channels, np.float32),
        }
        y = b.add(
            "CONV_2D",
            given | {"input": y, "padding": 1, "stride_width": 1, "stride_height": 1, "activation": 1, "layout": True},
        )
    window = {
        "padding": 2,
        "stride_width": 2,
        "stride_height": 2,
        "filter_width": 2,
        "filter_height": 2,
        "activation": 0,
    }
    b.output(b.add("MAX_POOL_2D", window | {"input": y, "layout": True}), names=["y"])
    return b.finish()


FORMS: dict[str, Callable[[Model], Model]] = {
    "as loaded": lambda model: model,
    "optimized": nnapi.optimize,
    "channels last": lambda model: to_layout(model, "nhwc"),
    "channels first": lambda model: to_layout(model, "nchw"),
    "quantized": lambda model: nnapi.quantize(model, [X], "int8_float_io"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tflite_file_is_written_from_any_layout(form: str, tmp_path: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    model = FORMS[form](images())
    nnapi.save(model, tmp_path / "m.tflite")
    runner = interpreter.Interpreter(str(tmp_path / "m.tflite")).get_signature_runner()
    # A sum in another order; of integers one that rounds another way is a step of the output.
    step = max((o.scale for o in model.operands if o.type.is_quantized and not o.is_constant), default=1e-5)
    np.testing.assert_allclose(runner(x=X)["y"], execute(model, [X])[0], atol=step)


@pytest.mark.parametrize("form", FORMS)
def test_an_onnx_file_is_channels_first_throughout(form: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    nnapi.save(FORMS[form](images()), tmp_path / "m.onnx")
    types = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert types.count("Conv") == 2
    assert not {"Transpose", "Reshape"} & set(types)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "quantized"])
def test_an_ncnn_net_is_channels_first_throughout(form: str, tmp_path: Path) -> None:
    nnapi.save(FORMS[form](images()), tmp_path / "m.param")
    assert "Permute" not in (tmp_path / "m.param").read_text()


def test_our_own_file_keeps_the_layout(tmp_path: Path) -> None:
    model = images()
    nnapi.save(model, tmp_path / "m.nnapi")
    assert nnapi.load(tmp_path / "m.nnapi").operations == model.operations
    assert FORMATS[".nnapi"].layout is None


def test_an_unwritten_tflite_file_says_which_operation(tmp_path: Path) -> None:
    b = Builder()
    b.output(b.add("EXP", {"input": b.input("x", F32, (1, 1, 1, 1, 1, 1, 2))}))
    with pytest.raises(nnapi.NnapiError, match="rank 7 > 6"):
        nnapi.save(b.finish(), tmp_path / "m.tflite")
