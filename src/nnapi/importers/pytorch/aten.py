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
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import fx

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import EXACT, Emitter, Tensor
from nnapi.importers.pytorch.rank import MAX_RANK
from nnapi.ir.builder import Ref
from nnapi.ir.model import ATEN
from nnapi.ops.types import Q8, Array, Operand

SAFE_NAMES: Final = {"aten._unsafe_index.Tensor": "aten.index.Tensor"}
"""Overloads that trust their arguments, with the ones that check them."""


def tensors_of(node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors a call takes, in the order of its inputs."""
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]


def encode(node: fx.Node) -> bytes:
    """The arguments of a call; ModelError where one is known at run time only."""
    places = {n: k for k, n in enumerate(tensors_of(node))}

    def value(v: Any) -> Any:
        match v:
            case None | bool() | int() | str():
                return v
            case float():
                return v if math.isfinite(v) else {"float": str(v)}
            case fx.Node() if v in places:
                return placeholder(v)
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
        if tensor.dtype not in EXACT:
            result["dtype"] = str(tensor.dtype).removeprefix("torch.")
        if tensor.ndim == 0:
            result["rank"] = 0
        return result

    return _json([value(a) for a in node.args], {k: value(v) for k, v in node.kwargs.items()})


def exact(e: Emitter, x: Tensor) -> Ref:
    """The operand of `x` in PyTorch's shape, whatever its rank: beyond NNAPI's, by a reshape of ATen's."""
    if max(x.rank, len(x.ref.shape or ()) if x.ref else 0) <= MAX_RANK or x.ref is None or x.ref.shape == x.shape:
        return e.ref(x)
    if None in x.shape:
        raise ModelError(f"a reshape to {x.shape} leaves a dimension open", hint="export with fixed sizes")
    inputs = [x.ref, arguments(e, _json([{"tensor": 0}, list(x.shape)], {}))]
    return e.builder.add_raw(ATEN + "reshape.default", inputs, [Operand(x.type, x.shape, name=e.name)], name=e.name)[0]  # type: ignore[arg-type]


def arguments(e: Emitter, json: bytes) -> Ref:
    """The operand that holds encoded arguments."""
    array: Array = np.frombuffer(json, np.uint8)
    return e.builder.constant(array, Operand(Q8, scale=1.0))


def _json(args: list[Any], kwargs: dict[str, Any]) -> bytes:
    return json.dumps({"args": args, "kwargs": kwargs}, separators=(",", ":"), allow_nan=False).encode()
