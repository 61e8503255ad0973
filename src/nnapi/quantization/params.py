"""Scale and zero point: from a range of real values, and the table of them that a model is quantized by."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.ir.reading import read_json
from nnapi.ir.writing import writing
from nnapi.ops.types import Q8PC, Operand, OperandType
from nnapi.quantization.observers import Range
from nnapi.quantization.recipe import ACTIVATIONS

FACTOR: Final = 2.0**12
"""The largest factor by which scales are moved, either way."""
FORMAT: Final = "nnapi-quantization-1"
AS_IT_IS: Final = "as it is"
"""The precision of an operation that is left alone."""
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Scales are float32 numbers."""


@dataclass(frozen=True, slots=True)
class Params:
    """How real values are stored: real = (stored - zero_point) * scale."""

    type: OperandType
    scale: float
    zero_point: int

    @property
    def range(self) -> Range:
        """The lowest and highest real value that it stores."""
        info = np.iinfo(self.type.dtype)
        return (info.min - self.zero_point) * self.scale, (info.max - self.zero_point) * self.scale

    def of(self, operand: Operand) -> Operand:
        """`operand` stored so."""
        return replace(operand, type=self.type, scale=self.scale, zero_point=self.zero_point)


def params_for(low: float, high: float, type: OperandType) -> Params:
    """The finest parameters that store `low` to `high`, and zero exactly.

    >>> from nnapi.ops.types import Q8
    >>> params_for(0.0, 2.55, Q8)
    Params(type=<OperandType.TENSOR_QUANT8_ASYMM: 5>, scale=0.009999999776482582, zero_point=0)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    info = np.iinfo(type.dtype)
    if type.zero_point_range == (0, 0):  # symmetric: as far below zero as above
        return Params(type, float(np.float32(max(-low, high) / info.max)) or 1.0, 0)
    scale = float(np.float32((high - low) / (info.max - info.min)))
    if scale == 0.0:  # zero and nothing else: any scale is exact
        return Params(type, 1.0, min(max(0, info.min), info.max))
    zero_point = round(info.min - low / scale)
    return Params(type, scale, min(max(zero_point, info.min), info.max))


def at_least(params: Params, scale: float) -> Params:
    """`params` with a scale of at least `scale`, around the same zero."""
    if params.scale >= scale:
        return params
    low, high = params.range
    info = np.iinfo(params.type.dtype)
    zero_point = round(info.min - low / (high - low) * (info.max - info.min))
    return Params(params.type, float(np.float32(scale)), min(max(zero_point, info.min), info.max))


@dataclass(frozen=True)
class Choice:
    """What one operation computes in: `int8`, `uint8`, `int16`, `float16` or `float32`, and why not in integers."""

    precision: str
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """What was decided for a model: by operand the parameters, by operation precision and scales of its filter.

    The indexes are those of the model that was observed; `save` and `read_table` write and read it as JSON.
    """

    operations: Mapping[int, Choice]
    operands: Mapping[int, Params] = field(default_factory=dict)
    filters: Mapping[int, tuple[Params, ...]] = field(default_factory=dict)
    boundary: str = "float32"
    """`integer`: the model's inputs and outputs are stored as the operations around them do."""
    weights: str = ""
    """The digest of the weights that it was decided for; of others the ranges would be wrong."""
    factors: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Scales moved before: by operation the factors that its output's channels are divided by."""

    def check(self, model: Model) -> None:
        """QuantizeError where the table was made for other weights than those of `model`."""
        if self.weights and self.weights != (found := digest(model)):
            raise QuantizeError(
                f"the table was made for other weights: their digest is {self.weights}, the model's {found}",
                hint="calibrate again",
            )

    def save(self, path: str | os.PathLike[str], model: Model) -> None:
        """Write it for people to read and edit."""
        content = {
            "format": FORMAT,
            "boundary": self.boundary,
            "weights": self.weights,
            "factors": {str(n): list(f) for n, f in self.factors.items()},
            "operations": {
                str(n): {"name": model.operations[n].label, "precision": c.precision}
                | ({"reason": c.reason} if c.reason else {})
                | ({"filter": [_json(p) for p in self.filters[n]]} if n in self.filters else {})
                for n, c in self.operations.items()
            },
            "operands": {
                str(i): {"name": _operand_name(model, i)} | _json(p) | {"range": list(p.range)}
                for i, p in self.operands.items()
            },
        }
        with writing(path) as file:
            file.write(json.dumps(content, indent=1).encode())


