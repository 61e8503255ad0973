"""Scaled dot product attention."""

from __future__ import annotations

import math
from typing import Any

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.indexing import repeat_interleave
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
    inputs = [query, key, value]
    if mask is not None:
        inputs.append(_added(e, mask, query))
    scale = 1 / math.sqrt(query.size(query.rank - 1)) if scale is None else scale
    return e.composite(composites.attention, *inputs, scale=scale, causal=is_causal)


def _added(e: Emitter, mask: Tensor, query: Tensor) -> Tensor:
    """A mask of booleans, true where one may look, as what to add to the scores."""
    if mask.type != B8:
        return e.cast(mask, query.type)
    if mask.is_constant:
        return e.like(torch.where(mask.value, 0.0, composites.MASKED), query)
    hidden = e.elementwise("LOGICAL_NOT", input=mask)
    return e.binary("MUL", e.cast(hidden, query.type), composites.MASKED)


def flash(e: Emitter, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """The form of attention that PyTorch's decompositions leave on the CPU."""
    dropout, is_causal = (*args, 0.0, False)[:2]
    mask, scale = kwargs.get("attn_mask"), kwargs.get("scale")
    return attention(e, query, key, value, mask, dropout, is_causal, scale=scale), None


FUNCTIONS = {
    "aten.scaled_dot_product_attention.default": attention,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": flash,
}
