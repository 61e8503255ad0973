"""The main job, end to end, on real input: what `make demo` runs.

(a) A small network is trained on scikit-learn's digits, converted, and judged on images it has not seen.
(b) MobileNet-V2 looks at a photograph: converted, saved, planned, run, compared with PyTorch, and timed beside it.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_sample_image

import nnapi
from nnapi import zoo
from nnapi.bench.compare import interleave
from nnapi.quantization.metrics import sqnr
from nnapi.report.plan import describe_plan
from nnapi.runtime.images import ImageOptions, image_tensor

OUTPUT = Path("demo")


def digits() -> None:
    """Train, convert, and count: NNAPI must be right as often as PyTorch."""
    print("(a) digits: a small CNN, trained here, then run through NNAPI")
    started = time.perf_counter()
    module, accuracy, (images, labels) = zoo.train_digits()
    print(f"    trained in {time.perf_counter() - started:.1f} s")
    session = nnapi.compile(nnapi.load(module, (images,), name="digits"))
    (logits,) = session(images.numpy())
    with torch.inference_mode():
        expected = module(images).argmax(1)
    found = float(np.mean(logits.argmax(1) == labels.numpy()))
    print(f"    accuracy on {len(labels)} unseen images: PyTorch {accuracy:.2%}, NNAPI {found:.2%}")
    same = int(np.sum(logits.argmax(1) == expected.numpy()))
    print(f"    the same answer on {same} of {len(labels)} images; ran on {', '.join(session.plan.devices)}")


def photograph() -> None:
    """Convert MobileNet-V2, show the plan, and compare answers and speed with PyTorch."""
    print("\n(b) MobileNet-V2 (seeded weights) on a photograph")
    module, example = zoo.build("mobilenet_v2")
    started = time.perf_counter()
    model = nnapi.optimize(nnapi.load(module, example, name="mobilenet_v2"))
    print(f"    converted to {len(model.operations)} operations in {time.perf_counter() - started:.2f} s")
    OUTPUT.mkdir(exist_ok=True)
    for path in (OUTPUT / "mobilenet_v2.nnapi", OUTPUT / "mobilenet_v2.tflite"):
        nnapi.save(model, path)
        print(f"    saved {path}, {path.stat().st_size / 1e6:.1f} MB")
    session = nnapi.compile(model)
    for line in describe_plan(session.plan):
        print(f"    {line}")
    x = image_tensor(load_sample_image("china.jpg"), model.input_operands[0], ImageOptions())
    tensor = torch.from_numpy(x)
    torch.set_num_threads(1)
    with torch.inference_mode():
        expected = module(tensor).numpy()
        (actual,) = session(x)
        print(f"    top class {int(actual.argmax())}, PyTorch {int(expected.argmax())}")
        print(f"    agreement with PyTorch: SQNR {sqnr(expected, actual):.0f} dB")
        latency = interleave({"nnapi": lambda: session(x), "pytorch": lambda: module(tensor)}, repeats=40)
    ours, theirs = latency["nnapi"].p50, latency["pytorch"].p50
    print(
        f"    one thread, median of 40 interleaved runs: nnapi {ours * 1e3:.1f} ms, PyTorch eager {theirs * 1e3:.1f} ms"
    )
    print(f"    {theirs / ours:.1f} times as fast")


if __name__ == "__main__":
    digits()
    photograph()
