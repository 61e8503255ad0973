"""Calls in any order: each answers with a documented code, and what is valid computes the right thing."""

from __future__ import annotations

import mmap
import os
import random
import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest

from clients import REFERENCE, device
from nnapi.drivers.fake import FakeDriver
from nnapi.errors import NnapiError
from nnapi.runtime import (
    Burst,
    Compilation,
    Device,
    Event,
    Execution,
    Memory,
    MemoryDesc,
    Model,
    ResultCode,
    ResultError,
)  # fmt: skip
from nnapi.runtime.memory import FileMemory

STEPS = 120
SIZE = 4
T = TypeVar("T")
DOCUMENTED = {
    ResultCode.UNEXPECTED_NULL, ResultCode.BAD_DATA, ResultCode.OP_FAILED, ResultCode.BAD_STATE, ResultCode.UNMAPPABLE,
    ResultCode.OUTPUT_INSUFFICIENT_SIZE, ResultCode.MISSED_DEADLINE_TRANSIENT,
}  # fmt: skip
"""What a client's mistakes may be answered with."""


class Nothing(Exception):
    """There is no object of that kind yet."""


class Client:
    """Somebody who calls anything with anything; seeded."""

    def __init__(self, seed: int, memory: FileMemory) -> None:
        self.rng = random.Random(seed)
        self.devices = [REFERENCE, device(FakeDriver("fake")), device(FakeDriver("dead", fails_to_run=True)),
                        device(FakeDriver("muls", costs={"MUL": 1e-6}, default_cost=None))]  # fmt: skip
        self.models: list[Model] = []
        self.compilations: list[Compilation] = []
        self.executions: list[Execution] = []
        self.events: list[Event] = []
        self.bursts: list[Burst] = []
        self.descs: list[MemoryDesc] = []
        self.memories: list[Memory] = [memory]
        self.calls: list[Callable[[], object]] = [
            getattr(self, name) for name in sorted(dir(Client)) if name.startswith("do_")
        ]
        self.calls += 4 * [self.do_whole_model, self.do_whole_compilation, self.do_whole_execution]
        self.codes: set[ResultCode] = set()

    def step(self) -> None:
        call = self.rng.choice(self.calls)
        try:
            call()
            self.codes.add(ResultCode.NO_ERROR)
        except ResultError as error:
            assert error.code in DOCUMENTED, error
            assert error.message
            assert not re.match(r"\w+(Error|Exception): ", error.message), error  # a mistake of ours, not the client's
            self.codes.add(error.code)
        except Nothing:
            pass

    # What a client has, and what it might take for an argument

    def any(self, objects: list[T]) -> T:
        """One of them, the latest most often."""
        if not objects:
            raise Nothing
        return objects[-1] if self.rng.random() < 0.5 else self.rng.choice(objects)

    def number(self) -> int:
        return self.rng.choice([-1, 0, 0, 1, 1, 2, 3, 4, 5, 99, 2**31, 2**63])

    def numbers(self) -> list[int]:
        return [self.number() for _ in range(self.rng.randrange(4))]

    def buffer(self) -> object:
        return self.rng.choice([
            np.ones(SIZE, np.float32), np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32), np.zeros((), np.int32),
            np.zeros(9, np.uint8), bytes(16), b"", None, "text", np.zeros((4, 4), np.float32)[:, 0],
        ])  # fmt: skip

    def type(self) -> tuple[int, list[int], float, int] | None:
        return self.rng.choice([
            None, None, (3, [SIZE], 0.0, 0), (3, [0], 0.0, 0), (3, [SIZE], 1.0, 0), (5, [SIZE], 0.5, 7),
            (self.number(), [], 0.0, 0),
        ])  # fmt: skip

    # Calls

    def do_model(self) -> None:
        self.models.append(Model())

    def do_whole_model(self) -> None:
        model = Model()
        self.models.append(model)
        open_or_not = self.rng.choice([SIZE, SIZE, 0])
        for type_code, dims in ((3, [open_or_not]), (3, [SIZE]), (1, []), (3, [open_or_not])):
            model.add_operand(type_code, dims)
        model.set_operand_value(2, np.int32(0))
        model.add_operation(self.rng.choice([0, 18]), [0, 1, 2], [3])
        model.identify_inputs_and_outputs([0, 1], [3])
        model.finish()

    def do_operand(self) -> None:
        self.any(self.models).add_operand(*(self.type() or (3, [SIZE], 0.0, 0)))

    def do_value(self) -> None:
        self.any(self.models).set_operand_value(self.number(), self.buffer())

    def do_value_from_memory(self) -> None:
        memory = self.any(self.memories)
        self.any(self.models).set_operand_value_from_memory(self.number(), memory, self.number(), 16)

    def do_value_from_model(self) -> None:
        self.any(self.models).set_operand_value_from_model(self.number(), self.any(self.models))

    def do_operation(self) -> None:
        self.any(self.models).add_operation(self.number(), self.numbers(), self.numbers())

    def do_identify(self) -> None:
        self.any(self.models).identify_inputs_and_outputs(self.numbers(), self.numbers())

    def do_finish_model(self) -> None:
        self.any(self.models).finish()

    def do_supported(self) -> None:
        self.any(self.devices).supported(self.any(self.models))

    def do_compilation(self) -> None:
        named: list[Device] | None = self.rng.choices(self.devices, k=self.rng.randrange(3))
        self.compilations.append(Compilation(self.any(self.models), named))

    def do_preference(self) -> None:
        self.any(self.compilations).set_preference(self.number())

    def do_priority(self) -> None:
        self.any(self.compilations).set_priority(self.rng.choice([90, 100, 110, self.number()]))

    def do_compilation_timeout(self) -> None:
        self.any(self.compilations).set_timeout(abs(self.number()))

    def do_finish_compilation(self) -> None:
        self.any(self.compilations).finish()

    def do_alignment(self) -> None:
        self.any(self.compilations).get_preferred_memory_alignment_for_input(self.number())

    def do_whole_compilation(self) -> None:
        compilation = Compilation(self.any(self.models), [self.any(self.devices)])
        self.compilations.append(compilation)
        compilation.finish()

    def do_execution(self) -> None:
        self.executions.append(Execution(self.any(self.compilations)))

    def do_whole_execution(self) -> None:
        """What is set right computes right, whatever was called before."""
        compilation = self.any(self.compilations)
        execution = Execution(compilation)
        self.executions.append(execution)
        type, z = (3, [SIZE], 0.0, 0), np.zeros(SIZE, np.float32)
        execution.set_input(0, type, np.arange(SIZE, dtype=np.float32))
        execution.set_input(1, type, np.full(SIZE, 2, np.float32))
        execution.set_output(0, type, z)
        self.rng.choice([execution.compute, lambda: execution.start_compute().wait()])()
        kind = compilation.model.ir.operations[0].type
        assert z.tolist() == ([2, 3, 4, 5] if kind == "ADD" else [0, 2, 4, 6])

    def do_input(self) -> None:
        self.any(self.executions).set_input(self.number(), self.type(), self.buffer())

    def do_input_from_memory(self) -> None:
        execution, memory = self.any(self.executions), self.any(self.memories)
        execution.set_input_from_memory(self.number(), self.type(), memory, self.rng.choice([0, 0, 8]), self.number())

    def do_output(self) -> None:
        self.any(self.executions).set_output(self.number(), self.type(), self.buffer())

    def do_output_from_memory(self) -> None:
        execution, memory = self.any(self.executions), self.any(self.memories)
        execution.set_output_from_memory(self.number(), self.type(), memory, self.rng.choice([0, 0, 8]), self.number())

    def do_compute(self) -> None:
        self.any(self.executions).compute()

    def do_burst_compute(self) -> None:
        self.any(self.executions).burst_compute(self.any(self.bursts))

    def do_start(self) -> None:
        self.events.append(self.any(self.executions).start_compute())

    def do_start_fenced(self) -> None:
        events = self.rng.choices(self.events, k=2) if self.events else []
        execution = self.any(self.executions)
        self.events.append(execution.start_compute_with_dependencies(events, self.rng.choice([0, 10**9])))

    def do_wait(self) -> None:
        self.any(self.events).wait()

    def do_settings(self) -> None:
        execution = self.any(self.executions)
        self.rng.choice([
            lambda: execution.set_timeout(10**10), lambda: execution.set_loop_timeout(self.number()),
            lambda: execution.set_measure_timing(True), lambda: execution.set_reusable(True),
            lambda: execution.enable_input_and_output_padding(True),
        ])()  # fmt: skip

    def do_results(self) -> None:
        execution = self.any(self.executions)
        self.rng.choice([
            lambda: execution.get_duration(self.number()), lambda: execution.get_output_operand_rank(self.number()),
            lambda: execution.get_output_operand_dimensions(self.number()),
        ])()  # fmt: skip

    def do_burst(self) -> None:
        self.bursts.append(Burst(self.any(self.compilations)))

    def do_desc(self) -> None:
        self.descs.append(MemoryDesc())

    def do_role(self) -> None:
        desc, compilation = self.any(self.descs), self.any(self.compilations)
        self.rng.choice([desc.add_input_role, desc.add_output_role])(compilation, self.number(), 1.0)

    def do_dimensions(self) -> None:
        self.any(self.descs).set_dimensions(self.numbers())

    def do_finish_desc(self) -> None:
        self.any(self.descs).finish()

    def do_memory(self) -> None:
        self.memories.append(Memory.from_desc(self.any(self.descs)))

    def do_copy(self) -> None:
        Memory.copy(self.any(self.memories), self.any(self.memories))


