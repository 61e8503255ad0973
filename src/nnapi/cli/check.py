"""`nnapi check`: which operations each device takes, why not, and what the plan would be."""

from __future__ import annotations

from collections import Counter

import click

from nnapi.cli.options import device_option, load_model
from nnapi.cli.output import json_option, print_json, print_table, progress, say
from nnapi.drivers import registry
from nnapi.ir.model import Model
from nnapi.ir.verify import LevelNeed, levels, verify
from nnapi.ops.types import ANDROID, BEYOND
from nnapi.partitioning.verdict import Verdicts, judge
from nnapi.pipeline import optimize, partition
from nnapi.report.plan import describe_plan, refusals


@click.command("check")
@click.argument("source")
@device_option
@click.option("--level", type=click.IntRange(1, 8), help="Also: does it fit this feature level?")
@click.option("--all", "show_all", is_flag=True, help="Every refused operation, not only each reason once.")
@click.option("--no-fallback", is_flag=True, help="Fail where an operation would run on the reference CPU.")
@json_option
def command(
    source: str, devices: str | None, level: int | None, show_all: bool, no_fallback: bool, as_json: bool
) -> None:
    """Say which operations of SOURCE each device takes, why it refuses the others, and what the plan would be."""
    drivers = registry.choose(devices)
    model = load_model(source)
    with progress("Optimizing"):
        model = optimize(model)
    if level is not None:
        verify(model, level=level)
    beyond = [n for n in levels(model) if n.need.level == BEYOND]
    answers = [judge(driver, model) for driver in drivers]
    plan = partition(model, devices, fallback=not no_fallback)
    if as_json:
        nowhere = [{"operation": n.operation, "reason": str(n.need)} for n in beyond]
        devices_record = [_record(v, model) for v in answers]
        return print_json({"devices": devices_record, "int16x8": nowhere, "plan": plan.to_json()})
    for verdicts in answers:
        say(f"{verdicts.device}: takes {verdicts.accepted} of {len(verdicts)} operations")
        rows = _rows(verdicts, model, show_all)
        if rows:
            print_table(("refused", "reason"), rows)
    if beyond:
        say(f"16x8: {len(beyond)} of {len(model.operations)} operations, on no NNAPI accelerator")
        print_table(("operation", "reason"), _beyond_rows(beyond, show_all))
    if level is not None:
        say(f"fits feature level {level} ({ANDROID[level]})")
    for line in describe_plan(plan):
        say(line)
    return None


def _rows(verdicts: Verdicts, model: Model, show_all: bool) -> list[tuple[str, str]]:
    refused = refusals(verdicts, model)
    if show_all:
        return [(label, reason) for _, label, reason in refused]
    counts = Counter((model.operations[n].type.rpartition("/")[2], reason) for n, _, reason in refused)
    return [(f"{count} {type}", reason) for (type, reason), count in counts.most_common()]


def _beyond_rows(beyond: list[LevelNeed], show_all: bool) -> list[tuple[str, str]]:
    if show_all:
        return [(n.operation, str(n.need)) for n in beyond]
    counts = Counter((n.operation.partition(" ")[0], str(n.need)) for n in beyond)
    return [(f"{count} {type}", reason) for (type, reason), count in counts.most_common()]


def _record(verdicts: Verdicts, model: Model) -> dict[str, object]:
    return {
        "device": verdicts.device,
        "accepted": verdicts.accepted,
        "operations": len(verdicts),
        "refused": [
            {"index": n, "operation": label, "reason": reason} for n, label, reason in refusals(verdicts, model)
        ],
    }
