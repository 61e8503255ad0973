"""The runtime under load: threads that compile and execute at once, and cycles that must not keep memory.

python benchmarks/soak.py --seconds 60 --threads 8 --cycles 10000
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

from nnapi.runtime import Compilation, Device, Execution, Model, PriorityCode, devices

MAX_GROWTH = 5 << 20
"""Bytes that the cycles may leave behind."""
OPERATIONS = {0: np.add, 18: np.multiply}
"""NNAPI's ADD and MUL."""


def small_model(code: int, size: int) -> Model:
    """One operation of two tensors [size] of float32."""
    model = Model()
    for type_code, dimensions in ((3, [size]), (3, [size]), (1, []), (3, [size])):
        model.add_operand(type_code, dimensions)
    model.set_operand_value(2, np.int32(0))
    model.add_operation(code, [0, 1, 2], [3])
    model.identify_inputs_and_outputs([0, 1], [3])
    model.finish()
    return model


def compiled(code: int, size: int, named: list[Device] | None, priority: int = PriorityCode.DEFAULT) -> Compilation:
    compilation = Compilation(small_model(code, size), named)
    compilation.set_priority(priority)
    compilation.finish()
    return compilation


class Worker(threading.Thread):
    """Compiles and executes until told to stop; `errors` is what went wrong, `runs` how often it went well."""

    def __init__(self, seed: int, stop: threading.Event, shared: list[tuple[Compilation, int, int]],
                 named: list[list[Device] | None]) -> None:  # fmt: skip
        super().__init__()
        self.rng = random.Random(seed)
        self.values = np.random.default_rng(seed)
        self.stop, self.shared, self.named = stop, shared, named
        self.errors: list[BaseException] = []
        self.runs = 0

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                if self.rng.random() < 0.2:
                    code, size = self.rng.choice(list(OPERATIONS)), self.rng.choice([1, 4, 1000])
                    made = compiled(code, size, self.rng.choice(self.named), self.rng.choice(list(PriorityCode)))
                    self.execute(made, code, size)
                else:
                    self.execute(*self.rng.choice(self.shared))
                self.runs += 1
        except BaseException as error:
            self.errors.append(error)

    def execute(self, compilation: Compilation, code: int, size: int) -> None:
        x, y = self.values.standard_normal((2, size)).astype(np.float32)
        z = np.full(size, np.nan, np.float32)
        execution = Execution(compilation)
        execution.set_input(0, None, x)
        execution.set_input(1, None, y)
        execution.set_output(0, None, z)
        kind = self.rng.randrange(3)
        if kind == 0:
            execution.compute()
        elif kind == 1:
            execution.start_compute().wait()
        else:
            before = Execution(compilation)
            before.set_input(0, None, x)
            before.set_input(1, None, y)
            before.set_output(0, None, np.empty_like(z))
            execution.start_compute_with_dependencies([before.start_compute()]).wait()
        np.testing.assert_array_equal(z, OPERATIONS[code](x, y))


def work_at_once(seconds: float, threads: int, named: list[list[Device] | None]) -> int:
    """How many executions `threads` threads did in that time; raises the first error, and where one does not end."""
    shared = [(compiled(code, size, each), code, size) for code in OPERATIONS for size in (4, 50) for each in named]
    stop = threading.Event()
    workers = [Worker(seed, stop, shared, named) for seed in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join(30)
        if worker.is_alive():
            raise TimeoutError("a thread does not end: a deadlock")
        if worker.errors:
            raise worker.errors[0]
    return sum(worker.runs for worker in workers)


def growth(cycles: int, named: list[Device] | None) -> int:
    """Bytes of resident memory that this many cycles of create, compile, run and free leave behind."""
    x, z = np.arange(4, dtype=np.float32), np.empty(4, np.float32)

    def cycle() -> None:
        execution = Execution(compiled(0, 4, named))
        execution.set_input(0, None, x)
        execution.set_input(1, None, x)
        execution.set_output(0, None, z)
        execution.compute()

    for _ in range(max(cycles // 20, 50)):
        cycle()
    gc.collect()
    before = resident()
    for _ in range(cycles):
        cycle()
    gc.collect()
    return resident() - before


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--cycles", type=int, default=10_000)
    options = parser.parse_args()
    named: list[list[Device] | None] = [None, *([device] for device in devices())]
    runs = work_at_once(options.seconds, options.threads, named)
    print(f"{options.threads} threads, {options.seconds:g} s: {runs} executions, no error")
    grown = growth(options.cycles, None)
    print(f"{options.cycles} cycles: resident memory grew by {grown / 1e6:.2f} MB")
    return 0 if grown < MAX_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
