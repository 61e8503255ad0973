"""Run one ATen overload with arguments from a model file: the extension operations `org.pytorch.aten/OP.OVERLOAD`.

The arguments are the JSON that importers/pytorch/aten.py writes and describes. A model may come from anywhere, so
nothing in it is believed: an overload of ATen that changes nothing, JSON of the one form, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

from nnapi.errors import ExecutionError, UnsupportedOperation
from nnapi.ir.model import ATEN, Model, Operation
from nnapi.ops.types import I32, Q8, Operand

Tensors = Sequence[Any]
Run = Callable[[Tensors], Any]
"""(the operation's inputs as tensors, in order) -> a tensor, or several."""

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 8
_NAME = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)
_REFUSED = re.compile(
    r"from_file|_?empty\w*|new_empty\w*|_unsafe\w*|\w*backward\w*|_?(cudnn|miopen|nested|sparse|mkldnn|mps|resize|set|make|test|debug|print|use|assert|functional|foreach|fused)_?\w*"
)
"""What opens files, gives memory without values, trusts its arguments, or is no arithmetic."""
_WORDS: Final = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
_FLOATS: Final = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}


def aten_call(model: Model, operation: Operation) -> Run:
    """What runs the operation each time; UnsupportedOperation where it is no call that this engine makes."""
    overload = _overload(operation)
    arguments = _arguments(model, operation)
    count = len(operation.inputs) - 1
    args, kwargs = (_template(arguments[k], count, operation) for k in ("args", "kwargs"))
    declared = model.operands_of(operation.outputs)

    def run(tensors: Tensors) -> Any:
        result = overload(*_filled(args, tensors), **_filled(kwargs, tensors))
        results = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(_in_shape(_in_range(r, o, operation), o) for r, o in zip(results, declared))

    return run


def _overload(operation: Operation) -> Any:
    """The overload that the operation's type names."""
    name = operation.type.removeprefix(ATEN)
    if not _NAME.fullmatch(name):
        raise _refused(operation, f"{name!r} is no OP.OVERLOAD")
    op, _, overload = name.partition(".")
    if _REFUSED.fullmatch(op):
        raise _refused(operation, f"{name} is not run from a model")
    found = getattr(getattr(torch.ops.aten, op, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        raise _refused(operation, f"this PyTorch ({torch.__version__}) has no {name}")
    if found._schema.is_mutable:
        raise _refused(operation, f"{name} changes its arguments")
    returns = [str(r.type) for r in found._schema.returns]
    if not returns or {*returns} - {"Tensor", "List[Tensor]"}:
        raise _refused(operation, f"{name} gives something else than tensors")
    return found


def _arguments(model: Model, operation: Operation) -> dict[str, Any]:
    """The JSON in the last input: {"args": a list, "kwargs": an object}."""
    operand = model.operands[operation.inputs[-1]] if operation.inputs else None
    value = None if operand is None else operand.value
    if operand is None or operand.type != Q8 or not isinstance(value, np.ndarray) or value.nbytes > MAX_BYTES:
        raise _refused(operation, "its last input must hold its arguments: constant TENSOR_QUANT8_ASYMM, up to 1 MiB")
    try:
        arguments = json.loads(value.tobytes())
    except (ValueError, RecursionError) as error:
        raise _refused(operation, f"its arguments are no JSON: {error}") from error
    if not isinstance(arguments, dict) or arguments.keys() != {"args", "kwargs"}:
        raise _refused(operation, 'its arguments must be {"args": [...], "kwargs": {...}}')
    if not isinstance(arguments["args"], list) or not isinstance(arguments["kwargs"], dict):
        raise _refused(operation, "args must be a list and kwargs an object")
    return arguments


class _Place:
    """Where a tensor goes."""

    def __init__(self, index: int, dtype: Any, is_scalar: bool) -> None:
        self.index = index
        self.dtype = dtype
        self.is_scalar = is_scalar

    def fill(self, tensors: Tensors) -> Any:
        tensor = tensors[self.index]
        tensor = tensor.reshape(()) if self.is_scalar else tensor
        return tensor if self.dtype is None else tensor.to(self.dtype)


def _template(value: Any, count: int, operation: Operation, depth: int = 0) -> Any:
    """Decoded arguments with a `_Place` for each tensor, of which there are `count`."""
    if depth > MAX_DEPTH:
        raise _refused(operation, f"its arguments nest deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [_template(item, count, operation, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if depth == 0:
        return {name: _template(item, count, operation, depth + 1) for name, item in value.items()}
    return _typed(value, count, operation)


def _typed(value: dict[str, Any], count: int, operation: Operation) -> Any:
    match value:
        case {"tensor": int(index), **rest} if 0 <= index < count and rest.keys() <= {"dtype", "rank"}:
            dtype = _word("dtype", rest["dtype"], operation) if "dtype" in rest else None
            return _Place(index, dtype, "rank" in rest)
        case {"float": str(text)} if len(value) == 1 and text in _FLOATS:
            return _FLOATS[text]
        case {"device": "cpu"} if len(value) == 1:
            return torch.device("cpu")
        case {"dtype": name} | {"layout": name} | {"memory_format": name} if len(value) == 1:
            return _word(next(iter(value)), name, operation)
    raise _refused(operation, f"argument {value} is not understood")


def _word(kind: str, name: Any, operation: Operation) -> Any:
    """torch.NAME, where it is of that kind."""
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, _WORDS[kind]):
        raise _refused(operation, f"{name!r} is no {kind}")
    return found


def _filled(template: Any, tensors: Tensors) -> Any:
    if isinstance(template, _Place):
        return template.fill(tensors)
    if isinstance(template, list):
        return [_filled(item, tensors) for item in template]
    if isinstance(template, dict):
        return {name: _filled(item, tensors) for name, item in template.items()}
    return template


def _in_range(result: Any, operand: Operand, operation: Operation) -> Any:
    """Integers of 64 bits where 32 hold them, PyTorch's own limits cut; ExecutionError where one is lost."""
    if result.dtype != torch.int64 or operand.type != I32:
        return result
    wide, narrow = torch.iinfo(torch.int64), torch.iinfo(torch.int32)
    cut = result.clamp(narrow.min, narrow.max)
    lost = result[(cut != result) & (result != wide.min) & (result != wide.max)]
    if lost.numel():
        raise ExecutionError(f"gives {int(lost[0])}, TENSOR_INT32 has 32 bits", operation=operation.label)
    return cut


def _in_shape(result: Any, operand: Operand) -> Any:
    """A result of rank 0 gets the one dimension that its operand has."""
    return result.reshape(operand.dimensions) if result.ndim == 0 and operand.dimensions == (1,) else result


def _refused(operation: Operation, reason: str) -> UnsupportedOperation:
    return UnsupportedOperation(reason, operation=operation.label)
