"""Quantize: prepare, observe, decide, apply, recover, in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from os import PathLike
from typing import Any, Final

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ops.types import F16, F32
from nnapi.passes.inline_composites import inline_composites
from nnapi.passes.run import run_passes
from nnapi.quantization.apply import apply_traced
from nnapi.quantization.data import BUFFER, FITTED, KEPT, Example, Seen, mirrored, read_examples, shuffled
from nnapi.quantization.decide import decide, half_types, integer_row
from nnapi.quantization.equalize import equalize
from nnapi.quantization.integer import integer_types
from nnapi.quantization.islands import islands
from nnapi.quantization.masks import clip_masks
from nnapi.quantization.multiply import multiply
from nnapi.quantization.observe import observe
from nnapi.quantization.params import Table, digest, read_table
from nnapi.quantization.recipe import INTEGERS, Recipe, read_recipe
from nnapi.quantization.rounding import Fitter
from nnapi.quantization.scaling import choose, moved
from nnapi.quantization.sensitivity import fewest_floats, in_floats
from nnapi.quantization.sizes import footprint

Progress = Callable[[str, int], object]
"""Hears which stage is at work and how many examples or layers it has done."""
NOTHING: Final = "no operation computes in integers"
SHARED: Final = 16
"""Examples from which on a mixture is judged on others than those that chose ranges."""


class QuantizeWarning(UserWarning):
    """Something legal was done that is hardly meant: a model stays in floats, images are taken for ImageNet's."""


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
    """A few of the calibration data, spread over all: of a mixture, those that judged it."""
    recipe: Recipe
    seen: Seen = field(default_factory=Seen)
    """Of the calibration data, as the model took them."""
    warnings: tuple[str, ...] = ()
    """A warning of what is legal and hardly meant."""


