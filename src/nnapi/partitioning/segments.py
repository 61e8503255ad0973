"""Where a model is cut to be measured in parts: between operations, where few tensors cross."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ir.work import macs

MOST: Final = 8
"""A model is measured in at most so many parts: fewer cost less time, more say more of what is where."""
LEAST: Final = 3
"""Operations of a part."""


def segments(model: Model, most: int = MOST) -> list[tuple[int, ...]]:
    """Consecutive operations as parts of about equal arithmetic, cut where few tensors cross; [] for a single part."""
    count = len(model.operations)
    if count < 2 * LEAST or most < 2:
        return []
    widths = _widths(model)
    done = [0.0]
    for n in range(count):
        done.append(done[-1] + macs(extract(model, (n,)).model) + 1.0)
    share = done[-1] / most
    bounds = [0]
    for k in range(1, most):
        wanted = share * k
        near = [n for n in range(bounds[-1] + LEAST, count - LEAST + 1) if abs(done[n] - wanted) <= share / 2]
        if near:
            bounds.append(min(near, key=lambda n: (widths[n], abs(done[n] - wanted))))
    return [tuple(range(a, b)) for a, b in pairwise([*bounds, count])] if len(bounds) > 1 else []


def _widths(model: Model) -> list[int]:
    """How many computed tensors are alive before each operation."""
    count = len(model.operations)
    change = [0] * (count + 2)
    for o, n in model.producers.items():
        last = max(model.consumers.get(o, (n,)))
        change[n + 1] += 1
        change[(count if o in model.outputs else last) + 1] -= 1
    widths, alive = [], 0
    for n in range(count):
        alive += change[n]
        widths.append(alive)
    return widths
