"""`nnapi convert`: a trained model to files of other formats."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from nnapi.cli.options import image_options
from nnapi.cli.output import json_option, print_json, progress, say, size
from nnapi.drivers.driver import Layout
from nnapi.exporters.save import FORMATS, check_output, save
from nnapi.ir.verify import feature_level, level_name
from nnapi.pipeline import load, optimize
from nnapi.runtime.images import options_for

LAYOUTS: Final[Mapping[str, Layout | None]] = {"nhwc": "nhwc", "nchw": "nchw", "keep": None}


@click.command("convert")
@click.argument("source")
@click.option(
    "-o", "--output", "outputs", multiple=True, required=True, help=f"A file: {', '.join(FORMATS)}; may be repeated."
)
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    default="nhwc",
    show_default=True,
    help="Of a .nnapi file; others have the layout of their readers.",
)
@click.option("--optimize/--no-optimize", "optimized", default=True, help="Fold, fuse and lay out (default).")
@image_options
@json_option
def command(
    source: str, outputs: tuple[str, ...], layout: str, optimized: bool, images: dict[str, Any], as_json: bool
) -> None:
    """Turn SOURCE (.pt2, .nnapi or zoo:NAME) into files; ncnn's weights go to a .bin beside its .param."""
    for output in outputs:
        check_output(output)
    started = time.perf_counter()
    with progress(f"Loading {source}"):
        model = load(source)
        if images:  # kept in a .nnapi file, for whoever gives it images
            model = options_for(model, images).kept_by(model)
    with progress("Optimizing"):
        if optimized:
            model = optimize(model, layout=LAYOUTS[layout])
    seconds = time.perf_counter() - started
    files = []
    for output in outputs:
        with progress(f"Writing {output}"):
            save(model, output)
        files.append({"path": output, "bytes": Path(output).stat().st_size})
    level = feature_level(model)
    record = {
        "source": source,
        "operations": len(model.operations),
        "feature_level": level,
        "seconds": seconds,
        "files": files,
    }
    if as_json:
        return print_json(record)
    say(f"{source}: {len(model.operations)} operations, {level_name(level)}, converted in {seconds:.2f} s")
    for file in files:
        say(f"  {file['path']}  {size(Path(str(file['path'])).stat().st_size)}")
    return None
