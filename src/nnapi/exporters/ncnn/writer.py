"""The two files of an ncnn model: layers as lines of text, and their weights one behind the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from nnapi.ir.names import Names
from nnapi.ops.types import Array

MAGIC: Final = 7767517
DIMENSIONS: Final[Mapping[int, Sequence[int]]] = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}
"""By rank: the parameters of layers that state a shape, outermost dimension first."""
FLOAT32: Final = np.zeros(1, np.uint32)
"""What stands before weights that could be stored in another type."""

MAX_NAME: Final = 240
"""Bytes of a name: the format reads 255, and a number may follow."""

Parameter = int | float | Sequence[int] | Sequence[float]


class Blob(NamedTuple):
    """What flows between layers: its number, and its dimensions, outermost first; there is no batch among them."""

    number: int
    shape: tuple[int, ...]


class Weight(NamedTuple):
    """Numbers of a layer in float32; `tagged`: the layer could have them in another type, and wants to be told."""

    array: Array
    tagged: bool = False


@dataclass(frozen=True)
class _Layer:
    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[int, Parameter]
    weights: Sequence[Weight]
    origin: str = ""
    """The name of what it was made for."""


class Net:
    """Layers in the order in which they run; blobs are named at the end."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self._blobs = 0
        self.inputs: list[Blob] = []
        self.outputs: list[Blob] = []
        self.origin = ""
        """The name of the operation whose layers are added now."""

    def input(self, shape: tuple[int, ...]) -> Blob:
        """Another input."""
        (blob,) = self.add("Input", (), [shape], dict(zip(DIMENSIONS[len(shape)], shape)))
        self.inputs.append(blob)
        return blob

    def add(
        self,
        type: str,
        inputs: Sequence[Blob],
        shapes: Sequence[tuple[int, ...]],
        parameters: Mapping[int, Parameter] | None = None,
        weights: Sequence[Weight] = (),
    ) -> tuple[Blob, ...]:
        """A layer with one output for each shape."""
        blobs = tuple(Blob(self._blobs + n, shape) for n, shape in enumerate(shapes))
        self._blobs += len(blobs)
        numbers = tuple(b.number for b in inputs), tuple(b.number for b in blobs)
        self._layers.append(_Layer(type, *numbers, parameters or {}, weights, self.origin))
        return blobs

    def readers(self, blob: Blob) -> list[str]:
        """The types of the layers that read a blob."""
        return [layer.type for layer in self._layers if blob.number in layer.inputs]

    def text(self, names: tuple[Sequence[str], Sequence[str]] | None = None) -> str:
        """The `.param` file; without `names` of the inputs and outputs these are `in0`, ..., `out0`, ..."""
        layers, outputs = self._split()
        ends = [*(blob.number for blob in self.inputs), *outputs]
        numbered = [*(f"in{n}" for n in range(len(self.inputs))), *(f"out{n}" for n in range(len(outputs)))]
        blobs, operations = Names(), Names()
        named = dict(zip(ends, map(blobs.fresh, numbered if names is None else map(_word, [*names[0], *names[1]]))))
        count = sum(len(layer.outputs) for layer in layers)
        lines = [str(MAGIC), f"{len(layers)} {count}"]
        for n, layer in enumerate(layers):
            for i in (*layer.inputs, *layer.outputs):
                if i not in named:
                    named[i] = blobs.fresh(f"b{i}")
            name = operations.fresh(_word(layer.origin if names is not None else "") or f"layer{n}")
            parameters = [_parameter(key, value) for key, value in layer.parameters.items()]
            counts = f"{len(layer.inputs)} {len(layer.outputs)}"
            lines.append(
                " ".join([layer.type, name, counts, *(named[i] for i in (*layer.inputs, *layer.outputs)), *parameters])
            )
        return "\n".join(lines) + "\n"

    def weights(self) -> Iterator[memoryview]:
        """The `.bin` file, part by part."""
        for layer in self._layers:
            for weight in layer.weights:
                if weight.tagged:
                    yield FLOAT32.data
                yield np.ascontiguousarray(weight.array, np.float32).reshape(-1).view(np.uint8).data

    def _split(self) -> tuple[list[_Layer], list[int]]:
        """The layers and the numbers of the outputs: every blob is read once, copies of it by those who come later."""
        uses = Counter(i for layer in self._layers for i in layer.inputs)
        uses.update(blob.number for blob in self.outputs)
        uses.update({blob.number for blob in self.inputs} & {blob.number for blob in self.outputs})  # one has two names
        spare: dict[int, list[int]] = {}
        layers, free = [], self._blobs
        for layer in self._layers:
            layers.append(replace(layer, inputs=tuple(spare[i].pop() if i in spare else i for i in layer.inputs)))
            for output in layer.outputs:
                if uses[output] > 1:
                    copies = list(range(free, free + uses[output]))
                    free += len(copies)
                    layers.append(_Layer("Split", (output,), tuple(copies), {}, ()))
                    spare[output] = copies[::-1]
        return layers, [spare[b.number].pop() if b.number in spare else b.number for b in self.outputs]


def _word(name: str) -> str:
    """A name as the format can hold it: it separates by white space, and reads up to 255 bytes.

    >>> _word("features.0 relu")
    'features.0_relu'
    """
    word = "".join("_" if c.isspace() or not c.isprintable() else c for c in name)
    return word.encode()[:MAX_NAME].decode(errors="ignore")


def _parameter(key: int, value: Parameter) -> str:
    """
    >>> _parameter(0, 3), _parameter(1, 0.5), _parameter(3, [1, 2])
    ('0=3', '1=5.00000000e-01', '-23303=2,1,2')
    """
    if isinstance(value, (int, float)):
        return f"{key}={_number(value)}"
    return f"{-23300 - key}={','.join([str(len(value)), *map(_number, value)])}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.8e}"
