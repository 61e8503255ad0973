"""`nnapi run`: a model on arrays or images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from nnapi.cli.options import given_inputs, image_options, input_option, load_model, session_options
from nnapi.cli.output import json_option, print_json, progress, say
from nnapi.drivers.driver import Nan, Precision, Preference
from nnapi.errors import UsageError
from nnapi.ir.writing import check_writable, writing
from nnapi.ops.types import Array
from nnapi.partitioning.samples import random_inputs
from nnapi.pipeline import compile
from nnapi.report.plan import describe_plan

TOP = 5


@click.command("run")
@click.argument("source")
@input_option
@click.option(
    "--random", "seed", type=click.IntRange(0), metavar="SEED", help="Seeded random values for inputs not given."
)
@click.option("-o", "--output", type=click.Path(), help="Save the outputs: .npz, or .npy for a single one.")
@click.option("--plan", "show_plan", is_flag=True, help="Say what runs where, on standard error.")
@image_options
@session_options
@json_option
def command(
    source: str, paths: tuple[str, ...], seed: int | None, output: str | None, images: dict[str, Any],
    show_plan: bool, devices: str | None, threads: int, precision: Precision, preference: Preference, no_fallback: bool,
    tune: bool, accept_inaccurate: bool, nan: Nan, as_json: bool,
) -> None:  # fmt: skip
    """Run SOURCE on inputs and print its outputs, or save them."""
    if output is not None:
        if Path(output).suffix not in (".npz", ".npy"):
            raise UsageError(f"{output}: suffix must be .npz or .npy")
        check_writable(output)
    model = load_model(source)
    if output is not None and Path(output).suffix == ".npy" and len(model.outputs) != 1:
        raise UsageError(f"{output}: the model has {len(model.outputs)} outputs", hint="save to .npz")
    operands = model.input_operands
    given = given_inputs(model, paths, images)
    if len(given) < len(operands):
        if seed is None:
            missing = ", ".join(repr(o.name) for i, o in enumerate(operands) if i not in given)
            raise UsageError(f"no value for input {missing}", hint="-i FILE, or --random SEED")
        given = dict(enumerate(random_inputs(operands, seed))) | given
    with progress("Compiling"):
        session = compile(
            model, devices, precision=precision, num_threads=threads, preference=preference, fallback=not no_fallback,
            tune=tune, accept_inaccurate=accept_inaccurate, nan=nan,
        )  # fmt: skip
    if show_plan:
        for line in describe_plan(session.plan):
            say(line, err=True)
    for fallback in session.fallbacks:
        say(f"fallback: {fallback.what} on {fallback.device}: {fallback.reason}", err=True)
    unchecked = [(session.plan.partitions[n], reason) for n, reason in session.plan.unchecked.items()]
    for part, reason in unchecked:
        what = f"{len(part.operations)} operations on {part.device}"
        say(f"not compared with the reference: {what}: {reason}", err=True)
    results = dict(zip(session.output_names, session(*(given[i] for i in range(len(operands))))))
    if output is not None:
        _save(results, output)
    if as_json:
        return print_json({
            "outputs": {name: _summary(array) for name, array in results.items()},
            "saved": output,
            "fallbacks": [asdict(fallback) for fallback in session.fallbacks],
            "unchecked": [
                {"device": part.device, "operations": part.operations, "reason": reason}
                for part, reason in unchecked
            ],
        })  # fmt: skip
    for name, array in results.items():
        for line in _describe(name, array):
            say(line)
    if output is not None:
        say(f"saved to {output}")
    return None


def _save(results: dict[str, Array], path: str) -> None:
    with writing(path) as file:
        if Path(path).suffix == ".npy":
            np.save(file, next(iter(results.values())))
        else:
            np.savez(file, allow_pickle=False, **results)


def _describe(name: str, array: Array) -> list[str]:
    head = f"{name}: {array.dtype}{list(array.shape)}"
    if array.size == 0:
        return [f"{head} no elements"]
    if array.size <= 10:
        values = np.array2string(array, precision=5, separator=", ").split("\n")
        return [f"{head} {values[0]}"] if len(values) == 1 else [head, *(f"  {line}" for line in values)]
    lines = [f"{head} min {array.min():.5g} mean {array.mean():.5g} max {array.max():.5g}"]
    if array.ndim == 2 and array.shape[0] == 1:
        best = np.argsort(-array[0].astype(np.float64), kind="stable")[:TOP]
        lines.append("  top: " + ", ".join(f"{i} ({array[0, i]:.4g})" for i in best))
    return lines


def _summary(array: Array) -> dict[str, object]:
    record: dict[str, object] = {"dtype": str(array.dtype), "shape": array.shape}
    if array.size <= 1000:
        record["values"] = array.tolist()
    elif array.size:
        record |= {"min": float(array.min()), "mean": float(array.mean()), "max": float(array.max())}
    return record
