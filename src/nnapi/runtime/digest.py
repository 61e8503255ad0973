"""Digests of what a compilation is made of and of what it made: SHA-256, on several processors where there is much."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Final

import numpy as np

from nnapi.ir.model import Model
from nnapi.ops.types import OMITTED, Operand
from nnapi.runtime.view import raw

FORMAT: Final = 1
CHUNK: Final = 1 << 22
"""Bytes that are hashed in one go."""
MUCH: Final = 1 << 22
"""Bytes from which on threads are worth their start."""
THREADS: Final = min(os.cpu_count() or 1, 4)


def digest(*parts: bytes | memoryview) -> str:
    """The SHA-256 of the SHA-256 of every chunk.

    >>> digest(b"a", b"b") == digest(b"a", b"b") != digest(b"ab")
    True
    """
    chunks = [part[at : at + CHUNK] for part in parts for at in range(0, len(part), CHUNK)]
    if sum(map(len, chunks)) < MUCH:
        return sha256(b"".join(_digests(chunks))).hexdigest()
    # Hashing leaves other threads alone; every thread takes each n-th chunk, of which most are of one size.
    found = [b""] * len(chunks)
    with ThreadPoolExecutor(THREADS) as pool:
        for n, digests in enumerate(pool.map(_digests, [chunks[n::THREADS] for n in range(THREADS)])):
            found[n::THREADS] = digests
    return sha256(b"".join(found)).hexdigest()


def _digests(chunks: Sequence[bytes | memoryview]) -> list[bytes]:
    return [sha256(chunk).digest() for chunk in chunks]


def key_of(token: bytes, model: Model, *determinants: object) -> str:
    """The key of a compilation: the client's token, the model, and what else determines the result."""
    return digest(repr((FORMAT, token, determinants)).encode(), *_parts(model))


def _parts(model: Model) -> Iterator[bytes | memoryview]:
    structure = [
        (model.inputs, model.outputs, model.relaxed),
        [_described(operand) for operand in model.operands],
        [(operation.type, operation.inputs, operation.outputs) for operation in model.operations],
    ]
    yield repr(structure).encode()
    for operand in model.operands:
        if isinstance(operand.value, Model):
            yield from _parts(operand.value)
        elif isinstance(operand.value, np.ndarray):
            yield raw(operand.value).data


def _described(operand: Operand) -> tuple[object, ...]:
    value = operand.value
    kind = "omitted" if value is OMITTED else type(value).__name__
    return operand.type.value, operand.dimensions, operand.scale, operand.zero_point, operand.channel_quant, kind
