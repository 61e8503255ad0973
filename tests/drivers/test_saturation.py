"""Which processors saturate."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnapi.drivers.saturation import saturates

FLAGS = [("avx2 avx512_vnni", False), ("avx2 avx_vnni", False), ("avx2", True), ("neon", False)]


@pytest.mark.parametrize("flags, expected", FLAGS)
def test_products_of_bytes_saturate_only_without_vnni(
    flags: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: f"flags : {flags}")
    saturates.cache_clear()
    assert saturates() is expected
    saturates.cache_clear()
