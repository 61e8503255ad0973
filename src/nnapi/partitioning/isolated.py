"""An engine in a process of its own: what crashes, hangs or eats memory there leaves this process unharmed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.errors import (
    CompileError,
    DeadObject,
    DeviceUnavailable,
    ExecutionError,
    MissedDeadline,
    ModelError,
    UsageError,
)
from nnapi.ir.file import save
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.candidate import Variant
from nnapi.partitioning.trial import DONE, MODEL, PREPARING, READY, RUNNING, read_arrays, write_arrays

START_SECONDS: Final = 60.0
"""How long a process may take to start and to load its engine."""
STDERR: Final = "stderr"
"""The file that takes what the process prints."""
MAX_WORDS: Final = 160
"""Characters of it that are quoted."""


def engine_of(driver: Driver) -> Driver:
    """The driver that the registry knows: without its precision or threads."""
    return driver.driver if isinstance(driver, Variant) else driver


def can_be_isolated(driver: Driver) -> bool:
    """Whether another process finds the same driver: it is in the registry, and not an object of this process only."""
    engine = engine_of(driver)
    try:
        return registry.get(engine.name) is engine
    except DeviceUnavailable:
        return False


def counted(model: Model) -> str:
    """How many operations a model has, in words."""
    return "1 operation" if len(model.operations) == 1 else f"{len(model.operations)} operations"


def memory_there_is() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Isolated:
    """One device in a process of its own, which is started when it is needed and again after it died.

    Raises DeviceUnavailable where there is no such process to be had: that says nothing about the engine.
    """

    def __init__(self, driver: Driver, memory: int | None = None) -> None:
        """`memory`: bytes that the process may have (None: what the machine has)."""
        self.driver = driver
        self._memory = memory_there_is() if memory is None else memory
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._is_ready = False
        self.has_loaded = False
        """Whether the engine was loaded in such a process."""
        self._folder = tempfile.TemporaryDirectory(prefix="nnapi-trial-")
        self._finish = weakref.finalize(self, self._folder.cleanup)

    def start(self) -> None:
        """Start the process, and do not wait for it."""
        if self._process is not None:
            return
        python = sys.executable
        if not Path(python).name.startswith(("python", "pypy")):  # an application that has Python inside
            raise DeviceUnavailable(f"no process for device {self.driver.name!r}: {python!r} is no Python")
        command = [python, "-P", "-m", "nnapi.partitioning.trial"]
        arguments = [engine_of(self.driver).name, self._folder.name, str(self._memory)]
        folders = [folder or str(Path.cwd()) for folder in sys.path]
        try:
            with (Path(self._folder.name) / STDERR).open("wb") as stderr:
                self._process = subprocess.Popen(
                    [*command, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
                    start_new_session=True,  # Ctrl-C ends this process, and nothing is blamed on the engine
                )
        except OSError as error:
            raise DeviceUnavailable(f"no process for device {self.driver.name!r}: {error}") from error
        self._buffer, self._is_ready = b"", False
        self._finish.detach()
        self._finish = weakref.finalize(self, partial(_end, self._process, self._folder))

    def is_available(self) -> bool:
        """Whether there is such a process to be had, whatever becomes of it then; waits until its engine is loaded."""
        try:
            self._wait_until_ready()
        except DeviceUnavailable:
            return False
        except (DeadObject, MissedDeadline):
            return True
        return True

    def run(self, model: Model, inputs: Sequence[Array] | None, options: PrepareOptions, seconds: float) -> list[Array]:
        """Prepare `model` and run it once: one array per output; none without inputs, where it is only prepared.

        Raises DeadObject where the process dies, MissedDeadline where preparing or running takes longer than `seconds`,
        CompileError and ExecutionError for what the engine raises.
        """
        folder = Path(self._folder.name)
        if isinstance(self.driver, Variant):
            model, options = self.driver.adapted(model, options)
        fields = asdict(options) | {"cache_dir": None}
        try:
            save(model, folder / MODEL)
            count = None if inputs is None else write_arrays(folder, "input", inputs)
        except (OSError, UsageError, ModelError) as error:
            raise CompileError(f"there is no place to try it: {error}") from error
        self._wait_until_ready()
        self._ask({"options": fields, "inputs": count})
        what = counted(model)
        for stage in (PREPARING, RUNNING, DONE):
            reply = self._reply(PREPARING if stage != DONE else RUNNING, what, seconds)
            if "error" in reply:
                kind = CompileError if reply["stage"] == PREPARING else ExecutionError
                raise kind(str(reply["error"]))
        try:
            return read_arrays(folder, "output", int(reply["outputs"]))
        except (OSError, ValueError) as error:
            raise ExecutionError(f"its outputs cannot be read: {error}") from error

    def close(self) -> None:
        """End the process."""
        self._finish()

    def _wait_until_ready(self) -> None:
        self.start()
        if not self._is_ready:
            reply = self._reply("loading", "its engine", START_SECONDS)
            if "error" in reply:
                self._drop()
                raise DeviceUnavailable(f"device {self.driver.name!r} in a process of its own: {reply['error']}")
            self._is_ready = self.has_loaded = reply["stage"] == READY

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is in its status
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _reply(self, stage: str, what: str, seconds: float) -> dict[str, Any]:
        """The next line; DeadObject or MissedDeadline where there is none."""
        assert self._process is not None and self._process.stdout is not None
        source, until = self._process.stdout.fileno(), time.monotonic() + seconds
        poll = select.poll()
        poll.register(source, select.POLLIN)
        while b"\n" not in self._buffer:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1e3):
                self._drop()
                raise MissedDeadline(f"{stage} {what} did not return within {seconds:g} s")
            data = os.read(source, 1 << 16)
            if not data:
                raise DeadObject(f"it {_death(self._drop())} {stage} {what}{self._last_words()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError:
            self._drop()
            raise DeadObject(f"it answered with nonsense {stage} {what}") from None
        return reply

    def _last_words(self) -> str:
        """The last line it printed."""
        lines = (Path(self._folder.name) / STDERR).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" ({last[:MAX_WORDS]})" if last else ""

    def _drop(self) -> int:
        """End a process that is no use any more; its status."""
        process, self._process = self._process, None
        assert process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # one that died is about to be gone
        _kill(process)
        return process.returncode


def _death(status: int) -> str:
    """What a process died of."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"died of {name}" + (", as for want of memory," if name == "SIGKILL" else "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    _kill(process)
    folder.cleanup()
