"""An engine of a third party's, installed for the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import crashing
from nnapi.drivers import registry
from nnapi.drivers.driver import Driver


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
