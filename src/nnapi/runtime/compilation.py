"""NNAPI's compilation: a finished model prepared on devices."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from nnapi import __version__
from nnapi.drivers.driver import Deadline, Preference
from nnapi.errors import CompileError, UnsupportedOperation
from nnapi.ir.model import Model as IrModel
from nnapi.ops.types import Operand
from nnapi.runtime import log
from nnapi.runtime.cache import Cache
from nnapi.runtime.codes import TOKEN_BYTES, PreferenceCode, PriorityCode, bad_data, bad_state, result_of
from nnapi.runtime.compile import Target, compile_model, report
from nnapi.runtime.device import Device, devices
from nnapi.runtime.digest import key_of
from nnapi.runtime.entry import read_entry, write_entry
from nnapi.runtime.model import Model
from nnapi.runtime.program import Program, refused_program
from nnapi.runtime.retyped import quant_of, retyped
from nnapi.runtime.slot import Slot, slots_of
from nnapi.runtime.view import Buffer, bytes_of

PREFERENCES: Final[dict[int, Preference]] = {
    PreferenceCode.LOW_POWER: "low_power",
    PreferenceCode.FAST_SINGLE_ANSWER: "fast_single_answer",
    PreferenceCode.SUSTAINED_SPEED: "sustained_speed",
}
ALIGNMENT: Final = 64
"""Bytes; what XNNPACK and NumPy like."""
PADDING: Final = 1
"""No engine here reads or writes beyond a tensor's end."""
MAX_VARIANTS: Final = 8
"""How many programs for other operand types than the model's a compilation keeps."""


class _Caching(NamedTuple):
    directory: Path
    token: bytes


