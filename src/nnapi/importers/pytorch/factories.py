"""Tensors made from a shape, or from that of another: constants, as its values do not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.tensor import EXACT, Inexpressible, Tensor, Unknown, tensor_of


def filled(value: float) -> Callable[..., Tensor]:
    """Such numbers in the result's shape and type."""
    return lambda e, *_, **__: _full(e, value)


def _full(e: Emitter, value: Any) -> Tensor:
    if isinstance(value, Unknown):
        raise ModelError("is filled with a number that is known at run time only", hint="export with fixed sizes")
    if isinstance(value, Tensor):
        value = value.value
    number = tensor_of(torch.full((), value, dtype=EXACT[e.type]))
    try:
        return e.expand(number, e.shape)
    except Inexpressible as reason:
        raise ModelError(f"makes a tensor of {e.shape}: {reason}", hint="export with fixed sizes") from reason


_KINDS = {"zeros": filled(0), "ones": filled(1), "empty": filled(0)}
FUNCTIONS: Final = {
    **{f"aten.{form}.default": function for name, function in _KINDS.items()
       for form in (name, f"{name}_like", f"new_{name}")},
    "aten.new_empty_strided.default": filled(0),
    "aten.full.default": lambda e, size, value, **_: _full(e, value),
    "aten.full_like.default": lambda e, x, value, **_: _full(e, value),
    "aten.new_full.default": lambda e, x, size, value, **_: _full(e, value),
    "aten.new_tensor.default": lambda e, x, value, **_: _full(e, value),
}  # fmt: skip
OF_THE_RESULT: Final = frozenset(FUNCTIONS.values())
"""They look at the result's shape, never at sizes given, which may be unknown."""
