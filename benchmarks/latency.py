"""Every network of the zoo at its published size beside the other engines, each through its own best public route.

    python benchmarks/latency.py [--networks mobilenet_v2,unet] [--threads 1,2] [--repeats 50] [--json FILE]

Our plan is tuned from nothing: measurements of earlier runs are not used. One interleaved run per network and number of
threads; ratios are p50 of the best peer over ours, what a plan was predicted to take is compared with its runs alone.
PyTorch, ONNX Runtime and OpenVINO take the module (the latter two from torch.onnx's file), LiteRT takes litert-torch's
file: `pip install -c constraints.txt -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

PEERS = ("pytorch", "litert", "onnxruntime", "openvino")
HALVES = "openvino-bf16"
SQNR_DB = 35.0
"""What a MobileNet-V2 of any precision must keep to be compared with PyTorch's."""


def measure(name: str, threads: int, precision: str, repeats: int, folder: Path) -> dict[str, Any]:
    """Record of one network: our plan and every peer, in one run; `folder` keeps the files that peers take."""
    import nnapi
    from nnapi import zoo
    from nnapi.bench.compare import interleave
    from nnapi.bench.peers import compare
    from nnapi.drivers import registry
    from nnapi.partitioning.candidate import engine_name
    from nnapi.partitioning.machine import machine

    source = f"zoo:{name}"
    inputs = [x.numpy() for x in zoo.build(name)[1]]
    started = time.perf_counter()
    session = nnapi.compile(nnapi.load(source), precision=precision, num_threads=threads, tune=True)  # type: ignore[arg-type]
    tuned = time.perf_counter() - started
    alone = interleave({"ours": lambda: session(*inputs)}, repeats=repeats)["ours"]
    names = (*PEERS, HALVES) if precision == "relaxed" else PEERS
    ours, *peers = compare(source, session, inputs, names, num_threads=threads, repeats=repeats, folder=folder)
    measured = {p.name: p for p in peers if p.latency is not None}
    best = min((p for n, p in measured.items() if n != HALVES), key=lambda p: p.ratio or math.inf)
    plan = session.plan
    assert ours.latency is not None
    return {
        "model": name,
        "machine": machine(),
        "threads": threads,
        "precision": precision,
        "partitions": [[p.device, len(p.operations)] for p in plan.partitions],
        "versions": {n: registry.get(engine_name(n)).version for n in plan.devices},
        "tuning_seconds": tuned,
        "predicted_seconds": plan.chosen.seconds,
        "alone": asdict(alone),
        "ours": asdict(ours.latency),
        "peers": {p.name: p.to_json() for p in peers},
        "best_peer": best.name,
        "ratio": best.ratio,
        "bf16_ratio": measured[HALVES].ratio if HALVES in measured else None,
    }


def mobilenet(repeats: int) -> dict[str, Any]:
    """MobileNet-V2 in PyTorch, eager, on one thread, beside ours on two, in each precision that keeps 35 dB."""
    import numpy as np
    import torch

    import nnapi
    from nnapi import zoo
    from nnapi.bench.compare import interleave
    from nnapi.quantization.metrics import sqnr
    from nnapi.zoo.weights import sample

    module, (x,) = zoo.build("mobilenet_v2")
    model = nnapi.optimize(nnapi.load(module, (x,)))
    generator = torch.Generator().manual_seed(7)
    calibration = [sample((1, 3, 224, 224), generator).numpy() for _ in range(8)]
    target = {"base": "mixed", "target_sqnr": SQNR_DB + 1}
    models = {
        "fp32": model,
        "relaxed": model,
        "int8": nnapi.quantize(model, calibration, "int8_float_io"),
        "mixed": nnapi.quantize(model, calibration, target),
    }
    array = x.numpy()
    expected = module(x).detach().numpy()
    sessions = {
        name: nnapi.compile(m, num_threads=2, precision="relaxed" if name == "relaxed" else "fp32", tune=True)
        for name, m in models.items()
    }

    def eager() -> object:
        torch.set_num_threads(1)
        with torch.inference_mode():
            return module(x)

    runs: dict[str, Any] = {"pytorch": eager}
    runs |= {name: (lambda s=session: s(array)) for name, session in sessions.items()}
    latencies = interleave(runs, repeats=repeats)
    eager_p50 = latencies["pytorch"].p50
    return {
        "pytorch": asdict(latencies["pytorch"]),
        **{
            name: {
                **asdict(latencies[name]),
                "ratio": eager_p50 / latencies[name].p50,
                "sqnr_db": float(sqnr(expected, np.asarray(session(array)[0]))),
                "devices": list(session.plan.devices),
            }
            for name, session in sessions.items()
        },
    }


