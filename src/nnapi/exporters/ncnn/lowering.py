"""Lower an NNAPI model to ncnn layers, a row of the table per operation; what a row cannot express, it refuses.

ncnn computes one sample at a time: a tensor [1, ...] is a blob without that dimension, an image [1, C, H, W] is
(C, H, W). Where an operation needs another view of a tensor there is a Reshape, or a Permute for [N, H, W, C].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nnapi.exporters.lowering import BaseLowering, BaseNode, BaseRow, Refused, require
from nnapi.exporters.ncnn.writer import DIMENSIONS, Blob, Net, Parameter, Weight
from nnapi.exporters.padding import padded_pools
from nnapi.ir.model import Model, Operation
from nnapi.ir.verdict import Accept, Verdict
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6
from nnapi.ops.types import F32, MODEL, Array, Dimensions, Operand, OperandType

FLOATS: Final = frozenset({F32})
MAX_RANK: Final = 4
"""Of a blob, which has no batch."""
PERMUTATIONS: Final[Mapping[tuple[int, ...], int]] = {
    (0, 1): 0, (1, 0): 1,
    (0, 1, 2): 0, (0, 2, 1): 1, (1, 0, 2): 2, (1, 2, 0): 3, (2, 0, 1): 4, (2, 1, 0): 5,
    **{
        tuple(3 - "WHDC".index(axis) for axis in order[::-1]): n
        for n, order in enumerate(
            ("WHDC", "HWDC", "WDHC", "DWHC", "HDWC", "DHWC", "WHCD", "HWCD", "WCHD", "CWHD", "HCWD", "CHWD",
             "WDCH", "DWCH", "WCDH", "CWDH", "DCWH", "CDWH", "HDCW", "DHCW", "HCDW", "CHDW", "DCHW", "CDHW")
        )
    },
}  # fmt: skip
"""Output dimension -> input dimension, outermost first; the number that Permute has for it."""
CLIPS: Final = {RELU1: (-1.0, 1.0), RELU6: (0.0, 6.0)}


def blob_shape(dims: Dimensions) -> tuple[int, ...]:
    """What a tensor's dimensions are as a blob's; Refused beyond four.

    >>> blob_shape((1, 3, 8, 8)), blob_shape((2, 3)), blob_shape(())
    ((3, 8, 8), (2, 3), (1,))
    """
    shape = (dims[1:] if _has_batch(dims) else dims) or (1,)
    if len(shape) > MAX_RANK:
        raise Refused(f"rank {len(dims)}, ncnn's blobs have up to {MAX_RANK} dimensions beside a batch of 1")
    return shape


def _has_batch(dims: Dimensions) -> bool:
    return len(dims) > 1 and dims[0] == 1


class Node(BaseNode["Lowering"]):
    """One operation on its way: its operands by name, and the net that its layers go to."""

    format = "ncnn"

    # What goes in.

    def dims(self, name: str) -> Dimensions:
        """An input's dimensions, all known."""
        return self[name].dimensions

    def blob(self, name: str) -> Blob:
        """An input."""
        return self.lowering.blob(self.indexes(name)[0])

    def image(self, name: str = "input") -> Blob:
        """An input as (C, H, W), whatever the operation's layout."""
        return self.lowering.image(self.indexes(name)[0], bool(self.scalar("layout")))

    def image_dims(self, name: str = "input") -> tuple[int, int, int]:
        """(C, H, W) of an input."""
        _, *dims = self.dims(name)
        c, h, w = dims if self.scalar("layout") else (dims[2], dims[0], dims[1])
        return c, h, w

    def along(self, name: str, axis: int) -> tuple[Blob, int]:
        """An input and the dimension of its blob that is the axis of the tensor."""
        blob, dims = self.blob(name), self.dims(name)
        axis %= max(len(dims), 1)
        if not _has_batch(dims):
            return blob, axis
        return (blob, axis - 1) if axis else (self.reshape(blob, dims), 0)

    # What goes between.

    def emit(
        self,
        type: str,
        inputs: Sequence[Blob],
        shape: tuple[int, ...],
        parameters: Mapping[int, Parameter] | None = None,
        weights: Sequence[Weight] = (),
    ) -> Blob:
        """Add a layer with one output."""
        for value in (parameters or {}).values():
            if not np.isfinite(value).all():
                self.refuse(f"a parameter is {value}, ncnn reads only finite ones")
        return self.lowering.net.add(type, inputs, [shape], parameters, weights)[0]

    def reshape(self, blob: Blob, shape: Iterable[int]) -> Blob:
        return self.lowering.reshape(blob, tuple(shape))

    def aligned(self, index: int, dims: Dimensions, instead: Array | None = None) -> Blob:
        """An operand with as many dimensions as the blob of a tensor of `dims` that it is broadcast to.

        `instead`: another constant of its shape.
        """
        own = self.lowering.operands[index].dimensions
        own = (1,) * (len(dims) - len(own)) + own
        blob = self.lowering.blob(index) if instead is None else self.lowering.constant(instead)
        return self.reshape(blob, own[_has_batch(dims) :] or (1,))

    # What comes out.

    def write(self, blob: Blob, n: int = 0, *, image: bool = False) -> None:
        """Give output `n`; `image`: as (C, H, W), whatever the layout."""
        index = self.operation.outputs[n]
        if image and not self.scalar("layout"):
            self.lowering.images[index] = blob
        else:
            self.lowering.blobs[index] = self.reshape(blob, blob_shape(self.outputs[n].dimensions))

    def fused(self, blob: Blob) -> Blob:
        """What the operation's fused activation makes of a blob."""
        return self.activation(blob, self.scalar("activation"))

    def activation(self, blob: Blob, code: int) -> Blob:
        """What a FuseCode makes of a blob."""
        if code == NONE:
            return blob
        if code == RELU:
            return self.emit("ReLU", [blob], blob.shape)
        low, high = CLIPS[code]
        return self.emit("Clip", [blob], blob.shape, {0: low, 1: high})

    def activation_parameters(self) -> dict[int, Parameter]:
        """The fused activation, for layers that have one."""
        code = self.scalar("activation")
        if code == NONE:
            return {}
        return {9: 1} if code == RELU else {9: 3, 10: CLIPS[code]}

    def weight(self, name: str, order: Sequence[int] | None = None) -> Weight:
        """A constant input, its dimensions in another order; its layer wants to know its type."""
        array = self.array(name)
        return Weight(array if order is None else array.transpose(order), tagged=True)


