"""What C programs hold instead of objects: numbers that look like pointers and are never followed."""

from __future__ import annotations

import itertools
from typing import Final, Generic, NoReturn, TypeVar

from nnapi.runtime.codes import ResultCode, ResultError, bad_data

T = TypeVar("T")
FIRST: Final = 1 << 56
"""Beyond every address of a process on a 64-bit machine: a pointer to something else is never taken for a handle."""
STEP: Final = 16

_numbers = itertools.count(FIRST, STEP)


class Handles(Generic[T]):
    """The live objects of one kind. No number is given twice, so that a freed handle is known as one.

    >>> models = Handles("a model")
    >>> number = models.add("anything")
    >>> models[number], models.free(number), models.free(number)
    ('anything', 'anything', None)
    >>> models[0x123]
    Traceback (most recent call last):
    nnapi.runtime.codes.ResultError: BAD_DATA: 0x123 is no handle of a model, or was freed
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._objects: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, handle: int) -> T:
        """The object; UNEXPECTED_NULL for null, BAD_DATA for what is no handle of this kind, or was freed."""
        found = self._objects.get(handle)
        if found is None:
            self._refuse(handle)
        return found

    def _refuse(self, handle: int) -> NoReturn:
        if not handle:
            null(self.kind)
        bad_data(f"{handle:#x} is no handle of {self.kind}, or was freed")

    def get(self, handle: int) -> T | None:
        """The object, or None."""
        return self._objects.get(handle)

    def add(self, value: T) -> int:
        """A handle of `value`."""
        handle = next(_numbers)
        self._objects[handle] = value
        return handle

    def free(self, handle: int) -> T | None:
        """Forget a handle and return its object; nothing for null, and for what is no handle."""
        return self._objects.pop(handle, None)


def null(what: str) -> NoReturn:
    """Refuse a null pointer."""
    raise ResultError(ResultCode.UNEXPECTED_NULL, f"{what} is null")
