"""docs/operations.md: made from the table, and up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnapi.drivers import registry
from nnapi.ops.table import OPERATIONS
from nnapi.report.operations import operations_page, takers

PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"


def without_drivers(page: str) -> str:
    return re.sub(r"\nTaken, .*\n", "", page)


def test_the_page_is_up_to_date() -> None:
    assert without_drivers(PAGE.read_text()) == operations_page(), "run `make docs`"


def test_the_page_names_the_drivers_that_are_here() -> None:
    """Of those that are not here it may say what it likes."""
    drivers = [d for d in registry.available() if d.name in registry.BUILTIN]  # other tests install one
    page = PAGE.read_text()
    here = {d.name for d in drivers}
    for name, takers_of in takers(drivers).items():
        line = re.search(r"^Taken, .* by (.*)\.$", section(name, page), re.MULTILINE)
        named = line[1].split(", ") if line else []
        assert [d for d in named if d in here] == takers_of, f"{name}: run `make docs`"


def section(name: str, page: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_described_whole(name: str) -> None:
    op, text = OPERATIONS[name], section(name, operations_page())
    assert f"Code {op.code}, since level {op.since} " in text
    assert f"`{op.formula}`" in text
    for entry in (*(p for s in op.signatures for p in s.inputs), *op.outputs):
        assert f"| {entry.name}" in text
    for row in op.types:
        assert all(type.name in text for type in row.bind.values())
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) >= 2
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_every_link_of_the_index_has_its_section() -> None:
    page = operations_page()
    links = re.findall(r"\]\(#([a-z0-9_]+)\)", page)
    headings = [heading.lower() for heading in re.findall(r"^## (\w+)$", page, re.MULTILINE)]
    assert sorted(links) == sorted(headings) == sorted(name.lower() for name in OPERATIONS)


def test_drivers_are_named_where_they_are_told() -> None:
    page = operations_page({"ADD": ["litert", "pytorch"]})
    assert "by litert, pytorch." in section("ADD", page)
    assert "Taken" not in section("MUL", page)
