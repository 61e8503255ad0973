"""Calibration data: whatever holds examples, as one tuple of arrays per execution, checked and never kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.arrays import read_npz
from nnapi.ir.verify import compatible
from nnapi.ops.given import stored
from nnapi.ops.types import Array, Operand

Example = tuple[Array, ...]
"""One array per model input, in order."""
CHANNELS: Final = (1, 3, 4)
"""Of images."""
KEPT: Final = 64
"""Examples that are kept for what must see them again: recovery, and reports."""
FITTED: Final = 16
"""Examples of these that recovery looks at."""
BUFFER: Final = 1 << 28
"""Bytes of examples that are read ahead to be taken in random order: those kept are like all."""


@dataclass
class Seen:
    """Examples as they pass by: how many, and each input's lowest and highest value."""

    count: int = 0
    ranges: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            found = [(float(x.min()), float(x.max())) for x in example]
            known = self.ranges or found
            self.ranges = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(known, found)]
            self.count += 1
            yield example


def shuffled(examples: Iterable[Example], labels: Sequence[int] | None = None) -> Iterator[tuple[Example, int | None]]:
    """The examples, with the labels of the first of them, in an order that is random and always the same.

    As many are read ahead as `BUFFER` bytes hold, and all that have labels; what comes behind them stays in order.

    >>> order = [int(x[0][0]) for x, _ in shuffled((np.full(1, k),) for k in range(5))]
    >>> sorted(order), order == sorted(order)
    ([0, 1, 2, 3, 4], False)
    """
    stream = iter(examples)
    labelled = list(zip(islice(stream, len(labels)), labels)) if labels is not None else []
    ahead: list[tuple[Example, int | None]] = []
    size = 0
    for example in stream:
        ahead.append((example, None))
        size += sum(x.nbytes for x in example)
        if size > BUFFER:
            break
    rng = np.random.default_rng(0)
    for part in (labelled, ahead):
        yield from (part[k] for k in rng.permutation(len(part)))
    yield from ((example, None) for example in stream)


def read_examples(calibration: Any, operands: Sequence[Operand]) -> Iterator[Example]:
    """Examples for inputs like `operands` from an .npz file, an array of examples, or an iterable of them.

    An example is an array, a sequence of arrays in the order of the inputs, or a mapping by name. Batches larger than
    the model's are split. Raises QuantizeError for what the model does not take, NaN and infinity.
    """
    n = -1
    for n, example in enumerate(_iterate(calibration, operands)):
        yield from _split(_arrays(example, operands, n), operands, n)
    if n < 0:
        raise QuantizeError("no calibration data", hint="give some ten to a hundred typical inputs")


def mirrored(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The examples, and of images their mirror images where the examples are fewer than recovery looks at.

    One input of [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels is an image; nothing else is mirrored.

    >>> len(mirrored([(np.zeros((1, 3, 8, 8), np.float32),)])), len(mirrored([(np.zeros(8, np.float32),)]))
    (4, 1)
    """
    if len(examples) >= FITTED or any(len(e) != 1 or e[0].ndim != 4 or e[0].dtype != np.float32 for e in examples):
        return tuple(examples)
    found = list(examples)
    for (x,) in examples:
        height = 1 if x.shape[3] in CHANNELS else 2
        if height == 2 and x.shape[1] not in CHANNELS:
            continue
        for axes in ((height + 1,), (height,), (height, height + 1)):
            found.append((np.ascontiguousarray(np.flip(x, axes)),))
    return tuple(found)


def _iterate(calibration: Any, operands: Sequence[Operand]) -> Iterable[Any]:
    if calibration is None:
        raise QuantizeError("no calibration data", hint="give some ten to a hundred typical inputs")
    if isinstance(calibration, (str, Path)):
        calibration = _read_npz(Path(calibration))
    if isinstance(calibration, Mapping):
        # One mapping is one batch per input, not one example per key.
        return [calibration]
    if isinstance(calibration, np.ndarray):
        rank = len(operands[0].dimensions)
        return [calibration] if calibration.ndim in (0, rank) else calibration
    if not isinstance(calibration, Iterable):
        raise QuantizeError(f"calibration is a {type(calibration).__name__}, must be an iterable of arrays")
    return calibration


def _read_npz(path: Path) -> dict[str, Array]:
    if path.suffix != ".npz":
        raise QuantizeError(f"{path}: calibration data is a folder of images or an .npz file")
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise QuantizeError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _arrays(example: Any, operands: Sequence[Operand], n: int) -> list[Array]:
    where = f"calibration example {n}"
    if isinstance(example, Mapping):
        names = [o.name for o in operands]
        if len(example) == 1 and len(operands) == 1:
            values = list(example.values())
        elif set(example) == set(names):
            values = [example[name] for name in names]
        else:
            raise QuantizeError(f"{where} has {', '.join(map(repr, example))}, the model takes {', '.join(names)}")
    elif isinstance(example, (tuple, list)) and len(example) == len(operands):
        values = list(example)
    elif len(operands) == 1:
        values = [example]
    else:
        raise QuantizeError(f"{where} is a {type(example).__name__}, must have {len(operands)} arrays")
    try:
        return [np.asarray(v) for v in values]
    except (TypeError, ValueError, RuntimeError) as error:
        raise QuantizeError(f"{where} is no array: {error}") from error


def _split(arrays: Sequence[Array], operands: Sequence[Operand], n: int) -> Iterator[Example]:
    """The example, in as many executions as its batch holds of the model's."""
    parts: list[list[Array]] = []
    for array, operand in zip(arrays, operands):
        where = f"calibration example {n}, input {operand.name!r}"
        if array.dtype.kind not in "fiub":
            raise QuantizeError(f"{where} is {array.dtype}, must be numbers")
        try:
            array = np.ascontiguousarray(stored(array, operand))
        except ValueError as error:
            raise QuantizeError(f"{where} {error}") from error
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise QuantizeError(f"{where} holds NaN or infinity")
        wanted = operand.dimensions
        if array.ndim == len(wanted) - 1:
            array = array[None]
        rows = wanted[0] if wanted else 0
        fits = array.ndim == len(wanted) and compatible((0, *wanted[1:]), array.shape) and array.size > 0
        if wanted and not (fits and array.shape[0] % (rows or 1) == 0):
            raise QuantizeError(f"{where} has shape {array.shape}, must have {wanted}")
        parts.append(np.split(array, array.shape[0] // rows) if rows else [array])
    if len({len(p) for p in parts}) != 1:
        raise QuantizeError(f"calibration example {n}: its inputs hold {[len(p) for p in parts]} batches")
    yield from zip(*parts)
