"""NNAPI operations and composites as PyTorch calls: one table, operation name -> builder.

A builder looks at one call once, when a model is prepared, and returns what runs each time: a function of the call's
inputs as tensors (None for scalars), in order. Scalars and constants are settled by then.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from nnapi.drivers.aten_convolution import Window, convolve
from nnapi.errors import UnsupportedOperation
from nnapi.ops.op import Call
from nnapi.ops.types import B8, F32, I32, Array, Operand, OperandType

Tensors = Sequence[Any]
Run = Callable[[Tensors], Any]
Builder = Callable[[Call], Run]

DTYPES: Final[Mapping[OperandType, torch.dtype]] = {F32: torch.float32, I32: torch.int32, B8: torch.bool}
"""The tensor types this engine computes in."""
SAME = 1
_CLAMPS = {1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}


class Refused(UnsupportedOperation):
    """A builder does not take this use of the operation."""


def _expect_read_only_arrays() -> None:
    """PyTorch warns, once in a process, of a tensor over memory that must not be written: mapped constants are that."""
    array = np.zeros(1, np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.from_numpy(array)


_expect_read_only_arrays()


def tensor_of(array: Array, device: Any) -> Any:
    """A tensor over an array's memory, or on a device with memory of its own a copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if device == "cpu" else tensor.to(device)


def fused(call: Call, run: Run) -> Run:
    """`run` followed by the call's fused activation."""
    code = call.scalar("activation")
    if code is None:
        raise Refused("activation is no constant")
    if code == 0:
        return run
    if code == 1:
        return lambda x: torch.relu_(run(x))
    low, high = _CLAMPS[code]
    return lambda x: torch.clamp_(run(x), low, high)


def settled(call: Call, *names: str) -> list[Any]:
    """The named inputs' values; Refused where one is not known when the model is prepared."""
    values = []
    for name in names:
        if not call.known(name):
            raise Refused(f"{name} is no constant")
        tensor = name in call and call[name].type.is_tensor
        values.append(call.array(name).tolist() if tensor else call.scalar(name))
    return values


def channels_first(call: Call, run: Callable[[Any, Tensors], Any]) -> Run:
    """Run an image operation on [N, C, H, W], whatever the call's layout."""
    if settled(call, "layout")[0]:
        return lambda x: run(x[0], x)
    return lambda x: run(x[0].permute(0, 3, 1, 2), x).permute(0, 2, 3, 1)


def window_padding(call: Call, filter: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, right, top, bottom), with the scheme SAME resolved for the input's size."""
    if "padding" not in call:
        left, right, top, bottom = settled(call, "padding_left", "padding_right", "padding_top", "padding_bottom")
        return left, right, top, bottom
    scheme, stride_width, stride_height, layout = settled(call, "padding", "stride_width", "stride_height", "layout")
    if scheme != SAME:
        return 0, 0, 0, 0
    shape = call.shape("input")
    if shape is None or None in shape:
        raise Refused("padding SAME of an input of unknown size")
    height, width = shape[2:] if layout else shape[1:3]
    top, bottom = _same(height or 0, filter[0], stride_height, dilation[0])
    left, right = _same(width or 0, filter[1], stride_width, dilation[1])
    return left, right, top, bottom


