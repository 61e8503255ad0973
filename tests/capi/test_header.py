"""The header, the table of functions and the library say the same."""

from __future__ import annotations

import re
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

from nnapi.capi.build import Library
from nnapi.capi.functions import FUNCTIONS, Row
from nnapi.capi.header import PREFIX, constants, functions, header_text
from nnapi.capi.source import sources
from nnapi.ops.table import CODES
from nnapi.ops.types import OperandType
from nnapi.runtime import codes

DECLARED = {f.name: f for f in functions()}


def test_every_function_has_one_row() -> None:
    assert len(FUNCTIONS) == len({row.name for row in FUNCTIONS}) == len(DECLARED) == 75
    assert {row.name for row in FUNCTIONS} == DECLARED.keys()


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_rows_take_what_is_declared(row: Row) -> None:
    taken = [type for argument in row.arguments for type in argument.types]
    if row.result is not None:
        taken.append(row.result.type)
    declared = [p.type for p in DECLARED[row.name].parameters]
    # A handle is as good with const as without.
    plain = [re.sub(r"^const (?=ANeuralNetworks\w+\*$|AHardwareBuffer\*$)", "", t) for t in declared]
    assert [re.sub(r"^const (?=ANeuralNetworks\w+\*$)", "", t) for t in taken] == plain


def test_the_library_exports_the_functions_and_nothing_else(library: Library) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library.path)], capture_output=True, text=True, check=True
    )
    assert {line.split()[-1] for line in listed.stdout.splitlines()} == DECLARED.keys()


def test_the_library_is_named_as_on_android(library: Library) -> None:
    listed = subprocess.run(["readelf", "-d", str(library.path)], capture_output=True, text=True, check=True)
    assert "Library soname: [libneuralnetworks.so]" in listed.stdout


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_compiles_without_a_warning(language: str, tmp_path: Path) -> None:
    header = tmp_path / "NeuralNetworks.h"
    header.write_text(header_text())
    dialect = {"c": "-std=c99", "c++": "-std=c++11"}[language]
    options = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    done = subprocess.run(["cc", "-x", language, dialect, *options, str(header)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ENUMERATIONS: list[tuple[type[IntEnum], str]] = [
    (codes.ResultCode, ""),
    (codes.PreferenceCode, "PREFER_"),
    (codes.PriorityCode, "PRIORITY_"),
    (codes.DeviceTypeCode, "DEVICE_"),
    (codes.FeatureLevelCode, "FEATURE_"),
    (OperandType, ""),
]


@pytest.mark.parametrize(("enumeration", "prefix"), ENUMERATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_constants_agree_with_the_runtime(enumeration: type[IntEnum], prefix: str) -> None:
    declared = constants()
    for member in enumeration:
        assert declared[f"{PREFIX}{prefix}{member.name}"] == member


def test_operation_codes_agree_with_the_operation_table() -> None:
    declared = constants()
    assert {code: declared[PREFIX + op.name] for code, op in CODES.items()} == {code: code for code in CODES}


def test_sources_do_not_change_from_call_to_call() -> None:
    first = dict(sources())
    sources.cache_clear()
    assert sources() == first
