"""PyTorch's own NNAPI client: converts modules with torch.backends._nnapi and runs them through libneuralnetworks.so.

Run with LD_LIBRARY_PATH on the library. Prints one line of JSON per case: its name, the NNAPI operations that the
converter emitted, and for quantized outputs by how many quanta they differ from PyTorch's at most, and how many of
them do. Outputs of floats must be close in the sense of torch.testing.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

warnings.simplefilter("ignore")  # of a client that PyTorch no longer develops

from torch.backends._nnapi.prepare import convert_model_to_nnapi  # noqa: E402
from torch.backends._nnapi.serializer import NNAPI_OperationCode, _NnapiSerializer  # noqa: E402

NAMES = {code: name for name, code in vars(NNAPI_OperationCode).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Case:
    """A module and its inputs; `shapes` are those it is converted for, 0 for what is known when it is loaded."""

    name: str
    module: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    shapes: tuple[Tensor, ...] = ()


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def nhwc(x: Tensor) -> Tensor:
    """A tensor that the converter is to take as NHWC."""
    x = x.contiguous(memory_format=torch.channels_last)
    x.nnapi_nhwc = True  # type: ignore[attr-defined]
    return x


def quantized(x: Tensor, scale: float = 0.05, zero_point: int = 120) -> Tensor:
    """`x` as quint8."""
    return torch.quantize_per_tensor(x, scale, zero_point, torch.quint8)


def image(*shape: int) -> Tensor:
    """Normal values."""
    return torch.randn(shape)


def qimage(*shape: int) -> Tensor:
    """Quantized values, NHWC."""
    return nhwc(quantized(image(*shape)))


def qlinear(features: int, outputs: int, scale: float = 0.02) -> nn.Module:
    """A quantized linear layer."""
    layer = torch.ao.nn.quantized.Linear(features, outputs)
    weight = torch.quantize_per_tensor(torch.randn(outputs, features), scale, 0, torch.qint8)
    layer.set_weight_bias(weight, torch.randn(outputs))
    layer.scale, layer.zero_point = 0.1, 100
    return layer


def qconv(kind: Any, channels: int, filters: int, kernel: int = 3, *, groups: int = 1, **options: Any) -> nn.Module:
    """A quantized convolution."""
    layer = kind(channels, filters, kernel, groups=groups, **options)
    weight = torch.quantize_per_tensor(torch.randn(layer.weight().shape) * 0.3, 0.02, 0, torch.qint8)
    layer.set_weight_bias(weight, torch.randn(filters))
    layer.scale, layer.zero_point = 0.2, 110
    return layer


CONVOLUTIONS = (
    # name, channels, filters, kernel, stride, padding, groups
    ("3x3", 4, 8, 3, 1, 0, 1),
    ("3x3-padded", 4, 16, 3, 1, 1, 1),
    ("3x3-stride-2", 8, 8, 3, 2, 0, 1),
    ("5x5", 4, 8, 5, 1, 0, 1),
    ("3x3-depthwise", 4, 4, 3, 1, 0, 4),
    ("1x1", 8, 4, 1, 1, 0, 1),
)


def cases() -> Sequence[Case]:
    """Everything that the converter knows, float and quantized, NCHW and NHWC, with fixed and flexible sizes."""
    quantized_layers = torch.ao.nn.quantized
    functional = torch.ops.quantized
    x, y = image(1, 4, 6, 6), image(1, 4, 6, 6)
    flexible = (torch.zeros(0, 4, 0, 0),)
    rows = [
        *(Case(f"unsqueeze{dim}", Unsqueeze(dim), (image(4, 2, 2),)) for dim in (-2, -1, 0, 1, 2)),
        Case("reshape", lambda x: x.reshape(2, 4), (image(4, 2, 1, 1),)),
        Case("reshape-nhwc", lambda x: x.reshape(8, -1), (nhwc(image(4, 2, 1, 1)),)),
        *(
            Case(f"flatten-{start}-{end}", nn.Flatten(start, end), (image(4, 2, 3, 7),))
            for start, end in ((1, -1), (2, 3), (0, -2), (0, 3))
        ),
        Case("flatten-nhwc", lambda x: x.flatten(1, -1), (nhwc(image(4, 2, 1, 1)),)),
        Case("flatten-flexible", lambda x: x.flatten(1, -1), (image(5, 2, 3, 3),), (torch.zeros(0, 2, 3, 3),)),
        Case("slice", lambda x: x[1:, 1:5:2, :], (image(4, 6, 2),)),
        Case("slice-flexible", lambda x: x[1:, 1:5:2, :], (image(4, 6, 2),), (torch.zeros(4, 6, 0),)),
        Case("slice-vector", lambda x: x[3:], (image(5),)),
        Case("concatenate-batches", lambda x, y: torch.cat([x, y], 0), (image(1, 2, 3, 3), image(2, 2, 3, 3))),
        Case("concatenate", lambda x, y: torch.cat([x, y], 1), (image(1, 2, 3, 3), image(1, 4, 3, 3))),
        Case("concatenate-nhwc", lambda x, y: torch.cat([x, y], 1), (nhwc(image(1, 2, 3, 3)), nhwc(image(1, 4, 3, 3)))),
        Case(
            "concatenate-flexible",
            lambda x, y: torch.cat([x, y], 1),
            (image(1, 2, 3, 3), image(1, 4, 3, 3)),
            (torch.zeros(0, 0, 0, 0), torch.zeros(0, 0, 0, 0)),
        ),
        Case("mean", lambda x: x.mean([2, 3]), (x,)),
        Case("mean-of-rows", lambda x: x.mean(0), (image(2, 3),)),
        Case("mean-negative", lambda x: x.mean([-1, -2]), (nhwc(x),)),
        Case("mean-keep", lambda x: x.mean([1, 2], keepdim=True), (image(2, 3, 4),)),
        Case("mean-nhwc", lambda x: x.mean([2, 3]), (nhwc(x),)),
        Case("mean-nhwc-keep", lambda x: x.mean([2, 3], keepdim=True), (nhwc(x),)),
        Case("quantize", quantized_layers.Quantize(0.1, 128, torch.quint8), (nhwc(x),)),
        Case("dequantize", quantized_layers.DeQuantize(), (qimage(1, 4, 3, 3),)),
        Case("relu", F.relu, (image(3, 4),)),
        Case("relu-quantized", F.relu, (quantized(image(3, 4)),)),
        Case("relu-flexible", F.relu, (image(3, 4),), (torch.zeros(0, 0),)),
        Case("sigmoid", torch.sigmoid, (image(3, 4),)),
        Case("sigmoid-quantized", torch.sigmoid, (quantized(image(3, 4)),)),
        Case("softmax", lambda x: F.softmax(x, -1), (image(3, 4),)),
        Case("softmax-0", lambda x: F.softmax(x, 0), (image(3, 4),)),
        Case("softmax-flexible", lambda x: F.softmax(x, 1), (image(3, 4),), (torch.zeros(0, 0),)),
        Case("softmax-1", lambda x: F.softmax(x, 1), (image(2, 3, 4, 2),)),
        Case("log-softmax", lambda x: F.log_softmax(x, 1), (image(3, 4),)),
        Case("hardtanh-relu1", nn.Hardtanh(), (image(3, 4),)),
        Case("hardtanh-relu6", nn.ReLU6(), (image(3, 4) * 5,)),
        Case("hardtanh-relu6-quantized", nn.ReLU6(), (quantized(image(3, 4) * 2),)),
        Case("prelu", nn.PReLU(), (x,)),
        Case("prelu-nhwc", nn.PReLU(4), (nhwc(x),)),
        Case("prelu-flexible", nn.PReLU(), (x,), (torch.zeros(1, 4, 0, 0),)),
        Case("prelu-flexible-nhwc", nn.PReLU(4), (x,), (nhwc(torch.zeros(1, 4, 0, 0)),)),
        Case("max-pool", nn.MaxPool2d(3, 2, 1), (x,)),
        Case("max-pool-nhwc", nn.MaxPool2d((2, 3), 2), (nhwc(x),)),
        Case("max-pool-quantized", nn.MaxPool2d(3, 2, 1), (qimage(1, 4, 6, 6),)),
        Case("average-pool", nn.AvgPool2d(2), (x,)),
        Case("average-pool-nhwc", nn.AvgPool2d((2, 3), (1, 2)), (nhwc(x),)),
        Case("average-pool-quantized", nn.AvgPool2d(2), (qimage(1, 4, 6, 6),)),
        Case("average-pool-flexible", nn.AvgPool2d(2), (x,), (torch.zeros(1, 4, 0, 0),)),
        # Converted for another scale than it is run with: the input's own counts.
        Case(
            "average-pool-other-scale",
            nn.AvgPool2d((3, 4), (1, 2)),
            (quantized(image(2, 3, 12, 16), 0.03, 128),),
            (quantized(torch.zeros(2, 3, 0, 0), 1 / 16, 128),),
        ),
        Case("max-pool-quantized-nchw", nn.MaxPool2d((3, 4), (1, 2)), (quantized(image(2, 3, 12, 16)),)),
        Case("average-pool-quantized-nchw", nn.AvgPool2d((3, 4), (1, 2)), (quantized(image(2, 3, 12, 16)),)),
        Case("global-pool-quantized-nchw", nn.AdaptiveAvgPool2d((1, 1)), (quantized(image(2, 3, 12, 16)),)),
        Case("global-pool", nn.AdaptiveAvgPool2d((1, 1)), (x,)),
        Case("global-pool-nhwc", nn.AdaptiveAvgPool2d((1, 1)), (nhwc(x),)),
        Case("global-pool-quantized", nn.AdaptiveAvgPool2d((1, 1)), (qimage(1, 4, 6, 6),)),
        Case("upsample", nn.UpsamplingNearest2d(size=(12, 20)), (x,)),
        Case("upsample-scale", nn.UpsamplingNearest2d(scale_factor=(2, 3)), (x,)),
        *(
            Case(f"upsample-by-{factor}", nn.UpsamplingNearest2d(scale_factor=factor), (image(2, 3, 12, 16),))
            for factor in (1.5, 3.0)
        ),
        *(
            Case(f"upsample-to-{h}", nn.UpsamplingNearest2d(size=(h, w)), (quantized(image(2, 3, 12, 16)),))
            for h, w in ((16, 20), (24, 32), (36, 48))
        ),
        Case("upsample-nhwc", nn.UpsamplingNearest2d(size=12), (nhwc(x),)),
        Case("upsample-quantized", nn.UpsamplingNearest2d(scale_factor=2), (qimage(1, 4, 6, 6),)),
        Case("upsample-flexible", nn.UpsamplingNearest2d(scale_factor=2), (x,), (torch.zeros(1, 4, 0, 0),)),
        Case("linear", nn.Linear(16, 32), (image(2, 16),)),
        Case("linear-flexible", nn.Linear(16, 32), (image(3, 16),), (torch.zeros(0, 16),)),
        Case("linear-quantized", qlinear(16, 32), (quantized(image(2, 16)),)),
        Case("convolution", nn.Conv2d(4, 8, 3, padding=1), (x,)),
        Case("convolution-nhwc", nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2)), (nhwc(x),)),
        Case("convolution-no-bias", nn.Conv2d(4, 8, 1, bias=False), (x,)),
        Case("convolution-flexible", nn.Conv2d(4, 8, 3, padding=1), (image(2, 4, 5, 7),), flexible),
        Case("depthwise", nn.Conv2d(4, 4, 3, groups=4), (x,)),
        Case("depthwise-nhwc", nn.Conv2d(4, 4, 3, stride=2, groups=4), (nhwc(x),)),
        Case("transposed", nn.ConvTranspose2d(4, 8, 3, stride=2), (x,)),
        Case("transposed-nhwc", nn.ConvTranspose2d(4, 8, 3, padding=1), (nhwc(x),)),
        Case("transposed-flexible", nn.ConvTranspose2d(4, 8, 3, stride=2), (image(1, 4, 5, 7),), flexible),
        Case("linear-quantized-wide", qlinear(32, 16, 0.125), (quantized(image(2, 32), 0.05, 130),)),
        *(
            Case(
                f"convolution-quantized-{name}",
                qconv(
                    quantized_layers.Conv2d, channels, filters, kernel, stride=stride, padding=padding, groups=groups
                ),
                (nhwc(quantized(image(2, channels, 16, 16), 1 / 16, 128)),),
            )
            for name, channels, filters, kernel, stride, padding, groups in CONVOLUTIONS
        ),
        *(
            Case(
                f"convolution-quantized-nchw-{name}",
                qconv(
                    quantized_layers.Conv2d, channels, filters, kernel, stride=stride, padding=padding, groups=groups
                ),
                (quantized(image(2, channels, 16, 16), 1 / 16, 128),),
                (quantized(torch.zeros(0, channels, 0, 0), 1 / 16, 128),),
            )
            for name, channels, filters, kernel, stride, padding, groups in CONVOLUTIONS
        ),
        Case("convolution-quantized", qconv(quantized_layers.Conv2d, 4, 8, padding=1), (qimage(1, 4, 6, 6),)),
        Case("depthwise-quantized", qconv(quantized_layers.Conv2d, 4, 4, groups=4), (qimage(1, 4, 6, 6),)),
        Case(
            "convolution-relu-quantized", qconv(torch.ao.nn.intrinsic.quantized.ConvReLU2d, 4, 8), (qimage(1, 4, 6, 6),)
        ),
        Case("transposed-quantized", qconv(quantized_layers.ConvTranspose2d, 4, 8), (qimage(1, 4, 6, 6),)),
        Case("add-quantized", lambda x, y: functional.add(x, y, 0.1, 110), (qimage(1, 4, 3, 3), qimage(1, 4, 3, 3))),
        Case(
            "add-relu-quantized",
            lambda x, y: functional.add_relu(x, y, 0.1, 20),
            (qimage(1, 4, 3, 3), qimage(1, 4, 3, 3)),
        ),
        Case(
            "multiply-quantized", lambda x, y: functional.mul(x, y, 0.1, 64), (qimage(1, 4, 3, 3), qimage(1, 4, 3, 3))
        ),
        Case("detach-to", lambda x: F.relu(x.detach().to("cpu")), (image(3, 4),)),
        Case("two-outputs", lambda x, y: (x + y, x * y), (x, y)),
        Case("squeeze-and-excite", SqueezeAndExcite(), (nhwc(x),)),
        Case("transpose", lambda x, y: x * y, (nhwc(x), image(1, 4, 1, 1))),
        Case("int32", lambda x, y: x + y, (torch.tensor([1, 2], dtype=torch.int32),) * 2),
    ]
    rows += [
        Case(f"{name}-{kind}", function, inputs, shapes)
        for name, function in BINARY.items()
        for kind, inputs, shapes in (
            ("plain", (x, y.abs() + 1), ()),
            ("broadcast", (x, y[:, :, :1, :1].abs() + 1), ()),
            ("nhwc", (nhwc(x), nhwc(y.abs() + 1)), ()),
            ("flexible", (image(4, 5), image(4, 5).abs() + 1), (torch.zeros(0, 5), torch.zeros(0, 5))),
        )
    ]
    rows += [
        Case(f"{name}-constant-{kind}", WithConstant(function), (arranged(image(2, 3, 4, 4)),))
        for name, function in (("add", torch.add), ("mul", torch.mul), ("flipped", lambda x, y: y + x))
        for kind, arranged in (("nchw", torch.clone), ("nhwc", nhwc))
    ]
    return rows


BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
}


class Unsqueeze(nn.Module):
    """A dimension of 1 put in."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(self.dim)


