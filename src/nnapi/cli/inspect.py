"""`nnapi inspect`: what is in a model."""

from __future__ import annotations

from collections import Counter

import click
import numpy as np

from nnapi.cli.options import load_model
from nnapi.cli.output import json_option, print_json, print_table, print_text, say, size
from nnapi.ir.model import Model
from nnapi.ir.text import print_model
from nnapi.ir.verify import LevelNeed, level_name, level_of, levels
from nnapi.ir.work import macs
from nnapi.ops.types import BEYOND, Operand
from nnapi.pipeline import optimize


@click.command("inspect")
@click.argument("source")
@click.option("--levels", "show_levels", is_flag=True, help="Which operations need which feature level, and why.")
@click.option("--text", is_flag=True, help="The whole model in its readable form.")
@click.option("--optimize", "optimized", is_flag=True, help="After the default passes.")
@json_option
def command(source: str, show_levels: bool, text: bool, optimized: bool, as_json: bool) -> None:
    """Show the model in SOURCE: operations, inputs and outputs, sizes, feature levels."""
    model = load_model(source)
    if optimized:
        model = optimize(model)
    needs = levels(model)
    level = level_of(needs)
    if as_json:
        return print_json(_record(model, needs, level))
    if text:
        return print_text(print_model(model))
    counts = Counter(o.type for o in model.operations)
    say(
        f"{model.name or source}: {len(model.operations)} operations, {macs(model) / 1e6:.1f} M MACs, "
        f"{size(weight_bytes(model))} of constants"
    )
    say(level_name(level))
    for kind, operands in (("input", model.input_operands), ("output", model.output_operands)):
        for operand in operands:
            say(f"{kind:<6} {operand.name}: {_typed(operand)}")
    if show_levels:
        print_table(("level", "needed by", "operations"), _level_rows(needs), right="level operations")
    else:
        print_table(("operation", "count"), counts.most_common(), right="count")
    return None


def _level_rows(needs: list[LevelNeed]) -> list[tuple[int | str, str, int]]:
    counts = Counter((n.need.level, str(n.need)) for n in needs)
    ordered = sorted(counts.items(), key=lambda item: -item[0][0])
    return [("none" if level == BEYOND else level, reason, count) for (level, reason), count in ordered]


def _typed(operand: Operand) -> str:
    dims = ", ".join(str(d or "?") for d in operand.dimensions)
    quant = f" scale={operand.scale:.6g} zero_point={operand.zero_point}" if operand.scale else ""
    return f"{operand.type.name}[{dims}]{quant}"


def weight_bytes(model: Model) -> int:
    """Bytes of the constants, each array once, in the model and those it refers to."""
    seen: dict[int, int] = {}
    stack = [model]
    while stack:
        for operand in stack.pop().operands:
            if isinstance(operand.value, Model):
                stack.append(operand.value)
            elif isinstance(operand.value, np.ndarray):
                seen[id(operand.value)] = operand.value.nbytes
    return sum(seen.values())


def _record(model: Model, needs: list[LevelNeed], level: int | None) -> dict[str, object]:
    def described(operand: Operand) -> dict[str, object]:
        return {"name": operand.name, "type": operand.type.name, "dimensions": operand.dimensions,
                "scale": operand.scale, "zero_point": operand.zero_point}  # fmt: skip

    return {
        "name": model.name,
        "feature_level": level,
        "macs": macs(model),
        "constant_bytes": weight_bytes(model),
        "relaxed": model.relaxed,
        "inputs": [described(o) for o in model.input_operands],
        "outputs": [described(o) for o in model.output_operands],
        "operations": Counter(o.type for o in model.operations),
        "levels": [{"operation": n.operation, "level": n.need.level, "reason": n.need.reason} for n in needs],
        "metadata": dict(model.metadata),
    }
