"""What quantization cost: each operation's signal to noise ratio, what stayed in floats and why, sizes, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ir.work import macs
from nnapi.ops.numeric import dequantize
from nnapi.quantization.data import Example
from nnapi.quantization.expose import Exposed
from nnapi.quantization.judge import Judge, accuracy, quantized_inputs, real_outputs
from nnapi.quantization.quantize import Quantized
from nnapi.quantization.sizes import size

PLOTTED_BINS: Final = 48
Shape = tuple[float, float, tuple[int, ...]]
"""A distribution: lowest value, highest value, counts between."""


@dataclass(frozen=True)
class Row:
    """One operation: its result in integers against float on the same inputs, in dB, and how often values come."""

    operation: str
    precision: str
    reason: str
    sqnr: float | None
    low: float = 0.0
    high: float = 0.0
    counts: tuple[int, ...] = ()
    """How many values of the float result fall into each of equal bins from `low` to `high`."""


@dataclass(frozen=True)
class PartRow:
    """One part of an output that joins several: who computes it, and its SQNR in dB."""

    output: int
    operation: str
    sqnr: float


@dataclass(frozen=True)
class Report:
    """`rows` worst first; `outputs` by the model's outputs, each by its worst part; sizes of constants in bytes."""

    recipe: str
    rows: tuple[Row, ...]
    outputs: tuple[float, ...]
    bytes_before: int
    bytes_after: int
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    judged: int = 0
    """The number of examples that the figures are of."""
    calibrated: int = 0
    """The number of examples that chose the ranges."""
    ranges: tuple[tuple[float, float], ...] = ()
    """Of those, each input's lowest and highest value."""
    parts: tuple[PartRow, ...] = ()
    """Of outputs that join several."""
    agreement: float | None = None
    """The share of answers that are the float model's, of an output with classes; else of variation explained."""
    operations: tuple[int, int] = (0, 0)
    """Operations that compute in the recipe's precision, and all there are."""
    macs: tuple[int, int] = (0, 0)
    """Their multiply-accumulates, and all."""
    precision: str = ""
    """The recipe's."""

    @property
    def floats(self) -> list[Row]:
        """What stayed in floats though the recipe asks for less."""
        return [r for r in self.rows if r.reason]

    def to_json(self) -> dict[str, Any]:
        """For `--json`; what is infinitely good or bad is null."""

        def plain(value: Any) -> Any:
            if isinstance(value, float):
                return value if np.isfinite(value) else None
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items()}
            return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

        result: dict[str, Any] = plain(asdict(self))
        return result


def measure(
    before: Model, quantized: Quantized, examples: Sequence[Example] = (), labels: Sequence[int] | None = None
) -> Report:
    """Compare `quantized` with `before`, the float model, on `examples` (none: those that calibration kept).

    `labels`, one per example, give the accuracy of the first output's largest value. Without examples there are sizes
    only.
    """
    examples = tuple(examples) or quantized.examples
    if labels is not None and len(labels) != len(examples):
        raise QuantizeError(f"{len(labels)} labels for {len(examples)} examples, must be one each")
    outputs: tuple[float, ...] = ()
    shares: tuple[float | None, float | None] = (None, None)
    ratios, shapes = _compared(quantized, examples) if examples else ({}, {})
    parts: list[PartRow] = []
    agreement = None
    if examples:
        judge = Judge(before, examples, labels)
        actual = real_outputs(quantized.model, examples)
        parts = [PartRow(p.output, p.name, ratio) for p, ratio in zip(judge.parts, judge.ratios(actual))]
        outputs = tuple(min(p.sqnr for p in parts if p.output == k) for k in range(len(before.outputs)))
        agreement = min(a.value for a in judge.agreements(actual))
        if labels is not None:
            shares = judge.accuracy, accuracy(actual, labels)
    rows = []
    for n, choice in quantized.table.operations.items():
        operation = quantized.prepared.operations[n]
        i = operation.outputs[0]
        rows.append(
            Row(operation.label, choice.precision, choice.reason, ratios.get(i), *shapes.get(i, (0.0, 0.0, ())))
        )
    rows.sort(key=lambda r: np.inf if r.sqnr is None else r.sqnr)
    sizes = size(before), size(quantized.model)
    seen = quantized.seen
    return Report(
        quantized.recipe.name, tuple(rows), outputs, *sizes, *shares, len(examples), seen.count, tuple(seen.ranges),
        tuple(p for p in parts if sum(q.output == p.output for q in parts) > 1), agreement, *_computed(quantized),
        quantized.recipe.activations,
    )  # fmt: skip


def _computed(quantized: Quantized) -> tuple[tuple[int, int], tuple[int, int]]:
    """Operations and multiply-accumulates: in the recipe's precision, and all."""
    model, choices = quantized.prepared, quantized.table.operations
    work = {n: macs(extract(model, [n]).model) for n in choices}
    low = [n for n, choice in choices.items() if choice.precision == quantized.recipe.activations]
    return (len(low), len(choices)), (sum(work[n] for n in low), sum(work.values()))


def _compared(quantized: Quantized, examples: Sequence[Example]) -> tuple[dict[int, float], dict[int, Shape]]:
    """For each operand both models have: SQNR over the examples, and the distribution of the first one's values."""
    both = [
        i
        for o in quantized.prepared.operations
        for i in o.outputs
        if i in quantized.where and quantized.prepared.operands[i].type.is_float
    ]
    exact = Exposed(quantized.prepared, both)
    stored = Exposed(quantized.model, [quantized.where[i] for i in both])
    powers = {i: np.zeros(2) for i in both}
    shapes: dict[int, Shape] = {}
    for example in examples:
        actual = dict(stored.run(quantized_inputs(quantized.model, example)))
        for i, x in exact.run(example):
            k = quantized.where[i]
            y = actual[k]
            noise = dequantize(y, quantized.model.operands[k]).astype(np.float64) - x
            powers[i] += float(np.square(x, dtype=np.float64).sum()), float(np.square(noise).sum())
            if i not in shapes and x.size:
                counts, edges = np.histogram(x, PLOTTED_BINS)
                shapes[i] = float(edges[0]), float(edges[-1]), tuple(int(c) for c in counts)
    return {i: sqnr_of(*p) for i, p in powers.items()}, shapes


def sqnr_of(signal: float, noise: float) -> float:
    """Signal to quantization noise ratio in dB of two powers.

    >>> sqnr_of(100.0, 1.0)
    20.0
    """
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal and np.isfinite(noise) else float("-inf")
