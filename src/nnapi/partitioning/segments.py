"""Where a model is cut to be measured in parts: between operations, where few tensors cross."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ir.work import macs

MOST: Final = 6
"""A model is measured in at most so many parts: fewer cost less time, more say more of what is where."""
LEAST: Final = 3
"""Operations of a part."""


def segments(model: Model, most: int = MOST) -> list[tuple[int, ...]]:
    """Consecutive operations as parts of about equal arithmetic, cut where one tensor crosses; [] for a single part."""
    count = len(model.operations)
    cuts = [n for n, width in enumerate(_widths(model)) if width == 1 and LEAST <= n <= count - LEAST]
    if not cuts or most < 2:
        return []
    done = [0.0]
    for n in range(count):
        done.append(done[-1] + macs(extract(model, (n,)).model) + 1.0)
    chosen: list[int] = []
    for k in range(1, most):
        wanted = done[-1] * k / most
        best = min(cuts, key=lambda n: abs(done[n] - wanted))
        if not chosen or best >= chosen[-1] + LEAST:
            chosen.append(best)
    bounds = [0, *chosen, count]
    return [tuple(range(a, b)) for a, b in pairwise(bounds)]


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
