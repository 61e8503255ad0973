"""FarmHash's fingerprint: one length of each way it mixes, checked against other implementations."""

import numpy as np
import pytest

from nnapi.ops.fingerprint import fingerprint64

# BigQuery documents FARM_FINGERPRINT of these.
DOCUMENTED = [
    (b"1footrue", -1541654101129638711), (b"2applefalse", 2794438866806483259), (b"3true", -4880158226897771312),
]  # fmt: skip
# Bytes 0, 1, 2, ... of each length; LiteRT's LSH_PROJECTION gives the same bits for keys of these lengths.
BY_LENGTH = {
    0: 0x9AE16A3B2F90404F, 1: 0xBE6056EDF5E94B54, 3: 0x94A13D22E9EBA49A, 4: 0x82BFFD898958E540,
    7: 0xA2E0BFF20DB0A6A1, 8: 0xAD5A13E1E8E93B98, 16: 0x0EFD25A0A34156D4, 17: 0xBBB6A6F8F20D1F1C,
    32: 0x1A9D8199972CDF49, 33: 0xE8756EC1CB75524E, 64: 0xF58504BB53DECC4B, 65: 0xC6A3282C3E793DBE,
    128: 0x1C484C95F0EA5DD3, 129: 0xCE8BA3741121083E, 200: 0x074C7FCC26D66FB3,
}  # fmt: skip


@pytest.mark.parametrize("key, fingerprint", DOCUMENTED, ids=lambda v: v.decode() if isinstance(v, bytes) else "")
def test_documented(key, fingerprint):
    assert fingerprint64(np.frombuffer(key, np.uint8)[None]).view(np.int64).tolist() == [fingerprint]


@pytest.mark.parametrize("length, fingerprint", BY_LENGTH.items(), ids=BY_LENGTH)
def test_length(length, fingerprint):
    assert fingerprint64(np.arange(length, dtype=np.uint8)[None]).tolist() == [fingerprint]


@pytest.mark.parametrize("length", BY_LENGTH)
def test_keys_do_not_mix(length):
    keys = np.random.default_rng(0).integers(0, 256, (7, length), np.uint8)
    together = fingerprint64(keys)
    np.testing.assert_array_equal(together, np.concatenate([fingerprint64(key[None]) for key in keys]))
    assert len(set(together.tolist())) == (7 if length > 2 else len({key.tobytes() for key in keys}))


def test_no_keys():
    assert fingerprint64(np.zeros((0, 12), np.uint8)).shape == (0,)
