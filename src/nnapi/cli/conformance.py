"""`nnapi conformance`: does a driver compute what the specification says?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from nnapi.cli.options import known_devices
from nnapi.cli.output import json_option, print_json, print_table, progress, say
from nnapi.conformance.reader import case_files
from nnapi.conformance.runner import Outcome, run_file
from nnapi.conformance.summary import Summary, summarize
from nnapi.drivers import registry
from nnapi.drivers.driver import Driver
from nnapi.errors import UsageError


@click.command("conformance")
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-d", "--device", "--driver", "driver", default="reference", show_default=True, callback=known_devices,
    help="Device to test.",
)  # fmt: skip
@click.option(
    "--operation", "operations", multiple=True, metavar="OP", help="Only cases that test OP; may be repeated."
)
@click.option("--unspecified-outputs", "unspecified", is_flag=True, help="Leave the dimensions of outputs unspecified.")
@json_option
@click.pass_context
def command(
    context: click.Context, path: Path, driver: str, operations: tuple[str, ...], unspecified: bool, as_json: bool
) -> None:
    """Run the conformance cases in DIR on a device; exits 1 if any fails.

    DIR is a folder of cases (*.json.gz), or one such file. A case that the device declines to run is counted apart.
    """
    device = registry.get(driver)
    names = {name.upper() for name in operations}
    summary = summarize(_outcomes(case_files(path), device, names, unspecified))
    if not summary.totals:
        raise UsageError(f"{path}: no case to run" + (f" tests {' or '.join(sorted(names))}" if names else ""))
    if as_json:
        print_json({"device": device.name, "version": device.version, **summary.to_json()})
    else:
        _print(summary, device)
    context.exit(1 if summary.failed else 0)


def _outcomes(files: Sequence[Path], driver: Driver, operations: set[str], unspecified: bool) -> Iterator[Outcome]:
    with progress(f"Running cases on {driver.name}") as show:
        for n, file in enumerate(files):
            show(f"{n} of {len(files)} files")
            yield from run_file(file, driver, operations=operations, unspecified=unspecified)


def _print(summary: Summary, driver: Driver) -> None:
    for outcome in summary.failed:
        say(f"FAILED {outcome.case}: {outcome.detail}")
    rows = [(name, c["passed"], c["failed"], c["declined"]) for name, c in summary.by_operation.items()]
    print_table(("operation", "passed", "failed", "declined"), rows, right="passed failed declined")
    say(f"{driver.name} {driver.version}: {summary}")
