"""Devices: one small protocol, and one file per engine."""