def table(records: Sequence[dict[str, Any]]) -> str:
    """The records as Markdown, with geometric means."""
    halves = [r["bf16_ratio"] for r in records if r["bf16_ratio"] is not None]
    names = (*PEERS, HALVES) if halves else PEERS
    head = (
        "| network | threads | ours ms (p10, p90) | plan | " + " | ".join(names) + " | best peer / ours | predicted |"
    )
    lines = [head, "|" + "---|" * (7 + len(names))]
    for r in records:
        plan = ", ".join(f"{device} {count}" for device, count in r["partitions"])
        ours = f"{r['ours']['p50'] * 1e3:.2f} ({r['ours']['p10'] * 1e3:.2f}, {r['ours']['p90'] * 1e3:.2f})"
        theirs = [r["peers"][name]["latency"] for name in names]
        cells = ["-" if latency is None else f"{latency['p50'] * 1e3:.2f}" for latency in theirs]
        off = r["predicted_seconds"] / r["alone"]["p50"] - 1
        lines.append(
            f"| {r['model']} | {r['threads']} | {ours} | {plan} | {' | '.join(cells)} | {r['ratio']:.3f} | {off:+.0%} |"
        )
    if not records:
        return "nothing measured"
    mean = math.exp(sum(math.log(r["ratio"]) for r in records) / len(records))
    close = sum(abs(r["predicted_seconds"] / r["alone"]["p50"] - 1) <= 0.15 for r in records)
    least = min(records, key=lambda r: r["ratio"])
    lines += [
        "",
        f"Best peer / ours: geometric mean {mean:.3f}, least {least['ratio']:.3f} ({least['model']} at "
        f"{least['threads']}). Predicted within 15 % of measured: {close} of {len(records)}.",
    ]
    if halves:
        mean = math.exp(sum(map(math.log, halves)) / len(halves))
        lines[-1] += f" {HALVES} / ours: geometric mean {mean:.3f}, least {min(halves):.3f}."
    return "\n".join(lines)


def relaxes() -> bool:
    """Whether an engine here computes in 16-bit floats."""
    from nnapi.drivers import registry

    return any("relaxed" in getattr(d, "precisions", ()) for d in registry.available())


def records(networks: Sequence[str], threads: Sequence[int], repeats: int, save: Path | None) -> list[dict[str, Any]]:
    """All measurements, each printed to standard error and kept as soon as it is there."""
    precisions = ("fp32", "relaxed") if relaxes() else ("fp32",)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for precision, name in itertools.product(precisions, networks):
            folder = Path(temporary, name)
            folder.mkdir(exist_ok=True)
            for count in threads:
                found.append(measure(name, count, precision, repeats, folder))
                print(table(found[-1:]).splitlines()[2], file=sys.stderr, flush=True)
                if save is not None:
                    save.write_text(json.dumps(found, indent=1) + "\n")
                gc.collect()
    return found


def main() -> None:
    """Measure, print the table, keep the records."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="nnapi-latency-")
    from nnapi import zoo

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(zoo.NETWORKS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--mobilenet", action="store_true", help="only MobileNet-V2 against PyTorch on one thread")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.mobilenet:
        print(json.dumps(mobilenet(given.repeats), indent=1))
        return
    threads = [int(t) for t in given.threads.split(",")]
    found = records(given.networks.split(","), threads, given.repeats, given.json)
    for precision in dict.fromkeys(r["precision"] for r in found):
        print(f"\n{precision}\n\n{table([r for r in found if r['precision'] == precision])}")


if __name__ == "__main__":
    main()
