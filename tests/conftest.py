"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

VECTORS = Path(__file__).parent.parent.parent / "shared" / "vectors"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; look at the difference")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of conformance cases; the test is skipped where it is not."""
    if not VECTORS.is_dir():
        pytest.skip("the conformance cases are not beside this checkout")
    return VECTORS
