"""Operations that only move elements: reshape, transpose, cut, join, pad, gather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.exporters.tflite.lowering import Node, Row, same_quantization
from nnapi.ops.types import B8, F32, I32, Q8, Q8S, Q16SYMM, Operand, OperandType

FLOAT_OR_QUANT8 = {F32, Q8, Q8S}
ANY = FLOAT_OR_QUANT8 | {I32}
ALL = ANY | {B8}


def _moved(builtin: str, *names: str, options: Callable[[], Any] | None = None) -> Callable[[Node], None]:
    """The inputs of these names, as they are."""

    def lower(node: Node) -> None:
        node.emit(builtin, [node.tensor(name) for name in names], options=options() if options else None)

    return lower


def _in_blocks(builtin: str, options: Callable[..., Any]) -> Callable[[Node], None]:
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH, which have no kernels of 16 bits: there a TRANSPOSE."""

    def lower(node: Node) -> None:
        block = node.scalar("block_size")
        if node["input"].type != Q16SYMM:
            node.emit(builtin, [node.tensor("input")], options=options(blockSize=block))
            return
        n, h, w, c = node.shape(node["input"])
        if builtin == "DEPTH_TO_SPACE":
            _swap_middle(node, (n * h, w, block, c // block))
        else:
            _swap_middle(node, (n * h // block, block, w // block, block * c))

    return lower


def _swap_middle(node: Node, split: tuple[int, int, int, int]) -> None:
    """The input as a tensor of shape `split`, its second and third dimension exchanged, as the output."""
    rows, i, j, rest = split
    grouped, moved = node.temporary(node.output, split), node.temporary(node.output, (rows, j, i, rest))
    options = schema.ReshapeOptionsT(newShape=list(split))
    node.emit("RESHAPE", [node.tensor("input"), node.ints(split)], [grouped], options)
    node.emit("TRANSPOSE", [grouped, node.ints((0, 2, 1, 3))], [moved], schema.TransposeOptionsT())
    _reshape_to_output(node, moved)


def _reshape_to_output(node: Node, tensor: int) -> None:
    shape = node.shape(node.output)
    node.emit("RESHAPE", [tensor, node.ints(shape)], options=schema.ReshapeOptionsT(newShape=list(shape)))


def _reshape(node: Node) -> None:
    options = schema.ReshapeOptionsT(newShape=node.array("shape").tolist())
    node.emit("RESHAPE", [node.tensor("input"), node.tensor("shape")], options=options)


def _with_other_dimensions(node: Node) -> None:
    """SQUEEZE and EXPAND_DIMS: TFLite's SQUEEZE gives rank 0 where NNAPI's gives [1]."""
    _reshape_to_output(node, node.tensor("input"))


def _transpose(node: Node) -> None:
    rank = len(node["input"].dimensions)
    perm = node.tensor("perm") if "perm" in node else node.ints(range(rank)[::-1])
    node.emit("TRANSPOSE", [node.tensor("input"), perm], options=schema.TransposeOptionsT())


def _slice(node: Node) -> None:
    """With the size that comes out where it is known: XNNPACK knows no -1."""
    size = node.output.dimensions
    inputs = [node.tensor("input"), node.tensor("begin"), node.tensor("size") if 0 in size else node.ints(size)]
    node.emit("SLICE", inputs, options=schema.SliceOptionsT())


def _strided_slice(node: Node) -> None:
    """What takes every element of a range is a SLICE, which XNNPACK has, and perhaps a RESHAPE."""
    shape = node["input"].dimensions
    masks = [node.scalar(name) for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
    if 0 not in (*shape, *node.output.dimensions) and np.all(node.array("strides") == 1):
        bounds = zip(node.array("begin").tolist(), node.array("end").tolist())
        ranges = [
            range(d)[None if masks[0] >> i & 1 else begin : None if masks[1] >> i & 1 else end]
            for i, (d, (begin, end)) in enumerate(zip(shape, bounds))
        ]
        size = [len(r) for r in ranges]
        whole = tuple(size) == node.output.dimensions
        part = node.result() if whole else node.temporary(node.output, size)
        inputs = [node.tensor("input"), node.ints([r.start for r in ranges]), node.ints(size)]
        node.emit("SLICE", inputs, [part], schema.SliceOptionsT())
        if not whole:
            _reshape_to_output(node, part)
        return
    if masks[2] & (1 << len(shape)) - 1 == (1 << len(shape)) - 1:
        masks[2] &= ~1  # NNAPI's smallest rank is 1
    options = schema.StridedSliceOptionsT(beginMask=masks[0], endMask=masks[1], shrinkAxisMask=masks[2])
    node.emit("STRIDED_SLICE", [node.tensor(n) for n in ("input", "begin", "end", "strides")], options=options)


def _concatenation(node: Node) -> None:
    """Inputs stored otherwise than the output are requantized first: int8 kernels do not."""
    tensors = []
    for i, operand in zip(node.indexes("inputs"), node.call.many("inputs")):
        tensor = node.lowering.tensor(i)
        if operand.type.is_quantized and not same_quantization(operand, node.output):
            requantized = node.temporary(node.output, operand.dimensions)
            version = 2 if operand.type == Q16SYMM else None
            node.emit("QUANTIZE", [tensor], [requantized], schema.QuantizeOptionsT(), version)
            tensor = requantized
        tensors.append(tensor)
    node.emit("CONCATENATION", tensors, options=schema.ConcatenationOptionsT(axis=node.scalar("axis")))


def _split(node: Node) -> None:
    axis = node.constant(np.array(node.scalar("axis")), Operand(I32))
    options = schema.SplitOptionsT(numSplits=node.scalar("num_splits"))
    node.emit("SPLIT", [axis, node.tensor("input")], options=options)


def _pack(node: Node) -> None:
    tensors = [node.lowering.tensor(i) for i in node.indexes("inputs")]
    node.emit("PACK", tensors, options=schema.PackOptionsT(valuesCount=len(tensors), axis=node.scalar("axis")))


def _pad_v2(node: Node) -> None:
    value = node.constant(node.scalar("pad_value"), node["input"])
    node.emit("PADV2", [node.tensor("input"), node.tensor("paddings"), value], options=schema.PadV2OptionsT())


def _mirror_pad(node: Node) -> None:
    options = schema.MirrorPadOptionsT(mode=node.scalar("mode"))
    node.emit("MIRROR_PAD", [node.tensor("input"), node.tensor("paddings")], options=options)


def _batch_to_space(node: Node) -> None:
    crops = node.constant(np.zeros((2, 2)), Operand(I32))
    inputs = [node.tensor("input"), node.tensor("block_shape"), crops]
    node.emit("BATCH_TO_SPACE_ND", inputs, options=schema.BatchToSpaceNDOptionsT())


def _channel_shuffle(node: Node) -> None:
    """The channels as a matrix of groups, transposed."""
    shape, groups = node.shape(node["input"]), node.scalar("num_groups")
    axis = node.scalar("axis") % len(shape)
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    order = list(range(len(split)))
    order[axis], order[axis + 1] = axis + 1, axis
    grouped, moved = node.temporary(node.output, split), node.temporary(node.output, [split[i] for i in order])
    options = schema.ReshapeOptionsT(newShape=list(split))
    node.emit("RESHAPE", [node.tensor("input"), node.ints(split)], [grouped], options)
    node.emit("TRANSPOSE", [grouped, node.ints(order)], [moved], schema.TransposeOptionsT())
    _reshape_to_output(node, moved)


def _gather(node: Node) -> None:
    options = schema.GatherOptionsT(axis=node.scalar("axis"))
    node.emit("GATHER", [node.tensor("input"), node.tensor("indices")], options=options)


def _embedding_lookup(node: Node) -> None:
    """As GATHER, whose kernel takes every type."""
    node.emit("GATHER", [node.tensor("values"), node.tensor("indices")], options=schema.GatherOptionsT(axis=0))


def _sorted_keys(node: Node) -> str | None:
    """NNAPI's keys may come in any order, TFLite's are searched by halves."""
    keys = node.array("keys")
    return None if np.all(keys[1:] > keys[:-1]) else "keys do not ascend, its kernel searches by halves"


def _lsh_projection(node: Node) -> None:
    weight = [node.tensor("weight")] if "weight" in node else []
    kind = {2: schema.LSHProjectionType.DENSE, 3: schema.LSHProjectionType.SPARSE}[node.scalar("type")]
    inputs = [node.tensor("hash"), node.tensor("input"), *weight]
    node.emit("LSH_PROJECTION", inputs, options=schema.LSHProjectionOptionsT(type=kind))


def _not_deprecated(node: Node) -> str | None:
    return "type is 1 (deprecated), its kernel has 2 and 3" if node.scalar("type") == 1 else None


ROWS = {
    "RESHAPE": Row(_reshape, ANY, constants=("shape",)),
    "SQUEEZE": Row(_with_other_dimensions, ANY, constants=("axes",)),
    "EXPAND_DIMS": Row(_with_other_dimensions, ANY),
    "TRANSPOSE": Row(_transpose, ANY, constants=("perm",)),
    "REVERSE": Row(_moved("REVERSE_V2", "input", "axis", options=schema.ReverseV2OptionsT), ANY),
    "SLICE": Row(_slice, ANY, constants=("begin", "size")),
    "STRIDED_SLICE": Row(_strided_slice, ANY, constants=("begin", "end", "strides")),
    "TILE": Row(_moved("TILE", "input", "multiples", options=schema.TileOptionsT), ANY, constants=("multiples",)),
    "FILL": Row(_moved("FILL", "dims", "value", options=schema.FillOptionsT), {I32}, constants=("dims",)),
    "RANK": Row(_moved("RANK", "input", options=schema.RankOptionsT), ALL),
    "CONCATENATION": Row(_concatenation, FLOAT_OR_QUANT8),
    "SPLIT": Row(_split, ANY),
    "PACK": Row(_pack, {OperandType.INT32}),
    "PAD": Row(
        _moved("PAD", "input", "paddings", options=schema.PadOptionsT), FLOAT_OR_QUANT8, constants=("paddings",)
    ),
    "PAD_V2": Row(_pad_v2, FLOAT_OR_QUANT8, constants=("paddings",)),
    "MIRROR_PAD": Row(_mirror_pad, ANY, constants=("paddings",)),
    "DEPTH_TO_SPACE": Row(_in_blocks("DEPTH_TO_SPACE", schema.DepthToSpaceOptionsT), FLOAT_OR_QUANT8),
    "SPACE_TO_DEPTH": Row(_in_blocks("SPACE_TO_DEPTH", schema.SpaceToDepthOptionsT), FLOAT_OR_QUANT8),
    "BATCH_TO_SPACE_ND": Row(_batch_to_space, FLOAT_OR_QUANT8, constants=("block_shape",)),
    "SPACE_TO_BATCH_ND": Row(
        _moved("SPACE_TO_BATCH_ND", "input", "block_shape", "paddings", options=schema.SpaceToBatchNDOptionsT),
        FLOAT_OR_QUANT8,
        constants=("block_shape", "paddings"),
    ),
    "CHANNEL_SHUFFLE": Row(_channel_shuffle, FLOAT_OR_QUANT8),
    "GATHER": Row(_gather, ANY),
    "EMBEDDING_LOOKUP": Row(_embedding_lookup, {I32}),
    "HASHTABLE_LOOKUP": Row(_moved("HASHTABLE_LOOKUP", "lookups", "keys", "values"), {I32}, (_sorted_keys,)),
    "LSH_PROJECTION": Row(_lsh_projection, {F32}, (_not_deprecated,)),
}
