"""Devices as NNAPI shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnapi.drivers.driver import DeviceType, Driver
from nnapi.runtime.codes import FeatureLevelCode

if TYPE_CHECKING:
    from nnapi.runtime.model import Model


class Device:
    """One device: what it is, and what of a model it takes."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.name: str = driver.name
        self.version: str = driver.version
        self.type: DeviceType = driver.device_type
        self.feature_level: int = FeatureLevelCode.of(driver.feature_level)

    def wait(self) -> None:
        """Wait until the device is alive."""

    def supported(self, model: Model) -> list[bool]:
        """Whether the device takes each operation of a finished model, in the order they were added."""
        raise NotImplementedError

    def get_extension_support(self, name: str) -> bool:
        """Whether the device takes operations of the extension."""
        raise NotImplementedError


def devices() -> list[Device]:
    """Every device, or those that NNAPI_DEVICES names, in its order; the same objects each time."""
    raise NotImplementedError


def get_runtime_feature_level() -> int:
    """The feature level of this runtime."""
    return FeatureLevelCode.LEVEL_8
