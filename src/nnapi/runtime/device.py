"""Devices as NNAPI shows them."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Final

from nnapi.drivers import registry
from nnapi.drivers.driver import DeviceType, Driver
from nnapi.errors import DeviceUnavailable
from nnapi.ir.model import COMPOSITE
from nnapi.ir.model import Model as IrModel
from nnapi.ir.subgraph import extract
from nnapi.ops.types import MAX_FEATURE_LEVEL
from nnapi.partitioning.database import database
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.verdict import Verdicts, judge
from nnapi.runtime import log
from nnapi.runtime.build import legalize
from nnapi.runtime.codes import FeatureLevelCode, bad_state
from nnapi.runtime.compile import Target, optimized
from nnapi.runtime.extensions import extensions_of

if TYPE_CHECKING:
    from nnapi.runtime.model import Model

VARIABLE: Final = "NNAPI_DEVICES"
"""Names of devices, separated by commas: the only ones there are, in this order."""

_devices: dict[str, Device] = {}
_lock = threading.Lock()


class Device:
    """One device: what it is, and what of a model it takes."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.name: str = driver.name
        self.version: str = driver.version
        self.type: DeviceType = driver.device_type
        self.feature_level: int = FeatureLevelCode.of(driver.feature_level)

    def __repr__(self) -> str:
        return f"Device({self.name!r})"

    def wait(self) -> None:
        """Wait until the device is alive; devices of this process always are."""

    def supported(self, model: Model) -> list[bool]:
        """Whether the device takes each operation of a finished model, in the order they were added.

        BAD_STATE where the model is not finished.
        """
        if not model.is_finished:
            bad_state("the model is not finished")
        taken = [False] * len(model.order)
        for place, accepts in zip(model.order, _supported(self.driver, model)):
            taken[place] = accepts
        return taken

    def get_extension_support(self, name: str) -> bool:
        """Whether the device takes operations of the extension."""
        if name == COMPOSITE.rstrip("/"):  # every device takes their decompositions
            return True
        return name in extensions_of(self.driver)


def _supported(driver: Driver, model: Model) -> list[bool]:
    if not model.refused:
        return supported_operations(driver, model.ir)
    alone = (extract(model.ir, (n,)).model for n in range(len(model.order)) if n not in model.refused)
    taken = iter([_takes_all(driver, legalize(part, driver)) for part in alone])
    return [n not in model.refused and next(taken) for n in range(len(model.order))]


def supported_operations(driver: Driver, model: IrModel) -> list[bool]:
    """What `driver` takes of `model`: as it is, in the layout that it prefers, or all of it once it is optimized."""
    verdicts = _judged(driver, model)
    taken = [verdicts.accepts(n) or _takes_legalized(driver, model, n) for n in range(len(model.operations))]
    if not all(taken) and _takes_all(driver, optimized(model)):
        return [True] * len(taken)
    return taken


def _takes_legalized(driver: Driver, model: IrModel, operation: int) -> bool:
    return driver.layout is not None and _takes_all(driver, legalize(extract(model, (operation,)).model, driver))


def _takes_all(driver: Driver, model: IrModel) -> bool:
    return _judged(driver, model).accepted == len(model.operations)


def _judged(driver: Driver, model: IrModel) -> Verdicts:
    """What the driver says, without what is denied."""
    return DenyList(database(), Target((driver,)).options(model)).applied(driver, model, judge(driver, model))


def devices() -> list[Device]:
    """Every device, or those that NNAPI_DEVICES names, in its order; the same objects each time."""
    return list(_found(os.environ.get(VARIABLE, "")))


@cache
def _found(variable: str) -> tuple[Device, ...]:
    names = [name.strip() for name in variable.split(",") if name.strip()]
    drivers = _named(names) if names else registry.available()
    with _lock:
        return tuple(_devices.setdefault(d.name, Device(d)) for d in drivers)


def _named(names: list[str]) -> list[Driver]:
    found: dict[str, Driver] = {}
    for name in names:
        try:
            found.setdefault(name, registry.get(name))
        except DeviceUnavailable as error:
            log.info(f"{VARIABLE}: {error}")
    return list(found.values())


def get_runtime_feature_level() -> int:
    """The feature level of this runtime."""
    return FeatureLevelCode.of(MAX_FEATURE_LEVEL)
