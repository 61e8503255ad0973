"""Run the benchmarks and write benchmarks/results.md and its records, results.json: `make bench`, an hour or so."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import against_litert_torch
import conversion
import latency
import overhead
from rich.console import Console

from nnapi import zoo
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


def conversions_beside(records: list[dict[str, Any]]) -> str:
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


def latencies(records: list[dict[str, Any]]) -> str:
    """Every network beside the other engines, a table for each precision."""
    precisions = dict.fromkeys(r["precision"] for r in records)
    return "\n\n".join(f"`{p}`:\n\n{latency.table([r for r in records if r['precision'] == p])}" for p in precisions)


def against_eager(record: dict[str, Any]) -> str:
    """MobileNet-V2 of ours on two threads, by precision, beside PyTorch's on one."""
    rows = [
        [name, f"{r['p50'] * 1e3:.2f}", f"{r['ratio']:.2f}", f"{r['sqnr_db']:.0f}", ", ".join(r["devices"])]
        for name, r in record.items()
        if name != "pytorch"
    ]
    columns = ["precision", "ms", "PyTorch eager / ours", "SQNR dB", "devices"]
    return f"PyTorch: {record['pytorch']['p50'] * 1e3:.2f} ms.\n\n{table(columns, rows)}"


def overheads(record: dict[str, Any]) -> str:
    """What stands around an engine."""
    added = record["session"]["added_seconds"]
    rows = [
        ["a session over its engine's own call (MobileNet-V2, `null` device)", f"{added * 1e6:.1f} us"],
        ["`import nnapi`", f"{record['import_nnapi']:.3f} s"],
        ["`nnapi --help`", f"{record['help']:.3f} s"],
    ]
    return table(["what", "measured"], rows)


SECTIONS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "latency": (
        "Every network beside the other engines",
        "Our plan is tuned from nothing in the same process; each peer takes the network by its own best public route "
        "(PyTorch eager; torch.onnx's file in ONNX Runtime and OpenVINO; litert-torch's in LiteRT).",
        latencies,
    ),
    "mobilenet": ("MobileNet-V2: two threads of ours, one of PyTorch's", "", against_eager),
    "conversion": (
        "Conversion",
        "`nnapi.load(module, inputs)` and all passes; torch's export machinery is imported before the clock starts.",
        conversions,
    ),
    "litert_torch": ("The same network converted by litert-torch, in LiteRT", "", conversions_beside),
    "overhead": ("Around the engine", "", overheads),
}
"""Of the page, by part: title, what to know, table."""


def computes_halves() -> bool:
    """Whether this processor multiplies 16-bit floats."""
    flags = Path("/proc/cpuinfo")
    return not flags.exists() or any(
        f in flags.read_text() for f in ("avx512_bf16", "amx_bf16", "avx512_fp16", "asimdhp")
    )


def page(results: dict[str, Any]) -> str:
    """The Markdown of all that was measured."""
    parts = [
        f"# Measured\n\n{machine()}, Python {platform.python_version()}, {datetime.date.today()}. Batch 1, medians of "
        "interleaved runs; `make bench` repeats it, results.json has the records. The machine is shared: ratios say "
        "more than milliseconds.",
        "" if computes_halves() else "This CPU has no arithmetic of 16-bit floats: `relaxed` can only store them here.",
    ]
    for name, (title, text, shown) in SECTIONS.items():
        if name in results:
            parts += [f"## {title}", text, shown(results[name])]
    parts += [
        "## Quantization and partitions",
        "`python benchmarks/quantization.py --accuracy --peers --calibration`, `benchmarks/int8.py`, "
        "`benchmarks/agreement.py` and `benchmarks/partition.py` print theirs.",
    ]
    return (
        "\n\n".join(textwrap.fill(p, 120) if "|" not in p and not p.startswith("#") else p for p in parts if p) + "\n"
    )


PARTS: dict[str, Callable[[], Any]] = {
    "overhead": overhead.measure,
    "conversion": conversion.measure,
    "litert_torch": against_litert_torch.measure,
    "mobilenet": lambda: latency.mobilenet(50),
    "latency": lambda: latency.records(list(zoo.NETWORKS), (1, 2), 50, None),
}


def main() -> None:
    """Measure what is named, or everything, with progress; the rest of the page stays as it was measured before."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="nnapi-bench-")
    console = Console(stderr=True)
    records = RESULTS.with_suffix(".json")
    results = json.loads(records.read_text()) if records.exists() else {}
    for name in sys.argv[1:] or PARTS:
        with console.status(name):
            results[name] = PARTS[name]()
        records.write_text(json.dumps(results, indent=1) + "\n")
    RESULTS.write_text(page(results))
    print(f"wrote {RESULTS}", file=sys.stderr)


if __name__ == "__main__":
    main()