def _json(params: Params) -> dict[str, Any]:
    return {"type": params.type.name, "scale": params.scale, "zero_point": params.zero_point}


def _operand_name(model: Model, i: int) -> str:
    n = model.producers.get(i)
    return model.operands[i].name or ("" if n is None else model.operations[n].label)


def read_table(path: str | os.PathLike[str], model: Model) -> Table:
    """A table that `save` wrote, for the same model; QuantizeError where it does not fit."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise QuantizeError(f"cannot read table {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise QuantizeError(f"{path} is no table of {FORMAT}", hint="`nnapi quantize --save-table` writes one")
    try:
        operations = {_index(n): o for n, o in content["operations"].items()}
        choices = {n: _choice(n, o) for n, o in operations.items()}
        labels = {n: o["name"] for n, o in operations.items()}
        filters = {n: _filter(n, o["filter"]) for n, o in operations.items() if "filter" in o}
        operands = {_index(i): _params(o, f"operand {i}") for i, o in content["operands"].items()}
        boundary, weights = content["boundary"], str(content["weights"])
        factors = {_index(n): tuple(map(float, f)) for n, f in content["factors"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise QuantizeError(f"table {path} lacks something or has the wrong kind of value: {error}") from error
    found = {n: o.label for n, o in enumerate(model.operations)}
    if labels != found:
        wrong = next((n for n in {*labels, *found} if labels.get(n) != found.get(n)), None)
        raise QuantizeError(f"table {path} is of another model: operation {wrong} is {found.get(wrong or 0)}")
    if operands and max(operands) >= len(model.operands):
        raise QuantizeError(f"table {path} names operand {max(operands)}, the model has {len(model.operands)}")
    for n, values in factors.items():
        if not all(1 / FACTOR <= v <= FACTOR for v in values):
            raise QuantizeError(f"table {path}: factors of operation {n} must be {1 / FACTOR:g} to {FACTOR:g}")
    if boundary not in ("integer", "float32"):
        raise QuantizeError(f"table {path}: boundary is {boundary!r}, must be 'integer' or 'float32'")
    return Table(choices, operands, filters, boundary, weights, factors)


def digest(model: Model) -> str:
    """The values of all constants of `model`, as a short text.

    >>> digest(Model((), (), (), ()))
    'cae66941d9efbd404e4d88758ea67670'
    """
    hasher = hashlib.blake2b(digest_size=16)

    def add(model: Model) -> None:
        for operand in model.operands:
            if isinstance(operand.value, Model):
                add(operand.value)
            elif isinstance(operand.value, np.ndarray):
                hasher.update(np.ascontiguousarray(operand.value).reshape(-1).view(np.uint8).data)

    add(model)
    return hasher.hexdigest()


def _index(text: str) -> int:
    index = int(text)
    if str(index) != text or index < 0:
        raise ValueError(f"{text!r} is no index")
    return index


def _choice(n: int, content: Mapping[str, Any]) -> Choice:
    precision, reason = content["precision"], content.get("reason", "")
    if precision not in (*ACTIVATIONS, AS_IT_IS) or not isinstance(reason, str):
        known = ", ".join((*ACTIVATIONS, AS_IT_IS))
        raise QuantizeError(f"operation {n} has precision {precision!r} and reason {reason!r}", hint=f"known: {known}")
    return Choice(precision, reason)


def _filter(n: int, content: Any) -> tuple[Params, ...]:
    found = tuple(_params(p, f"filter of operation {n}") for p in content)
    if len({p.type for p in found}) != 1 or (len(found) > 1 and found[0].type != Q8PC):
        raise QuantizeError(f"filter of operation {n} has {len(found)} parameters, must have one, or one a channel")
    return found


def _params(content: Mapping[str, Any], where: str) -> Params:
    type, scale, zero_point = OperandType[content["type"]], content["scale"], content["zero_point"]
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or builtins.type(zero_point) is not int:
        raise QuantizeError(f"{where} has scale {scale!r} and zero point {zero_point!r}, must be numbers")
    low, high = type.zero_point_range
    if not type.is_quantized or not SMALLEST <= scale <= LARGEST:
        raise QuantizeError(f"{where} has type {type.name} and scale {scale}, must be quantized and positive")
    if not low <= zero_point <= high:
        raise QuantizeError(f"{where} has zero point {zero_point}, must be {low} to {high}")
    return Params(type, float(np.float32(scale)), zero_point)
