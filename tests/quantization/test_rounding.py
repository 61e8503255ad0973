"""Fitting layers: means of windows are those of the layer's results, and operations run once on the way."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.advance import Advance
from nnapi.quantization.data import mirrored
from nnapi.quantization.rounding import _Layer
from quantization.graphs import examples, small

SAME = {"padding": 1}


def layer(kind: str, filter: tuple[int, ...], stride: int, dilation: int, padding: dict[str, int]) -> Model:
    b = Builder(kind)
    x = b.input("x", F32, (2, 7, 9, 4))
    rng = np.random.default_rng(0)
    channels = filter[3] if kind == "DEPTHWISE_CONV_2D" else filter[0]
    inputs = {"input": x, "filter": rng.normal(size=filter).astype(np.float32)} | padding
    inputs |= {"bias": np.zeros(channels, np.float32), "stride_width": stride, "stride_height": stride, "activation": 0}
    inputs |= {"num_groups": 2, "layout": False} if kind == "GROUPED_CONV_2D" else {}
    inputs |= {"depth_multiplier": 1} if kind == "DEPTHWISE_CONV_2D" else {}
    inputs |= {"layout": False, "dilation_width": dilation, "dilation_height": dilation} if dilation > 1 else {}
    b.output(b.add(kind, inputs))
    return b.finish()


PADDED = dict(zip(("padding_left", "padding_right", "padding_top", "padding_bottom"), (1, 2, 0, 2)))


@pytest.mark.parametrize(
    "kind, filter, stride, dilation, padding",
    [
        pytest.param("CONV_2D", (5, 3, 3, 4), 1, 1, SAME, id="same"),
        pytest.param("CONV_2D", (5, 3, 3, 4), 2, 1, PADDED, id="strides"),
        pytest.param("CONV_2D", (5, 1, 1, 4), 1, 1, SAME, id="points"),
        pytest.param("CONV_2D", (5, 3, 3, 4), 1, 2, SAME, id="dilated"),
        pytest.param("CONV_2D", (5, 3, 3, 4), 1, 6, SAME, id="taps beyond the image"),
        pytest.param("DEPTHWISE_CONV_2D", (1, 3, 3, 4), 2, 1, SAME, id="depthwise"),
        pytest.param("GROUPED_CONV_2D", (6, 3, 3, 2), 1, 1, PADDED, id="grouped"),
    ],
)
def test_the_mean_window_gives_the_mean_result(
    kind: str, filter: tuple[int, ...], stride: int, dilation: int, padding: dict[str, int]
) -> None:
    model = layer(kind, filter, stride, dilation, padding)
    fitted = _Layer(model.operations[0], model.call(model.operations[0]))
    (x,) = examples(model, 1)[0]
    result = (fitted.mean(x) @ fitted.matrix(fitted.filter).transpose(0, 2, 1)).reshape(-1)
    expected = execute(model, [x])[0].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_advancing_gives_what_the_whole_model_does() -> None:
    model = small()
    given = examples(model, 3)
    advance = Advance(model, given)
    for operation in model.operations:
        advance.values(model, operation.inputs[0])
    for x, y in zip(given, advance.values(model, model.outputs[0])):
        # another engine's sums
        np.testing.assert_allclose(y, execute(model, list(x))[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "shape, count, expected",
    [
        pytest.param((1, 5, 6, 3), 2, 8, id="channels last"),
        pytest.param((1, 3, 5, 6), 2, 8, id="channels first"),
        pytest.param((1, 5, 6, 7), 2, 2, id="no image"),
        pytest.param((1, 5), 2, 2, id="vector"),
        pytest.param((1, 5, 6, 3), 16, 16, id="enough"),
    ],
)
def test_few_images_are_mirrored(shape: tuple[int, ...], count: int, expected: int) -> None:
    given = [(np.random.default_rng(n).normal(size=shape).astype(np.float32),) for n in range(count)]
    found = mirrored(given)
    assert len(found) == expected
    assert len({x.tobytes() for (x,) in found}) == expected
    assert all(x.shape == shape for (x,) in found)
