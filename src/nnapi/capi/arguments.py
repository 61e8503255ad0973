"""How C's arguments become Python values, and how results go back through pointers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from cffi import FFI

from nnapi.capi.handles import Handles, null
from nnapi.runtime.codes import COPIED_BYTES, TOKEN_BYTES, bad_data

T = TypeVar("T")
Pointer = Any
_ffi = FFI()
MAX_RANK: Final = 64
MAX_COUNT: Final = 1 << 20
"""The longest list that is read: a wrong count must not lead out of the client's memory."""
MAX_DISTINCT: Final = 256
MAX_TEXT: Final = 4096
MAX_BYTES: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a Python call: the C types of the parameters that it is made of, and how it is read."""

    types: tuple[str, ...]
    read: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Result:
    """Where a result goes: through a pointer of that C type; `unset` is put there first.

    `of_short` is the result of an execution whose output was too small for its dimensions, which it gets.
    """

    type: str
    write: Callable[[Pointer, Any], None]
    unset: int | None = None
    of_short: Callable[[Sequence[int]], Any] | None = None


def _same(value: Any) -> Any:
    return value


def value(type: str) -> Argument:
    """A number or bool as it is."""
    return Argument((type,), _same)


def handle(type: str, handles: Handles[T]) -> Argument:
    """The object behind a handle."""
    return Argument((f"{type}*",), handles.__getitem__)


def freed(type: str) -> Argument:
    """A handle as it is, to be freed; it may be null."""
    return Argument((f"{type}*",), _same)


def handle_list(type: str, handles: Handles[T]) -> Argument:
    """The objects behind an array of handles and its length; null is allowed for none."""

    def read(pointer: Pointer, count: int) -> list[T]:
        return [handles[h] for h in _values(pointer, count, MAX_COUNT)] if count else []

    return Argument((f"const {type}* const*", "uint32_t"), read)


def distinct_list(type: str, handles: Handles[T]) -> Argument:
    """The objects behind an array of handles and its length; at least one, each once."""

    def read(pointer: Pointer, count: int) -> list[T]:
        found = [handles[h] for h in _values(pointer, count, MAX_DISTINCT)]
        if not found:
            bad_data("the list is empty")
        if len(set(map(id, found))) < len(found):
            bad_data(f"{handles.kind} is in the list twice")
        return found

    return Argument((f"const {type}* const*", "uint32_t"), read)


def new(type: str, handles: Handles[T]) -> Result:
    """A new handle of the result."""

    def write(pointer: Pointer, value: T) -> None:
        pointer[0] = handles.add(value)

    return Result(f"{type}**", write)


def number(type: str, unset: int | None = None, of_short: Callable[[Sequence[int]], Any] | None = None) -> Result:
    """A number or bool."""
    return Result(f"{type}*", _write_value, unset, of_short)


def _write_value(pointer: Pointer, value: Any) -> None:
    pointer[0] = value


def _write_list(pointer: Pointer, values: Any) -> None:
    pointer[0 : len(values)] = list(values)


def numbers(type: str, of_short: Callable[[Sequence[int]], Any] | None = None) -> Result:
    """As many numbers as there are; the client knows how many."""
    return Result(f"{type}*", _write_list, None, of_short)


@cache
def _text(text: str) -> Any:
    """A C string that stays; there are as many as devices have names and versions."""
    return _ffi.new("char[]", text.encode())


def _write_text(pointer: Pointer, text: str) -> None:
    pointer[0] = _text(text)


def _values(pointer: Pointer, count: int, limit: int) -> list[Any]:
    if not pointer:
        null("the list")
    if count > limit:
        bad_data(f"{count} entries, at most {limit} are possible")
    values: list[Any] = _ffi.unpack(pointer, count) if count else []
    return values


def _indexes(count: int, pointer: Pointer) -> list[int]:
    return _values(pointer, count, MAX_COUNT)


def _dimensions(rank: int, pointer: Pointer) -> list[int]:
    return _values(pointer, rank, MAX_RANK) if rank else []


def _operand_type(pointer: Pointer) -> tuple[int, list[int], float, int]:
    if not pointer:
        null("the operand type")
    rank, dimensions = pointer.dimensionCount, pointer.dimensions
    if bool(rank) != bool(dimensions):
        bad_data(f"an operand type of {rank} dimensions, {'' if dimensions else 'not '}listed")
    return pointer.type, _dimensions(rank, dimensions), pointer.scale, pointer.zeroPoint


def _optional_operand_type(pointer: Pointer) -> tuple[int, list[int], float, int] | None:
    return _operand_type(pointer) if pointer else None


def _channel_quant(pointer: Pointer) -> tuple[int, list[float]]:
    if not pointer:
        null("the quantization")
    if not pointer.scales:
        bad_data(f"{pointer.scaleCount} scales, not listed")
    return pointer.channelDim, _values(pointer.scales, pointer.scaleCount, MAX_COUNT)


def _buffer(pointer: Pointer, length: int) -> Any | None:
    """The client's memory itself; None for null, which must have no length."""
    if pointer:
        if length > MAX_BYTES:
            bad_data(f"a buffer of {length} bytes")
        return _ffi.buffer(pointer, length)
    if length:
        null(f"the buffer of {length} bytes")
    return None


def _constant(pointer: Pointer, length: int) -> Any | None:
    """Up to 128 bytes are copied at once."""
    buffer = _buffer(pointer, length)
    return buffer if buffer is None or length > COPIED_BYTES else bytes(buffer)


def _string(pointer: Pointer) -> str:
    if not pointer:
        null("the string")
    text: bytes = _ffi.string(pointer, MAX_TEXT + 1)
    if len(text) > MAX_TEXT:
        bad_data(f"a string of more than {MAX_TEXT} bytes")
    return text.decode(errors="surrogateescape")


def _token(pointer: Pointer) -> bytes:
    if not pointer:
        null("the token")
    return bytes(_ffi.buffer(pointer, TOKEN_BYTES))


INT32 = value("int32_t")
UINT32 = value("uint32_t")
INT = value("int")
BOOL = value("bool")
FLOAT = value("float")
SIZE = value("size_t")
NANOSECONDS = value("uint64_t")
EXTENSION_CODE = value("uint16_t")
OPERATION = value("ANeuralNetworksOperationType")
INDEXES = Argument(("uint32_t", "const uint32_t*"), _indexes)
DIMENSIONS = Argument(("uint32_t", "const uint32_t*"), _dimensions)
TYPE = Argument(("const ANeuralNetworksOperandType*",), _operand_type)
OPTIONAL_TYPE = Argument(("const ANeuralNetworksOperandType*",), _optional_operand_type)
CHANNEL_QUANT = Argument(("const ANeuralNetworksSymmPerChannelQuantParams*",), _channel_quant)
CONSTANT = Argument(("const void*", "size_t"), _constant)
INPUT = Argument(("const void*", "size_t"), _buffer)
OUTPUT = Argument(("void*", "size_t"), _buffer)
STRING = Argument(("const char*",), _string)
TOKEN = Argument(("const uint8_t*",), _token)
STRING_RESULT = Result("const char**", _write_text)
