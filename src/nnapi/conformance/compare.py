"""The comparison rules of conformance cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from nnapi.ops.types import Array

RULES: Final = MappingProxyType({"near": ("atol", "rtol"), "equal": (), "ignore": (), "multinomial": ("tolerance",)})
"""The rules and their parameters."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one output is compared.

    `near`: abs(actual - expected) <= atol + rtol * abs(expected) for every element, in double; a NaN fails, an
    infinity must be the same.
    `equal`: every element. `multinomial`: each class is drawn as often as softmax of the input says, within tolerance.
    `ignore`: not at all.
    """

    kind: str
    atol: float = 0.0
    rtol: float = 0.0
    tolerance: float = 0.0


def first_difference(
    expected: Sequence[Array | None],
    actual: Sequence[Array],
    rules: Sequence[Rule],
    inputs: Sequence[Array | None] = (),
) -> str:
    """The first difference between what a model gave and what it must give; empty where there is none.

    >>> first_difference([np.array([1.0, 2.0])], [np.array([1.0, 2.5])], [Rule("near", atol=0.1)])
    'output 0: 1 of 2 elements out of tolerance, first at (1,): 2.5, expected 2.0 +- 0.1'
    """
    if len(actual) != len(rules):
        return f"{len(actual)} outputs, expected {len(rules)}"
    for n, (wanted, got, rule) in enumerate(zip(expected, actual, rules)):
        problem = _difference(wanted, np.asarray(got), rule, inputs)
        if problem:
            return f"output {n}: {problem}"
    return ""


def _difference(expected: Array | None, actual: Array, rule: Rule, inputs: Sequence[Array | None]) -> str:
    if rule.kind == "ignore":
        return ""
    if rule.kind == "multinomial":
        return _frequencies(inputs, actual, rule.tolerance)
    if expected is None:
        return "the case has nothing to compare it with"
    if actual.dtype != expected.dtype:
        return f"is {actual.dtype}, expected {expected.dtype}"
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if rule.kind == "equal":
        good, slack = np.equal(actual, expected), np.zeros(expected.shape)
    else:
        wanted, got = expected.astype(np.float64), actual.astype(np.float64)
        slack = rule.atol + rule.rtol * np.abs(wanted)
        # An infinity has no tolerance: the difference from it is infinite, or a NaN.
        with np.errstate(invalid="ignore"):
            good = (got == wanted) | (np.isfinite(wanted) & (np.abs(got - wanted) <= slack))
    if good.all():
        return ""
    at = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), expected.shape))
    return (
        f"{int(np.sum(~good))} of {expected.size} elements out of tolerance, first at {at}: "
        f"{actual[at].item()}, expected {expected[at].item()}" + (f" +- {slack[at]:g}" if slack[at] else "")
    )


def _frequencies(inputs: Sequence[Array | None], samples: Array, tolerance: float) -> str:
    """logits [1, classes] and samples [1, draws]: whether the classes are drawn as often as they should."""
    logits = inputs[0] if inputs else None
    if logits is None or logits.ndim != 2 or len(logits) != 1 or not logits.size:
        return "multinomial cases take logits of shape [1, classes] as first input"
    if samples.ndim != 2 or len(samples) != 1 or not samples.size or samples.dtype.kind != "i":
        return f"{samples.dtype} of shape {samples.shape}, expected integers [1, draws]"
    classes = logits.shape[1]
    if samples.min() < 0 or samples.max() >= classes:
        return f"draws class {samples.min()} to {samples.max()}, expected 0 to {classes - 1}"
    weights = np.exp(logits[0].astype(np.float64) - logits.max())
    share = np.bincount(samples[0], minlength=classes) / samples.shape[1] - weights / weights.sum()
    worst = int(np.argmax(np.abs(share)))
    if abs(share[worst]) <= tolerance:
        return ""
    return f"class {worst} is drawn {share[worst]:+.4f} off its probability, tolerance {tolerance:g}"
