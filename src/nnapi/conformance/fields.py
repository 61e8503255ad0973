"""Checked access to decoded JSON: a value of the wrong type is a ModelError that says where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from nnapi.errors import ModelError


class Fields:
    """One JSON object; `where` names it in messages.

    >>> Fields({"scale": 0.5}, "operand 3").real("scale")
    0.5
    """

    __slots__ = ("value", "where")

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ModelError(f"{where} is {_shown(value)}, must be an object")
        self.value: Mapping[str, Any] = value
        self.where = where

    def fail(self, key: str, problem: str, *, show: bool = True) -> NoReturn:
        """Raise the ModelError that says what is wrong with a field."""
        shown = f" {_shown(self.value.get(key))}" if show else ""
        raise ModelError(f"{self.where}: {key}{shown} {problem}")

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if not isinstance(value, str):
            self.fail(key, "must be a string")
        return value

    def flag(self, key: str) -> bool:
        value = self.value.get(key)
        if not isinstance(value, bool):
            self.fail(key, "must be true or false")
        return value

    def integer(self, key: str) -> int:
        value: Any = self.value.get(key)
        if not _is_integer(value):
            self.fail(key, "must be an integer of 64 bits")
        return int(value)

    def real(self, key: str) -> float:
        value: Any = self.value.get(key)
        if not _is_real(value):
            self.fail(key, "must be a number")
        return float(value)

    def items(self, key: str) -> list[Any]:
        value = self.value.get(key)
        if not isinstance(value, list):
            self.fail(key, "must be a list")
        return value

    def integers(self, key: str) -> list[int]:
        values = self.items(key)
        if not all(map(_is_integer, values)):
            self.fail(key, "must be integers of 64 bits")
        return values

    def reals(self, key: str) -> list[float]:
        values = self.items(key)
        if not all(map(_is_real, values)):
            self.fail(key, "must be numbers")
        return values

    def record(self, key: str) -> Fields:
        return Fields(self.value.get(key), f"{self.where}: {key}")

    def records(self, key: str, *, name: str = "") -> list[Fields]:
        """A list of objects; each is named by its field `name` where it has one."""
        return [Fields(v, self._entry(key, i, v, name)) for i, v in enumerate(self.items(key))]

    def _entry(self, key: str, i: int, value: Any, name: str) -> str:
        own = value.get(name) if isinstance(value, dict) else None
        return own if isinstance(own, str) else f"{self.where}: {key}[{i}]"


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_real(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**1000)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
