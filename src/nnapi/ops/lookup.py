"""GATHER, EMBEDDING_LOOKUP, HASHTABLE_LOOKUP, LSH_PROJECTION: slices by index, by key, and the keys themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nnapi.ops.fingerprint import fingerprint64
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types, same
from nnapi.ops.shape import axis_of
from nnapi.ops.types import BEYOND, F16, F32, I32, INT32, Q8, Q8S, Q16SYMM, Array, Shape
from nnapi.ops.unary import ANY_RANK

SPARSE_DEPRECATED, DENSE, SPARSE = 1, 2, 3
"""LSH_PROJECTION's types; SPARSE adds an offset per hash function, so that signatures do not collide."""


def _check_indices(call: Call, source: str, axis: int, size: int | None) -> None:
    """ModelError where an index, if it is known, is outside the dimension that it points into."""
    if size is None or not call.known("indices"):
        return
    indices = call.array("indices")
    outside = indices[(indices < 0) | (indices >= size)]
    if outside.size:
        call.fail(f"indices has {outside[0]}, dimension {axis} of {source} has {size}", hint=f"use 0 to {size - 1}")


def _gather_shape(call: Call) -> list[Shape]:
    shape, indices, axis = call.shape("input"), call.shape("indices"), call.scalar("axis")
    if shape is None or indices is None:
        return [None]
    if axis is None:
        return [(None,) * (len(shape) + len(indices) - 1)]
    axis = axis_of(call, axis, len(shape))
    _check_indices(call, "input", axis, shape[axis])
    return [shape[:axis] + indices + shape[axis + 1 :]]


def _gather(call: Call) -> list[Array]:
    return [np.take(call.array("input"), call.array("indices"), call.scalar("axis"))]


def _embedding_shape(call: Call) -> list[Shape]:
    values, indices = call.shape("values"), call.shape("indices")
    if values is None:
        return [None]
    _check_indices(call, "values", 0, values[0])
    return [((indices or (None,))[0], *values[1:])]


def _embedding(call: Call) -> list[Array]:
    return [np.take(call.array("values"), call.array("indices"), 0)]


def _hashtable_shape(call: Call) -> list[Shape]:
    lookups, keys, values = (call.shape(n) or (None,) for n in ("lookups", "keys", "values"))
    if None not in (keys[0], values[0]) and keys[0] != values[0]:
        call.fail(f"keys has {keys[0]} elements, the first dimension of values has {values[0]}, must be the same")
    return [None if call.shape("values") is None else (lookups[0], *values[1:]), (lookups[0],)]


def _hashtable(call: Call) -> list[Array]:
    lookups, keys, values = (call.array(n) for n in ("lookups", "keys", "values"))
    if not keys.size:
        return [np.zeros((lookups.size, *values.shape[1:]), values.dtype), np.zeros(lookups.size, np.uint8)]
    order = np.argsort(keys, kind="stable")
    found = order[np.searchsorted(keys, lookups, sorter=order).clip(max=keys.size - 1)]
    hits = keys[found] == lookups
    # A miss is stored as zero bytes, also where a quantized zero is another byte: so the specification's code does.
    output = np.where(hits.reshape(-1, *(1,) * (values.ndim - 1)), values[found], np.zeros((), values.dtype))
    return [output, hits.astype(np.uint8)]


def _projection_shape(call: Call) -> list[Shape]:
    hash, input, kind = call.shape("hash"), call.shape("input"), call.scalar("type")
    kinds = (None, SPARSE_DEPRECATED, DENSE, SPARSE)
    call.require(kind in kinds, f"type is {kind}, must be 1 (sparse, deprecated), 2 (dense) or 3 (sparse)")
    if "weight" in call and call.known("weight") and input is not None:
        weights = call.array("weight").size
        if input[0] not in (weights, None):
            call.fail(f"weight has {weights} elements, the first dimension of input has {input[0]}, must be the same")
    functions, bits = hash or (None, None)
    call.require(bits is None or bits <= 32, f"hash gives {bits} bits, limit 32")
    if kind is None:
        return [(None,)]
    if kind == DENSE:
        return [(None if functions is None or bits is None else functions * bits,)]
    if kind == SPARSE and functions and bits is not None:
        needed = bits + (functions - 1).bit_length()
        call.require(needed <= 32, f"{functions} hash functions of {bits} bits need {needed} bits, limit 32")
    return [(functions,)]


