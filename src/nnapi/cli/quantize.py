"""`nnapi quantize`: a float model to integers, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from nnapi.cli.options import image_options, load_model
from nnapi.cli.output import json_option, print_json, print_table, progress, say, size
from nnapi.errors import UsageError
from nnapi.exporters.save import FORMATS, check_output, save
from nnapi.ir.model import Model
from nnapi.ir.verify import feature_level, level_name
from nnapi.ir.writing import check_writable, writing
from nnapi.pipeline import compile, devices, is_folder, optimize, read_images
from nnapi.quantization.page import decibels, page
from nnapi.quantization.quantize import quantize_model
from nnapi.quantization.recipe import names, read_recipe
from nnapi.quantization.report import Report, measure
from nnapi.runtime.images import ImageOptions, options_for

WORST = 10
STAGES: Final = {
    "observe": ("observing", "example"),
    "measure": ("measuring", "operation"),
    "recover": ("recovering", "layer"),
}
"""Stage of quantization -> its name, and what it counts."""


def _known_recipe(context: click.Context, option: click.Parameter, recipe: str) -> str:
    if recipe not in names() and not recipe.endswith(".json"):
        raise UsageError(f"no recipe {recipe!r}", hint=f"there are {', '.join(names())}, or name a .json file")
    return recipe


@click.command("quantize")
@click.argument("source", required=False)
@click.option("-o", "--output", type=click.Path(), help=f"A file: {', '.join(FORMATS)}.")
@click.option(
    "-r", "--recipe", default="int8", show_default=True, callback=_known_recipe, help="A name (--list) or a .json file."
)
@click.option("-c", "--calibration", metavar="PATH", help="A folder of images, or an .npz file.")
@click.option("--list", "listed", is_flag=True, help="List the recipes.")
@click.option("--table", type=click.Path(exists=True, dir_okay=False), help="Quantize by a saved (and edited) table.")
@click.option("--save-table", type=click.Path(), help="Save what was decided.")
@click.option(
    "--boundary", type=click.Choice(["integer", "float32"]), help="Inputs and outputs, instead of the recipe's choice."
)
@click.option("--report", "report_path", type=click.Path(), help="Write an HTML page of the costs.")
@image_options
@json_option
def command(
    source: str | None, output: str | None, recipe: str, calibration: str | None, listed: bool, table: str | None,
    save_table: str | None, report_path: str | None, boundary: str | None,
    images: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """Quantize SOURCE by a recipe and say what it costs in accuracy."""
    if listed:
        return _list(as_json)
    if source is None:
        raise UsageError("no model given", hint="nnapi quantize SOURCE, or --list")
    chosen = read_recipe(recipe)
    if boundary is not None:
        chosen = replace(chosen, boundary=boundary)
    if output is not None:
        check_output(output)
    for path in filter(None, (save_table, report_path)):
        check_writable(path)
    loaded = load_model(source)
    with progress("Optimizing"):
        model = optimize(loaded)
    options = options_for(model, images) if images or is_folder(calibration) else None
    examples: Any = calibration
    if options is not None:
        model = options.kept_by(model)
        if calibration is not None and is_folder(calibration):
            examples = read_images(calibration, model.input_operands, options)
    with progress("Quantizing") as show:
        quantized = quantize_model(
            model, examples, chosen, table=table,
            progress=lambda stage, done: show(_how_far(stage, done)),
        )  # fmt: skip
    with progress("Comparing"):
        report = measure(model, quantized)
    if save_table is not None:
        quantized.table.save(save_table, quantized.prepared)
    if report_path is not None:
        with writing(report_path) as file:
            file.write(page(report).encode())
    if output is not None:
        save(quantized.model, output)
        if chosen.is_integer:
            with progress("Reading it back"):
                _warn(quantized.model, output)
    if as_json:
        return print_json(report.to_json() | {
            "feature_level": feature_level(quantized.model), "output": output, "warnings": quantized.warnings,
            "images": None if options is None else {"used": options.describe(), "source": options.source},
        })  # fmt: skip
    _print(report, feature_level(quantized.model), options)
    for warning in quantized.warnings:
        say(f"warning: {warning}", err=True)
    if output is not None:
        say(f"{output}  {size(Path(output).stat().st_size)}")
    return None


def _warn(model: Model, path: str) -> None:
    """Say where the engine that reads such files computes something else of them than the reference."""
    device = FORMATS[Path(path).suffix].device
    if device not in {driver.name for driver in devices()}:
        return
    for reason in dict.fromkeys(fallback.reason for fallback in compile(model, devices=device).fallbacks):
        say(f"warning: {path} is computed otherwise by {device}: {reason}", err=True)


def _how_far(stage: str, done: int) -> str:
    what, unit = STAGES.get(stage, (stage, "step"))
    return f"{what}, {done} {unit}" + ("" if done == 1 else "s")


def _list(as_json: bool) -> None:
    recipes = [read_recipe(name) for name in names()]
    if as_json:
        print_json([{"name": r.name, "description": r.description} for r in recipes])
    else:
        print_table(("recipe", "what it does"), [(r.name, r.description) for r in recipes])


def _print(report: Report, level: int | None, images: ImageOptions | None) -> None:
    if report.calibrated:
        seen = ", ".join(f"{low:g}..{high:g}" for low, high in report.ranges)
        how = "" if images is None else f"; images: {images.describe()}, {images.source}"
        say(f"calibration: {report.calibrated} examples, inputs {seen}{how}")
    saved = 1 - report.bytes_after / max(report.bytes_before, 1)
    say(
        f"{report.recipe}: weights {size(report.bytes_before)} -> {size(report.bytes_after)} ({saved:.0%} saved), "
        f"{level_name(level)}"
    )
    (low, all_), (work, total) = report.operations, report.macs
    share = f", {work / total:.0%} of the multiply-accumulates" if total else ""
    say(f"{low} of {all_} operations{share} in {report.precision}")
    if report.agreement is not None:
        say(f"answers: {report.agreement:.2%} as the float model's")
    for k, value in enumerate(report.outputs):
        parts = [p for p in report.parts if p.output == k]
        which = ", the worst part" if parts else ""
        say(f"output {k}: SQNR {decibels(value)}{which}, on {report.judged} examples")
        for part in parts:
            say(f"  {part.operation}: SQNR {decibels(part.sqnr)}")
    worst = [(r.operation, r.precision, decibels(r.sqnr)) for r in report.rows if r.sqnr is not None][:WORST]
    if worst:
        print_table(("worst operations", "computes in", "SQNR"), worst, right="SQNR")
    if report.floats:
        print_table(("in floats", "why"), [(r.operation, r.reason) for r in report.floats])
