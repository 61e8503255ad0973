"""Nearness of a quantized model to its float model: in dB, by its answers, or by accuracy where there are labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array
from nnapi.quantization.data import Example
from nnapi.quantization.expose import prepare
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.parts import Part, parts_of

SAME: Final = 0.95
"""The least share of equal answers, however little the float model itself prefers one to another."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a part of an output with the float model; no labels are needed."""

    explained: float
    """Of its variation, 0 to 1."""
    same: float | None = None
    """The share of answers (largest values along the last dimension) that are the same, where there are classes."""
    lost: float = 0.0
    """The accuracy lost with other answers, if the float model's probabilities are right."""

    def holds(self, max_loss: float) -> bool:
        """Whether at most `max_loss` of what outputs tell is lost: of their variation, or of accuracy."""
        is_same = self.same is not None and self.same >= SAME and self.lost <= max_loss
        return is_same or self.explained >= 1 - max_loss

    @property
    def value(self) -> float:
        """The figure for people: of classes the share of equal answers, else what is explained."""
        return self.explained if self.same is None else self.same


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

    def agreements(self, actual: Sequence[Sequence[Array]]) -> list[Agreement]:
        """The agreement of each of `parts` for the outputs of a model on the same examples."""
        return [_agreement(part, self._expected, actual) for part in self.parts]

    def agrees(self, model: Model, max_loss: float) -> bool:
        """Whether all answers of `model` are as good as the float model's."""
        return all(a.holds(max_loss) for a in self.agreements(real_outputs(model, self._examples)))

    @property
    def accuracy(self) -> float:
        """The float model's (0 to 1); it needs labels."""
        assert self.labels is not None
        return accuracy(self._expected, self.labels)

    def lost(self, model: Model) -> float:
        """Accuracy that the float model loses by becoming `model`; it needs labels."""
        assert self.labels is not None
        return self.accuracy - accuracy(real_outputs(model, self._examples), self.labels)


def _values(part: Part, results: Sequence[Sequence[Array]]) -> Array:
    return np.concatenate([part.of(result[part.output]) for result in results])


def _agreement(part: Part, expected: Sequence[Sequence[Array]], actual: Sequence[Sequence[Array]]) -> Agreement:
    x, y = (_values(part, results).astype(np.float64) for results in (expected, actual))
    variation = float(np.square(x - x.mean()).sum()) if x.size else 0.0
    noise = float(np.square(y - x).sum())
    explained = max(1 - noise / variation, 0.0) if variation else float(noise == 0.0)
    shape = expected[0][part.output].shape
    if part.at is not None or len(shape) not in (2, 3) or shape[-1] < 2 or not np.isfinite(noise):
        return Agreement(explained if np.isfinite(noise) else 0.0)
    x, y = x.reshape(-1, shape[-1]), y.reshape(-1, shape[-1])
    rows, answers, others = np.arange(len(x)), x.argmax(1), y.argmax(1)
    chances = _probabilities(x)
    lost = float((chances[rows, answers] - chances[rows, others]).mean())
    return Agreement(explained, float((answers == others).mean()), lost)


def _probabilities(x: Array) -> Array:
    """Rows of logits, or of probabilities, as probabilities."""
    if x.min() >= 0 and np.allclose(x.sum(axis=1), 1, atol=1e-2):
        return x
    shares = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


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
