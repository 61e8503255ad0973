"""What quantization costs in accuracy, and beside other quantizers.

python benchmarks/quantization.py --accuracy     digits and a MobileNet-V2 trained on them, every recipe
python benchmarks/quantization.py --peers        MobileNet-V2 beside ai-edge-quantizer and ONNX Runtime, in dB
python benchmarks/quantization.py --calibration  seconds and peak memory of 25 and of 100 calibration inputs

Peers are installed into an environment of their own (.venv-quantization) the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-quantization"
PACKAGES = ("ai-edge-quantizer==0.10.0", "onnxruntime==1.31.1", "onnx==1.23.2")
COUNT = 8
"""Calibration inputs, and as many others to be judged by."""
RECIPES = ("int8", "uint8", "int8_float_io", "dynamic_range", "fp16")
OURS = {
    "int8": {"base": "int8"},
    "int8 with recovery": {"base": "int8", "recovery": ["rounding", "bias_correction"]},
}


def accuracy() -> dict[str, dict[str, float]]:
    """Share of test images read right, by network and recipe."""
    from nnapi import zoo

    digits, _, (images, labels) = zoo.train_digits()
    small = (digits, images.numpy(), labels.numpy())
    return {"digits": _accuracies(*small), "mobilenet_v2 on digits": _accuracies(*_train_mobilenet())}


def _accuracies(module, images, labels) -> dict[str, float]:  # type: ignore[no-untyped-def]
    import torch

    import nnapi
    from nnapi.quantization.quantize import quantize_model
    from nnapi.quantization.report import measure

    model = nnapi.optimize(nnapi.load(module, (torch.from_numpy(images[:1]),)))
    found: dict[str, float] = {}
    examples = [(x[None],) for x in images]
    for recipe in RECIPES:
        # The first hundred calibrate; the figure is over all test images.
        report = measure(model, quantize_model(model, images[:100], recipe), examples, list(labels))
        found["float32"] = report.accuracy_before or 0.0
        found[recipe] = report.accuracy_after or 0.0
    return found


def _train_mobilenet(epochs: int = 10):  # type: ignore[no-untyped-def]
    """MobileNet-V2 with ten classes on digits enlarged to 32 x 32: module, test images, labels."""
    import torch
    from torch.nn import functional as F

    from nnapi.zoo.digits import TEST_IMAGES, load_digits
    from nnapi.zoo.mobilenet_v2 import MobileNetV2

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images, labels = load_digits(generator)
    images = F.interpolate(images, size=(32, 32), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    module = MobileNetV2(10).train()
    train, known = images[TEST_IMAGES:], labels[TEST_IMAGES:]
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=epochs * -(-len(train) // 64))
    for _ in range(epochs):
        order = torch.randperm(len(train), generator=generator)
        for batch in order.split(64):
            optimizer.zero_grad()
            F.cross_entropy(module(train[batch]), known[batch]).backward()
            optimizer.step()
            schedule.step()
    return module.eval(), images[:TEST_IMAGES].numpy(), labels[:TEST_IMAGES].numpy()


def peers() -> dict[str, float]:
    """SQNR in dB on inputs that calibration did not see, MobileNet-V2 at 224 with seeded weights."""
    import torch

    import nnapi
    from nnapi import zoo
    from nnapi.quantization.metrics import sqnr
    from nnapi.quantization.report import real_outputs
    from nnapi.zoo.weights import sample

    module, inputs = zoo.build("mobilenet_v2")
    generator = torch.Generator().manual_seed(7)
    images = [sample((1, 3, 224, 224), generator).numpy() for _ in range(2 * COUNT)]
    model = nnapi.optimize(nnapi.load(module, inputs))
    judged = [(x,) for x in images[COUNT:]]
    expected = np.stack([y[0] for y in real_outputs(model, judged)])
    results: dict[str, float] = {}
    for name, recipe in OURS.items():
        quantized = nnapi.quantize(model, images[:COUNT], recipe)
        results[name] = sqnr(expected, np.stack([y[0] for y in real_outputs(quantized, judged)]))
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", np.stack(images))
        np.save(f"{folder}/expected.npy", expected)
        nnapi.save(model, f"{folder}/model.tflite")
        torch.onnx.export(module, inputs, f"{folder}/model.onnx", dynamo=False, input_names=["x"])
        script = str(Path(__file__).with_name("quantization_peers.py"))
        done = subprocess.run([_python(), script, folder, str(COUNT)], capture_output=True, text=True, check=True)
        results |= json.loads(done.stdout.splitlines()[-1])
    return results


def _python() -> str:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return str(python)


def calibration(count: int) -> dict[str, float]:
    """Seconds of observing MobileNet-V2 on `count` inputs, and the process's peak memory in MB."""
    import resource

    import nnapi
    from nnapi import zoo
    from nnapi.quantization.data import read_examples
    from nnapi.quantization.observe import observe
    from nnapi.quantization.recipe import read_recipe

    module, inputs = zoo.build("mobilenet_v2")
    model = nnapi.optimize(nnapi.load(module, inputs))
    rng = np.random.default_rng(0)
    stream = (rng.normal(size=(1, 3, 224, 224)).astype(np.float32) for _ in range(count))
    started = time.perf_counter()
    observe(model, read_examples(stream, model.input_operands), read_recipe("int8"))
    seconds = time.perf_counter() - started
    return {"inputs": count, "seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Print what was asked for as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--calibration", action="store_true")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.count:
        print(json.dumps(calibration(given.count)))
        return
    chosen: dict[str, object] = {}
    if given.accuracy:
        chosen["accuracy"] = accuracy()
    if given.peers:
        chosen["peers_sqnr_db"] = peers()
    if given.calibration:
        command = [sys.executable, __file__, "--count"]
        chosen["calibration"] = [
            json.loads(subprocess.run([*command, str(n)], capture_output=True, check=True).stdout) for n in (25, 100)
        ]
    if not chosen:
        parser.error("nothing chosen")
    print(json.dumps(chosen, indent=2))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
