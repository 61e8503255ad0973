"""How far an output may be from the reference's, by precision, and what is said of one that is further off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nnapi.ir.model import Model
from nnapi.ops.types import Array, Operand


@dataclass(frozen=True)
class Limit:
    """What an output may be off: at least `sqnr` dB, and no value further than `worst` of the largest one.

    Differences up to `negligible` (in real numbers, or in steps of a quantized type) count as none.
    """

    sqnr: float
    worst: float
    negligible: float
    why: str


LIMITS: Final[Mapping[str, Limit]] = {
    "fp32": Limit(60, 0.01, 1e-5, "sums in another order lose some bits of 24: 100 dB is usual, cancellation costs 30"),
    "relaxed": Limit(20, 0.3, 1e-2, "bfloat16 has 8 bits: 48 dB an operation, about 30 dB after a hundred of them"),
    "fp16": Limit(30, 0.1, 1e-2, "float16 has 11 bits: 66 dB an operation, and engines differ in where they round"),
    "quantized": Limit(15, 0.5, 1.0, "a step of 8 bits is 40 dB; roundings that differ by one step add up"),
    "rounded": Limit(15, 0.5, 1e-5, "floats behind 8-bit integers: what these are off by goes on"),
    "exact": Limit(20, 1.0, 0.0, "indexes and truth values: 1 in 100 may differ, where values are close to each other"),
}
"""By precision of the output. Noise is at 0 dB or below, so every limit tells it from rounding."""


def difference(model: Model, expected: Sequence[Array], actual: Sequence[Array], *, relaxed: bool) -> str | None:
    """What is wrong with the outputs of `model`, with the figure; None where they are within their limits."""
    if len(actual) != len(expected):
        return f"{len(actual)} outputs, {len(expected)} expected"
    for i, wanted, got in zip(model.outputs, expected, actual):
        operand = model.operands[i]
        kind = kind_of(_as_computed(model, i), relaxed=relaxed, rounded=_is_rounded(model, i))
        problem = compare(_as_computed(model, i), *_in_steps(model, i, wanted, np.asarray(got)), kind=kind)
        if problem is not None:
            return f"output {operand.name or model.operations[-1].label}: {problem}"
    return None


def _as_computed(model: Model, output: int) -> Operand:
    """The operand that says how precise an output is: where DEQUANTIZE writes it, the integers that it reads."""
    operation = model.operations[model.producers[output]]
    stored = model.operands[operation.inputs[0]] if operation.type == "DEQUANTIZE" else None
    return stored if stored is not None and stored.type.is_quantized and stored.scale else model.operands[output]


def _in_steps(model: Model, output: int, expected: Array, actual: Array) -> tuple[Array, Array]:
    """Both arrays in steps of the integers that DEQUANTIZE reads; as they are where it does not write them."""
    stored, operand = _as_computed(model, output), model.operands[output]
    if stored is operand or actual.dtype != expected.dtype:
        return expected, actual
    return (
        np.round(expected / np.float32(stored.scale)) + stored.zero_point,
        np.round(actual / np.float32(stored.scale)) + stored.zero_point,
    )


def _is_rounded(model: Model, output: int) -> bool:
    """Whether an output is made of computed integers that stand for real numbers."""
    waiting, seen = [output], {output}
    while waiting:
        i = waiting.pop()
        if i not in model.producers:
            continue
        if model.operands[i].type.is_quantized:
            return True
        new = set(model.operations[model.producers[i]].inputs) - seen
        seen |= new
        waiting += new
    return False


def compare(operand: Operand, expected: Array, actual: Array, *, kind: str) -> str | None:
    """What is wrong with an output, in figures; None where it is within the limits of its kind."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{list(actual.shape)}, must be {expected.dtype}{list(expected.shape)}"
    limit = LIMITS[kind]
    wanted, got = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    finite = np.isfinite(wanted)
    wanted, got = wanted[finite], got[finite]
    if not np.isfinite(got).all():
        return f"{np.count_nonzero(~np.isfinite(got))} values are infinite or not a number"
    if operand.type.is_quantized:
        wanted, got = wanted - operand.zero_point, got - operand.zero_point
    error = np.abs(got - wanted)
    if not error.size or error.max() <= limit.negligible:
        return None
    if kind == "exact":
        share = float(np.mean(error > 0))
        return f"{share:.1%} of the values differ, limit 1%" if share > 0.01 and error.size > 1 else None
    largest, worst = float(np.abs(wanted).max()), float(error.max())
    # With whole steps, an error of one is what rounding may do to every value.
    noise = np.maximum(error - limit.negligible, 0) if kind == "quantized" else error
    power = float(np.sum(noise**2))
    ratio = 10 * np.log10(max(float(np.sum(wanted**2)), 1e-300) / power) if power else np.inf
    if ratio < limit.sqnr:
        return f"SQNR {ratio:.1f} dB, limit {limit.sqnr:g} dB"
    if worst > limit.worst * largest:
        return f"largest error {worst:.3g}, limit {limit.worst:g} of {largest:.3g}"
    return None


def kind_of(operand: Operand, *, relaxed: bool = False, rounded: bool = False) -> str:
    """Which of the limits an output has; `rounded` where integers come before it."""
    if operand.type.is_quantized:
        return "quantized"
    if not operand.type.is_float:
        return "exact"
    if rounded:
        return "rounded"
    return "fp16" if operand.type.dtype.itemsize == 2 else "relaxed" if relaxed else "fp32"
