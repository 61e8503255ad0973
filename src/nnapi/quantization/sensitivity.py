"""Mixed precision: the fewest operations kept in floats for a given accuracy, chosen by measured sensitivity.

An operation's sensitivity is the noise at the outputs when it alone computes in integers. Halves of the model are
measured first, and only what makes much of the noise is split further.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.quantization.apply import apply
from nnapi.quantization.data import Example
from nnapi.quantization.islands import islands
from nnapi.quantization.judge import Judge
from nnapi.quantization.params import Choice, Table
from nnapi.quantization.recipe import Recipe
from nnapi.quantization.sizes import ENTRY, footprint

MEASURED: Final = 4
"""Examples that sensitivities are measured on; the result is judged on all."""
SMALL: Final = 1 / 256
"""Of the noise of the whole model: a part with less is not split, its operations count alike."""
REASON: Final = "its 8 bits cost more accuracy than others': {:.1f} dB by itself"


def fewest_floats(
    model: Model,
    table: Table,
    recipe: Recipe,
    examples: Sequence[Example],
    finish: Callable[[Table], Model],
    *,
    labels: Sequence[int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Table:
    """`table` with as few operations in float32 as reach what the recipe asks for on `examples`.

    That is with `labels` (one per example) at most `recipe.max_loss` of accuracy lost, else `recipe.target_sqnr` dB, or
    where that is 0 the answers of the float model; of the model that `finish` makes of a table. Raises QuantizeError
    where not even all operations in floats reach it.
    """
    judge = Judge(model, examples, labels)

    def is_reached(table: Table) -> bool:
        result = finish(table)
        if labels is not None:
            return judge.lost(result) <= recipe.max_loss
        if recipe.target_sqnr:
            return judge.sqnr(result) >= recipe.target_sqnr
        return judge.agrees(result, recipe.max_loss)

    if is_reached(table):
        return table
    measured = _Sensitivities(model, table, recipe, Judge(model, examples[:MEASURED]), progress).measured()

    def mixture(worst: Sequence[int]) -> Table:
        mixed = in_floats(table, {n: REASON.format(_decibels(measured[n])) for n in worst})
        return in_floats(mixed, islands(model, mixed, idle=True))

    def fewest(worst: Sequence[int]) -> Table:
        low, high = 1, len(worst)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_reached(mixture(worst[:middle])) else (middle + 1, high)
        return mixture(worst[:low])

    if not is_reached(mixture([*measured])):
        wanted, what = ("max_loss", "") if labels is not None or not recipe.target_sqnr else ("target_sqnr", " dB")
        raise QuantizeError(f"no mixture reaches {wanted} {getattr(recipe, wanted):g}{what}", hint="ask for less")
    # The loudest first is the fewest operations; the loudest for its bytes may be fewer bytes.
    by_bytes = {n: noise / _bytes(model, n) for n, noise in measured.items()}
    found = [fewest(sorted(noise, key=lambda n: -noise[n])) for noise in (measured, by_bytes)]
    return min(found, key=lambda t: footprint(apply(model, t)))


def _bytes(model: Model, n: int) -> int:
    """Of the constants of operation n, and of the conversions around it."""
    return 2 * ENTRY + sum(o.bytes or 0 for o in model.operands_of(model.operations[n].inputs) if o.is_constant)


def in_floats(table: Table, reasons: dict[int, str]) -> Table:
    """`table` with some of its operations in float32, and why; what stays in integers keeps its parameters."""
    operations = {n: Choice("float32", reasons[n]) if n in reasons else c for n, c in table.operations.items()}
    return replace(table, operations=operations, filters={n: f for n, f in table.filters.items() if n not in reasons})


class _Sensitivities:
    """Operation -> its share of noise power over signal power at the output that suffers most."""

    def __init__(
        self, model: Model, table: Table, recipe: Recipe, judge: Judge, progress: Callable[[int], object] | None
    ) -> None:
        self._model, self._table, self._judge, self._progress = model, table, judge, progress
        self._integer = [n for n, c in table.operations.items() if c.precision == recipe.activations]
        self._found: dict[int, float] = {}

    def measured(self) -> dict[int, float]:
        """Every operation that computes in integers."""
        if self._integer:
            whole = self._noise(self._integer)
            self._split(self._integer, whole, whole * SMALL)
        return self._found

    def _split(self, part: Sequence[int], noise: float, small: float) -> None:
        if len(part) == 1 or noise <= small:
            self._found |= dict.fromkeys(part, noise / len(part))
            if self._progress is not None:
                self._progress(len(self._found))
            return
        middle = len(part) // 2
        for half in (part[:middle], part[middle:]):
            self._split(half, self._noise(half), small)

    def _noise(self, part: Collection[int]) -> float:
        """With only `part` in integers."""
        others = dict.fromkeys({*self._integer} - {*part}, "measured later")
        ratio = self._judge.sqnr(apply(self._model, in_floats(self._table, others)))
        return float(10 ** (-ratio / 10))


def _decibels(noise: float) -> float:
    return -10 * math.log10(noise) if noise > 0 else math.inf
