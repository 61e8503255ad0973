"""What every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import crashing
from nnapi.drivers import registry
from nnapi.drivers.driver import Driver

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


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the entry point of `crashing`, which Python finds."""
    folder = tmp_path_factory.mktemp("site")
    package = folder / "crashing-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{crashing.NAME} = crashing:Crashing\n")
    sys.path.append(str(folder))
    registry._third_parties.cache_clear()
    yield folder
    sys.path.remove(str(folder))
    registry._third_parties.cache_clear()


@pytest.fixture
def third_party(installed: Path) -> Driver:
    """The engine, as the registry has it."""
    return registry.get(crashing.NAME)
