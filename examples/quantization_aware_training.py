"""What int8 costs in accuracy: in floats, quantized after training, and after training that knows of it.

Two networks on scikit-learn's digits: the zoo's small one, and one in the shape of MobileNet-V2 on the images enlarged
to 32 x 32. Everything is trained here, in about a minute. Needs `pip install 'nnapi[qat,dev]'`.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

import nnapi
from nnapi import zoo
from nnapi.drivers import registry
from nnapi.drivers.driver import PrepareOptions
from nnapi.quantization.pt2e import NnapiQuantizer
from nnapi.zoo.digits import TEST_IMAGES, load_digits
from nnapi.zoo.layers import conv_norm, relu6
from nnapi.zoo.mobilenet_v2 import InvertedResidual
from nnapi.zoo.weights import initialize

SIDE = 32
BATCH = 64
LIMITS = {"int8": 0.005, "uint8": 0.01, "int8, trained for it": 0.002}
"""How much accuracy each may lose."""
# expansion, channels, repeats, stride of the first, as in the paper's table 2
STAGES = ((1, 8, 1, 1), (4, 12, 2, 2), (4, 16, 2, 2), (4, 24, 1, 1))

Data = tuple[torch.Tensor, torch.Tensor]


class SmallMobileNetV2(nn.Module):
    """`x [N, 1, 32, 32] -> logits [N, 10]`"""

    def __init__(self, stem: int = 8, head: int = 96) -> None:
        super().__init__()
        blocks, channels = [], stem
        for expansion, width, repeats, stride in STAGES:
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, width, expansion, stride if index == 0 else 1))
                channels = width
        last = conv_norm(channels, head, 1, activation=relu6)
        self.features = nn.Sequential(conv_norm(1, stem, 3, 2, activation=relu6), *blocks, last)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(head, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


def train(module: nn.Module, data: Data, epochs: int, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Train on `images [N, ...], labels [N]` with a rate that rises to `rate` and falls to nothing."""
    images, labels = data
    generator = torch.Generator().manual_seed(0)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(module(images[batch]), labels[batch]))
            optimizer.step()
            schedule.step()


def train_mobilenet(data: Data) -> nn.Module:
    """The network in floats, in evaluation mode."""
    torch.manual_seed(0)
    module = initialize(SmallMobileNetV2(), (1, 1, SIDE, SIDE), torch.Generator().manual_seed(0)).train()
    train(module, data, epochs=10, optimizer=torch.optim.Adam(module.parameters()), rate=1e-2)
    return module.eval()


def train_quantized(module: nn.Module, data: Data, epochs: int = 3) -> nn.Module:
    """A trained module, trained a little longer with quantization imitated: exported, prepared, trained, converted."""
    example = (data[0][:2],)
    program = torch.export.export(copy.deepcopy(module), example, dynamic_shapes=({0: torch.export.Dim.AUTO},))
    prepared = prepare_qat_pt2e(program.module(), NnapiQuantizer())
    train(prepared, data, epochs, torch.optim.SGD(prepared.parameters(), momentum=0.9), rate=1e-3)
    return convert_pt2e(prepared)


def accuracy(model: nnapi.Model, test: Data) -> float:
    """The share of right answers on `images [N, ...], labels [N]`."""
    images, labels = test
    driver = registry.get("litert")
    (logits,) = driver.prepare(nnapi.optimize(model), PrepareOptions()).run([images.numpy()])
    return float(np.mean(logits.argmax(1) == labels.numpy()))


def compare(module: nn.Module, training: Data, test: Data) -> dict[str, float]:
    """Accuracies in floats, in integers after training, and in integers after training that knows of them."""
    example = (test[0],)
    model = nnapi.load(module, example)
    calibration = [training[0][: len(test[0])].numpy()]  # one batch of the model's size
    results = {"float": accuracy(model, test)}
    for recipe in ("int8", "uint8"):
        quantized = nnapi.quantize(model, calibration, recipe={"base": recipe, "boundary": "float32"})
        results[recipe] = accuracy(quantized, test)
    results["int8, trained for it"] = accuracy(nnapi.load(train_quantized(module, training), example), test)
    return results


def measure() -> dict[str, dict[str, float]]:
    """Both networks, trained and compared: network -> how it computes -> share of right answers."""
    torch.set_num_threads(1)  # sums in one order: the same figures every time
    images, labels = load_digits(torch.Generator().manual_seed(0))
    large = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear")
    tests = [(x[:TEST_IMAGES], labels[:TEST_IMAGES]) for x in (images, large)]
    training = [(x[TEST_IMAGES:], labels[TEST_IMAGES:]) for x in (images, large)]
    return {
        "digits": compare(zoo.train_digits()[0], training[0], tests[0]),
        "MobileNet-V2's shape": compare(train_mobilenet(training[1]), training[1], tests[1]),
    }


def main() -> None:
    started = time.perf_counter()
    found = measure()
    failures = []
    for name, results in found.items():
        for how, share in results.items():
            print(f"{name:24} {how:24} {share:.2%}")
            if how in LIMITS and results["float"] - share > LIMITS[how]:
                failures.append(f"{name}, {how}: lost {results['float'] - share:.2%}, limit {LIMITS[how]:.2%}")
    print(f"on {TEST_IMAGES} images not trained on; {time.perf_counter() - started:.0f} s")
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
