"""NNAPI's enumerations, and which result code an error becomes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NoReturn

from nnapi import errors
from nnapi.drivers.driver import DeviceType
from nnapi.errors import NnapiError
from nnapi.runtime import log

DeviceTypeCode = DeviceType

TOKEN_BYTES: Final = 32
"""The length of a compilation's cache token."""
COPIED_BYTES: Final = 128
"""Operand values up to this length are copied when they are set, longer ones are referenced."""
NO_DURATION: Final = 2**64 - 1
"""What a duration is where none was measured."""
DEFAULT_LOOP_TIMEOUT: Final = 2_000_000_000
"""Nanoseconds that a WHILE may run unless told otherwise."""
MAXIMUM_LOOP_TIMEOUT: Final = 15_000_000_000
"""Nanoseconds that a WHILE may run at most."""


class ResultCode(enum.IntEnum):
    """What every call answers."""

    NO_ERROR = 0
    OUT_OF_MEMORY = 1
    INCOMPLETE = 2
    UNEXPECTED_NULL = 3
    BAD_DATA = 4
    OP_FAILED = 5
    BAD_STATE = 6
    UNMAPPABLE = 7
    OUTPUT_INSUFFICIENT_SIZE = 8
    UNAVAILABLE_DEVICE = 9
    MISSED_DEADLINE_TRANSIENT = 10
    MISSED_DEADLINE_PERSISTENT = 11
    RESOURCE_EXHAUSTED_TRANSIENT = 12
    RESOURCE_EXHAUSTED_PERSISTENT = 13
    DEAD_OBJECT = 14


class PreferenceCode(enum.IntEnum):
    """What a compilation is to be good at."""

    LOW_POWER = 0
    FAST_SINGLE_ANSWER = 1
    SUSTAINED_SPEED = 2


class PriorityCode(enum.IntEnum):
    """Whose executions go first; DEFAULT is another name of MEDIUM."""

    LOW = 90
    MEDIUM = 100
    HIGH = 110
    DEFAULT = 100


class DurationCode(enum.IntEnum):
    """What of an execution was measured; FENCED durations begin when the dependencies are done."""

    ON_HARDWARE = 0
    IN_DRIVER = 1
    FENCED_ON_HARDWARE = 2
    FENCED_IN_DRIVER = 3


class FeatureLevelCode(enum.IntEnum):
    """Feature levels as NNAPI numbers them: Android's API level, from level 6 on a number of their own."""

    LEVEL_1 = 27
    LEVEL_2 = 28
    LEVEL_3 = 29
    LEVEL_4 = 30
    LEVEL_5 = 31
    LEVEL_6 = 1000006
    LEVEL_7 = 1000007
    LEVEL_8 = 1000008

    @classmethod
    def of(cls, level: int) -> FeatureLevelCode:
        """The code of feature level 1 to 8.

        >>> FeatureLevelCode.of(6).value
        1000006
        """
        return tuple(cls)[level - 1]


class ResultError(NnapiError):
    """A call that NNAPI answers with `code`.

    >>> str(ResultError(ResultCode.BAD_STATE, "the model is not finished"))
    'BAD_STATE: the model is not finished'
    """

    stage = "runtime"

    def __init__(self, code: ResultCode, message: str, *, operation: str = "", hint: str = "") -> None:
        super().__init__(message, operation=operation, hint=hint)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code.name}: {super().__str__()}"


class OutputInsufficientSize(ResultError):
    """OUTPUT_INSUFFICIENT_SIZE; `dimensions` are those that the output has."""

    def __init__(self, message: str, dimensions: tuple[int, ...]) -> None:
        super().__init__(ResultCode.OUTPUT_INSUFFICIENT_SIZE, message)
        self.dimensions = dimensions


CODES: Final[Mapping[type[BaseException], ResultCode]] = {
    errors.ModelError: ResultCode.BAD_DATA,
    errors.UsageError: ResultCode.BAD_DATA,
    errors.UnsupportedOperation: ResultCode.BAD_DATA,
    errors.MissedDeadline: ResultCode.MISSED_DEADLINE_TRANSIENT,
    errors.DeadObject: ResultCode.DEAD_OBJECT,
    errors.DeviceUnavailable: ResultCode.UNAVAILABLE_DEVICE,
    errors.MissingExtra: ResultCode.UNAVAILABLE_DEVICE,
    MemoryError: ResultCode.OUT_OF_MEMORY,
}
"""Kind of error -> result code; whatever is not here is OP_FAILED."""


def code_of(error: BaseException) -> ResultCode:
    """The result code that says `error` to a client.

    >>> code_of(errors.DeadObject("gone")).name, code_of(ZeroDivisionError()).name
    ('DEAD_OBJECT', 'OP_FAILED')
    """
    if isinstance(error, ResultError):
        return error.code
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), ResultCode.OP_FAILED)


def result_of(error: Exception) -> ResultError:
    """Whatever went wrong, as what NNAPI answers; what is no error of ours or an engine's is logged as a mistake.

    >>> str(result_of(errors.ExecutionError("no such row", operation="GATHER")))
    'OP_FAILED: GATHER: no such row'
    """
    if isinstance(error, ResultError):
        return error
    if isinstance(error, NnapiError):
        return ResultError(code_of(error), error.message, operation=error.operation, hint=error.hint)
    message = f"{type(error).__name__}: {error}"
    if not isinstance(error, MemoryError):
        log.failure(f"OP_FAILED: internal error: {message}")
    return ResultError(code_of(error), message)


def bad_data(message: str, *, hint: str = "") -> NoReturn:
    """Refuse an argument."""
    raise ResultError(ResultCode.BAD_DATA, message, hint=hint)


def bad_state(message: str, *, hint: str = "") -> NoReturn:
    """Refuse a call that comes too early or too late."""
    raise ResultError(ResultCode.BAD_STATE, message, hint=hint)