@pytest.mark.parametrize("seed", range(120))
def test_any_calls_in_any_order(seed: int) -> None:
    fd = os.memfd_create("nnapi-test")
    os.write(fd, bytes(64))
    client = Client(seed, Memory.from_fd(64, mmap.PROT_READ | mmap.PROT_WRITE, fd, 0))
    os.close(fd)
    for _ in range(STEPS):
        client.step()
    for event in client.events:
        try:
            event.wait()
        except NnapiError as error:
            assert error.message
    assert not any(execution.is_running for execution in client.executions)
    assert ResultCode.NO_ERROR in client.codes


def test_the_sequences_reach_what_they_are_for() -> None:
    """Over all seeds most calls end well at least once: the fuzzer is more than refusals."""
    fd = os.memfd_create("nnapi-test")
    os.write(fd, bytes(64))
    memory = Memory.from_fd(64, mmap.PROT_READ | mmap.PROT_WRITE, fd, 0)
    os.close(fd)
    codes: set[ResultCode] = set()
    for seed in range(40):
        client = Client(seed, memory)
        for _ in range(STEPS):
            client.step()
        codes |= client.codes
    assert codes >= {ResultCode.NO_ERROR, ResultCode.BAD_DATA, ResultCode.BAD_STATE, ResultCode.OP_FAILED}
