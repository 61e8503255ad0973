"""python -m nnapi.conformance DIR [--operation OP]... (stopgap)."""

import argparse
import collections
import time
from pathlib import Path

from nnapi.conformance import run_folder
from nnapi.drivers.reference import ReferenceDriver

parser = argparse.ArgumentParser()
parser.add_argument("path", type=Path)
parser.add_argument("--operation", action="append", default=[])
parser.add_argument("--unspecified-outputs", action="store_true")
parser.add_argument("--all", action="store_true", help="every failure, not the first 40")
args = parser.parse_args()
counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
start, shown = time.monotonic(), 0
for o in run_folder(args.path, ReferenceDriver(), operations=args.operation, unspecified=args.unspecified_outputs):
    counts["+".join(o.operations)][o.status] += 1
    if o.status == "failed" and (args.all or shown < 40):
        shown += 1
        print(f"{o.case}: {o.detail}")
for name, counter in sorted(counts.items()):
    print(f"{name:40} {dict(counter)}")
print(dict(sum(counts.values(), collections.Counter[str]())), f"{time.monotonic() - start:.1f} s")
