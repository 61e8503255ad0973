"""Observe: the range of every float tensor of a model over calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.data import Example
from nnapi.quantization.expose import Exposed
from nnapi.quantization.observers import Range, observer
from nnapi.quantization.recipe import Recipe

Progress = Callable[[int], object]
"""Hears how many examples are done."""


def floats(model: Model) -> list[int]:
    """The operands of float32 that change from run to run: inputs and results."""
    return [
        i
        for i in (*model.inputs, *(i for o in model.operations for i in o.outputs))
        if model.operands[i].type == F32 and model.operands[i].value is None
    ]


def observe(
    model: Model, examples: Iterable[Example], recipe: Recipe, progress: Progress | None = None
) -> Mapping[int, Range]:
    """Operand -> the range that the recipe's observer chooses, for every float32 tensor of `model`.

    Memory does not grow with the examples. Raises QuantizeError for inputs that never change and for results that are
    not finite.
    """
    seen = {i: observer(recipe.observer, recipe.percentile) for i in floats(model)}
    exposed = Exposed(model, [*seen])
    extremes: dict[int, Range] = {}
    for n, example in enumerate(examples):
        for i, array in exposed.run(example):
            if array.size == 0:
                continue
            low, high = float(array.min()), float(array.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise QuantizeError(f"{_name(model, i)} is not finite on calibration example {n}")
            seen[i].update(array, low, high)
            if i in model.inputs:
                before = extremes.get(i, (low, high))
                extremes[i] = (min(low, before[0]), max(high, before[1]))
        if progress is not None:
            progress(n + 1)
    for i, (low, high) in extremes.items():
        if low == high:
            raise QuantizeError(
                f"input {model.operands[i].name!r} is {low:g} everywhere in the calibration data: no range in it",
                hint="give typical inputs",
            )
    return {i: o.range() for i, o in seen.items() if o.range()[0] <= o.range()[1]}


def _name(model: Model, i: int) -> str:
    n = model.producers.get(i)
    return f"input {model.operands[i].name!r}" if n is None else f"the result of {model.operations[n].label}"
