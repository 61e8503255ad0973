"""Other programs' reading of the files that are written: all networks, all recipes, every reader that is here.

    python benchmarks/outside.py [--networks digits,unet] [--recipes int8] [--tflite-runtime OTHER/bin/python]

A line for each network and recipe: what each reader keeps of the reference, in dB. Ends with 1 where one keeps less
than the table in tests/formats/outside.py wants.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from formats import outside
from formats.outside import LARGER, NETWORKS, READERS, RECIPES, RUNTIME_2_14, UNREAD, Named, Reader, readings
from nnapi.ir.model import Model

READ = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
path, given, results = sys.argv[1:]
np.savez(results, **Interpreter(model_path=path).get_signature_runner("serving_default")(**dict(np.load(given))))
"""


def elsewhere(python: str) -> Reader:
    """tflite_runtime as another interpreter has it: it wants an older NumPy."""

    def run(path: Path, given: Named, model: Model) -> Named:
        names = [path.with_name(name) for name in ("given.npz", "results.npz")]
        np.savez(names[0], **given)
        done = subprocess.run([python, "-c", READ, path, *names], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}")
        return dict(np.load(names[1]))

    return Reader(".tflite", "subprocess", run, unread=RUNTIME_2_14)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join((*NETWORKS, *LARGER)))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--tflite-runtime", metavar="PYTHON", help="an interpreter that has it")
    options = parser.parse_args()
    if options.tflite_runtime:
        outside.READERS = {**READERS, "tflite_runtime": elsewhere(options.tflite_runtime)}
    missing = [name for name, reader in outside.READERS.items() if not reader.is_here]
    print(f"not installed: {', '.join(missing) or 'none'}")
    failed = 0
    for network in options.networks.split(","):
        for recipe in options.recipes.split(","):
            cells = []
            with tempfile.TemporaryDirectory() as folder:
                try:
                    for name, found in readings(network, recipe, Path(folder)):
                        least, _ = outside.READERS[name].limit(network, recipe)
                        wrong = found < least and (name, network, recipe) not in UNREAD
                        failed += wrong
                        cells.append(f"{name} {found:.1f}" + (f" < {least:g}" if wrong else ""))
                except Exception as error:  # a reader's own: said, and on to the next
                    failed += 1
                    cells.append(f"{type(error).__name__}: {error}")
            print(f"{network} {recipe}: {'; '.join(cells)}", flush=True)
            outside.saved_model.cache_clear()
    print(f"{failed} below their limits")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
