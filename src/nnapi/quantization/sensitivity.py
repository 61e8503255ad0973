"""Mixed precision: the fewest operations kept in floats for a given accuracy, chosen by measured sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize
from nnapi.ops.types import Array
from nnapi.quantization.apply import apply
from nnapi.quantization.data import Example
from nnapi.quantization.decide import decide
from nnapi.quantization.expose import prepare
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.observers import Range
from nnapi.quantization.recipe import Recipe
from nnapi.quantization.rounding import quantized_inputs

REASON = "int8 costs more accuracy here than elsewhere: {:.1f} dB by itself"


def fewest_floats(
    model: Model,
    ranges: Mapping[int, Range],
    recipe: Recipe,
    examples: Sequence[Example],
    progress: Callable[[int], object] | None = None,
) -> dict[int, str]:
    """Operations to keep in float32, and why, so that outputs reach `recipe.target_sqnr` dB on `examples`.

    Each operation is quantized alone and measured; then as few of the worst as reach the target stay in floats.
    Raises QuantizeError where not even all of them do.
    """
    expected = _outputs(model, examples)
    everything = [n for n, c in decide(model, ranges, recipe).operations.items() if c.precision == recipe.activations]
    alone: dict[int, float] = {}
    for done, n in enumerate(everything):
        others = {k: "measured alone" for k in everything if k != n}
        alone[n] = _sqnr(model, ranges, recipe, examples, expected, others)
        if progress is not None:
            progress(done + 1)
    worst = sorted(everything, key=lambda n: alone[n])

    def reached(count: int) -> bool:
        keep = dict.fromkeys(worst[:count], "")
        return _sqnr(model, ranges, recipe, examples, expected, keep) >= recipe.target_sqnr

    low, high = 0, len(worst)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    if not reached(low):
        raise QuantizeError(f"no mixture reaches {recipe.target_sqnr:g} dB", hint="lower target_sqnr")
    return {n: REASON.format(alone[n]) for n in worst[:low]}


def _sqnr(
    model: Model, ranges: Mapping[int, Range], recipe: Recipe, examples: Sequence[Example], expected: Sequence[Array],
    keep: Mapping[int, str],
) -> float:  # fmt: skip
    quantized = apply(model, decide(model, ranges, recipe, keep))
    return min(sqnr(x, y) for x, y in zip(expected, _outputs(quantized, examples)))


def _outputs(model: Model, examples: Sequence[Example]) -> list[Array]:
    """Each output over all examples, as real numbers."""
    prepared = prepare(model)
    results = [prepared.run(quantized_inputs(model, example)) for example in examples]
    return [
        np.concatenate([dequantize(r[k], o).reshape(-1) for r in results]) for k, o in enumerate(model.output_operands)
    ]