@dataclass(frozen=True)
class Row(BaseRow[Node]):
    """How one operation becomes ncnn layers."""


class Lowering(BaseLowering[Node]):
    """One NNAPI model going into one net."""

    node = Node

    def __init__(
        self, model: Model, net: Net, rows: Mapping[str, BaseRow[Node] | str], *, expand: bool = False
    ) -> None:
        super().__init__(model, rows, expand=expand)
        self.padded = self.absorbed = padded_pools(model)
        self.net = net
        self.blobs: dict[int, Blob] = {}
        self.images: dict[int, Blob] = {}
        """Operands [1, H, W, C] as (C, H, W)."""

    def run(self) -> list[Verdict]:
        """Lower every operation that ncnn takes; a verdict each."""
        for i in self.model.inputs:
            self.net.origin = self.operands[i].name
            self.blobs[i] = self.net.input(_assumed(self.operands[i]))
        verdicts = [self.lower(operation) for operation in self.model.operations]
        if all(isinstance(verdict, Accept) for verdict in verdicts):
            self.net.outputs = [self.blob(i) for i in self.model.outputs]
        return verdicts

    def lower(self, operation: Operation) -> Verdict:
        self.net.origin = operation.name or self.net.origin
        verdict = super().lower(operation)
        for i in operation.outputs:  # of a refused one too, so that later ones can be judged
            if i not in self.blobs and i not in self.images and i not in self.absorbed:
                self.blobs[i] = Blob(-1, _assumed(self.operands[i]))
        return verdict

    def blob(self, index: int) -> Blob:
        """An operand's blob; a constant's is made when it is first asked for."""
        if index not in self.blobs:
            value = self.operands[index].value
            if isinstance(value, np.ndarray):
                self.blobs[index] = self.constant(value)
            else:
                self.blobs[index] = self.permute(self.images[index], (1, 2, 0))
        return self.blobs[index]

    def image(self, index: int, nchw: bool) -> Blob:
        """An operand [1, C, H, W] or [1, H, W, C] as (C, H, W)."""
        dims = self.operands[index].dimensions
        if len(dims) != 4 or dims[0] != 1:
            raise Refused(f"a batch of {dims[0]}, ncnn takes one image at a time")
        if nchw:
            return self.blob(index)
        if index not in self.images:
            self.images[index] = self.permute(self.blob(index), (2, 0, 1))
        return self.images[index]

    def constant(self, array: Array) -> Blob:
        """A constant as a blob of its own."""
        shape = blob_shape(array.shape)
        return self.net.add("MemoryData", (), [shape], dict(zip(DIMENSIONS[len(shape)], shape)), [Weight(array)])[0]

    def reshape(self, blob: Blob, shape: tuple[int, ...]) -> Blob:
        """The same numbers with other dimensions."""
        if blob.shape == shape:
            return blob
        if len(shape) > MAX_RANK or math.prod(shape) != math.prod(blob.shape):
            raise Refused(f"{blob.shape} as {shape}, ncnn has no such view")
        return self.net.add("Reshape", [blob], [shape], dict(zip(DIMENSIONS[len(shape)], shape)))[0]

    def permute(self, blob: Blob, order: Sequence[int]) -> Blob:
        """`blob` with its dimensions in another order."""
        if list(order) == sorted(order):
            return blob
        number = PERMUTATIONS[tuple(order)]
        return self.net.add("Permute", [blob], [tuple(blob.shape[i] for i in order)], {0: number})[0]

    def problems(self, node: Node, row: BaseRow[Node]) -> Iterator[str]:
        for operand in (*node.inputs, *node.outputs):
            yield from filter(None, (_problem(operand),))
        first = next((o.type for o in (*node.inputs, *node.outputs) if o.type.is_tensor), None)
        if first is not None and first not in row.types:
            yield f"{first.name}, its layers take {', '.join(t.name for t in OperandType if t in row.types)}"
        if not node.operation.is_extension:
            yield from node.omissible()

    def lower_body(self, operation: Operation, body: Model, inputs: Sequence[int]) -> None:
        inner = Lowering(body, self.net, self.rows, expand=True)
        inner.blobs = {i: self.blob(o) for i, o in zip(body.inputs, inputs) if self._flows(o)}
        inner.lower_all(body.operations)
        for index, outer in zip(body.outputs, operation.outputs, strict=True):
            self.blobs[outer] = inner.blob(index)

    def _flows(self, index: int) -> bool:
        operand = self.operands[index]
        return operand.type.is_tensor and not operand.is_omitted


def _problem(operand: Operand) -> str | None:
    if operand.type == MODEL or operand.is_omitted or not operand.type.is_tensor:
        return None
    name = operand.name or "an operand"
    if operand.elements is None:
        return f"dimensions {operand.dimensions} of {name} are not known, ncnn's are fixed"
    if operand.elements == 0:
        return f"{name} has no elements: shape {operand.shape}"
    try:
        blob_shape(operand.dimensions)
    except Refused as refused:
        return str(refused)
    return None


def _assumed(operand: Operand) -> tuple[int, ...]:
    """A shape for what will not be made, if it has none."""
    return (1,) if _problem(operand) else blob_shape(operand.dimensions)


def lower_model(model: Model, rows: Mapping[str, BaseRow[Node] | str]) -> Net:
    """The whole model as a net; UnsupportedOperation names the first operation that ncnn does not take."""
    net = Net()
    require(model, Lowering(model, net, rows, expand=True).run(), "check_ncnn")
    return net


def floats(values: Any) -> Weight:
    """Numbers that are always float32."""
    return Weight(np.asarray(values, np.float32))