def quantize_model(
    model: Model,
    calibration: Any = None,
    recipe: str | Mapping[str, Any] | Recipe = "int8",
    *,
    labels: Sequence[int] | None = None,
    table: Table | str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Quantized:
    """`model` (optimized, channels last) quantized by `recipe`, with all that was found on the way.

    `labels`, one for each of the first examples, let mixed precision ask for accuracy instead of dB. With a `table`
    nothing is observed or decided, and recovered only where calibration data is given too: a table has no filters and
    biases. Raises QuantizeError
    where calibration data, labels or recipe do not do.
    """
    recipe = read_recipe(recipe)
    if not any(o.type == F32 for o in model.operands):
        raise QuantizeError("the model has no float32 tensors", hint="it is quantized already")
    prepared = prepare(model, recipe)
    if labels is not None and not recipe.mixed:
        raise QuantizeError(f"recipe {recipe.name!r} asks for no accuracy", hint="labels are for recipes with `mixed`")
    known = read_table(table, prepared) if isinstance(table, (str, PathLike)) else table
    if known is not None:
        known.check(prepared)
    weights = digest(prepared)
    if known is None and not recipe.is_integer:
        known = replace(decide(prepared, {}, recipe), weights=weights)
    if known is not None and calibration is None:
        if "equalization" in recipe.recovery:
            raise QuantizeError(f"recipe {recipe.name!r} equalizes by calibration data", hint="give it with the table")
        return _finished(moved(prepared, known.factors), known, (), recipe)
    tell = progress or (lambda stage, done: None)
    seen = Seen()
    stream = shuffled(seen(read_examples(calibration, prepared.input_operands)), labels)
    first = [*islice(stream, _kept(prepared) if labels is None else len(labels))]
    kept = tuple(example for example, _ in first)
    if labels is not None and len(labels) != len(kept):
        raise QuantizeError(f"{len(labels)} labels for {len(kept)} calibration examples, must be one each")
    if known is not None and not recipe.is_integer:
        return replace(_finished(prepared, known, kept, recipe), seen=seen)
    # A mixture is judged on other examples than those that choose ranges, where there are enough.
    apart = len(kept) // 2 if recipe.mixed and len(kept) >= SHARED else 0
    chosen_by, judged_by = kept[: len(kept) - apart], kept[len(kept) - apart :] or kept
    judged_labels = None if labels is None else [int(label or 0) for _, label in first[-len(judged_by) :]]
    prepared = clip_masks(prepared, chosen_by[:FITTED])
    factors = known.factors if known is not None else {}
    if known is None and {"scaling", "equalization"} & {*recipe.recovery}:
        factors = choose(prepared, chosen_by[:FITTED], recipe)
    prepared = moved(prepared, factors)
    if "equalization" in recipe.recovery:
        prepared = equalize(prepared, chosen_by[:FITTED])

    fitter = None
    if {"rounding", "bias_correction"} & {*recipe.recovery}:
        fitter = Fitter(
            prepared, mirrored(chosen_by[:FITTED]),
            rounding="rounding" in recipe.recovery, progress=lambda n: tell("recover", n),
        )  # fmt: skip

    def finish(table: Table) -> Quantized:
        result = replace(_finished(prepared, table, judged_by[:KEPT], recipe), seen=seen)
        return result if fitter is None else replace(result, model=fitter.fit(result.model, result.where))

    if known is None:
        rest = (example for example, _ in stream)
        ranges = observe(prepared, chain(chosen_by, rest), recipe, lambda n: tell("observe", n))
        known = replace(decide(prepared, ranges, recipe), weights=weights, factors=factors)
        known = in_floats(known, islands(prepared, known))
        if recipe.mixed:
            known = fewest_floats(
                prepared, known, recipe, judged_by, lambda t: finish(t).model,
                labels=judged_labels, progress=lambda n: tell("measure", n),
            )  # fmt: skip
            if footprint(finish(known).model) >= footprint(prepared):
                known = in_floats(known, {n: NOTHING for n, c in known.operations.items() if c.precision in INTEGERS})
    result = finish(known)
    if not any(c.precision in INTEGERS for c in known.operations.values()):
        result = replace(result, warnings=(*result.warnings, f"{recipe.name}: nothing is gained: {NOTHING}"))
    return result


def prepare(model: Model, recipe: Recipe) -> Model:
    """`model` with the composites inlined whose bodies have integer forms throughout; the others stay in floats."""

    def is_inlined(n: int) -> bool:
        body = model.body(model.operations[n])
        if body is None or not recipe.is_integer or recipe.override(model.operations[n]) is not None:
            return False
        body = multiply(body)
        return not any(isinstance(integer_row(body, o, recipe), str) for o in body.operations)

    inlined = inline_composites(model, which=is_inlined)
    return run_passes(multiply(inlined) if recipe.is_integer else inlined)


def _kept(model: Model) -> int:
    """The number of examples, with their outputs, that memory allows to keep."""
    size = sum(o.bytes or 0 for o in (*model.input_operands, *model.output_operands))
    return min(max(BUFFER // max(size, 1), FITTED), KEPT)


def _finished(prepared: Model, table: Table, kept: tuple[Example, ...], recipe: Recipe) -> Quantized:
    model, where = apply_traced(prepared, table)
    return Quantized(model, table, prepared, where, kept, recipe, warnings=tuple(_left(prepared, table, recipe)))


def _left(model: Model, table: Table, recipe: Recipe) -> Iterator[str]:
    """Operations that multiply by weights and stay in float32, though nobody asked for it."""
    for n, operation in enumerate(model.operations):
        weights = [
            o for o in model.operands_of(operation.inputs)
            if o.type == F32 and isinstance(o.value, np.ndarray) and len(o.dimensions) > 1
        ]  # fmt: skip
        if not weights or n in table.filters or recipe.override(operation) is not None:
            continue
        if operation.is_extension:
            reason = "an extension has no other form" if model.body(operation) is None else ""
        elif not (call := model.call(operation)).op.macs(call):
            continue
        elif recipe.is_integer:
            row = integer_types(call, recipe)
            reason = row if isinstance(row, str) else ""
        elif recipe.type == F16:
            reason = "" if half_types(model, operation) else "NNAPI has no form of it in TENSOR_FLOAT16"
        else:
            reason = f"NNAPI has no form of it with weights of {recipe.weights}"
        if reason:
            size = sum(o.value.nbytes for o in weights)
            yield f"{operation.label} stays in float32, with {size:,} bytes of constants: {reason}"
