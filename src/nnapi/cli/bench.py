"""`nnapi bench`: how fast a model is, and where the time goes."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Final

import click

from nnapi.bench.measure import measure, random_inputs
from nnapi.bench.peers import check_peers, compare
from nnapi.bench.record import Record
from nnapi.cli.options import given_inputs, image_options, input_option, load_model, session_options
from nnapi.cli.output import json_option, milliseconds, print_json, print_table, progress, say, size
from nnapi.drivers.driver import Nan, Precision, Preference
from nnapi.ops.types import Array
from nnapi.pipeline import compile, optimize
from nnapi.runtime.session import Session

DAY: Final = 24 * 3600.0
MANY: Final = 1_000_000
"""The most seconds, and runs, that are measured."""


@click.command("bench")
@click.argument("source")
@click.option("--warmup", type=click.FloatRange(0, DAY), default=0.5, show_default=True, help="Seconds of warm-up.")
@click.option(
    "--seconds", type=click.FloatRange(0, DAY), default=1.0, show_default=True, help="Measure at least so long."
)
@click.option("--repeats", type=click.IntRange(1, MANY), default=50, show_default=True, help="And at least so often.")
@click.option("--against", metavar="NAME,...", help="Beside these peers: pytorch, litert, onnxruntime, openvino.")
@input_option
@image_options
@session_options
@json_option
def command(
    source: str, paths: tuple[str, ...], images: dict[str, Any], warmup: float, seconds: float, repeats: int,
    devices: str | None, threads: int, precision: Precision, preference: Preference, no_fallback: bool, tune: bool,
    accept_inaccurate: bool, nan: Nan, against: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure SOURCE on random or given inputs: load, initialization, first run, latency, memory, each partition."""
    if against is not None:
        check_peers(against.split(","))
    started = time.perf_counter()
    model = load_model(source)
    given = given_inputs(model, paths, images)
    inputs = [given.get(i, x) for i, x in enumerate(random_inputs(model.input_operands))]
    with progress("Optimizing"):
        model = optimize(model)
    loading = time.perf_counter() - started
    with progress("Tuning" if tune else "Compiling"):
        session = compile(
            model, devices, precision=precision, num_threads=threads, preference=preference, fallback=not no_fallback,
            tune=tune, accept_inaccurate=accept_inaccurate, nan=nan,
        )  # fmt: skip
    if against is not None:
        return _compare(source, session, inputs, against.split(","), threads, repeats, as_json)
    with progress("Measuring") as show:
        record = measure(
            session, inputs, warmup=warmup, seconds=seconds, repeats=repeats, threads=threads, precision=precision,
            load=loading, progress=lambda share: show(f"{share:.0%}"),
        )  # fmt: skip
    if as_json:
        fallbacks = [asdict(fallback) for fallback in session.fallbacks]
        return print_json({**record.to_json(), "fallbacks": fallbacks, "burden": session.plan.burden})
    _print(record)
    if session.plan.burden:
        say(f"SLOW: {session.plan.burden}")
    for fallback in session.fallbacks:
        say(f"fallback: {fallback.what} on {fallback.device}: {fallback.reason}")
    return None


def _compare(
    source: str, session: Session, inputs: list[Array], names: list[str], threads: int, repeats: int, as_json: bool
) -> None:
    with progress("Measuring peers"):
        rows = compare(source, session, inputs, names, num_threads=threads, repeats=repeats)
    if as_json:
        return print_json([row.to_json() for row in rows])
    cells = [
        (r.name, milliseconds(r.latency.p50) if r.latency else "-", f"{r.ratio:.2f}" if r.ratio else "-", r.route)
        for r in rows
    ]
    print_table(("", "p50", "theirs / ours", "route"), cells, right="p50")
    return None


def _print(record: Record) -> None:
    latency = record.latency
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    threads = "1 thread" if record.threads == 1 else f"{record.threads} threads"
    say(f"{record.model}: {record.precision}, {threads}, {versions}")
    say(record.machine)
    rows = [
        ("load and optimize", milliseconds(record.load)),
        ("initialization", milliseconds(record.initialization)),
        ("first run", milliseconds(record.first)),
        ("latency p10", milliseconds(latency.p10)),
        ("latency p50", milliseconds(latency.p50)),
        ("latency p90", milliseconds(latency.p90)),
        ("runs", str(latency.repeats)),
        ("peak memory", size(record.peak_memory)),
    ]
    print_table(("", "value"), rows, right="value")
    if len(record.partitions) > 1:
        parts = [(k, p["device"], p["operations"], milliseconds(p["seconds"])) for k, p in enumerate(record.partitions)]
        print_table(("partition", "device", "operations", "p50"), parts, right="operations p50")
