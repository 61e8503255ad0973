"""Verify a model: every rule of NNAPI that can be known before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnapi.errors import ModelError, UsageError
from nnapi.ir.model import Model, Operation
from nnapi.ops.op import Call, Need, Result
from nnapi.ops.types import (
    ANDROID,
    BEYOND,
    I32,
    MAX_ELEMENTS,
    MAX_RANK,
    MODEL,
    OEM_SCALAR,
    OMITTED,
    Q8PC,
    Dimensions,
    Operand,
    Shape,
)  # fmt: skip

MAX_DEPTH = 32
"""How deep referenced models may nest."""
MAX_SCALE = float(np.finfo(np.float32).max)
"""NNAPI's scales are of 32 bits."""


class LevelNeed(NamedTuple):
    """A feature level above 1 that one operation of a model needs."""

    operation: str
    need: Need


def verify(model: Model, *, level: int = BEYOND) -> None:
    """Check every rule of NNAPI that is known before execution; ModelError names operation, limit and value.

    `level` is the feature level (1 to 8) that the model must fit; without one, 16x8 may be in it too.
    """
    for label, need in levels(model):
        if need.level > level:
            raise ModelError(f"{need}, the target has {level} ({ANDROID[level]})", operation=label)


def feature_level(model: Model) -> int | None:
    """The lowest feature level (1 to 8) that takes the model, None where none does; extensions count for none."""
    return level_of(levels(model))


def level_of(needs: Sequence[LevelNeed]) -> int | None:
    """`feature_level` of a model with these needs."""
    level = max((n.need.level for n in needs), default=1)
    return None if level == BEYOND else level


def level_name(level: int | None) -> str:
    """A feature level for people to read.

    >>> level_name(4), level_name(None)
    ('feature level 4 (Android 11)', "no feature level (16x8: TFLite's kernels)")
    """
    return f"feature level {level} ({ANDROID[level]})" if level else "no feature level (16x8: TFLite's kernels)"


def levels(model: Model) -> list[LevelNeed]:
    """Verify `model` and return each need of a feature level above 1, operation by operation."""
    if not isinstance(model, Model):
        raise UsageError(f"a {type(model).__name__} is no model", hint="nnapi.load gives one")
    return _levels(model, depth=0, seen={}, refused=None)


def refused_operations(model: Model) -> dict[int, ModelError]:
    """Operations whose operands do not go together, by index, and why; ModelError where the model is not well formed.

    NNAPI's models may hold such operations: devices refuse them, and to run them fails.
    """
    refused: dict[int, ModelError] = {}
    _levels(model, depth=0, seen={}, refused=refused)
    return refused


def _levels(model: Model, depth: int, seen: dict[int, int], refused: dict[int, ModelError] | None) -> list[LevelNeed]:
    """Needs of all operations; an operation that is wrong in itself is raised, or put into `refused`."""
    if depth > MAX_DEPTH:
        raise ModelError(f"referenced models nest deeper than {MAX_DEPTH}")
    if not model.operations:
        raise ModelError("the model has no operations", hint="an NNAPI model computes something")
    if not model.outputs:
        raise ModelError("the model has no outputs")
    _check_names(model)
    needs: list[LevelNeed] = []
    for i, operand in enumerate(model.operands):
        problem = operand_problem(operand)
        if problem:
            raise ModelError(f"operand {i}{f' {operand.name!r}' if operand.name else ''}: {problem}")
    written = _check_boundary(model)
    for n, operation in enumerate(model.operations):
        _check_edges(model, operation, written)
        try:
            needs += _needs_of(model, operation, depth, seen)
        except ModelError as error:
            if refused is None:
                raise
            refused[n] = error
    for i in model.outputs:
        if i not in model.producers:
            raise ModelError(f"output operand {i} {model.operands[i].name!r} is written by no operation")
    return needs


def _check_names(model: Model) -> None:
    """Names are text that files can hold."""
    names = [model.name, *(o.name for o in model.operands), *(o.name for o in model.operations), *model.metadata]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"a name holds {error.object[error.start]!r}, half a character") from error


