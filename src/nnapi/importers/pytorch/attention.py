"""Scaled dot product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.activation import finite, seen
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.indexing import repeat_interleave
from nnapi.importers.pytorch.reduction import reduced
from nnapi.importers.pytorch.tensor import Tensor
from nnapi.ir import composites
from nnapi.ops.types import B8


def attention(
    e: Emitter,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """query [..., H, T, D], key and value [..., H, S, D] -> [..., H, T, D]; one composite."""
    if dropout > 0:
        raise ModelError("drops at random, as in training", hint="call module.eval() before loading")
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        count = query.size(query.rank - 3) // key.size(key.rank - 3)
        key, value = (repeat_interleave(e, t, count, -3) for t in (key, value))
    batch = rank.broadcast(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    query, key, value = (e.expand(t, (*batch, *t.shape[-2:])) for t in (query, key, value))
    scale = 1 / math.sqrt(query.size(query.rank - 1)) if scale is None else scale
    inputs = [query, key, value]
    sees = None
    if mask is not None:
        added, sees = _masked(e, mask, query)
        inputs.append(added)
    y = e.composite(composites.attention, *inputs, scale=scale, causal=is_causal)
    return y if sees is None else e.binary("MUL", y, sees)


def _masked(e: Emitter, mask: Tensor, query: Tensor) -> tuple[Tensor, Tensor | None]:
    """A term to add to the scores, and by row 1 or, where nothing may be looked at, 0; None where every row is 1.

    A mask of booleans is true where one may look; one of floats is added, and minus infinity hides.
    """
    if mask.is_constant:
        added = mask.value if mask.type != B8 else torch.where(mask.value, 0.0, -math.inf)
        rows = (added > -math.inf).any(-1, keepdim=True)
        lowest = composites.MASKED if mask.type == B8 else float(np.finfo(query.type.dtype).min)
        return e.like(added.clamp(min=lowest), query), None if rows.all() else e.like(rows, query)
    if mask.type == B8:
        hidden = e.cast(e.elementwise("LOGICAL_NOT", input=mask), query.type)
        none = reduced(e, "REDUCE_MIN", hidden, -1, keep=True)
        return e.binary("MUL", hidden, composites.MASKED), e.binary("SUB", e.like(1.0, query), none)
    mask = e.cast(mask, query.type)
    return finite(e, mask), seen(e, mask, -1)


def flash(e: Emitter, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """The form of attention that PyTorch's decompositions leave on the CPU."""
    dropout, is_causal = (*args, 0.0, False)[:2]
    mask, scale = kwargs.get("attn_mask"), kwargs.get("scale")
    return attention(e, query, key, value, mask, dropout, is_causal, scale=scale), None


FUNCTIONS = {
    "aten.scaled_dot_product_attention.default": attention,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": flash,
}
