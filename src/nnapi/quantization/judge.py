"""How near a quantized model comes to its float model: in dB, or by a task's metric where there are labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array
from nnapi.quantization.data import Example
from nnapi.quantization.expose import prepare
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.parts import Part, parts_of


class Judge:
    """A float model's outputs on some examples, and what others are worth beside them."""

    def __init__(self, model: Model, examples: Sequence[Example], labels: Sequence[int] | None = None) -> None:
        if labels is not None and len(labels) != len(examples):
            raise QuantizeError(f"{len(labels)} labels for {len(examples)} examples, must be one each")
        self._examples = examples
        self._expected = real_outputs(model, examples)
        self.labels = labels
        self.parts = parts_of(model, examples)

    def sqnr(self, model: Model) -> float:
        """The lowest SQNR of any part of any output over all examples, in dB."""
        return min(self.ratios(real_outputs(model, self._examples)))

    def ratios(self, actual: Sequence[Sequence[Array]]) -> list[float]:
        """The SQNR of each of `parts`, in dB, for the outputs of a model on the same examples."""
        return [sqnr(*(_values(part, results) for results in (self._expected, actual))) for part in self.parts]

    @property
    def accuracy(self) -> float:
        """The float model's (0 to 1); it needs labels."""
        assert self.labels is not None
        return accuracy(self._expected, self.labels)

    def lost(self, model: Model) -> float:
        """How much of its accuracy the float model loses by becoming `model`; it needs labels."""
        assert self.labels is not None
        return self.accuracy - accuracy(real_outputs(model, self._examples), self.labels)


def _values(part: Part, results: Sequence[Sequence[Array]]) -> Array:
    return np.concatenate([part.of(result[part.output]) for result in results])


def accuracy(results: Sequence[Sequence[Array]], labels: Sequence[int]) -> float:
    """The share of examples whose first output is largest where the label says."""
    return float(np.mean([int(np.argmax(r[0])) == int(label) for r, label in zip(results, labels)]))


def real_outputs(model: Model, examples: Sequence[Example]) -> list[list[Array]]:
    """The outputs for each example, as real numbers."""
    prepared = prepare(model)
    return [
        [dequantize(np.array(y), o) for y, o in zip(prepared.run(quantized_inputs(model, x)), model.output_operands)]
        for x in examples
    ]


def quantized_inputs(quantized: Model, example: Example) -> Example:
    """An example of floats as the quantized model takes it."""
    return tuple(quantize(x, o) for x, o in zip(example, quantized.input_operands))
