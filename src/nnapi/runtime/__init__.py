"""Running plans: sessions, and NNAPI's own objects.

>>> from nnapi import runtime
>>> model = runtime.Model()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Burst": "burst",
    "Compilation": "compilation",
    "Device": "device",
    "DeviceTypeCode": "codes",
    "DurationCode": "codes",
    "Event": "event",
    "Execution": "execution",
    "FeatureLevelCode": "codes",
    "Memory": "memory",
    "MemoryDesc": "memory",
    "Model": "model",
    "PreferenceCode": "codes",
    "PriorityCode": "codes",
    "ResultCode": "codes",
    "ResultError": "codes",
    "Session": "session",
    "devices": "device",
    "get_runtime_feature_level": "device",
}
"""Public name -> the module here that has it; loaded when first used."""

if TYPE_CHECKING:
    from nnapi.runtime.burst import Burst as Burst
    from nnapi.runtime.codes import DeviceTypeCode as DeviceTypeCode
    from nnapi.runtime.codes import DurationCode as DurationCode
    from nnapi.runtime.codes import FeatureLevelCode as FeatureLevelCode
    from nnapi.runtime.codes import PreferenceCode as PreferenceCode
    from nnapi.runtime.codes import PriorityCode as PriorityCode
    from nnapi.runtime.codes import ResultCode as ResultCode
    from nnapi.runtime.codes import ResultError as ResultError
    from nnapi.runtime.compilation import Compilation as Compilation
    from nnapi.runtime.device import Device as Device
    from nnapi.runtime.device import devices as devices
    from nnapi.runtime.device import get_runtime_feature_level as get_runtime_feature_level
    from nnapi.runtime.event import Event as Event
    from nnapi.runtime.execution import Execution as Execution
    from nnapi.runtime.memory import Memory as Memory
    from nnapi.runtime.memory import MemoryDesc as MemoryDesc
    from nnapi.runtime.model import Model as Model
    from nnapi.runtime.session import Session as Session


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nnapi.runtime' has no attribute {name!r}")
    value = getattr(import_module(f"nnapi.runtime.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
