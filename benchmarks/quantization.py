"""What quantization costs in accuracy, and beside other quantizers.

python benchmarks/quantization.py --accuracy     digits and a network in MobileNet-V2's shape: float, int8, uint8, QAT
python benchmarks/quantization.py --peers        MobileNet-V2 beside ai-edge-quantizer and ONNX Runtime, in dB
python benchmarks/quantization.py --calibration  seconds and peak memory of 25 and of 100 calibration inputs

Needs `pip install -c constraints.txt -e '.[bench,qat,dev]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
COUNT = 8
"""Calibration inputs, and as many others to be judged by."""
SEEDS = (201, 202, 203)
"""Of inputs; no setting was chosen on them."""
GAIN = 3.5
"""How many dB beyond the better peer mixed precision is asked for: 3, and what calibration inputs flatter by."""
OURS: dict[str, dict[str, Any]] = {
    "int8, nothing recovered": {"base": "int8", "recovery": []},
    "int8, equalization": {"base": "int8", "recovery": ["equalization"]},
    "int8, bias correction (the default)": {"base": "int8"},
    "int8, bias correction and rounding": {"base": "int8", "recovery": ["rounding", "bias_correction"]},
}


def accuracy() -> dict[str, dict[str, float]]:
    """Share of test images read right, by network and by how it computes."""
    sys.path.insert(0, str(ROOT / "examples"))
    from quantization_aware_training import measure

    return measure()


def peers() -> dict[str, Any]:
    """SQNR in dB on inputs that calibration did not see, MobileNet-V2 at 224 with seeded weights, by seed."""
    import torch

    import nnapi
    from nnapi import zoo

    module, inputs = zoo.build("mobilenet_v2")
    model = nnapi.optimize(nnapi.load(module, inputs))
    with tempfile.TemporaryDirectory() as folder:
        nnapi.save(model, f"{folder}/model.tflite")
        torch.onnx.export(module, inputs, f"{folder}/model.onnx", dynamo=False, input_names=["x"])
        found = [_one_seed(seed, model, Path(folder)) for seed in SEEDS]
    names = found[0]["sqnr_db"]
    return {
        "seeds": dict(zip(map(str, SEEDS), found)),
        "median_sqnr_db": {n: statistics.median(f["sqnr_db"][n] for f in found) for n in names},
        "median_margin_db": {n: statistics.median(f["margin_db"][n] for f in found) for n in found[0]["margin_db"]},
    }


def _one_seed(seed: int, model: Any, folder: Path) -> dict[str, Any]:
    """SQNR of everybody, margins over the better peer, and the share of operations that mixed keeps in floats."""
    import torch
    from quantization_peers import PEERS

    from nnapi.quantization.judge import Judge, real_outputs
    from nnapi.quantization.metrics import sqnr
    from nnapi.quantization.quantize import quantize_model
    from nnapi.zoo.weights import sample

    generator = torch.Generator().manual_seed(seed)
    images = [sample((1, 3, 224, 224), generator).numpy() for _ in range(2 * COUNT)]
    given, judged = images[:COUNT], images[COUNT:]
    expected = np.stack([y[0] for y in real_outputs(model, [(x,) for x in judged])])
    results: dict[str, float] = {}
    for name, run in PEERS.items():
        with contextlib.redirect_stdout(sys.stderr):
            results[name] = sqnr(expected, run(folder, given, judged).reshape(expected.shape))
    best = max(results.values())
    judge = Judge(model, [(x,) for x in judged])
    for name, recipe in OURS.items():
        results[name] = judge.sqnr(quantize_model(model, given, recipe).model)
        print(f"seed {seed}: {name} {results[name]:.2f} dB", file=sys.stderr)
    mixed = quantize_model(model, given, {"base": "mixed", "target_sqnr": best + GAIN})
    results["mixed"] = judge.sqnr(mixed.model)
    kept = [c for c in mixed.table.operations.values() if c.reason]
    return {
        "sqnr_db": results,
        "margin_db": {n: v - best for n, v in results.items() if n not in PEERS},
        "mixed_float_operations": [len(kept), len(mixed.table.operations)],
    }


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
        chosen["peers"] = peers()
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
