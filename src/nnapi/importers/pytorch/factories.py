"""Tensors made from the shape of another: constants, as its values do not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.tensor import EXACT, Tensor, tensor_of


def filled(value: float) -> Callable[..., Tensor]:
    """A constant of the result's shape and type."""
    return lambda e, *_, **__: _full(e, value)


def _full(e: Emitter, value: Any) -> Tensor:
    if None in e.shape:
        raise ModelError(f"makes a tensor of {e.shape}, unknown until run time", hint="export with fixed sizes")
    return tensor_of(torch.full((), value, dtype=EXACT[e.type]).expand([d or 0 for d in e.shape]))


FUNCTIONS = {
    "aten.zeros_like.default": filled(0),
    "aten.ones_like.default": filled(1),
    "aten.empty_like.default": filled(0),
    "aten.full_like.default": lambda e, x, value, **_: _full(e, value),
    "aten.new_zeros.default": filled(0),
    "aten.new_ones.default": filled(1),
    "aten.new_empty.default": filled(0),
    "aten.new_full.default": lambda e, x, size, value, **_: _full(e, value),
    "aten.new_tensor.default": lambda e, x, value, **_: _full(e, value),
}
