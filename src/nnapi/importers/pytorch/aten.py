"""An ATen call as the last operand of its extension operation: UTF-8 JSON of its arguments, read by drivers/aten_call.py.

    {"args": [...], "kwargs": {...}}

Numbers, booleans, strings, null and lists are JSON's own. The rest is an object of one kind:

| object | means |
|---|---|
| `{"tensor": 0}` | the operation's first input |
| `{"tensor": 0, "dtype": "int64"}` | the same, in the type PyTorch had it in, where NNAPI has a nearer one only |
| `{"tensor": 0, "rank": 0}` | the same without dimensions, where the operand has one of size 1 |
| `{"float": "inf"}` | a number JSON has no word for: inf, -inf, nan |
| `{"dtype": "float32"}`, `{"layout": "strided"}`, `{"memory_format": "contiguous_format"}` | torch.float32, ... |
| `{"device": "cpu"}` | the CPU, whatever device it was |
"""  # noqa: E501

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import fx

from nnapi.errors import ModelError
from nnapi.importers.pytorch.tensor import EXACT
from nnapi.ops.types import Array

SAFE_NAMES: Final = {"aten._unsafe_index.Tensor": "aten.index.Tensor"}
"""Overloads that trust their arguments, with the ones that check them."""


def tensors_of(node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors a call takes, in the order of its inputs."""
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]


def encode(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> bytes:
    """The arguments of a call, of which `numbers` are known; ModelError where one is known at run time only."""
    places = {n: k for k, n in enumerate(tensors_of(node))}

    def value(v: Any) -> Any:
        match v:
            case None | bool() | int() | str():
                return v
            case float():
                return v if math.isfinite(v) else {"float": str(v)}
            case fx.Node() if v in places:
                return placeholder(v)
            case fx.Node() if v in numbers:
                return value(numbers[v])
            case torch.dtype() | torch.layout() | torch.memory_format():
                return {type(v).__name__: str(v).removeprefix("torch.")}
            case torch.device():
                return {"device": "cpu"}
            case Sequence():
                return [value(item) for item in v]
        raise ModelError(f"takes {v}, which is known at run time only", hint="export with fixed sizes")

    def placeholder(v: fx.Node) -> dict[str, Any]:
        tensor = v.meta["val"]
        result: dict[str, Any] = {"tensor": places[v]}
        if tensor.dtype not in EXACT.values():
            result["dtype"] = str(tensor.dtype).removeprefix("torch.")
        if tensor.ndim == 0:
            result["rank"] = 0
        return result

    return _json([value(a) for a in node.args], {k: value(v) for k, v in node.kwargs.items()})


def numbers_of(node: fx.Node, values: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    """The numbers that a call takes from other nodes."""
    found = {n: values.get(n) for n in node.all_input_nodes}
    return {n: v for n, v in found.items() if isinstance(v, (bool, int, float))}


def encode_reshape(shape: Sequence[int]) -> bytes:
    """The arguments of a reshape to `shape`."""
    return _json([{"tensor": 0}, list(shape)], {})


def array_of(arguments: bytes) -> Array:
    """Encoded arguments as the operand holds them."""
    return np.frombuffer(arguments, np.uint8)


def _json(args: list[Any], kwargs: dict[str, Any]) -> bytes:
    return json.dumps({"args": args, "kwargs": kwargs}, separators=(",", ":"), allow_nan=False).encode()
