"""What a model is, as a short text: the key under which costs and verdicts of whole models are remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import OMITTED, Array, Operand

SMALL: Final = 256
"""Constants of up to so many bytes are parameters (axes, shapes, strides): their values are part of the structure."""

SAMPLE: Final = 4096
"""About so many values of a larger constant stand for all of them: models of other weights differ everywhere."""

FOLDED: Final = 4096
"""Bytes of a constant up to which it counts that an engine may fold it: a sum with zeros, a product with ones."""


def digest(model: Model, *, weights: bool = False) -> str:
    """The structure, shapes and types of `model`; with `weights` a sample of its constants too. Names do not count."""
    hasher = hashlib.blake2b(digest_size=16)
    _add_model(hasher, model, weights, described)
    return hasher.hexdigest()


def structure(model: Model, num_threads: int = 1) -> str:
    """All about `model` that may decide whether an engine survives it on so many threads: not its weights."""
    hasher = hashlib.blake2b(str(num_threads).encode(), digest_size=16)
    _add_model(hasher, model, False, kind)
    return hasher.hexdigest()


def kind(operand: Operand, *, coarse: bool = False) -> tuple[Any, ...]:
    """`described`, without the values of weights; `coarse`: sizes as powers of two, and of scales whether they are 1.

    Engines choose kernels by size: one dies of layers of 128 and 256 units, and not of 256 and 512.
    """
    type, dimensions, scale, zero_point, channels, value = described(operand)
    if isinstance(operand.value, np.ndarray) and _is_weight(operand, coarse=coarse):
        value = "weights" if coarse else _folded(operand.value)
    elif isinstance(operand.value, Model):
        hasher = hashlib.blake2b(digest_size=16)
        _add_model(hasher, operand.value, False, partial(kind, coarse=coarse))
        value = hasher.hexdigest()
    if coarse:
        sizes = tuple(max(d - 1, 0).bit_length() if d else None for d in dimensions)
        return type, sizes, scale == 1.0, channels, value
    return type, dimensions, scale, zero_point, channels, value


def _is_weight(operand: Operand, *, coarse: bool) -> bool:
    """Whether a constant holds numbers to compute with, and not axes, shapes, strides or what is fused."""
    is_number = operand.type.is_float or operand.type.is_quantized or bool(operand.scale)
    return is_number and (operand.type.is_tensor or coarse)


def _folded(value: Array) -> str:
    if value.nbytes <= FOLDED and value.size:
        for name, constant in (("zeros", 0), ("ones", 1)):
            if (value == constant).all():
                return name
    return "weights"


def signature(model: Model, operation: Operation, known: Mapping[int, Any] | None = None) -> tuple[Any, ...]:
    """An operation with its types, shapes and parameters: two with equal ones cost the same.

    `known` are operands described before.
    """
    known = {} if known is None else known
    operands = (*operation.inputs, *operation.outputs)
    return operation.type, *(known[i] if i in known else described(model.operands[i]) for i in operands)


def described(operand: Operand) -> tuple[Any, ...]:
    """An operand's type and shape, quantization and, where it is a parameter, its value."""
    value = operand.value
    if isinstance(value, Model):
        value = digest(value)
    elif isinstance(value, np.ndarray):
        value = value.tobytes() if value.nbytes <= SMALL else "weights"
    else:
        value = "omitted" if value is OMITTED else None
    channels = operand.channel_quant.axis if operand.channel_quant is not None else None
    return operand.type.value, operand.dimensions, operand.scale, operand.zero_point, channels, value


def signature_digest(model: Model, operation: Operation) -> str:
    """`signature` as a short text."""
    return hashlib.blake2b(repr(signature(model, operation)).encode(), digest_size=16).hexdigest()


def _add_model(
    hasher: hashlib.blake2b, model: Model, weights: bool, describe: Callable[[Operand], tuple[Any, ...]]
) -> None:
    new: dict[int, int] = {}
    for i in (*model.inputs, *(i for o in model.operations for i in (*o.inputs, *o.outputs))):
        if i in new:
            continue
        new[i] = len(new)
        operand = model.operands[i]
        hasher.update(repr(describe(operand)).encode())
        if weights and isinstance(operand.value, np.ndarray) and operand.value.nbytes > SMALL:
            values = operand.value.reshape(-1)
            hasher.update(values[:: max(1, values.size // SAMPLE)].tobytes())
            if operand.channel_quant is not None:
                hasher.update(repr(operand.channel_quant).encode())
    for operation in model.operations:
        hasher.update(
            repr((operation.type, [new[i] for i in operation.inputs], [new[i] for i in operation.outputs])).encode()
        )
    hasher.update(repr(([new[i] for i in model.inputs], [new.get(i) for i in model.outputs], model.relaxed)).encode())
