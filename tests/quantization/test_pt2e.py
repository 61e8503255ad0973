"""The PT2E quantizer: what it prepares comes in as integers from the first QUANTIZE to the last DEQUANTIZE."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnapi
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, PrepareOptions
from nnapi.drivers.reference import execute
from nnapi.errors import ModelError, QuantizeError
from nnapi.ir.model import Model
from nnapi.ir.verify import feature_level
from nnapi.ops.types import Q8, Q8PC, Q8S
from nnapi.passes.integer_boundary import integer_boundary

pytest.importorskip("torchao")
pytestmark = [
    pytest.mark.filterwarnings("ignore:::torchao"),
    pytest.mark.filterwarnings("ignore:::torch"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]

BOUNDARY = ("QUANTIZE", "DEQUANTIZE")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Block(nn.Module):
    """Layers and how they are put together."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self, *inputs)


def quantized(module: nn.Module, *inputs: torch.Tensor, **options: Any) -> nn.Module:
    """The module, calibrated on its inputs."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from nnapi.quantization.pt2e import NnapiQuantizer

    with torch.no_grad():
        program = torch.export.export(module.eval(), inputs)
        prepared = prepare_pt2e(program.module(), NnapiQuantizer(training=False, **options))
        prepared(*inputs)
        return convert_pt2e(prepared)


def types(model: Model) -> list[str]:
    return [o.type for o in model.operations]


def conv(channels: int, width: int, size: int = 3, **options: Any) -> nn.Module:
    return nn.Conv2d(channels, width, size, padding=size // 2, **options)


def norm(channels: int) -> nn.Module:
    layer = nn.BatchNorm2d(channels)
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    nn.init.normal_(layer.bias)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


IMAGE = (2, 4, 6, 6)
POOLED = ["CONV_2D", "MEAN", "RESHAPE"]
torch.manual_seed(0)  # weights by chance may be worse than any limit
INTEGER = [
    ("conv, norm, relu", Block(lambda m, x: F.relu(m.n(m.c(x))), c=conv(4, 8, bias=False), n=norm(8)), ["CONV_2D"]),
    ("depthwise, relu6 in place",
     Block(lambda m, x: F.relu6(m.n(m.c(x)), inplace=True), c=conv(4, 4, groups=4), n=norm(4)), ["DEPTHWISE_CONV_2D"]),
    ("transposed", Block(lambda m, x: F.relu(m.c(x)), c=nn.ConvTranspose2d(4, 8, 2, stride=2)), ["TRANSPOSE_CONV_2D"]),
    ("residual", Block(lambda m, x: F.relu(x + m.c(x)), c=conv(4, 4)), ["CONV_2D", "ADD"]),
    ("residual in place", Block(lambda m, x: m.c(x).add_(x).relu_(), c=conv(4, 4)), ["CONV_2D", "ADD"]),
    ("joined", Block(lambda m, x: torch.cat([m.a(x), F.max_pool2d(x, 3, 1, 1)], 1), a=conv(4, 8)),
     ["CONV_2D", "MAX_POOL_2D", "CONCATENATION"]),
    ("split", Block(lambda m, x: torch.cat([m.c(a := x.chunk(2, 1)[0]), a], 1), c=conv(2, 2)),
     ["SPLIT", "CONV_2D", "CONCATENATION"]),
    ("head", Block(lambda m, x: m.l(F.adaptive_avg_pool2d(x, 1).flatten(1)), l=nn.Linear(4, 3)),
     ["MEAN", "RESHAPE", "FULLY_CONNECTED"]),
    ("mean, softmax", Block(lambda m, x: torch.softmax(m.l(x.mean([2, 3])), -1), l=nn.Linear(4, 3)),
     ["MEAN", "FULLY_CONNECTED", "SOFTMAX"]),
    ("squeeze and excite", Block(lambda m, x: x * F.hardsigmoid(m.c(x.mean([2, 3], keepdim=True))), c=conv(4, 4, 1)),
     ["MEAN", "CONV_2D", "ADD", "MUL", "MUL"]),
    ("silu", Block(lambda m, x: F.silu(m.c(x)), c=conv(4, 8)), ["CONV_2D", "LOGISTIC", "MUL"]),
    ("gate", Block(lambda m, x: torch.sigmoid(m.a(x)) * torch.tanh(m.b(x)), a=conv(4, 4), b=conv(4, 4)),
     ["CONV_2D", "LOGISTIC", "CONV_2D", "TANH", "MUL"]),
    ("resized", Block(lambda m, x: F.interpolate(m.c(x), scale_factor=2, mode="bilinear"), c=conv(4, 8)),
     ["CONV_2D", "RESIZE_BILINEAR"]),
    ("padded", Block(lambda m, x: F.avg_pool2d(F.pad(m.c(x), (1, 1, 1, 1)), 2), c=conv(4, 8)),
     ["CONV_2D", "PAD", "AVERAGE_POOL_2D"]),
    ("shuffled", Block(lambda m, x: F.pixel_shuffle(m.c(x), 2), c=conv(4, 8)), None),
    ("tokens", Block(lambda m, x: m.l(x.flatten(2).transpose(1, 2)), l=nn.Linear(4, 5)), None),
    ("numbers", Block(lambda m, x: m.c(x) * 0.5 + 1.0, c=conv(4, 8)), ["CONV_2D", "MUL", "ADD"]),
    ("two readers", Block(lambda m, x: m.a(x) + m.b(F.relu(x)), a=conv(4, 4), b=conv(4, 4)), None),
]  # fmt: skip


@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize(("module", "expected"), [c[1:] for c in INTEGER], ids=[c[0] for c in INTEGER])
def test_everything_is_integers(module: nn.Module, expected: list[str] | None, unsigned: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(IMAGE)
    converted = quantized(copy.deepcopy(module), x, unsigned=unsigned)
    module.eval()
    model = nnapi.load(converted, (x,))
    found = types(model)
    assert [found[0], found[-1]] == list(BOUNDARY)
    assert not set(found[1:-1]) & set(BOUNDARY)
    assert expected is None or found[1:-1] == expected
    stored = {o.type for o in model.operands if o.type.is_quantized}
    assert stored <= ({Q8} if unsigned else {Q8S, Q8PC})
    in_floats = feature_level(nnapi.load(module, (x,)))
    assert feature_level(integer_boundary(model)) <= max(3 if unsigned else 4, in_floats)
    (actual,) = execute(model, [x.numpy()])
    with torch.no_grad():
        right, real = converted(x).numpy(), module(x).numpy()
    step = model.operands[model.operations[-1].inputs[0]].scale
    # Each operation may differ by one step of rounding, which those behind it carry on.
    assert np.abs(actual - right).max() <= 3.001 * step
    assert (np.abs(actual - right) <= 1.001 * step).mean() >= 0.99
    noise = np.square(actual - real).mean() / np.square(real - real.mean()).mean()
    assert noise < 10**-2.5  # 25 dB


def test_what_nnapi_wants_alike_is_alike() -> None:
    block = Block(lambda m, x: torch.cat([m.a(x), m.b(x) * 5], 1), a=conv(4, 4), b=conv(4, 4))
    x = torch.randn(IMAGE)
    model = nnapi.load(quantized(block, x), (x,))
    (join,) = (o for o in model.operations if o.type == "CONCATENATION")
    operands = [model.operands[i] for i in (*join.inputs[:-1], *join.outputs)]
    assert len({(o.scale, o.zero_point) for o in operands}) == 1


def test_weights_are_symmetric_per_channel_but_in_fully_connected_layers() -> None:
    block = Block(lambda m, x: m.l(m.c(x).mean([2, 3])), c=conv(4, 8), l=nn.Linear(8, 3))
    x = torch.randn(IMAGE)
    model = nnapi.load(quantized(block, x), (x,))
    filters = {o.type: model.operands[o.inputs[1]] for o in model.operations if len(o.inputs) > 3}
    assert filters["CONV_2D"].type == Q8PC
    assert filters["FULLY_CONNECTED"].type == Q8S
    assert filters["FULLY_CONNECTED"].zero_point == 0
    assert all(o.value.min() >= -127 for o in filters.values())


def test_without_integer_form_stays_in_floats() -> None:
    block = Block(lambda m, x: m.b(F.elu(m.a(x))), a=conv(4, 4), b=conv(4, 4))
    x = torch.randn(IMAGE)
    model = nnapi.load(quantized(block, x), (x,))
    assert types(model) == ["QUANTIZE", "CONV_2D", "DEQUANTIZE", "ELU", "QUANTIZE", "CONV_2D", "DEQUANTIZE"]


def test_modules_may_be_left_in_floats() -> None:
    block = Block(lambda m, x: m.l(m.c(x).mean([2, 3])), c=conv(4, 8), l=nn.Linear(8, 3))
    x = torch.randn(IMAGE)
    model = nnapi.load(quantized(block, x, in_float=["l"]), (x,))
    assert types(model) == ["QUANTIZE", "CONV_2D", "MEAN", "DEQUANTIZE", "FULLY_CONNECTED"]


BAD = [
    ("unknown part", Block(lambda m, x: m.c(x), c=conv(4, 4)), {"in_float": ["head"]}, "head"),
    ("all in floats", Block(lambda m, x: m.c(x), c=conv(4, 4)), {"in_float": ["c"]}, "nothing"),
    ("no integer form", Block(lambda m, x: F.elu(x)), {}, "nothing"),
]


@pytest.mark.parametrize(("module", "options", "message"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_nothing_to_quantize_is_an_error(module: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantizeError, match=message):
        quantized(module, torch.zeros(IMAGE), **options)


def prepared_for_training(module: nn.Module, x: torch.Tensor, **options: Any) -> nn.Module:
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    from nnapi.quantization.pt2e import NnapiQuantizer

    batch = {0: torch.export.Dim.AUTO}
    shapes = ((batch,),) if isinstance(module, Block) else (batch,)
    program = torch.export.export(module, (x,), dynamic_shapes=shapes)
    return prepare_qat_pt2e(program.module(), NnapiQuantizer(**options))


def test_a_model_that_is_only_prepared_is_an_error() -> None:
    x = torch.randn(IMAGE)
    prepared = prepared_for_training(Block(lambda m, x: m.c(x), c=conv(4, 4)).eval(), x)
    prepared(x)
    with pytest.raises(ModelError, match="convert_pt2e"):
        nnapi.load(prepared, (x,))


def test_another_quantizer_of_pytorch() -> None:
    """Intel's: unsigned activations, signed weights per channel, also in linear layers."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    torch.manual_seed(0)
    block = Block(lambda m, x: m.l(F.relu(m.c(x) + x).flatten(1)), c=conv(4, 4), l=nn.Linear(144, 3)).eval()
    x = torch.randn(IMAGE)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        prepared = prepare_pt2e(torch.export.export(block, (x,)).module(), quantizer)
        prepared(x)
        converted = convert_pt2e(prepared)
        model = nnapi.load(converted, (x,))
        right = converted(x).numpy()
    channels = {len(o.channel_quant.scales) for o in model.operands if o.type == Q8PC}
    assert channels == {3, 4}
    assert {o.scale for o in model.operands if o.type == Q8} == {
        n.args[1] for n in converted.graph.nodes if "dequantize_per_tensor" in str(n.target)
    }
    (actual,) = execute(model, [x.numpy()])
    assert np.abs(actual - right).max() <= 0.02 * np.abs(right).max()


