"""`nnapi profile`: measure the devices on a model and remember it; show and clear what was found wrong."""

from __future__ import annotations

import click

from nnapi.cli.options import device_option, load_model
from nnapi.cli.output import json_option, milliseconds, print_json, print_table, progress, say
from nnapi.drivers.driver import Precision
from nnapi.errors import UsageError
from nnapi.pipeline import clear_profile, optimize, profile, show_denied


@click.command("profile")
@click.argument("source", required=False)
@device_option
@click.option("-j", "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of an engine.")
@click.option("--precision", type=click.Choice(["fp32", "relaxed"]), default="fp32", show_default=True)
@click.option("--show-denied", "show", is_flag=True, help="List what devices may not run, and why.")
@click.option(
    "--clear-denied", "clear", is_flag=True, help="Forget what devices may not run, and what they are trusted with."
)
@click.option("--clear", "clear_times", is_flag=True, help="Forget all measurements.")
@json_option
def command(
    source: str | None, devices: str | None, threads: int, precision: Precision, show: bool, clear: bool,
    clear_times: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure SOURCE, whole and in parts, on every device; later plans are chosen by it."""
    if clear or clear_times:
        times, denied = clear_profile(times=clear_times, denied=clear)
        return say(f"forgot {times} measurements and {denied} denied placements")
    if show:
        rows = show_denied()
        if as_json:
            return print_json(rows)
        columns = ("device", "version", "precision", "operation", "shapes", "reason")
        return print_table(columns, [[row[c] for c in columns] for row in rows]) if rows else say("nothing denied")
    if source is None:
        raise UsageError("no model to measure", hint="nnapi profile MODEL, or --show-denied, --clear-denied, --clear")
    model = load_model(source)
    with progress("Optimizing"):
        model = optimize(model)
    with progress("Measuring"):
        found = profile(model, devices, precision=precision, num_threads=threads)
    if as_json:
        return print_json({"model": model.name, "threads": threads, "precision": precision, "seconds": found})
    names = list(dict.fromkeys(name for times in found.values() for name in times))
    cells = [[part, *(milliseconds(t[n]) if n in t else "-" for n in names)] for part, t in found.items()]
    return print_table(["part", *names], cells, right=" ".join(names))
