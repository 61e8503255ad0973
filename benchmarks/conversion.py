"""How long conversion takes, and how much memory: `nnapi.load` and all passes, in a process of its own per network.

python benchmarks/conversion.py [NETWORK]        one network, as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = ("mobilenet_v2", "inception_v3", "vgg19")


def convert(name: str) -> dict[str, object]:
    """Seconds and peak memory of one conversion; torch is imported and the network built before the clock starts."""
    import resource

    import torch
    import torch._dynamo  # the part of torch's import that torch puts off until the first export

    import nnapi
    from nnapi import zoo

    module, inputs = zoo.build(name)
    weights = sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    model = nnapi.load(module, inputs, name=name)
    loaded = time.perf_counter()
    model = nnapi.optimize(model)
    optimized = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nnapi"
        nnapi.save(model, path)
        saved = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        mapped = json.loads(
            subprocess.run([sys.executable, __file__, "--map", str(path)], capture_output=True, check=True).stdout
        )
    return {
        "model": name,
        "torch": torch.__version__,
        "load_seconds": loaded - started,
        "passes_seconds": optimized - loaded,
        "weights_bytes": weights,
        "process_bytes_before": before,
        "peak_bytes": peak,
        "peak_bytes_saved": saved,
        "peak_over_weights": max(peak, saved) / weights,
        "mapped": mapped,
    }


def map_file(path: str) -> dict[str, float]:
    """Seconds and resident memory that loading a `.nnapi` file adds: pages are mapped, nothing is copied."""
    from nnapi.ir import file

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before, started = resident(), time.perf_counter()
    model = file.load(path)
    return {
        "seconds": time.perf_counter() - started,
        "resident_bytes_added": resident() - before,
        "operations": len(model.operations),
    }


def measure() -> list[dict[str, object]]:
    """One record per network, each from a fresh process."""
    return [
        json.loads(subprocess.run([sys.executable, __file__, name], capture_output=True, check=True).stdout)
        for name in NETWORKS
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--map"]:
        print(json.dumps(map_file(sys.argv[2])))
    elif sys.argv[1:]:
        print(json.dumps(convert(sys.argv[1])))
    else:
        print(json.dumps(measure(), indent=2))
