"""Imports point one way: cli -> pipeline -> stages -> drivers, exporters -> ir -> ops -> errors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "nnapi"
RANKS = {
    "errors": 0,
    "telemetry": 0,
    "ops": 1,
    "ir": 2,
    "exporters": 3,
    "drivers": 4,
    "zoo": 4,
    "passes": 5,
    "importers": 6,
    "partitioning": 6,
    "conformance": 6,
    "quantization": 7,
    "runtime": 7,
    "bench": 8,
    "report": 8,
    "pipeline": 9,
    "capi": 10,
    "cli": 11,
    "__main__": 12,
}
"""Who may import whom: only what has a lower rank, or is in the same folder."""
LAZY = {"importers/load.py": {"zoo"}, "exporters/save.py": {"passes"}, "__init__.py": set(RANKS)}
"""Imports that break the order on purpose: names that are resolved when first used."""
FILES = sorted(SOURCE.rglob("*.py"))


def area_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


def imported_areas(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "nnapi" else [node.module]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("nnapi.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    area = area_of(path)
    allowed = LAZY.get(str(path.relative_to(SOURCE)), set())
    for other in imported_areas(path) - {area} - allowed:
        assert RANKS[other] < RANKS[area], f"{area} imports {other}"


def test_no_file_is_named_for_nothing() -> None:
    names = {path.stem for path in FILES}
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_pytorch_reads_no_file_by_itself(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "torch.load",
            "torch.export.load",
            "torch.jit.load",
        ):
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
