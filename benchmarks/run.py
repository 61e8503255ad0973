"""Run the benchmarks and write benchmarks/results.md: `make bench`."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

import conversion
import litert_torch
import overhead
from rich.console import Console

from nnapi.partitioning.machine import machine

RESULTS = Path(__file__).parent / "results.md"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def conversions(records: list[dict[str, Any]]) -> str:
    """Conversion time and memory."""
    rows = [
        [
            r["model"],
            f"{r['load_seconds']:.2f}",
            f"{r['passes_seconds']:.2f}",
            f"{r['weights_bytes'] / 1e6:.0f}",
            f"{r['peak_bytes'] / 1e6:.0f}",
            f"{r['mapped']['seconds'] * 1e3:.1f}",
            f"{r['mapped']['resident_bytes_added'] / 1e6:.1f}",
        ]
        for r in records
    ]
    columns = ["network", "load s", "passes s", "weights MB", "process peak MB", "load .nnapi ms", "resident added MB"]
    return table(columns, rows)


def against_litert_torch(records: list[dict[str, Any]]) -> str:
    """Ours beside litert-torch's file in the same engine."""
    rows = [
        [
            r["model"],
            f"{r['ours_convert_seconds']:.2f}",
            f"{r['theirs_convert_seconds']:.1f}",
            f"{r['ours_p50'] * 1e3:.2f}",
            f"{r['theirs_p50'] * 1e3:.2f}",
            f"{r['ratio']:.3f}",
            f"{r['ours_sqnr_db']:.0f}",
            f"{r['theirs_sqnr_db']:.0f}",
        ]
        for r in records
    ]
    columns = ["network", "convert s", "theirs s", "ours ms", "theirs ms", "ours / theirs", "SQNR dB", "theirs dB"]
    return table(columns, rows)


def main() -> None:
    """Measure everything, with progress, and write the page."""
    console = Console(stderr=True)
    with console.status("Conversion"):
        converted = conversion.measure()
    with console.status("Overhead"):
        around = overhead.measure()
    with console.status("Against litert-torch (installs it the first time)"):
        beside = litert_torch.measure()
    session = around["session"]
    assert isinstance(session, dict)
    page = f"""# Measured

{machine()}, Python {platform.python_version()}, {datetime.date.today()}. One thread, batch 1, medians of interleaved
runs; `make bench` repeats it. The machine is shared: ratios say more than milliseconds.

## Conversion

`nnapi.load(module, inputs)` and all passes; torch and its export machinery are imported before the clock starts.

{conversions(converted)}

## The same network converted by litert-torch, in LiteRT

{against_litert_torch(beside)}

## Around the engine

| what | measured |
|---|---|
| a session over its engine's own call (MobileNet-V2, `null` device) | {session["added_seconds"] * 1e6:.1f} us |
| `import nnapi` | {around["import_nnapi"]:.3f} s |
| `nnapi --help` | {around["help"]:.3f} s |
"""
    RESULTS.write_text(page)
    (RESULTS.with_suffix(".json")).write_text(
        json.dumps({"conversion": converted, "overhead": around, "litert_torch": beside}, indent=2) + "\n"
    )
    print(f"wrote {RESULTS}", file=sys.stderr)


if __name__ == "__main__":
    main()
