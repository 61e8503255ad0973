"""Options that several subcommands share."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from nnapi.cli.output import progress, say
from nnapi.drivers import registry
from nnapi.errors import UsageError
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize
from nnapi.ops.types import Array
from nnapi.pipeline import load
from nnapi.runtime.images import ImageOptions, options_for
from nnapi.runtime.inputs import IMAGES, read_inputs


def device_option(function: Any) -> Any:
    """`--devices`: names separated by commas, in order of preference."""
    return click.option(
        "-d", "--devices", "--device", "devices", metavar="NAME,...", callback=known_devices,
        help="Devices to use (all that are here).",
    )(function)  # fmt: skip


def known_devices(context: click.Context, option: click.Parameter, devices: str | None) -> str | None:
    """The names as they were given; UsageError for one that is no device's."""
    for name in [] if devices is None else devices.split(","):
        if name.strip() not in registry.names():
            raise UsageError(f"no device {name.strip()!r}", hint=f"there are {', '.join(registry.names())}")
    return devices


def session_options(function: Any) -> Any:
    """The options of `nnapi.compile`: devices, threads, precision, preference, fallback,
    tuning, accuracy."""
    options = (
        device_option,
        click.option(
            "-j", "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of an engine."
        ),
        click.option("--precision", type=click.Choice(["fp32", "relaxed"]), default="fp32", show_default=True),
        click.option(
            "--preference",
            type=click.Choice(["low_power", "fast_single_answer", "sustained_speed"]),
            default="fast_single_answer",
            show_default=True,
        ),
        click.option("--no-fallback", is_flag=True, help="Fail where an operation would run on the reference CPU."),
        click.option("--tune", is_flag=True, help="Measure the devices on this model first, and keep what is fastest."),
        click.option(
            "--accept-inaccurate", is_flag=True, help="Use devices that compute something else, with a warning."
        ),
        click.option(
            "--nan",
            type=click.Choice(["ignore", "check"]),
            default="ignore",
            show_default=True,
            help="check: engines get only what carries NaN through.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


input_option = click.option(
    "-i",
    "--input",
    "paths",
    multiple=True,
    metavar="[NAME=]FILE",
    help=".npy, .npz or an image; repeat for more inputs.",
)


def image_options(function: Any) -> Any:
    """`--mean`, `--std`, `--scale`, `--crop`: those given, as the parameter `images` (fields of ImageOptions)."""

    @functools.wraps(function)
    def command(
        *, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, scale: float | None, crop: bool, **rest: Any
    ) -> Any:
        given = {"mean": mean, "std": std, "scale": scale, "crop": crop or None}
        images: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        ImageOptions(**images)  # so that what is wrong with them is said first
        return function(images=images, **rest)

    numbers = "1 or 3 numbers, separated by commas"
    options = (
        click.option(
            "--mean", callback=_numbers, metavar="N,...", help=f"Subtracted from an image's channels: {numbers}."
        ),
        click.option("--std", callback=_numbers, metavar="N,...", help=f"Divides an image's channels: {numbers}."),
        click.option("--scale", type=float, help="What white is, before mean and std: 1 or 255."),
        click.option("--crop", is_flag=True, help="Cut an image to the input's aspect ratio instead of stretching it."),
    )
    wrapped: Any = command
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def _numbers(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--{option.name} {text!r}: numbers separated by commas") from error


def load_model(source: str) -> Model:
    """Load SOURCE while showing that it goes on."""
    with progress(f"Loading {source}"):
        return load(source)


def given_inputs(model: Model, paths: Sequence[str], images: Mapping[str, Any]) -> dict[int, Array]:
    """Inputs by position from files; of images it is said how they became numbers."""
    options = options_for(model, images)
    given = read_inputs(paths, model.input_operands, options)
    if any(Path(path).suffix.lower() in IMAGES for path in paths):
        real = [dequantize(given[i], model.input_operands[i]) for i in sorted(given)]
        seen = ", ".join(f"{x.min():g}..{x.max():g}" for x in real if x.size)
        say(f"inputs {seen}: {options.describe()}, {options.source}", err=True)
    return given
