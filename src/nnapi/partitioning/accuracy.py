"""How far an output may be from the reference's, by precision, and what is said of one that is further off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nnapi.ir.model import Model
from nnapi.ops.types import Array, Operand
from nnapi.partitioning.origins import Origin, Origins


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
FUZZ: Final = 1 + 1e-3
"""One step of integers, computed in float32, is this much of a step at most."""


def difference(model: Model, expected: Sequence[Array], actual: Sequence[Array], *, relaxed: bool) -> str | None:
    """The fault in the outputs of `model`, with the figure; None where they are within their limits.

    Each part of an output that was computed by itself (of a last concatenation, say) is judged by itself.
    """
    if len(actual) != len(expected):
        return f"{len(actual)} outputs, {len(expected)} expected"
    origins = Origins(model)
    for i, wanted, got in zip(model.outputs, expected, actual):
        problem = differs(origins, i, wanted, np.asarray(got), relaxed=relaxed)
        if problem is not None:
            return f"output {model.operands[i].name or model.operations[-1].label}: {problem}"
    return None


def differs(origins: Origins, operand: int, expected: Array, actual: Array, *, relaxed: bool) -> str | None:
    """The fault in values of an operand, or in some of them; None where they are within their limits."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{list(actual.shape)}, must be {expected.dtype}{list(expected.shape)}"
    wanted, got = (_as_real(origins.model.operands[operand], x) for x in (expected, actual))
    for limit, step, where in _parts(origins, operand, expected.shape, relaxed=relaxed):
        problem = (
            compare(wanted, got, limit, step)
            if where is None
            else compare(wanted[where], got[where], limit, step)
        )  # fmt: skip
        if problem is not None:
            return problem
    return None


def compare(expected: Array, actual: Array, limit: Limit, step: float = 1.0) -> str | None:
    """The fault in values, as reals, in figures; None where they are within a limit, in steps of that size."""
    finite = np.isfinite(expected)
    wanted, got = expected[finite], actual[finite]
    if not np.isfinite(got).all():
        return f"{np.count_nonzero(~np.isfinite(got))} values are infinite or not a number"
    error, negligible = np.abs(got - wanted), limit.negligible * step
    if not error.size or error.max() <= negligible * FUZZ:
        return None
    if limit is LIMITS["exact"]:
        share = float(np.mean(error > 0))
        return f"{share:.1%} of the values differ, limit 1%" if share > 0.01 else None
    largest, worst = float(np.abs(wanted).max()), float(error.max())
    # With whole steps, an error of one is what rounding may do to every value.
    noise = np.maximum(error - negligible, 0) if limit is LIMITS["quantized"] else error
    power = float(np.sum(noise**2))
    ratio = 10 * np.log10(max(float(np.sum(wanted**2)), 1e-300) / power) if power else np.inf
    if ratio < limit.sqnr:
        return f"SQNR {ratio:.1f} dB, limit {limit.sqnr:g} dB"
    if worst > limit.worst * largest:
        return f"largest error {worst:.3g}, limit {limit.worst:g} of {largest:.3g}"
    return None


def _parts(
    origins: Origins, output: int, shape: tuple[int, ...], *, relaxed: bool
) -> Iterator[tuple[Limit, float, Array | None]]:
    """The limit and the step of each part of an output, and where it is; integers of one step are one part."""
    merged: dict[object, tuple[Limit, float, list[Array | None]]] = {}
    for origin, where in origins.of(output, shape):
        kind = (
            "relaxed" if relaxed and origin.kind in ("fp32", "fp16") and not _is_half(origins, origin) else origin.kind
        )
        key = (kind, origin.step) if kind == "quantized" else (kind, origin.step, origin.operand)
        merged.setdefault(key, (LIMITS[kind], origin.step or 1.0, []))[2].append(where)
    for limit, step, found in merged.values():
        some = [where for where in found if where is not None]
        yield limit, step, np.logical_or.reduce(some) if len(some) == len(found) else None


def _is_half(origins: Origins, origin: Origin) -> bool:
    """Whether an operand is stored in 16 bits: what float32 may be computed in does not change them."""
    return origins.model.operands[origin.operand].type.dtype.itemsize == 2


def _as_real(operand: Operand, array: Array) -> Array:
    """The real numbers that an output stands for."""
    values = np.asarray(array, np.float64)
    if not operand.type.is_quantized:
        return values
    return (values - operand.zero_point) * (operand.scale or 1.0)
