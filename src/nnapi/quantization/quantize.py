"""Quantize: prepare, observe, decide, apply, recover, in that order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from os import PathLike
from typing import Any

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.passes.inline_composites import inline_composites
from nnapi.passes.run import run_passes
from nnapi.quantization.apply import apply_traced
from nnapi.quantization.data import KEPT, Example, read_examples
from nnapi.quantization.decide import decide, integer_row
from nnapi.quantization.equalize import equalize
from nnapi.quantization.observe import observe
from nnapi.quantization.params import Table, read_table
from nnapi.quantization.recipe import Recipe, read_recipe
from nnapi.quantization.rounding import fit_layers
from nnapi.quantization.sensitivity import fewest_floats

Progress = Callable[[str, int], object]
"""Hears which stage is at work and how many examples or layers it has done."""


@dataclass(frozen=True)
class Quantized:
    """What quantization gave: the model, and what a report needs."""

    model: Model
    table: Table
    prepared: Model
    """The float model that was observed; the table's indexes are of it."""
    where: Mapping[int, int]
    """Operand of `prepared` -> operand of `model`."""
    examples: tuple[Example, ...]
    """The first few of the calibration data."""
    recipe: Recipe


def quantize_model(
    model: Model,
    calibration: Any = None,
    recipe: str | Mapping[str, Any] | Recipe = "int8",
    *,
    table: Table | str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Quantized:
    """`model` (optimized, channels last) quantized by `recipe`, with all that was found on the way.

    With a `table` nothing is observed, decided or recovered. Raises QuantizeError where calibration data or recipe do
    not do.
    """
    recipe = read_recipe(recipe)
    if not any(o.type == F32 for o in model.operands):
        raise QuantizeError("the model has no float32 tensors", hint="it is quantized already")
    prepared = prepare(model, recipe)
    if table is not None:
        chosen = table if isinstance(table, Table) else read_table(table, prepared)
        return _finished(prepared, chosen, (), recipe)
    if not recipe.is_integer:
        return _finished(prepared, decide(prepared, {}, recipe), (), recipe)
    tell = progress or (lambda stage, done: None)
    stream = read_examples(calibration, prepared.input_operands)
    kept = tuple(islice(stream, KEPT))
    if "equalization" in recipe.recovery:
        prepared = equalize(prepared, kept)
    ranges = observe(prepared, chain(kept, stream), recipe, lambda n: tell("observe", n))
    chosen = decide(prepared, ranges, recipe)
    if recipe.mixed:
        keep = fewest_floats(prepared, ranges, recipe, kept, lambda n: tell("measure", n))
        chosen = decide(prepared, ranges, recipe, keep)
    result = _finished(prepared, chosen, kept, recipe)
    if not {"rounding", "bias_correction"} & {*recipe.recovery}:
        return result
    fitted = fit_layers(
        prepared, result.model, result.where, kept,
        rounding="rounding" in recipe.recovery, progress=lambda n, all: tell("recover", n),
    )  # fmt: skip
    return Quantized(fitted, chosen, prepared, result.where, kept, recipe)


def prepare(model: Model, recipe: Recipe) -> Model:
    """`model` with the composites inlined whose bodies have integer forms throughout; the others stay in floats."""

    def is_inlined(n: int) -> bool:
        body = model.body(model.operations[n])
        if body is None or not recipe.is_integer or recipe.override(model.operations[n]) is not None:
            return False
        return not any(isinstance(integer_row(body, o, recipe), str) for o in body.operations)

    return run_passes(inline_composites(model, which=is_inlined))


def _finished(prepared: Model, table: Table, kept: tuple[Example, ...], recipe: Recipe) -> Quantized:
    model, where = apply_traced(prepared, table)
    return Quantized(model, table, prepared, where, kept, recipe)