def _projection_needs(call: Call) -> Iterable[Need]:
    if call.scalar("type") == SPARSE:
        yield Need(3, "LSH_PROJECTION of type SPARSE (3)")


def _projection(call: Call) -> list[Array]:
    hash, input, kind = call.array("hash"), call.array("input"), call.scalar("type")
    weight = call.array("weight").astype(np.float64) if "weight" in call else np.ones(len(input))
    items = np.ascontiguousarray(input).reshape(len(input), math.prod(input.shape[1:])).view(np.uint8)
    seeds = hash.astype("<f4").reshape(-1, 1).view(np.uint8)
    keys = (np.concatenate([np.broadcast_to(s, (len(items), s.size)), items], axis=1) for s in seeds)
    scores = [weight @ fingerprint64(k).view(np.int64).astype(np.float64) for k in keys]
    bits = (np.array(scores) > 0).reshape(hash.shape)
    if kind == DENSE:
        return [bits.reshape(-1).astype(np.int32)]
    functions, count = hash.shape
    places = np.int64(1) << np.arange(count - 1, -1, -1)
    signature = bits.astype(np.int64) @ places
    if kind == SPARSE:
        signature += np.arange(functions) << count
    return [signature.astype(np.uint32).view(np.int32)]


EMBEDDING_LOOKUP = Op(
    "EMBEDDING_LOOKUP", 7, 1, (Signature((Param("indices", I32, rank=1), Param("values", "T", rank=(2, 8)))),),
    (Result("output", "T", "values"),), types=same({F32: 1, I32: 3, Q8: 3, F16: 4, Q8S: 4}), infer=_embedding_shape,
    reference=_embedding, formula="values[indices]",
)  # fmt: skip
HASHTABLE_LOOKUP = Op(
    "HASHTABLE_LOOKUP", 10, 1,
    (Signature((Param("lookups", I32, rank=1), Param("keys", I32, rank=1), Param("values", "T", rank=(2, 8)))),),
    (Result("output", "T", "values"), Result("hits", Q8, {Q8: (1.0, 0)})), types=same({F32: 1, I32: 1, Q8: 1}),
    infer=_hashtable_shape, reference=_hashtable,
    formula="values[i] where keys[i] == lookups, else zeros; and whether there is such an i",
)  # fmt: skip
LSH_PROJECTION = Op(
    "LSH_PROJECTION", 15, 1,
    (Signature((
        Param("hash", "H", rank=2), Param("input", "T", rank=ANY_RANK), Param("weight", "H", rank=1, omissible=True),
        Param("type", INT32),
    )),),
    (Result("output", I32),),
    types=tuple(Types(3 if F16 in (h, t) else 1, H=h, T=t) for h in (F32, F16) for t in (F32, I32, Q8, F16)),
    infer=_projection_shape, reference=_projection,
    formula="sign(sum over i(weight[i] * fingerprint(hash, input[i]))) as bits",
    rules=_projection_needs,
)  # fmt: skip
GATHER = Op(
    "GATHER", 51, 3,
    (Signature((Param("input", "T", rank=ANY_RANK), Param("axis", INT32), Param("indices", I32, rank=ANY_RANK))),),
    (Result("output", "T", "input"),), types=same({F32: 3, F16: 3, I32: 3, Q8: 3, Q8S: 4, Q16SYMM: BEYOND}),
    infer=_gather_shape, reference=_gather, formula="input[..., indices, ...] along axis",
)  # fmt: skip

OPERATIONS = (EMBEDDING_LOOKUP, HASHTABLE_LOOKUP, LSH_PROJECTION, GATHER)
