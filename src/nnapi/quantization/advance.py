"""Run a model over several examples at once, each operation once: for who changes what comes next on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ops.types import Array
from nnapi.quantization.data import Example
from nnapi.quantization.expose import prepare


class Advance:
    """How far the operations of a model have run, and what they have left to those to come."""

    def __init__(self, model: Model, examples: Sequence[Example]) -> None:
        self._values: list[dict[int, Array]] = [dict(zip(model.inputs, example)) for example in examples]
        self._done = 0

    def values(self, model: Model, i: int) -> list[Array]:
        """Operand i for each example. Operations not reached before run as `model` has them now.

        Only `model`'s constants may differ from call to call, and i must not lie behind what was reached.
        """
        end = model.producers.get(i, -1) + 1
        if end > self._done:
            self._run(model, end)
        return [values[i] for values in self._values]

    def _run(self, model: Model, end: int) -> None:
        part = extract(model, range(self._done, end))
        prepared = prepare(part.model)
        wanted = {i for operation in model.operations[end:] for i in operation.inputs} | {*model.outputs}
        for values in self._values:
            # An engine may use the memory of its results again.
            results = [np.array(y) for y in prepared.run([values[i] for i in part.inputs])]
            values.update(zip(part.outputs, results))
            for i in [i for i in values if i not in wanted]:
                del values[i]
        self._done = end
