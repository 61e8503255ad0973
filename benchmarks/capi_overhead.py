"""What a call through the C library costs, measured by a C program: a sum of four floats.

python benchmarks/capi_overhead.py [DEVICE ...]      microseconds, as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nnapi.capi.build import library

SOURCE = Path(__file__).with_suffix(".c")
DEVICES = ("any", "litert", "pytorch", "reference")
LIMITS = {"compute": 25.0, "execution": 60.0}
"""Microseconds that a call may cost where the client names no device."""


def measure(devices: tuple[str, ...] = DEVICES) -> list[dict[str, object]]:
    """Median microseconds of one `compute`, of one whole execution and of one compilation, by device."""
    made = library()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LD_LIBRARY_PATH": str(made.directory)}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "capi_overhead"
        command = ["cc", "-O2", f"-I{made.include}", str(SOURCE), str(made.path), "-o", str(program)]
        subprocess.run(command, check=True)
        runs = [
            subprocess.run([str(program), device], env=environment, capture_output=True, text=True, check=True)
            for device in devices
        ]
    return [json.loads(run.stdout) for run in runs]


if __name__ == "__main__":
    records = measure(tuple(sys.argv[1:]) or DEVICES)
    print(json.dumps(records, indent=2))
    over = [r for r in records if r["device"] == "any" and any(r[name] > limit for name, limit in LIMITS.items())]  # type: ignore[operator]
    sys.exit(1 if over else 0)