class Compilation:
    """A model to be prepared: on all devices by partition (None), or on named ones, with no fallback.

    >>> from nnapi import runtime
    >>> runtime.Compilation(runtime.Model())
    Traceback (most recent call last):
        ...
    nnapi.runtime.codes.ResultError: BAD_STATE: the model is not finished
    """

    def __init__(self, model: Model, devices: Sequence[Device] | None = None) -> None:
        if not model.is_finished:
            bad_state("the model is not finished")
        if devices is not None:
            if not devices:
                bad_data("no device is named")
            if len({device.name for device in devices}) < len(devices):
                bad_data(f"devices {', '.join(device.name for device in devices)} name one twice")
        self.model = model
        self.devices = None if devices is None else tuple(devices)
        self.is_finished = False
        self.priority: int = PriorityCode.DEFAULT
        self.inputs: tuple[Slot, ...] = ()
        self.outputs: tuple[Slot, ...] = ()
        self._program: Program | None = None
        self._variants: OrderedDict[object, tuple[Program, tuple[Operand, ...]]] = OrderedDict()
        self._lock = threading.Lock()
        self._preference: Preference = "fast_single_answer"
        self._caching: _Caching | None = None
        self._timeout: float | None = None
        self._attributes: dict[tuple[str, int], bytes] = {}

    @property
    def is_for_one_device(self) -> bool:
        """Whether the client named exactly one device: what timing and timeouts need."""
        return self.devices is not None and len(self.devices) == 1

    def require_program(self) -> Program:
        """What was compiled; BAD_STATE before `finish`, or where it failed."""
        if self._program is None:
            bad_state("the compilation failed" if self.is_finished else "the compilation is not finished")
        return self._program

    def set_preference(self, preference: int) -> None:
        """Say what matters most, a PreferenceCode."""
        self._require_unfinished("set_preference")
        if preference not in PREFERENCES:
            bad_data(f"preference {preference}, must be {_names(PreferenceCode)}")
        self._preference = PREFERENCES[preference]

    def set_caching(self, directory: str, token: Buffer) -> None:
        """Keep and look for what is compiled in `directory`, which exists, under a token of 32 bytes."""
        self._require_unfinished("set_caching")
        data = bytes_of(token).tobytes()
        if len(data) != TOKEN_BYTES:
            bad_data(f"a token of {len(data)} bytes, must have {TOKEN_BYTES}")
        self._caching = _Caching(Path(directory), data)

    def set_priority(self, priority: int) -> None:
        """Say whose executions go first, a PriorityCode."""
        self._require_unfinished("set_priority")
        if priority not in set(PriorityCode):
            bad_data(f"priority {priority}, must be {_names(PriorityCode)}")
        self.priority = priority

    def set_timeout(self, nanoseconds: int) -> None:
        """Limit the time of `finish`; 0 is no limit. One named device only."""
        self._require_unfinished("set_timeout")
        self.require_one_device("set_timeout")
        self._timeout = nanoseconds / 1e9 if nanoseconds else None

    def add_extension_attribute(self, name: str, code: int, data: Buffer) -> None:
        """Set an attribute that an extension defines for compilations; once each. One named device only."""
        self._require_unfinished("add_extension_attribute")
        self.add_attribute(self._attributes, name, code, data)

    def add_attribute(self, attributes: dict[tuple[str, int], bytes], name: str, code: int, data: Buffer) -> None:
        """Put an attribute to others, if the one named device has the extension."""
        self.require_one_device("add_extension_attribute")
        assert self.devices is not None
        if not self.devices[0].get_extension_support(name):
            bad_data(f"device {self.devices[0].name!r} does not have extension {name!r}")
        if (name, code) in attributes:
            bad_data(f"attribute {code} of {name!r} is set already")
        attributes[name, code] = bytes_of(data).tobytes()

    def finish(self) -> None:
        """Compile; once.

        BAD_DATA where the devices do not take the model, OP_FAILED where one fails, MISSED_DEADLINE_TRANSIENT when the
        time is over.
        """
        self._require_unfinished("finish")
        self.is_finished = True
        model = self.model.ir
        self.inputs = slots_of(model, "input")
        self.outputs = slots_of(model, "output")
        try:
            deadline = Deadline.after(self._timeout)
            deadline.check("compiling")
            self._program = self._refused() or self._compiled(model, self._target(), deadline)
        except Exception as error:
            raise result_of(error) from error

    def _refused(self) -> Program | None:
        """The program of a model with operations that no device can run; UnsupportedOperation where one must."""
        why = next(iter(self.model.refused.values()), None)
        if why is None:
            return None
        if self.devices is not None:
            names = ", ".join(device.name for device in self.devices)
            message = f"no device of {names} takes it: {why.message}"
            raise UnsupportedOperation(message, operation=why.operation, hint=why.hint)
        return refused_program(self.model.ir, why)

    def _target(self) -> Target:
        found = devices() if self.devices is None else self.devices
        return Target(tuple(d.driver for d in found), self.devices is not None, self._preference)

    def _compiled(self, model: IrModel, target: Target, deadline: Deadline) -> Program:
        if self._caching is None:
            return compile_model(model, target, deadline)
        cache = Cache(self._caching.directory)
        drivers = [(d.name, d.version) for d in target.asked]
        key = key_of(self._caching.token, model, __version__, drivers, target.is_named, target.preference)
        entry = cache.read(key)
        if entry is not None:
            try:
                program = read_entry(entry, model, target)
            except CompileError as error:
                log.info(f"compiled anew: {error}")
                cache.remove(key)
            else:
                log.debug(f"read from cache entry {key}")
                report(program)
                return program
        program = compile_model(model, target, deadline)
        if program.is_planned:
            cache.write(key, lambda directory: write_entry(program, target, directory))
        return program

    def program_for(
        self, inputs: tuple[Operand, ...], outputs: tuple[Operand, ...]
    ) -> tuple[Program, tuple[Operand, ...]]:
        """The program for operands that may differ from the model's, and the outputs as it has them.

        Known dimensions get a program of their own where the general one leaves operations to the reference; other
        scales and zero points always do. BAD_DATA where the model does not take them.
        """
        general, model = self.require_program(), self.model.ir
        if self.model.refused:
            return general, outputs
        if inputs == model.input_operands and outputs == model.output_operands:
            return general, outputs
        own = (*model.input_operands, *model.output_operands)
        is_requantized = any(quant_of(a) != quant_of(b) for a, b in zip((*inputs, *outputs), own))
        if not is_requantized and (inputs == model.input_operands or general.accepted == general.operations):
            return general, model.output_operands
        key = (inputs, outputs)
        with self._lock:
            if key in self._variants:
                self._variants.move_to_end(key)
                return self._variants[key]
        changed = retyped(model, inputs, outputs)
        variant = compile_model(changed, self._target(), Deadline()), changed.output_operands
        with self._lock:
            self._variants[key] = variant
            if len(self._variants) > MAX_VARIANTS:
                self._variants.popitem(last=False)
        return variant

    def may_omit(self, index: int) -> bool:
        """Whether an input may be left out: whether everything that reads it says so."""
        model = self.model.ir
        read = model.inputs[index]
        for n in model.consumers.get(read, ()):
            operation = model.operations[n]
            if operation.is_extension:
                return False
            for param, at in model.call(operation).slots:
                if read in operation.inputs[at] and not param.omissible:
                    return False
        return True

    def operand(self, kind: Literal["input", "output"], index: int) -> Operand:
        """An input's or output's operand; BAD_DATA where there is none, or nothing is compiled."""
        if self._program is None:
            bad_data("the compilation is not finished")
        slots = self.inputs if kind == "input" else self.outputs
        if not 0 <= index < len(slots):
            bad_data(f"{kind} {index} does not exist, the model has {len(slots)}")
        return slots[index].operand

    def get_preferred_memory_alignment_for_input(self, index: int) -> int:
        """Bytes that the address of an input should be a multiple of."""
        return self._preferred("input", index, ALIGNMENT)

    def get_preferred_memory_padding_for_input(self, index: int) -> int:
        """Bytes that the length of an input should be a multiple of."""
        return self._preferred("input", index, PADDING)

    def get_preferred_memory_alignment_for_output(self, index: int) -> int:
        """Bytes that the address of an output should be a multiple of."""
        return self._preferred("output", index, ALIGNMENT)

    def get_preferred_memory_padding_for_output(self, index: int) -> int:
        """Bytes that the length of an output should be a multiple of."""
        return self._preferred("output", index, PADDING)

    def _preferred(self, kind: Literal["input", "output"], index: int, value: int) -> int:
        if self._program is None:
            bad_state("the compilation is not finished")
        self.operand(kind, index)
        return value

    def require_one_device(self, call: str) -> None:
        """BAD_DATA unless the client named exactly one device."""
        if not self.is_for_one_device:
            bad_data(f"{call}: the compilation must be for one named device")

    def _require_unfinished(self, call: str) -> None:
        if self.is_finished:
            bad_state(f"{call}: the compilation is finished")


def _names(codes: type[PreferenceCode] | type[PriorityCode]) -> str:
    return " or ".join(f"{code.value} ({code.name})" for code in codes)
