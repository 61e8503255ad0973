"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VECTORS = Path(__file__).parent.parent.parent / "shared" / "vectors"


@pytest.fixture(autouse=True, scope="session")
def _forgetful(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What devices were found to be is remembered in the user's cache directory: tests have their own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; look at the difference")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of conformance cases; the test is skipped where it is not."""
    if not VECTORS.is_dir():
        pytest.skip("the conformance cases are not beside this checkout")
    return VECTORS