def fine_tune(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(module(images[batch]), labels[batch]))
            optimizer.step()


@pytest.fixture(scope="module")
def digits() -> Any:
    """The trained network, its accuracy and test images; what it was trained on."""
    from nnapi.zoo.digits import TEST_IMAGES, load_digits, train_digits

    pytest.importorskip("sklearn")
    torch.set_num_threads(1)
    module, accuracy, test = train_digits()
    images, labels = load_digits(torch.Generator().manual_seed(0))
    return module, accuracy, test, (images[TEST_IMAGES:], labels[TEST_IMAGES:])


def assert_as_good(converted: nn.Module, accuracy: float, images: torch.Tensor, labels: torch.Tensor) -> Model:
    """The integer model is within 0.2 points of `accuracy`, and predicts what PyTorch's does."""
    model = nnapi.load(converted, (images,))
    assert not set(types(model)[1:-1]) & set(BOUNDARY)
    with torch.no_grad():
        right = converted(images).numpy()
    step = model.operands[model.operations[-1].inputs[0]].scale
    optimized = nnapi.optimize(model)
    results = {}
    for device in ("reference", "litert"):
        driver = registry.get(device)
        assert all(isinstance(verdict, Accept) for verdict in driver.supported(optimized))
        (results[device],) = driver.prepare(optimized, PrepareOptions()).run([images.numpy()])
        assert (results[device].argmax(1) == labels.numpy()).mean() >= accuracy - 0.002
        assert (results[device].argmax(1) == right.argmax(1)).mean() >= 0.997
    assert (np.abs(results["reference"] - results["litert"]) <= 1.001 * step).mean() >= 0.999
    return model


@pytest.mark.slow
@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
def test_digits_after_training_are_as_good_as_in_floats(digits: Any, unsigned: bool) -> None:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    module, accuracy, test, (images, labels) = digits
    prepared = prepared_for_training(copy.deepcopy(module).eval(), images[:2], unsigned=unsigned)
    fine_tune(prepared, images, labels, epochs=2)
    model = assert_as_good(convert_pt2e(prepared), accuracy, *test)
    integer = integer_boundary(nnapi.optimize(model))
    assert not set(types(integer)) & set(BOUNDARY)
    assert feature_level(integer) <= (2 if unsigned else 4)


@pytest.mark.slow
def test_digits_with_batch_normalization_in_training(digits: Any) -> None:
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    module, accuracy, test, (images, labels) = digits
    prepared = prepared_for_training(copy.deepcopy(module).train(), images[:2])
    fine_tune(prepared, images, labels, epochs=1)
    move_exported_model_to_eval(prepared)
    assert_as_good(convert_pt2e(prepared), accuracy, *test)
