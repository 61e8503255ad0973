"""RANDOM_MULTINOMIAL: draws from a distribution given by logits."""

from __future__ import annotations

import numpy as np

from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.shape import elements
from nnapi.ops.types import F16, F32, I32, INT32, Array, Shape


def _shape(call: Call) -> list[Shape]:
    count, seeds = call.scalar("sample_count"), call.shape("seeds")
    call.require(count is None or count > 0, f"sample_count is {count}, must be positive")
    call.require(not seeds or seeds[0] in (2, None), f"seeds has shape {seeds}, must have (2,)")
    batches, classes = call.shape("input") or (None, None)
    call.require(classes != 0, "input has no classes, must have at least 1")
    shape = (batches, count)
    elements(call, shape)
    return [shape]


def _draw(call: Call) -> list[Array]:
    logits, count, seeds = call.array("input").astype(np.float64), call.scalar("sample_count"), call.array("seeds")
    finite = np.isfinite(logits)
    for row in np.flatnonzero(~finite.any(axis=1))[:1]:
        call.fail(f"input has no finite logit in row {row}")
    # Two zeros ask for a distribution that differs every time; any other pair gives the same draws every time.
    random = np.random.Generator(np.random.Philox(seeds.astype(np.uint32) if seeds.any() else None))
    weights = np.where(finite, np.exp(logits - logits.max(axis=1, keepdims=True, where=finite, initial=-np.inf)), 0.0)
    cumulative = weights.cumsum(axis=1)
    # Rounding must not take a target to the total, where no class is.
    targets = random.random((len(logits), count)) * np.nextafter(cumulative[:, -1:], 0)
    rows = [np.searchsorted(c, t, side="right") for c, t in zip(cumulative, targets)]
    return [np.reshape(rows, targets.shape).astype(np.int32)]


RANDOM_MULTINOMIAL = Op(
    "RANDOM_MULTINOMIAL", 74, 3,
    (Signature((Param("input", "T", rank=2), Param("sample_count", INT32), Param("seeds", I32, rank=1))),),
    (Result("output", I32),), types=same({F32: 3, F16: 3}), infer=_shape, reference=_draw,
    formula="sample_count classes per row, drawn with probability e^input / sum(e^input)",
)  # fmt: skip

OPERATIONS = (RANDOM_MULTINOMIAL,)
