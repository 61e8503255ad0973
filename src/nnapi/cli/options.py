"""Options that several subcommands share."""

from __future__ import annotations

from typing import Any

import click

from nnapi.cli.output import progress
from nnapi.drivers import registry
from nnapi.errors import UsageError
from nnapi.ir.model import Model
from nnapi.pipeline import load


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
    )
    for option in reversed(options):
        function = option(function)
    return function


def load_model(source: str) -> Model:
    """Load SOURCE while showing that it goes on."""
    with progress(f"Loading {source}"):
        return load(source)
