"""Engines that crash do not end a process that compiles for them: random structures, compiled and run on each engine.

Every other model is a random one of all operations, the rest are residual blocks. What it costs a compilation to try
an engine apart: `--costs`, with an empty cache, other weights, and again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from statistics import median
from typing import Any

ENGINES = ("litert", "ncnn", "openvino", "onnxruntime", "pytorch")
NETWORKS = ("digits", "mobilenet_v2", "transformer_encoder")


def structures(count: int, seed: int, engines: list[str]) -> dict[str, Any]:
    """Compile and run `count` models on each engine, in this process: seconds, and what became of them."""
    import nnapi
    from nnapi.errors import NnapiError
    from nnapi.pipeline import show_denied

    seconds: dict[str, list[float]] = {name: [] for name in engines}
    became: dict[str, Counter[str]] = {name: Counter() for name in engines}
    started = time.monotonic()
    for n in range(count):
        model, inputs = _model(seed + n, is_residual=n % 2 == 0)
        for name in engines:
            begun = time.perf_counter()
            try:
                session = nnapi.compile(model, devices=name)
            except NnapiError as error:
                became[name][type(error).__name__] += 1
                continue
            seconds[name].append(time.perf_counter() - begun)
            became[name]["on the engine" if name in session.plan.devices else "elsewhere"] += 1
            became[name]["after a death"] += any("died of" in f.reason for f in session.fallbacks)
            try:
                session(*inputs)
            except NnapiError:
                became[name]["did not run on these inputs"] += 1
    rows = show_denied()
    return {
        "models": count,
        "seconds": time.monotonic() - started,
        "engines": {name: {"p50": median(t), "most": max(t), **became[name]} for name, t in seconds.items() if t},
        "died of": sorted({f"{row['device']}: {row['operation']}" for row in rows if "died of" in row["reason"]}),
        "lives": True,
    }


def _model(seed: int, *, is_residual: bool) -> tuple[Any, Any]:
    """A random model, and inputs that it runs on."""
    from nnapi.conformance.generate import generate
    from nnapi.conformance.residuals import residuals
    from nnapi.partitioning.samples import random_inputs

    if is_residual:
        model = residuals(seed)
        return model, random_inputs(model.input_operands, seed=1)
    generated = generate(seed, length=6)
    return generated.model, generated.inputs


def costs(network: str, engine: str) -> dict[str, Any]:
    """Seconds of compilations: in an empty cache, with other weights, again; and the same in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, __file__, "--one", network, engine]
        rows = [
            json.loads(subprocess.run([*command, seed], env=environment, capture_output=True, check=True).stdout)
            for seed in ("0", "2")
        ]
    names = ("first", "other weights", "again")
    return {"network": network, "engine": engine, **dict(zip(names, rows[0])), "new process": dict(zip(names, rows[1]))}


def compilations(network: str, engine: str, seed: int) -> list[float]:
    """Seconds of compiling two networks of other weights, and the second again."""
    import nnapi
    from nnapi import zoo

    models = [nnapi.optimize(nnapi.load(*zoo.build(network, seed + k))) for k in range(2)]
    seconds = []
    for model in (*models, models[1]):
        begun = time.perf_counter()
        nnapi.compile(model, devices=engine)
        seconds.append(time.perf_counter() - begun)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", default=",".join(ENGINES), help="names separated by commas")
    parser.add_argument("--costs", action="store_true", help="seconds of compilations of the zoo instead")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    engines = arguments.devices.split(",")
    if arguments.one:
        network, engine, seed = arguments.one
        return print(json.dumps(compilations(network, engine, int(seed))))
    found: Any
    if arguments.costs:
        found = [costs(network, engine) for network in NETWORKS for engine in engines]
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            found = structures(arguments.models, arguments.seed, engines)
    if arguments.json:
        return print(json.dumps(found, indent=2))
    for row in found if isinstance(found, list) else found["engines"].items():
        print(row)
    return None


if __name__ == "__main__":
    main()
