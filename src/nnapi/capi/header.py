"""NNAPI's C API as data (api.json), and the C declarations made of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

PREFIX: Final = "ANEURALNETWORKS_"
OPERATION_TYPE: Final = "ANeuralNetworksOperationType"
"""The one type that is neither a handle nor a structure: a number."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a C function."""

    type: str
    name: str

    @property
    def is_result(self) -> bool:
        """Whether it is where the function puts a handle or a string."""
        return self.type.endswith("**")


@dataclass(frozen=True)
class Function:
    """One C function and the feature level it appeared in."""

    name: str
    returns: str
    parameters: tuple[Parameter, ...]
    since: int

    @property
    def prototype(self) -> str:
        parameters = ", ".join(f"{p.type} {p.name}" for p in self.parameters)
        return f"{self.returns} {self.name}({parameters or 'void'})"


@cache
def _data() -> dict[str, Any]:
    return json.loads(files("nnapi.capi").joinpath("api.json").read_text())


def _parameter(declaration: str) -> Parameter:
    type, name = re.fullmatch(r"(.*[\s*])(\w+)", declaration.strip()).groups()  # type: ignore[union-attr]
    return Parameter(type.strip(), name)


@cache
def functions() -> tuple[Function, ...]:
    """All functions of feature levels 1 to 8.

    >>> len(functions()), functions()[0].prototype
    (75, 'int ANeuralNetworksMemoryDesc_create(ANeuralNetworksMemoryDesc** desc)')
    """
    return tuple(
        Function(
            f["name"], f["returns"], tuple(_parameter(p) for p in f["parameters"].split(",") if p.strip()), f["since"]
        )
        for f in _data()["functions"]
    )


@cache
def structures() -> dict[str, tuple[Parameter, ...]]:
    """The structures that clients fill in: name -> fields."""
    return {name: tuple(map(_parameter, fields)) for name, fields in _data()["structs"].items()}


@cache
def handles() -> tuple[str, ...]:
    """The types that clients only hold pointers to.

    >>> handles()[:3]
    ('AHardwareBuffer', 'ANeuralNetworksBurst', 'ANeuralNetworksCompilation')
    """
    pointed = (re.search(r"(\w+)\s*(const\s*)?\*", p.type) for f in functions() for p in f.parameters)
    found = {match[1] for match in pointed if match and match[1][0] == "A"}
    return tuple(sorted(found - structures().keys() - {OPERATION_TYPE}))


def constants() -> dict[str, int]:
    """Every constant by its C name.

    >>> constants()["ANEURALNETWORKS_TENSOR_QUANT8_ASYMM"]
    5
    """
    return {PREFIX + c["name"]: c["value"] for group in _data()["enums"].values() for c in group}


def structure_text(name: str) -> str:
    """The C definition of a structure."""
    fields = "".join(f"    {f.type} {f.name};\n" for f in structures()[name])
    return f"typedef struct {name} {{\n{fields}}} {name};\n"


def header_text() -> str:
    """NeuralNetworks.h: constants, types and prototypes, for C and C++."""
    enums = "".join(_enum_text(name, entries) for name, entries in _data()["enums"].items())
    opaque = "".join(f"typedef struct {name} {name};\n" for name in handles())
    structs = "\n".join(map(structure_text, structures()))
    prototypes = "".join(f"{f.prototype}; /* since feature level {f.since} */\n" for f in functions())
    return f"""/* The Android Neural Networks API, feature levels 1 to 8. Made by `nnapi capi build`. */
#ifndef NNAPI_NEURALNETWORKS_H
#define NNAPI_NEURALNETWORKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{enums}
{opaque}
typedef int32_t {OPERATION_TYPE};

{structs}
{prototypes}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _enum_text(name: str, entries: list[dict[str, Any]]) -> str:
    """An enumeration of C; one that is named like a constant stays without a name."""
    lines = "".join(f"    {PREFIX}{e['name']} = {e['value']},\n" for e in entries)
    return f"enum {{\n{lines}}};\n" if name.isupper() else f"typedef enum {{\n{lines}}} {name};\n"
