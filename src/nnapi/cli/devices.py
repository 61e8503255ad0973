"""`nnapi devices`: the devices that are here, and those that are not, with what they miss."""

from __future__ import annotations

import click

from nnapi.cli.output import json_option, print_json, print_table
from nnapi.drivers import registry
from nnapi.errors import DeviceUnavailable


@click.command("devices")
@json_option
def command(as_json: bool) -> None:
    """List the devices that are here."""
    found = []
    for name in registry.names():
        try:
            driver = registry.get(name)
        except DeviceUnavailable as error:
            found.append({"name": name, "available": False, "reason": str(error)})
            continue
        found.append(
            {
                "name": name,
                "available": True,
                "type": driver.device_type.name,
                "feature_level": driver.feature_level,
                "version": driver.version,
                "layout": driver.layout,
                "used_by_default": name not in registry.ONLY_NAMED,
            }
        )
    if as_json:
        return print_json(found)
    rows: list[tuple[object, ...]] = []
    for device in found:
        if device["available"]:
            reason = registry.ONLY_NAMED.get(str(device["name"]))
            note = "" if reason is None else f"only when named: {reason}"
            rows.append((device["name"], device["type"], device["feature_level"], device["version"], note))
        else:
            rows.append((device["name"], "-", "-", "-", device["reason"]))
    print_table(("device", "type", "level", "version", "note"), rows, right="level")
    return None
