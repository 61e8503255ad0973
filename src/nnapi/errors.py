"""The exception tree.

NnapiError
├── ModelError              the model, or the file it came from, is not valid
├── UnsupportedOperation    no device, importer or exporter takes the operation
├── PassError               a pass broke a model
├── QuantizeError
├── PartitionError
├── UsageError              an argument is wrong
├── MissingExtra            a package of an optional extra is not installed
└── DriverError
    ├── CompileError
    ├── ExecutionError
    ├── DeviceUnavailable
    ├── DeadObject
    └── MissedDeadline
"""

from __future__ import annotations

from functools import partial
from typing import Any


def printable(text: str) -> str:
    """Text in one line that no terminal obeys: escapes, line ends, marks of direction and the like as `\\x1b`, `\\n`.

    >>> printable("a\\x1b[31mb\\n\\u202e")
    'a\\\\x1b[31mb\\\\n\\\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class NnapiError(Exception):
    """Something the caller can act on; `stage`, `operation`, `location` and `hint` say where and how.

    >>> str(NnapiError("kernel 65 > 64", operation="CONV_2D 'stem'", hint="use a smaller kernel"))
    "CONV_2D 'stem': kernel 65 > 64; use a smaller kernel"
    """

    stage: str = ""

    def __init__(
        self, message: str, *, stage: str = "", operation: str = "", location: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage or type(self).stage
        self.operation = operation
        self.location = location
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.operation}: " if self.operation else ""
        source = f" (from {self.location})" if self.location else ""
        hint = f"; {self.hint}" if self.hint else ""
        return printable(f"{where}{self.message}{source}{hint}")


class ReferenceWarning(UserWarning):
    """A session runs mostly on the reference, which nobody asked for and which is slow."""


class ModelError(NnapiError):
    """The model, or the file it came from, is not valid."""

    stage = "load"


class UnsupportedOperation(NnapiError):
    """No device, importer or exporter takes the operation."""

    stage = "partition"


class PassError(NnapiError):
    """A pass failed or produced a model that does not verify; `model` is the one before it."""

    stage = "optimize"
    model: object = None


class QuantizeError(NnapiError):
    """A model cannot be quantized as asked."""

    stage = "quantize"


class PartitionError(NnapiError):
    """No plan satisfies what was asked."""

    stage = "partition"


class UsageError(NnapiError):
    """An argument is wrong."""

    stage = "usage"


class MissingExtra(NnapiError, ImportError):
    """A package of an optional extra is not installed.

    >>> str(MissingExtra("loading a PyTorch model", extra="torch"))
    "loading a PyTorch model needs an extra; pip install 'nnapi[torch]'"
    """

    def __init__(self, needed_by: str, *, extra: str) -> None:
        super().__init__(f"{needed_by} needs an extra", hint=f"pip install 'nnapi[{extra}]'")
        self.needed_by = needed_by
        self.extra = extra

    def __reduce__(self) -> Any:
        return partial(type(self), extra=self.extra), (self.needed_by,)


class DriverError(NnapiError):
    """A device failed."""

    stage = "run"


class CompileError(DriverError):
    """A device could not prepare a model that it had accepted."""

    stage = "build"


class ExecutionError(DriverError):
    """A prepared model failed on these inputs."""


class DeviceUnavailable(DriverError):
    """The device does not exist here, or its engine is not installed."""

    stage = "partition"


class DeadObject(DriverError):
    """The engine behind a device is gone."""


class MissedDeadline(DriverError):
    """The work did not finish within its deadline."""