def _same(size: int, filter: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (filter - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def convolution(call: Call) -> Run:
    filter = call["filter"]
    if filter.shape is None or None in filter.shape:
        raise Refused("filter of unknown shape")
    row_stride, column_stride = settled(call, "stride_height", "stride_width")
    named = {p.name for p in call.signature.inputs}
    rows, columns = settled(call, "dilation_height", "dilation_width") if "dilation_width" in named else (1, 1)
    _, height, width, _ = filter.shape
    depthwise = call.op.name == "DEPTHWISE_CONV_2D"
    order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
    groups = _groups(call, depthwise)
    left, right, top, bottom = window_padding(call, (height or 1, width or 1), (rows, columns))
    symmetric = left == right and top == bottom
    # On the device that the model is prepared for: PyTorch's default one meanwhile.
    constant = tensor_of(filter.value, torch.get_default_device()) if filter.is_constant else None
    weight = None if constant is None else constant.permute(order).contiguous()
    padding = (top, left) if symmetric else (0, 0)
    window = Window((row_stride, column_stride), padding, (rows, columns), groups)

    def run(x: Any, inputs: Tensors) -> Any:
        w = weight if weight is not None else inputs[1].permute(order)
        return convolve(x if symmetric else F.pad(x, (left, right, top, bottom)), w, inputs[2], window)

    return fused(call, channels_first(call, run))


def _groups(call: Call, depthwise: bool) -> int:
    if not depthwise:
        return int(settled(call, "num_groups")[0]) if call.op.name == "GROUPED_CONV_2D" else 1
    shape = call.shape("input")
    channels = None if shape is None else shape[1] if settled(call, "layout")[0] else shape[3]
    if channels is None:
        raise Refused("input of unknown channels")
    return channels


def transpose_convolution(call: Call) -> Run:
    if "padding" in call:
        raise Refused("implicit padding; only explicit padding is taken")
    stride = tuple(settled(call, "stride_height", "stride_width"))
    left, right, top, bottom = settled(call, "padding_left", "padding_right", "padding_top", "padding_bottom")

    def run(x: Any, inputs: Tensors) -> Any:
        y = F.conv_transpose2d(x, inputs[1].permute(3, 0, 1, 2), inputs[2], stride)
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    return fused(call, channels_first(call, run))


def fully_connected(call: Call) -> Run:
    shape = call.shape("filter")
    if shape is None or shape[1] is None:
        raise Refused("filter of unknown shape")
    depth = shape[1]
    return fused(call, lambda x: F.linear(x[0].reshape(-1, depth), x[1], x[2]))


def batch_matmul(call: Call) -> Run:
    adj_x, adj_y = settled(call, "adj_x", "adj_y")
    return lambda x: torch.matmul(x[0].mT if adj_x else x[0], x[1].mT if adj_y else x[1])


def pool(function: Callable[..., Any]) -> Builder:
    def build(call: Call) -> Run:
        size = tuple(settled(call, "filter_height", "filter_width"))
        stride = tuple(settled(call, "stride_height", "stride_width"))
        left, right, top, bottom = window_padding(call, size, (1, 1))
        # PyTorch pads both sides alike, and at most half the window.
        if (left, top) != (right, bottom) or left * 2 > size[1] or top * 2 > size[0]:
            raise Refused(f"padding {left} {right} {top} {bottom} of a {size[0]}x{size[1]} window")
        return fused(call, channels_first(call, lambda x, _: function(x, size, stride, (top, left))))

    return build


def _average(x: Any, size: Any, stride: Any, padding: Any) -> Any:
    return F.avg_pool2d(x, size, stride, padding, count_include_pad=False)


def resize(mode: str) -> Builder:
    def build(call: Call) -> Run:
        corners, centers = settled(call, "align_corners", "half_pixel_centers")
        if mode == "bilinear" and not (corners or centers):
            raise Refused("the asymmetric form, which PyTorch does not have")
        if mode == "nearest" and (corners or centers):
            raise Refused("align_corners or half_pixel_centers, which PyTorch's nearest does not have")
        if "width" not in call:
            raise Refused("a scale; only sizes are taken")
        width, height = settled(call, "width", "height")
        options = {"align_corners": corners} if mode == "bilinear" else {}
        return channels_first(call, lambda x, _: F.interpolate(x, (height, width), mode=mode, **options))

    return build


def binary(function: Callable[..., Any]) -> Builder:
    return lambda call: lambda x: function(x[0], x[1])


def arithmetic(function: Callable[..., Any]) -> Builder:
    def build(call: Call) -> Run:
        if call["input0"].type == I32 and call.op.name == "DIV":
            raise Refused("integer division")
        return fused(call, lambda x: function(x[0], x[1]))

    return build


def unary(function: Callable[..., Any]) -> Builder:
    return lambda call: lambda x: function(x[0])


def prelu(call: Call) -> Run:
    shape, slopes = call.shape("input"), call.shape("alpha")
    if shape is not None and len(shape) == 4 and slopes == (shape[1], 1, 1):
        return lambda x: F.prelu(x[0], x[1].reshape(-1))
    return lambda x: torch.where(x[0] > 0, x[0], x[0] * x[1])


def elu(call: Call) -> Run:
    (alpha,) = settled(call, "alpha")
    return lambda x: F.elu(x[0], alpha)


def softmax(function: Callable[..., Any]) -> Builder:
    def build(call: Call) -> Run:
        beta, axis = settled(call, "beta", "axis")
        return lambda x: function(x[0] if beta == 1 else x[0] * beta, axis)

    return build


def reduction(function: Callable[..., Any]) -> Builder:
    def build(call: Call) -> Run:
        axes, keep = settled(call, "axes", "keep_dims")
        shape = call.shape("input")
        if shape is None or len({axis % len(shape) for axis in axes}) == len(shape):
            raise Refused("a reduction of all axes")
        dims = tuple(sorted({axis % len(shape) for axis in axes}))
        return lambda x: function(x[0], dims, keepdim=bool(keep))

    return build


def reshape(call: Call) -> Run:
    (shape,) = settled(call, "shape")
    return lambda x: x[0].reshape(shape)


def squeeze(call: Call) -> Run:
    if call.output.elements is None:
        raise Refused("an output of unknown shape")
    shape = call.output.dimensions
    return lambda x: x[0].reshape(shape)


def transpose(call: Call) -> Run:
    rank = len(call.shape("input") or ())
    order = settled(call, "perm")[0] if "perm" in call else list(range(rank))[::-1]
    return lambda x: x[0].permute(order)


def concatenation(call: Call) -> Run:
    (axis,) = settled(call, "axis")
    return lambda x: torch.cat(list(x[:-1]), axis)


def split(call: Call) -> Run:
    axis, count = settled(call, "axis", "num_splits")
    return lambda x: torch.tensor_split(x[0], count, axis)


def slice_(call: Call) -> Run:
    begin, size = settled(call, "begin", "size")
    shape = call.shape("input") or ()
    ends = [None if s == -1 else b + s for b, s in zip(begin, size)]
    index = tuple(slice(b, e) for b, e in zip(begin, ends))
    if len(index) != len(shape):
        raise Refused("an input of unknown rank")
    return lambda x: x[0][index]


def pad(call: Call) -> Run:
    (paddings,) = settled(call, "paddings")
    value = settled(call, "pad_value")[0] if "pad_value" in call else 0
    flat = [amount for pair in reversed(paddings) for amount in pair]
    return lambda x: F.pad(x[0], flat, value=value)


def gather(call: Call) -> Run:
    (axis,) = settled(call, "axis")
    indices = call["indices"]
    if not indices.is_constant or len(indices.dimensions) != 1:
        raise Refused("indices that are not a constant vector")
    return lambda x: torch.index_select(x[0], axis, x[2])


def depth_to_space(call: Call) -> Run:
    # NNAPI's order is block row, block column, channel; PyTorch's pixel shuffle has the channel first.
    (block,) = settled(call, "block_size")

    def run(x: Any, inputs: Tensors) -> Any:
        n, c, h, w = x.shape
        x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // block**2, h * block, w * block)

    return channels_first(call, run)


def cast(call: Call) -> Run:
    dtype = DTYPES.get(call.output.type)
    if dtype is None:
        raise Refused(f"a cast to {call.output.type.name}")
    return lambda x: x[0].to(dtype)


KERNELS: Final[Mapping[str, Builder]] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "GROUPED_CONV_2D": convolution,
    "TRANSPOSE_CONV_2D": transpose_convolution,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    "AVERAGE_POOL_2D": pool(_average),
    "MAX_POOL_2D": pool(F.max_pool2d),
    "RESIZE_BILINEAR": resize("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": resize("nearest"),
    "ADD": arithmetic(torch.add),
    "SUB": arithmetic(torch.sub),
    "MUL": arithmetic(torch.mul),
    "DIV": arithmetic(torch.div),
    "MAXIMUM": binary(torch.maximum),
    "MINIMUM": binary(torch.minimum),
    "POW": binary(torch.pow),
    "EQUAL": binary(torch.eq),
    "NOT_EQUAL": binary(torch.ne),
    "GREATER": binary(torch.gt),
    "GREATER_EQUAL": binary(torch.ge),
    "LESS": binary(torch.lt),
    "LESS_EQUAL": binary(torch.le),
    "LOGICAL_AND": binary(torch.logical_and),
    "LOGICAL_OR": binary(torch.logical_or),
    "LOGICAL_NOT": unary(torch.logical_not),
    "SELECT": lambda call: lambda x: torch.where(x[0], x[1], x[2]),
    "RELU": unary(torch.relu),
    "RELU1": unary(lambda x: torch.clamp(x, -1, 1)),
    "RELU6": unary(lambda x: torch.clamp(x, 0, 6)),
    "LOGISTIC": unary(torch.sigmoid),
    "TANH": unary(torch.tanh),
    "HARD_SWISH": unary(F.hardswish),
    "ELU": elu,
    "PRELU": prelu,
    "SOFTMAX": softmax(torch.softmax),
    "LOG_SOFTMAX": softmax(torch.log_softmax),
    "ABS": unary(torch.abs),
    "EXP": unary(torch.exp),
    "FLOOR": unary(torch.floor),
    "LOG": unary(torch.log),
    "NEG": unary(torch.neg),
    "RSQRT": unary(torch.rsqrt),
    "SIN": unary(torch.sin),
    "SQRT": unary(torch.sqrt),
    "MEAN": reduction(torch.mean),
    "REDUCE_SUM": reduction(torch.sum),
    "REDUCE_MAX": reduction(torch.amax),
    "REDUCE_MIN": reduction(torch.amin),
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": squeeze,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "SPLIT": split,
    "SLICE": slice_,
    "PAD": pad,
    "PAD_V2": pad,
    "GATHER": gather,
    "DEPTH_TO_SPACE": depth_to_space,
    "CAST": cast,
}
"""What this engine takes of NNAPI."""


def _attention(inputs: Sequence[Operand]) -> Run:
    scale, causal = _value(inputs[3]), _value(inputs[4])

    def run(x: Tensors) -> Any:
        mask = x[5] if len(x) > 6 else None
        if causal and mask is not None:
            future = torch.ones(x[0].shape[-2], x[1].shape[-2], dtype=torch.bool, device=x[0].device).triu(1)
            mask = mask.masked_fill(future, float("-inf"))
        return F.scaled_dot_product_attention(x[0], x[1], x[2], mask, is_causal=causal and mask is None, scale=scale)

    return run


def _softplus(inputs: Sequence[Operand]) -> Run:
    beta = _value(inputs[1])
    return lambda x: F.softplus(x[0], beta)


def _gelu(inputs: Sequence[Operand]) -> Run:
    approximate = "tanh" if _value(inputs[1]) else "none"
    return lambda x: F.gelu(x[0], approximate=approximate)


def _layer_norm(inputs: Sequence[Operand]) -> Run:
    epsilon = _value(inputs[3])
    return lambda x: F.layer_norm(x[0], x[1].shape, x[1], x[2], epsilon)


def _rms_norm(inputs: Sequence[Operand]) -> Run:
    epsilon = _value(inputs[2])
    return lambda x: F.rms_norm(x[0], x[1].shape, x[1], epsilon)


def _group_norm(inputs: Sequence[Operand]) -> Run:
    groups, epsilon = _value(inputs[3]), _value(inputs[4])
    return lambda x: F.group_norm(x[0], groups, x[1], x[2], epsilon)


def _gru(inputs: Sequence[Operand]) -> Run:
    backward = _value(inputs[6])

    def run(x: Tensors) -> Any:
        source, *weights, h = (x[n] for n in range(6))
        source = source.flip(0) if backward else source
        y, last = torch.gru(source, h[None], weights, True, 1, 0.0, False, False, False)
        return (y.flip(0) if backward else y), last[0]

    return run


def _value(operand: Operand) -> Any:
    if not isinstance(operand.value, np.ndarray):
        raise Refused("a scalar that is no constant")
    return operand.value.item()


COMPOSITES: Final[Mapping[str, Callable[[Sequence[Operand]], Run]]] = {
    "ERF": lambda inputs: lambda x: torch.erf(x[0]),
    "GELU": _gelu,
    "SILU": lambda inputs: lambda x: F.silu(x[0]),
    "MISH": lambda inputs: lambda x: F.mish(x[0]),
    "SOFTPLUS": _softplus,
    "LAYER_NORM": _layer_norm,
    "RMS_NORM": _rms_norm,
    "GROUP_NORM": _group_norm,
    "SCALED_DOT_PRODUCT_ATTENTION": _attention,
    "GRU": _gru,
}
"""Composites (ir/composites.py) that this engine has natively; of each, the inputs before the body are at hand."""