class WithConstant(nn.Module):
    """A binary function of the input and a weight."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class SqueezeAndExcite(nn.Module):
    """Channels weighted by what a pool over the image says."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(F.adaptive_avg_pool2d(x, (1, 1)))


def networks() -> Sequence[Case]:
    """MobileNet-V2 whole."""
    from nnapi import zoo

    module, inputs = zoo.build("mobilenet_v2")
    for layer in module.modules():
        if hasattr(layer, "inplace"):  # the converter knows relu6 and not relu6_
            layer.inplace = False
    return [Case("mobilenet-v2", module, inputs), Case("mobilenet-v2-nhwc", module, tuple(map(nhwc, inputs)))]


def compare(case: Case) -> dict[str, Any]:
    """Convert, run on other values than those it was traced with, and compare."""
    module = case.module if isinstance(case.module, nn.Module) else Function(case.module)
    module.eval()
    emitted: list[int] = []
    with torch.no_grad():
        wanted = module(*case.inputs)
        traced = torch.jit.trace(module, case.inputs)
        serializer = Recording(emitted)
        client = convert_model_to_nnapi(traced, case.shapes or case.inputs, serializer=serializer)
        got = client(*case.inputs)
        again = client(*case.inputs)
    wanted, got, again = (v if isinstance(v, tuple) else (v,) for v in (wanted, got, again))
    result: dict[str, Any] = {"name": case.name, "operations": [NAMES[code] for code in emitted]}
    for a, b, c in zip(wanted, got, again, strict=True):
        assert a.shape == b.shape, f"shape {tuple(b.shape)}, PyTorch's is {tuple(a.shape)}"
        assert torch.equal(b.int_repr(), c.int_repr()) if b.is_quantized else torch.equal(b, c), "two runs differ"
        if not a.is_quantized:
            torch.testing.assert_close(b, a)
            continue
        quanta = ((a.dequantize() - b.dequantize()) / b.q_scale()).abs()
        result["quanta"] = round(quanta.max().item(), 3)
        result["differing"] = (quanta > 0.5).float().mean().item()
    return result


class Recording(_NnapiSerializer):
    """The converter, with a note of every operation that it emits."""

    def __init__(self, emitted: list[int]) -> None:
        super().__init__(config=None)
        self.emitted = emitted

    def add_operation(self, opcode: int, inputs: Any, outputs: Any) -> None:
        self.emitted.append(opcode)
        super().add_operation(opcode, inputs, outputs)


def main() -> None:
    """Run `small` or `large` cases."""
    torch.manual_seed(0)
    torch.backends.quantized.engine = "qnnpack"  # the other engine saturates
    for case in cases() if sys.argv[1] == "small" else networks():
        try:
            result = compare(case)
        except Exception as error:  # one case must not hide the others
            result = {"name": case.name, "failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
