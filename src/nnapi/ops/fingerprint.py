"""FarmHash's 64-bit fingerprint, of many keys of one length at a time; LSH_PROJECTION is defined by it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnapi.ops.types import Array

Words = npt.NDArray[np.uint64]

_K0, _K1, _K2 = np.uint64(0xC3A5C85C97CB3127), np.uint64(0xB492B66FBE98F273), np.uint64(0x9AE16A3B2F90404F)


def fingerprint64(keys: Array) -> Words:
    """keys [N, length] uint8 -> [N] uint64, one fingerprint per row.

    Source: FarmHash, Fingerprint64, which is frozen.

    >>> [hex(h) for h in fingerprint64(np.frombuffer(b"1footrue", np.uint8).reshape(1, 8))]
    ['0xea9af1c357a4ccc9']
    """
    keys = np.ascontiguousarray(keys, np.uint8)
    length = keys.shape[1]
    for longest, mix in ((3, _to_3), (7, _to_7), (16, _to_16), (32, _to_32), (64, _to_64)):
        if length <= longest:
            return mix(keys, np.uint64(length))
    return _longer(keys, length)


def _word(keys: Array, at: int, size: int = 8) -> Words:
    """The little-endian integer of `size` bytes at offset `at`, from the end where negative, of every key."""
    at %= keys.shape[1]
    return np.ascontiguousarray(keys[:, at : at + size]).view(f"<u{size}")[:, 0].astype(np.uint64)


def _rotate(x: Words, bits: int) -> Words:
    return (x >> np.uint64(bits)) | (x << np.uint64(64 - bits))


def _fold(x: Words) -> Words:
    return x ^ (x >> np.uint64(47))


def _join(u: Words, v: Words, by: np.uint64 | Words) -> Words:
    return _fold((v ^ _fold((u ^ v) * by)) * by) * by


def _times_two(k: np.uint64, length: np.uint64) -> np.uint64:
    with np.errstate(over="ignore"):
        return k + length * np.uint64(2)


def _to_3(keys: Array, length: np.uint64) -> Words:
    if not length:
        return np.full(len(keys), _K2)
    first, middle, last = (keys[:, i].astype(np.uint64) for i in (0, int(length) >> 1, int(length) - 1))
    return _fold((first + (middle << np.uint64(8))) * _K2 ^ (length + (last << np.uint64(2))) * _K0) * _K2


def _to_7(keys: Array, length: np.uint64) -> Words:
    return _join(length + (_word(keys, 0, 4) << np.uint64(3)), _word(keys, -4, 4), _times_two(_K2, length))


def _to_16(keys: Array, length: np.uint64) -> Words:
    by = _times_two(_K2, length)
    a, b = _word(keys, 0) + _K2, _word(keys, -8)
    return _join(_rotate(b, 37) * by + a, (_rotate(a, 25) + b) * by, by)


def _to_32(keys: Array, length: np.uint64) -> Words:
    return _join(*_ends(keys, _K1, length), _times_two(_K2, length))


def _ends(keys: Array, first: np.uint64, length: np.uint64) -> tuple[Words, Words]:
    """The first and the last 16 bytes mixed into two words."""
    a, b = _word(keys, 0) * first, _word(keys, 8)
    c, d = _word(keys, -8) * _times_two(_K2, length), _word(keys, -16) * _K2
    return _rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c


def _to_64(keys: Array, length: np.uint64) -> Words:
    by = _times_two(_K2, length)
    y, z = _ends(keys, _K2, length)
    z = _join(y, z, by)
    e, f = _word(keys, 16) * by, _word(keys, 24)
    g, h = (y + _word(keys, -32)) * by, (z + _word(keys, -24)) * by
    return _join(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + _word(keys, 0) * _K2, 18) + g, by)


def _block(keys: Array, at: int, a: Words, b: Words) -> tuple[Words, Words]:
    """32 bytes at `at` mixed into two words, seeded with a and b."""
    first, second, third, fourth = (_word(keys, at + 8 * i) for i in range(4))
    a = a + first
    b = _rotate(b + a + fourth, 21)
    rest = a + second + third
    return rest + fourth, b + _rotate(rest, 44) + a


def _longer(keys: Array, length: int) -> Words:
    ones = np.ones(len(keys), np.uint64)
    x, y = ones * np.uint64(81) * _K2 + _word(keys, 0), ones * np.uint64(81) * _K1 + np.uint64(113)
    z = _fold(y * _K2 + np.uint64(113)) * _K2
    v = w = (ones * np.uint64(0), ones * np.uint64(0))
    by: np.uint64 | Words = _K1
    once, last = np.uint64(1), length - 64
    for at in (*range(0, (length - 1) // 64 * 64, 64), last):
        if at == last:
            # The last 64 bytes, which may overlap the block before, with a multiplier of their own.
            by, once = _K1 + ((z & np.uint64(0xFF)) << np.uint64(1)), np.uint64(9)
            w = (w[0] + np.uint64((length - 1) & 63), w[1])
            v = (v[0] + w[0], v[1])
            w = (w[0] + v[0], w[1])
        x = _rotate(x + y + v[0] + _word(keys, at + 8), 37) * by ^ w[1] * once
        y = _rotate(y + v[1] + _word(keys, at + 48), 42) * by + v[0] * once + _word(keys, at + 40)
        z = _rotate(z + w[0], 33) * by
        v = _block(keys, at, v[1] * by, x + w[0])
        w = _block(keys, at + 32, z + w[1], y + _word(keys, at + 16))
        x, z = z, x
    return _join(_join(v[0], w[0], by) + _fold(y) * _K0 + z, _join(v[1], w[1], by) + x, by)
