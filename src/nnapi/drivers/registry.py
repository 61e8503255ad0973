"""Which devices exist: one visible table, and third parties' entry points of the group `nnapi.drivers`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from reprlib import repr
from typing import Final

from nnapi.drivers.driver import Driver
from nnapi.errors import DeviceUnavailable, MissingExtra, NnapiError, UsageError

GROUP: Final = "nnapi.drivers"
BUILTIN: Final[Mapping[str, str]] = {
    "litert": "nnapi.drivers.litert:LiteRTDriver",
    "ncnn": "nnapi.drivers.ncnn:NCNNDriver",
    "openvino": "nnapi.drivers.openvino:OpenVINODriver",
    "onnxruntime": "nnapi.drivers.onnxruntime:ONNXRuntimeDriver",
    "pytorch": "nnapi.drivers.pytorch:PyTorchDriver",
    "pytorch_cuda": "nnapi.drivers.pytorch:CUDAPyTorchDriver",
    "pytorch_compiled": "nnapi.drivers.pytorch:CompiledPyTorchDriver",
    "reference": "nnapi.drivers.reference:ReferenceDriver",
    "null": "nnapi.drivers.null:NullDriver",
    "fake": "nnapi.drivers.fake:FakeDriver",
}
"""name -> module:class, loaded when first asked for."""
PRETEND: Final = frozenset({"null", "fake"})
"""Devices that answer without computing, or at invented costs."""
ONLY_NAMED: Final[Mapping[str, str]] = {
    **dict.fromkeys(PRETEND, "computes nothing real"),
    "pytorch_compiled": "takes a minute to compile a model",
}
"""Devices that are used only when named, and why."""


@cache
def _third_parties() -> Mapping[str, str]:
    """name -> module:class of the entry points."""
    return {point.name: point.value for point in entry_points(group=GROUP) if point.name not in BUILTIN}


def names() -> tuple[str, ...]:
    """The names of all devices, built in ones first; whether their engines are installed is another matter."""
    return (*BUILTIN, *sorted(_third_parties()))


@cache
def get(name: str) -> Driver:
    """The device of that name.

    Raises DeviceUnavailable where there is none, or where its engine is missing.

    >>> get("reference").name
    'reference'
    """
    target = BUILTIN.get(name) or _third_parties().get(name)
    if target is None:
        raise DeviceUnavailable(f"no device {name!r}", hint=f"there are {', '.join(names())}")
    module, _, attribute = target.partition(":")
    try:
        driver = getattr(import_module(module), attribute)()
    except MissingExtra as error:
        raise DeviceUnavailable(f"device {name!r} needs an extra", hint=error.hint) from error
    except NnapiError as error:
        raise DeviceUnavailable(f"device {name!r}: {error.message}", hint=error.hint) from error
    except Exception as error:  # a third party's, or its engine's: whatever it is, the device is not there
        raise DeviceUnavailable(f"device {name!r} does not load: {type(error).__name__}: {error}") from error
    if not isinstance(driver, Driver):
        raise DeviceUnavailable(f"device {name!r}: {target} does not have the members of nnapi.drivers.driver.Driver")
    return driver


def available() -> list[Driver]:
    """Every device whose engine is installed, in order of preference; those that must be named left out."""
    found = []
    for name in names():
        if name in ONLY_NAMED:
            continue
        try:
            found.append(get(name))
        except DeviceUnavailable:
            continue
    return found


def choose(devices: str | Driver | Iterable[str | Driver] | None) -> list[Driver]:
    """The devices named (or given as drivers), each once; all available ones for None.

    Raises UsageError for what is neither a name nor a driver, DeviceUnavailable for what is not here.
    """
    if devices is None:
        return available()
    if isinstance(devices, str):
        devices = [name.strip() for name in devices.split(",")]
    try:
        given = list(devices)  # type: ignore[arg-type]
    except TypeError:
        given = [devices]  # type: ignore[list-item]
    chosen = {d.name: d for d in map(_device, given)}
    if not chosen:
        raise DeviceUnavailable("no device is named", hint=f"there are {', '.join(names())}")
    return list(chosen.values())


def _device(given: str | Driver) -> Driver:
    if isinstance(given, str):
        return get(given)
    if isinstance(given, Driver) and not isinstance(given, type):
        return given
    raise UsageError(f"{repr(given)} is no device", hint="devices are names, drivers, or lists of both; None is all")
