"""`nnapi bench`: how fast a model is, and where the time goes."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console
from rich.progress import Progress

from nnapi.bench.measure import measure, random_inputs
from nnapi.bench.record import Record
from nnapi.cli.options import load_model, session_options
from nnapi.cli.output import json_option, milliseconds, print_json, print_table, progress, size
from nnapi.drivers.driver import Precision, Preference
from nnapi.pipeline import build, optimize, partition


@click.command("bench")
@click.argument("source")
@click.option("--warmup", type=click.FloatRange(0), default=0.5, show_default=True, help="Seconds of warm-up.")
@click.option("--seconds", type=click.FloatRange(0), default=1.0, show_default=True, help="Measure at least so long.")
@click.option("--repeats", type=click.IntRange(1), default=50, show_default=True, help="And at least so often.")
@session_options
@json_option
def command(
    source: str, warmup: float, seconds: float, repeats: int, devices: str | None, threads: int, precision: Precision,
    preference: Preference, no_fallback: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure SOURCE on seeded random inputs: load, initialization, first run, latency, memory, each partition."""
    started = time.perf_counter()
    model = load_model(source)
    inputs = random_inputs(model.input_operands)
    with progress("Optimizing"):
        model = optimize(model)
    loading = time.perf_counter() - started
    with progress("Compiling"):
        plan = partition(model, devices, preference=preference, fallback=not no_fallback)
        session = build(
            plan, devices, precision=precision, num_threads=threads,
            fallback=not no_fallback,
        )  # fmt: skip
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Measuring", total=1.0)
        record = measure(
            session, inputs, warmup=warmup, seconds=seconds, repeats=repeats, threads=threads, precision=precision,
            load=loading, progress=lambda share: bar.update(task, completed=share),
        )  # fmt: skip
    if as_json:
        return print_json(record.to_json())
    _print(record)
    for fallback in session.fallbacks:
        click.echo(f"fallback: {fallback.what} on {fallback.device}: {fallback.reason}")
    return None


def _print(record: Record) -> None:
    latency = record.latency
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    threads = "1 thread" if record.threads == 1 else f"{record.threads} threads"
    click.echo(f"{record.model}: {record.precision}, {threads}, {versions}")
    click.echo(record.machine)
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
