"""`nnapi check`: which operations each device takes, why not, and what the plan would be."""

from __future__ import annotations

from collections import Counter

import click

from nnapi.cli.options import device_option, load_model
from nnapi.cli.output import json_option, print_json, print_table, progress, say
from nnapi.drivers import registry
from nnapi.errors import ModelError
from nnapi.ir.model import NARROWED, Model
from nnapi.ir.verify import LevelNeed, level_name, levels
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
    needs = levels(model)
    beyond = [n for n in needs if n.need.level == BEYOND]
    above = [n for n in needs if level is not None and n.need.level > level]
    answers = [judge(driver, model) for driver in drivers]
    plan = partition(model, devices, fallback=not no_fallback)
    if as_json:
        nowhere = [{"operation": n.operation, "reason": str(n.need)} for n in beyond]
        devices_record = [_record(v, model) for v in answers]
        fits = {} if level is None else {"level": {"target": level, "above": list(map(_need_record, above))}}
        narrowed = {"narrowed": model.metadata[NARROWED]} if NARROWED in model.metadata else {}
        print_json({"devices": devices_record, "int16x8": nowhere, **narrowed, **fits, "plan": plan.to_json()})
        return _require_level(above, level)
    for verdicts in answers:
        say(f"{verdicts.device}: takes {verdicts.accepted} of {len(verdicts)} operations")
        rows = _rows(verdicts, model, show_all)
        if rows:
            print_table(("refused", "reason"), rows)
    if beyond:
        say(f"16x8: {len(beyond)} of {len(model.operations)} operations, on no NNAPI accelerator")
        print_table(("operation", "reason"), _beyond_rows(beyond, show_all))
    if NARROWED in model.metadata:
        say(f"computed in 32 bits, 64 in the source, so that results beyond them wrap: {model.metadata[NARROWED]}")
    if above:
        say(f"above {level_name(level)}: {_counted(len(above))} of {len(model.operations)} operations")
        print_table(("operation", "reason"), [(n.operation, str(n.need)) for n in above])
    elif level is not None:
        say(f"fits {level_name(level)}")
    for line in describe_plan(plan):
        say(line)
    return _require_level(above, level)


def _require_level(above: list[LevelNeed], level: int | None) -> None:
    """ModelError where something in the model is above the level that was asked for."""
    if level is not None and above:
        others = f" (the first of {_counted(len(above))})" if above[1:] else ""
        raise ModelError(
            f"{above[0].need}, the target has {level} ({ANDROID[level]}){others}", operation=above[0].operation
        )


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


def _counted(needs: int) -> str:
    return "1 need" if needs == 1 else f"{needs} needs"


def _need_record(need: LevelNeed) -> dict[str, object]:
    return {"operation": need.operation, "level": need.need.level, "reason": str(need.need)}


def _record(verdicts: Verdicts, model: Model) -> dict[str, object]:
    return {
        "device": verdicts.device,
        "accepted": verdicts.accepted,
        "operations": len(verdicts),
        "refused": [
            {"index": n, "operation": label, "reason": reason} for n, label, reason in refusals(verdicts, model)
        ],
    }
