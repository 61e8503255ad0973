"""Names for unknown dimensions: one name for what must be equal, such as the batch of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nnapi.errors import ModelError
from nnapi.ir.model import Model
from nnapi.ir.names import names_of
from nnapi.ir.specialize import specialize
from nnapi.ops.types import Dimensions, Operand

Named = Sequence[int | str]
FIRST, SECOND, STEP = 8, 96, 4
"""Sizes to try a model with: those of one trial are distinct, and none is odd, which pools and strides mind least."""


class Symbols(NamedTuple):
    """The dimensions of each input and output of a model, with names where they are unknown."""

    inputs: Sequence[Named]
    outputs: Sequence[Named]


def symbols(model: Model) -> Symbols:
    """Names by trial: shapes are inferred for two choices of sizes, and an output's dimension that has both times the
    size of an input's has its name. Inputs that the model takes only where they are as large share one."""
    inputs, outputs = model.input_operands, model.output_operands
    if all(0 not in o.dimensions for o in (*inputs, *outputs)):
        return Symbols([o.dimensions for o in inputs], [o.dimensions for o in outputs])
    given = names_of(inputs, "input")
    unknown = [(n, axis) for n, o in enumerate(inputs) for axis, d in enumerate(o.dimensions) if d == 0]
    first: dict[int, tuple[int, int]] = {}
    for place in unknown:
        first.setdefault(place[1], place)
    # Apart, then one for each axis: x [N, 4] + y [N, 4] fails where both sizes differ.
    shared: Sequence[Callable[[tuple[int, int]], tuple[int, int]]] = (lambda p: p, lambda p: first[p[1]])
    for leader in shared:
        places = list(dict.fromkeys(map(leader, unknown)))
        trials = [_trial(model, unknown, leader, places, start) for start in (FIRST, SECOND)]
        if None not in trials:
            break
    names = {place: f"{given[place[0]]}_{place[1]}" for place in places}
    of = {place: names[leader(place)] for place in unknown}
    entries = [[d or of[n, axis] for axis, d in enumerate(o.dimensions)] for n, o in enumerate(inputs)]
    ends = names_of(outputs, "output")
    found = [
        [d or _name(trials, n, axis, names, f"{ends[n]}_{axis}") for axis, d in enumerate(o.dimensions)]
        for n, o in enumerate(outputs)
    ]
    return Symbols(entries, found)


Trial = tuple[dict[tuple[int, int], int], tuple[Operand, ...]]
"""The size of each name's place, and the outputs that come of it."""


def _trial(
    model: Model,
    unknown: Sequence[tuple[int, int]],
    leader: Callable[[tuple[int, int]], tuple[int, int]],
    places: Sequence[tuple[int, int]],
    start: int,
) -> Trial | None:
    """None where the model does not take these sizes."""
    sizes = {place: start + STEP * k for k, place in enumerate(places)}
    shapes: list[Dimensions] = [
        tuple(d or sizes[leader((n, axis))] for axis, d in enumerate(o.dimensions))
        for n, o in enumerate(model.input_operands)
    ]
    try:
        return sizes, specialize(model, shapes).output_operands
    except (ModelError, ValueError):
        return None


def _name(trials: Sequence[Trial | None], n: int, axis: int, names: dict[tuple[int, int], str], otherwise: str) -> str:
    """The name of the input's dimension that the output's follows."""
    for place, name in names.items():
        if all(t is not None and t[1][n].dimensions[axis : axis + 1] == (t[0][place],) for t in trials):
            return name
    return otherwise
