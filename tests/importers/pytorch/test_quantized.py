"""Quantized models: written out with PyTorch's conversions, their integers against PyTorch's arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401
from torch.nn import functional as F

from nnapi.drivers.reference import execute
from nnapi.errors import ModelError
from nnapi.importers.pytorch.read import read
from nnapi.ir.model import Model
from nnapi.ops.types import I32, Q8, Q8PC, Q8S
from nnapi.passes.integer_boundary import integer_boundary

from .conftest import Function

ops = torch.ops.quantized_decomposed
SIGNED, UNSIGNED = (-128, 127, torch.int8), (0, 255, torch.uint8)
AXIS_SCALES = torch.tensor([0.01, 0.02, 0.03, 0.04])


def q(x: torch.Tensor, scale: float = 0.05, zero_point: int = 3, to: tuple[Any, ...] = SIGNED) -> torch.Tensor:
    """x quantized and dequantized."""
    stored = ops.quantize_per_tensor(x, scale, zero_point, *to)
    return ops.dequantize_per_tensor(stored, scale, zero_point, *to)


def u(x: torch.Tensor, scale: float = 0.05, zero_point: int = 131) -> torch.Tensor:
    return q(x, scale, zero_point, UNSIGNED)


class Layer(nn.Module):
    """A layer between quantizations, its weights stored as integers per channel or in one scale."""

    def __init__(
        self, layer: nn.Module, per_channel: bool = True, act: Callable[..., Any] = q, then: Any = None, axis: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shape = layer.weight.shape
        self.register_buffer("stored", torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8))
        self.register_buffer("scales", AXIS_SCALES[: shape[axis]].clone())
        self.register_buffer("zeros", torch.zeros(shape[axis], dtype=torch.int64))
        self.layer, self.per_channel, self.act, self.then, self.axis = layer, per_channel, act, then, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.per_channel:
            w = ops.dequantize_per_channel(self.stored, self.scales, self.zeros, self.axis, -127, 127, torch.int8)
        else:
            w = ops.dequantize_per_tensor(self.stored, 0.02, 0, -127, 127, torch.int8)
        y = torch.func.functional_call(self.layer, {"weight": w}, (self.act(x),))
        return self.act(y if self.then is None else self.then(y), 0.7)


def types(model: Model) -> list[str]:
    return [o.type for o in model.operations]


CONV, IMAGE = ["CONV_2D"], (1, 3, 6, 5)
INTEGER = [
    ("conv", Layer(nn.Conv2d(3, 4, 3, padding=1)), [IMAGE], CONV),
    ("conv, relu6", Layer(nn.Conv2d(3, 4, 3, stride=2), then=nn.ReLU6()), [IMAGE], CONV),
    ("conv, uint8 in, int8 per channel", Layer(nn.Conv2d(3, 4, 3), act=u, then=nn.ReLU()), [IMAGE], CONV),
    ("conv, one scale", Layer(nn.Conv2d(3, 4, 3, bias=False), per_channel=False), [IMAGE], CONV),
    ("conv, uint8 in, int8 of one scale", Layer(nn.Conv2d(3, 4, 3), per_channel=False, act=u), [IMAGE], CONV),
    ("conv1d", Layer(nn.Conv1d(3, 4, 3)), [(1, 3, 9)], ["RESHAPE", "CONV_2D", "RESHAPE"]),
    ("depthwise", Layer(nn.Conv2d(4, 4, 3, groups=4)), [(1, 4, 6, 5)], ["DEPTHWISE_CONV_2D"]),
    ("grouped", Layer(nn.Conv2d(4, 4, 3, groups=2)), [(1, 4, 6, 5)], ["GROUPED_CONV_2D"]),
    ("transposed", Layer(nn.ConvTranspose2d(3, 4, 3, stride=2), axis=1), [IMAGE], ["TRANSPOSE_CONV_2D"]),
    ("linear, one scale", Layer(nn.Linear(5, 4), per_channel=False, then=F.relu), [(2, 5)], ["FULLY_CONNECTED"]),
    ("linear, uint8", Layer(nn.Linear(5, 4), per_channel=False, act=u), [(2, 5)], ["FULLY_CONNECTED"]),
    ("linear per channel", Layer(nn.Linear(5, 4)), [(2, 5)], ["RESHAPE", "CONV_2D", "RESHAPE"]),
    ("linear of rank 3", Layer(nn.Linear(5, 4), False), [(2, 3, 5)], ["RESHAPE", "FULLY_CONNECTED", "RESHAPE"]),
    ("add, relu", lambda x, y: q(F.relu(q(x) + q(y, 0.1, -5)), 0.2, -128), [(2, 3), (2, 3)], ["ADD"]),
    ("numbers", lambda x: q(q(q(x) + 3.0, 0.06) * -0.5, 0.03, 9), [(2, 3)], ["ADD", "MUL"]),
    ("hard sigmoid", lambda x: q(q(F.relu6(q(x) + 3.0), 6 / 255, -128) * (1 / 6), 1 / 256, -128), [(2, 9)],
     ["ADD", "MUL"]),
    ("sigmoid", lambda x: q(torch.sigmoid(q(x)), 1 / 256, -128), [(2, 9)], ["LOGISTIC"]),
    ("tanh, uint8", lambda x: u(torch.tanh(u(x)), 1 / 128, 128), [(2, 9)], ["TANH"]),
    ("softmax", lambda x: q(torch.softmax(q(x), -1), 1 / 256, -128), [(2, 9)], ["SOFTMAX"]),
    ("mean", lambda x: q(q(x).mean([2, 3])), [IMAGE], ["MEAN"]),
    ("average pool", lambda x: q(F.avg_pool2d(q(x), 2)), [IMAGE], ["AVERAGE_POOL_2D"]),
    ("moves", lambda x: q(F.pad(F.max_pool2d(q(x), 2), (1, 0, 0, 1)).permute(0, 2, 3, 1)[:, 1:].flatten(1)), [IMAGE],
     ["MAX_POOL_2D", "PAD", "TRANSPOSE", "SLICE", "RESHAPE"]),
    ("moves without their own scales", lambda x: q(q(F.max_pool2d(q(x), 2).flatten(1)) + 1.0, 0.06), [IMAGE],
     ["MAX_POOL_2D", "ADD", "RESHAPE"]),
    ("split and joined", lambda x: q(torch.cat([q(t) for t in torch.split(q(x), [1, 2], 1)], 1)), [IMAGE],
     ["SLICE", "SLICE", "CONCATENATION"]),
    ("joined in another scale", lambda x, y: q(torch.cat([q(x), q(y, 0.1)], 1), 0.12), [(2, 3), (2, 4)],
     ["CONCATENATION"]),
    ("resize", lambda x: q(F.interpolate(q(x), scale_factor=2, mode="bilinear")), [IMAGE], ["RESIZE_BILINEAR"]),
    ("hard swish", lambda x: q(F.hardswish(q(x)), 0.04, -120), [(2, 9)], ["HARD_SWISH"]),
    ("leaky relu", lambda x: q(F.leaky_relu(q(x), 0.1), 0.04, -90), [(2, 9)], ["PRELU"]),
    ("matrix product", lambda x, y: q(q(x) @ q(y, 0.03), 0.2), [(1, 3, 4), (1, 4, 5)], ["BATCH_MATMUL"]),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "shapes", "expected"), [c[1:] for c in INTEGER], ids=[c[0] for c in INTEGER])
def test_operations_between_quantizations_are_integer_ones(subject: Any, shapes: Any, expected: list[str]) -> None:
    torch.manual_seed(0)
    module = (subject if isinstance(subject, nn.Module) else Function(subject)).eval()
    inputs = tuple(torch.randn(shape) * 2 for shape in shapes)
    model = read(module, inputs)
    kept = [t for t in types(model) if t not in ("QUANTIZE", "DEQUANTIZE")]
    assert kept == expected
    assert types(model).count("QUANTIZE") == len(shapes)
    assert types(model).count("DEQUANTIZE") == 1
    (actual,) = execute(model, [t.numpy() for t in inputs])
    with torch.no_grad():
        right = module(*inputs).numpy()
    last = model.operations[[o.type for o in model.operations].index("DEQUANTIZE")]
    step = model.operands[last.inputs[0]].scale
    # One step of the output: PyTorch rounds half to even, NNAPI half away from zero, in fixed point.
    assert np.abs(actual - right).max() <= step * 1.001
    assert (np.abs(actual - right) < step / 2).mean() >= 0.8


def constants(model: Model, type: Any) -> list[Any]:
    return [o for o in model.operands if o.type == type and o.value is not None]


def test_scales_zero_points_and_integers_stay_bit_by_bit() -> None:
    module = Layer(nn.Conv2d(3, 4, 3), act=lambda x, s=0.123456789: q(x, s, -7)).eval()
    model = read(module, torch.zeros(IMAGE))
    (weights,) = constants(model, Q8PC)
    np.testing.assert_array_equal(weights.value, module.stored.permute(0, 2, 3, 1).numpy())
    assert weights.channel_quant.axis == 0
    assert weights.channel_quant.scales == tuple(module.scales.tolist())
    stored = [model.operands[o.outputs[0]] for o in model.operations[:-1]]
    assert [(o.type, o.scale, o.zero_point) for o in stored] == [(Q8S, 0.123456789, -7), (Q8S, 0.7, -7)]
    (bias,) = constants(model, I32)
    real = module.layer.bias.detach().numpy() / (np.float32(0.123456789) * module.scales.numpy())
    np.testing.assert_array_equal(bias.value, np.rint(real))


def test_depthwise_weights_keep_their_scales_along_the_last_dimension() -> None:
    model = read(Layer(nn.Conv2d(4, 4, 3, groups=4)).eval(), torch.zeros(1, 4, 6, 5))
    (weights,) = constants(model, Q8PC)
    assert (weights.channel_quant.axis, weights.dimensions) == (3, (1, 3, 3, 4))


def test_signed_weights_of_one_scale_become_unsigned_beside_unsigned_inputs() -> None:
    module = Layer(nn.Linear(5, 4), per_channel=False, act=u).eval()
    (weights,) = constants(read(module, torch.zeros(2, 5)), Q8)
    np.testing.assert_array_equal(weights.value.astype(int) - 128, module.stored.numpy())
    assert (weights.scale, weights.zero_point) == (0.02, 128)


def test_a_bias_beyond_32_bits_makes_its_scale_coarser() -> None:
    module = Layer(nn.Conv2d(3, 4, 1))
    module.scales[1], module.layer.bias.data[1] = 1e-9, 10.0
    model = read(module.eval(), torch.zeros(IMAGE))
    (bias,), (weights,) = constants(model, I32), constants(model, Q8PC)
    assert bias.value[1] * np.float32(0.05) * weights.channel_quant.scales[1] == pytest.approx(10.0, rel=1e-6)
    assert weights.channel_quant.scales[0] == module.scales[0]


ISLANDS = [
    ("no integer form", lambda x: q(F.elu(q(x))), ["QUANTIZE", "DEQUANTIZE", "ELU", "QUANTIZE", "DEQUANTIZE"]),
    ("another scale than NNAPI's", lambda x: q(torch.sigmoid(q(x)), 0.01),
     ["QUANTIZE", "DEQUANTIZE", "LOGISTIC", "QUANTIZE", "DEQUANTIZE"]),
    ("one input in floats", lambda x: q(q(x) * x, 0.2), ["QUANTIZE", "DEQUANTIZE", "MUL", "QUANTIZE", "DEQUANTIZE"]),
    ("constants in floats", lambda x: q(q(x) * torch.tensor([0.5, 0.25, 3.0]), 0.2),
     ["QUANTIZE", "DEQUANTIZE", "MUL", "QUANTIZE", "DEQUANTIZE"]),
    ("a result that is also read in floats", lambda x: (lambda y: q(y, 0.2) + y)(q(x) * 0.5),
     ["QUANTIZE", "DEQUANTIZE", "MUL", "QUANTIZE", "DEQUANTIZE", "ADD"]),
    ("a range narrower than the type", lambda x: q(x, 0.05, 0, (-8, 7, torch.int8)),
     ["MAXIMUM", "MINIMUM", "QUANTIZE", "DEQUANTIZE"]),
    ("a change of scale", lambda x: q(q(x), 0.1), ["QUANTIZE", "DEQUANTIZE", "QUANTIZE", "DEQUANTIZE"]),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "expected"), [c[1:] for c in ISLANDS], ids=[c[0] for c in ISLANDS])
def test_what_has_no_integer_form_stays_in_floats(subject: Any, expected: list[str]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3) * 2
    model = read(Function(subject), x)
    assert types(model) == expected
    (actual,) = execute(model, [x.numpy()])
    np.testing.assert_allclose(actual, subject(x).numpy(), atol=0.21)  # one step of the coarsest output
    assert np.isclose(actual, subject(x).numpy(), atol=1e-5).mean() > 0.9


def test_a_stored_input_is_dequantized_by_arithmetic() -> None:
    x = torch.arange(-128, 128, dtype=torch.int8).reshape(2, 128)
    model = read(Function(lambda x: ops.dequantize_per_tensor(x, 0.1, 5, *SIGNED)), x)
    (actual,) = execute(model, [x.numpy().astype(np.int32)])
    np.testing.assert_allclose(actual, (x.numpy().astype(np.float32) - 5) * 0.1, rtol=1e-6)


def test_integers_read_with_another_scale() -> None:
    def subject(x: torch.Tensor) -> torch.Tensor:
        return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, 0.05, 3, *SIGNED), 0.1, 0, *SIGNED)

    x = torch.randn(3, 4)
    (actual,) = execute(read(Function(subject), x), [x.numpy()])
    np.testing.assert_allclose(actual, subject(x).numpy(), rtol=1e-6)


BAD = [
    ("int16", lambda x: ops.quantize_per_tensor(x, 0.1, 0, -32768, 32767, torch.int16), "int16"),
    ("per channel", lambda x: ops.dequantize_per_channel(
        ops.quantize_per_channel(x, AXIS_SCALES, torch.zeros(4, dtype=torch.int64), 1, *SIGNED),
        AXIS_SCALES, torch.zeros(4, dtype=torch.int64), 1, *SIGNED), "per channel"),
    ("dynamic", lambda x: ops.quantize_per_tensor.tensor(
        x, *ops.choose_qparams.tensor(x, -128, 127, 1e-5, torch.int8), *SIGNED), "dynamic"),
    ("not converted", lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127), "convert_pt2e"),
    ("zero scale", lambda x: q(x, 0.0), "scale"),
    ("zero point out of range", lambda x: q(x, 0.1, 300, UNSIGNED), "zero point"),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "message"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_what_nnapi_cannot_say_is_a_clear_error(subject: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(Function(subject), torch.randn(2, 4))


def test_a_model_takes_and_gives_integers() -> None:
    module = Layer(nn.Conv2d(3, 4, 3)).eval()
    x = torch.randn(IMAGE)
    model = read(module, x)
    integer = integer_boundary(model)
    assert types(integer) == ["CONV_2D"]
    (given,), (result,) = integer.input_operands, integer.output_operands
    assert (given.type, given.scale, given.zero_point) == (Q8S, 0.05, 3)
    assert (given.name, result.name) == (model.input_operands[0].name, model.output_operands[0].name)
    stored = ops.quantize_per_tensor(x, 0.05, 3, *SIGNED).numpy()
    (actual,) = execute(integer, [stored])
    (real,) = execute(model, [x.numpy()])
    np.testing.assert_allclose((actual.astype(np.float32) - result.zero_point) * result.scale, real, rtol=1e-6)


def test_an_input_that_is_also_read_in_floats_stays() -> None:
    model = read(Function(lambda x: q(x) + x), torch.zeros(2, 3))
    assert integer_boundary(model) is model
