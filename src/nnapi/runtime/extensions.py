"""Extensions: which there are, and the codes of their operations and operand types.

An extension's code has the extension in the high 16 bits, numbered as they are asked for in this process, and the
position within the extension in the low ones.

| extension | operations | operands |
|---|---|---|
| org.nnapi.composite | those of ir/composites.py; the last input is their decomposition, a MODEL operand | |
| org.pytorch.aten | 0: call; the first input names the overload, the last holds its arguments | 0: an overload's name, UTF-8, as extension data |
| a driver's own | the names that its `extensions` has for it, in order | |
"""  # noqa: E501

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from nnapi.drivers.driver import Driver
from nnapi.ir.model import ATEN, COMPOSITE
from nnapi.runtime.codes import bad_data

COMPOSITES: Final = (
    "ERF", "GELU", "SILU", "MISH", "SOFTPLUS", "LAYER_NORM", "RMS_NORM", "GROUP_NORM", "SCALED_DOT_PRODUCT_ATTENTION",
    "GRU",
)  # fmt: skip
"""In the order of their codes, which must not change."""
OEM_CODE: Final = 10000
"""NNAPI's code of the one operation that manufacturers had before there were extensions."""
OEM: Final = "android.oem/OEM_OPERATION"
"""Its name here: an extension's that no device has."""
CALL: Final = "call"
"""The one operation of org.pytorch.aten."""
OVERLOAD: Final = 0
"""The one operand type of org.pytorch.aten."""
BUILTIN: Final[Mapping[str, Sequence[str]]] = {
    COMPOSITE.rstrip("/"): COMPOSITES,
    ATEN.rstrip("/"): (CALL,),
}
PREFIX_BITS: Final = 15
CODE_BITS: Final = 16

_prefixes: dict[str, int] = {}
_lock = threading.Lock()


def join_code(name: str, code: int) -> int:
    """The code of `code` within the extension `name`; BAD_DATA beyond 16 bits, or where too many are in use."""
    if not name or "/" in name:
        bad_data(f"{name!r} is no extension's name", hint="they are written org.vendor.name")
    if not 0 <= code < 1 << CODE_BITS:
        bad_data(f"code {code} within extension {name!r}, must be 0 to {(1 << CODE_BITS) - 1}")
    with _lock:
        prefix = _prefixes.setdefault(name, len(_prefixes) + 1)
        if prefix >= 1 << PREFIX_BITS:
            del _prefixes[name]
            bad_data(f"{len(_prefixes)} extensions are in use, no more are possible")
    return prefix << CODE_BITS | code


def split_code(code: int) -> tuple[str, int] | None:
    """The extension and the code within it; None for a code of NNAPI's own, BAD_DATA for one nobody asked for."""
    prefix, within = code >> CODE_BITS, code & (1 << CODE_BITS) - 1
    if not prefix:
        return None
    with _lock:
        names = list(_prefixes)
    if not 0 < prefix <= len(names):
        bad_data(f"code {code} belongs to no extension", hint="ask the model for it by the extension's name")
    return names[prefix - 1], within


def operations_of(name: str, drivers: Sequence[Driver]) -> Sequence[str]:
    """The operations of an extension by code; none where neither NNAPI nor a driver has it."""
    if name in BUILTIN:
        return BUILTIN[name]
    return next((e[name] for e in map(extensions_of, drivers) if name in e), ())


def extensions_of(driver: Driver) -> Mapping[str, Sequence[str]]:
    """The extensions that a driver has of its own: name -> operations in the order of their codes."""
    found: Mapping[str, Sequence[str]] = getattr(driver, "extensions", {})
    return found
