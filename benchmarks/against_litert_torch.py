"""The same network converted by litert-torch, in one run, interleaved: conversion time and latency in LiteRT.

    python benchmarks/against_litert_torch.py [NETWORK ...]

litert-torch comes with the extra `bench`; it converts in a process of its own, so that its first use is timed alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = ("mobilenet_v2", "mobilenet_v3_large", "inception_v3", "srgan", "deeplab_v3_plus", "transformer_encoder")
REPEATS = 60

PROGRAM = """
import json, sys, time
import litert_torch
from nnapi import zoo
module, inputs = zoo.build(sys.argv[1])
started = time.perf_counter()
converted = litert_torch.convert(module, inputs)
seconds = time.perf_counter() - started
converted.export(sys.argv[2])
print("RESULT", json.dumps({"seconds": seconds}))
"""


def convert(name: str, path: Path) -> float:
    """Seconds that litert-torch takes, writing `path`."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, name, str(path)], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return float(json.loads(line.removeprefix("RESULT"))["seconds"])


def compare(name: str, path: Path, repeats: int = REPEATS) -> dict[str, object]:
    """p50 of our session and of their file, interleaved, one thread."""
    from ai_edge_litert.interpreter import Interpreter

    import nnapi
    from nnapi import zoo
    from nnapi.bench.compare import interleave
    from nnapi.quantization.metrics import sqnr

    theirs_seconds = convert(name, path)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    module, inputs = zoo.build(name)
    started = time.perf_counter()
    model = nnapi.optimize(nnapi.load(module, inputs, name=name))
    ours_seconds = time.perf_counter() - started
    session = nnapi.compile(model, devices="litert")
    x = inputs[0].numpy()

    def theirs() -> object:
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    latency = interleave({"ours": lambda: session(x), "theirs": theirs}, repeats=repeats)
    expected = module(inputs[0]).detach().numpy()
    return {
        "model": name,
        "ours_convert_seconds": ours_seconds,
        "theirs_convert_seconds": theirs_seconds,
        "ours_p50": latency["ours"].p50,
        "theirs_p50": latency["theirs"].p50,
        "ratio": latency["ours"].p50 / latency["theirs"].p50,
        "ours_sqnr_db": sqnr(expected, session(x)[0]),
        "theirs_sqnr_db": sqnr(expected, theirs()),
        "repeats": repeats,
    }


def measure(names: tuple[str, ...] = NETWORKS) -> list[dict[str, object]]:
    """One record per network."""
    with tempfile.TemporaryDirectory() as folder:
        return [compare(name, Path(folder) / f"{name}.tflite") for name in names]


if __name__ == "__main__":
    print(json.dumps(measure(tuple(sys.argv[1:]) or NETWORKS), indent=2))