def _needs_of(model: Model, operation: Operation, depth: int, seen: dict[int, int]) -> list[LevelNeed]:
    needs: list[LevelNeed] = []
    for body in model.referenced(operation):
        # Models share bodies, and bodies bodies: each is checked again only where it lies deeper.
        if seen.get(id(body), 0) <= depth:
            found = _levels(body, depth + 1, seen, refused=None)
            needs += [] if id(body) in seen else found
            seen[id(body)] = depth + 1
    if operation.is_extension:
        _check_extension(model, operation)
        return needs
    call = model.call(operation)
    check_call(call)
    return needs + [LevelNeed(operation.label, need) for need in call.needs()]


def operand_problem(operand: Operand) -> str:
    """What is wrong with one operand on its own; empty where nothing is."""
    t = operand.type
    if not t.is_tensor and operand.dimensions:
        return f"scalar {t.name} has dimensions {operand.dimensions}, must have none"
    if len(operand.dimensions) > MAX_RANK:
        return f"rank {len(operand.dimensions)}, limit {MAX_RANK}"
    if any(not isinstance(d, int) or not 0 <= d <= MAX_ELEMENTS for d in operand.dimensions):
        return f"dimensions {operand.dimensions}, each must be 0 (unknown) to {MAX_ELEMENTS}"
    if math.prod(d or 1 for d in operand.dimensions) * t.dtype.itemsize > 2**32 - 1:
        return f"dimensions {operand.dimensions} of {t.name} exceed 4 GiB"
    problem = _quantization_problem(operand)
    return problem or _value_problem(operand)


def _quantization_problem(operand: Operand) -> str:
    t, scale = operand.type, operand.scale
    if not 0 <= scale <= MAX_SCALE:
        return f"scale is {scale}, must be finite and not negative"
    low, high = t.zero_point_range
    if not low <= operand.zero_point <= high:
        return f"zero point is {operand.zero_point}, must be {low} to {high} for {t.name}"
    if t == Q8PC:
        quant = operand.channel_quant
        if quant is None:
            return "has no per-channel scales"
        if scale:
            return f"scale is {scale}, must be 0 beside per-channel scales"
        if not all(0 < s <= MAX_SCALE for s in quant.scales):
            return "per-channel scales must be positive and finite"
        if operand.dimensions and not 0 <= quant.axis < len(operand.dimensions):
            return f"channel dimension is {quant.axis}, rank is {len(operand.dimensions)}"
        size = operand.dimensions[quant.axis] if operand.dimensions else 0
        return f"{len(quant.scales)} scales for {size} channels" if size and size != len(quant.scales) else ""
    if operand.channel_quant is not None:
        return f"{t.name} takes no per-channel scales"
    if t.is_oem:
        return ""
    if t.is_quantized:
        return "" if scale > 0 else f"scale is 0, must be positive for {t.name}"
    return "" if scale == 0 or t == I32 else f"scale is {scale}, must be 0 for {t.name}"


def _value_problem(operand: Operand) -> str:
    t, value = operand.type, operand.value
    if value is None or value is OMITTED:
        return ""
    if t == MODEL:
        return "" if isinstance(value, Model) else "holds no model"
    if not isinstance(value, np.ndarray):
        return f"value is a {type(value).__name__}, must be an array"
    if value.dtype != t.dtype:
        return f"value is {value.dtype}, must be {t.dtype} for {t.name}"
    if t == OEM_SCALAR:  # as long as its manufacturer says
        return "" if value.ndim == 1 else f"value has shape {value.shape}, must be bytes [n]"
    return "" if value.shape == operand.dimensions else f"value has shape {value.shape}, must be {operand.dimensions}"


