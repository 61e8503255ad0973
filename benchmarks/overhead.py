"""What stands around an engine: the session over the engine's own call, `import nnapi`, `nnapi --help`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import numpy as np

import nnapi
from nnapi.bench.compare import interleave
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.registry import get


def session_overhead(network: str = "mobilenet_v2", device: str = "null", repeats: int = 2000) -> dict[str, object]:
    """Seconds of a whole session on a device that computes nothing, and of that device alone."""
    model = nnapi.load(f"zoo:{network}")
    session = nnapi.compile(model, devices=device)
    prepared = get(device).prepare(session.plan.model, PrepareOptions())
    x = np.zeros(model.input_operands[0].dimensions, np.float32)
    latency = interleave({"session": lambda: session(x), "engine": lambda: prepared.run([x])}, repeats=repeats)
    return {
        "model": network,
        "device": device,
        "session_p50": latency["session"].p50,
        "engine_p50": latency["engine"].p50,
        "added_seconds": latency["session"].p50 - latency["engine"].p50,
        "repeats": repeats,
    }


def process_seconds(*arguments: str, repeats: int = 10) -> float:
    """Median seconds of a fresh Python process, less those of one that does nothing."""

    def once(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - started

    pairs = [(once(*arguments), once("-c", "pass")) for _ in range(repeats)]
    return statistics.median(a - b for a, b in pairs)


def measure() -> dict[str, object]:
    """All of it, as one record; seconds."""
    return {
        "session": session_overhead(),
        "import_nnapi": process_seconds("-c", "import nnapi"),
        "help": process_seconds("-m", "nnapi", "--help"),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