def _check_boundary(model: Model) -> set[int]:
    """Inputs and outputs are distinct variables; returns the inputs: what is written before any operation."""
    for what, indexes in (("input", model.inputs), ("output", model.outputs)):
        for i in indexes:
            if not 0 <= i < len(model.operands):
                raise ModelError(f"{what} operand {i} does not exist, the model has {len(model.operands)}")
            if model.operands[i].value is not None:
                raise ModelError(f"{what} operand {i} {model.operands[i].name!r} is a constant")
        if len(set(indexes)) < len(indexes):
            raise ModelError(f"{what}s {indexes} name an operand twice")
    both = set(model.inputs) & set(model.outputs)
    if both:
        raise ModelError(f"operand {min(both)} is both input and output of the model")
    return set(model.inputs)


def _check_edges(model: Model, operation: Operation, written: set[int]) -> None:
    for i in (*operation.inputs, *operation.outputs):
        if not 0 <= i < len(model.operands):
            raise ModelError(f"operand {i} does not exist", operation=operation.label)
    for i in operation.inputs:
        if model.operands[i].value is None and i not in written:
            raise ModelError(
                f"operand {i} {model.operands[i].name!r} is read before anything writes it", operation=operation.label
            )
    for i in operation.outputs:
        if i in written:
            raise ModelError(f"operand {i} {model.operands[i].name!r} is written twice", operation=operation.label)
        if model.operands[i].value is not None:
            raise ModelError(f"operand {i} {model.operands[i].name!r} is a constant", operation=operation.label)
        written.add(i)


def _check_extension(model: Model, operation: Operation) -> None:
    vendor, _, name = operation.type.partition("/")
    if not vendor or not name:
        raise ModelError("an extension is written vendor/name", operation=operation.label)
    body = model.body(operation)
    if body is None:
        return
    for what, outer, inner in (
        ("input", model.operands_of(operation.inputs[:-1]), body.input_operands),
        ("output", model.operands_of(operation.outputs), body.output_operands),
    ):
        if len(outer) != len(inner):
            raise ModelError(f"{len(outer)} {what}s, its body has {len(inner)}", operation=operation.label)
        for n, (o, i) in enumerate(zip(outer, inner)):
            if o.type != i.type or not compatible(o.dimensions, i.shape):
                raise ModelError(
                    f"{what} {n} is {o.type.name} {o.dimensions}, its body has {i.type.name} {i.dimensions}",
                    operation=operation.label,
                )


def check_call(call: Call) -> Sequence[Shape]:
    """Infer one call's output shapes and hold the declared outputs against them and their quantization rules."""
    try:
        shapes = call.op.infer(call)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"its operands make no sense: {error}", operation=call.label) from error
    if len(shapes) != len(call.outputs):
        call.fail(f"{len(call.outputs)} outputs, gives {len(shapes)}")
    for n, (operand, shape) in enumerate(zip(call.outputs, shapes)):
        result = call.op.outputs[min(n, len(call.op.outputs) - 1)]
        if not compatible(operand.dimensions, shape):
            call.fail(f"output {result.name} has dimensions {operand.dimensions}, gives {shape}")
        _check_quant(call, result, operand)
    return shapes


def compatible(dimensions: Dimensions, shape: Shape) -> bool:
    """Whether declared dimensions (0 unknown, () unknown rank) and an inferred shape may be the same.

    >>> compatible((1, 0, 3), (1, 7, None)), compatible((), (2, 2)), compatible((2,), (3,))
    (True, True, False)
    """
    if not dimensions or shape is None:
        return True
    return len(dimensions) == len(shape) and all(d == 0 or s is None or d == s for d, s in zip(dimensions, shape))


def _check_quant(call: Call, result: Result, operand: Operand) -> None:
    if result.quant is None or not operand.type.is_quantized:
        return
    if isinstance(result.quant, str):
        sources = call.many(result.quant)
        wanted = (sources[0].scale, sources[0].zero_point) if sources else (operand.scale, operand.zero_point)
    elif operand.type in result.quant:
        wanted = result.quant[operand.type]
    else:
        return
    got = (operand.scale, operand.zero_point)
    if not math.isclose(got[0], wanted[0], rel_tol=1e-6) or got[1] != wanted[1]:
        call.fail(f"output {result.name} has scale and zero point {got}, must have {wanted}")
