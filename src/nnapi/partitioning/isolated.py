"""An engine in a process of its own: what crashes, hangs or eats memory there leaves this process unharmed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
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
from nnapi.partitioning.trial import DONE, MODEL, PREPARING, READY, RUNNING, is_starved, read_arrays, write_arrays

START_SECONDS: Final = 60.0
"""How long a process may take to start and to load its engine."""
STDERR: Final = "stderr"
"""The file that takes what the process prints."""
FOLDERS: Final = "nnapi-trial-"
"""Names of the folders for models and arrays begin so."""
CHECKER: Final = "libc_malloc_debug.so.0"
"""The part of the GNU C library that checks its heap."""
LOCK: Final = "lock"
"""The file there that is locked while somebody uses the folder."""
MAX_WORDS: Final = 160
"""Characters of it that are quoted."""


def engine_of(driver: Driver) -> Driver:
    """The driver that the registry knows: without its precision or threads."""
    return driver.driver if isinstance(driver, Variant) else driver


class Starved(DeviceUnavailable):
    """The machine is short of threads, memory or files for the moment, which says nothing about an engine."""


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

    Raises DeviceUnavailable where there is no such process to be had, or Starved: that says nothing about the engine.
    """

    def __init__(self, driver: Driver, memory: int | None = None) -> None:
        """`memory`: bytes that the process may have (None: what the machine has)."""
        self.driver = driver
        self._memory = memory_there_is() if memory is None else memory
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._is_ready = False
        self._served = 0
        self.is_idle = True
        """Whether the process waits for a request, if there is one."""
        self.has_loaded = False
        """Whether the engine was loaded in such a process."""
        self.failure = ""
        """The fate of the last one that did not load it."""
        self._over = threading.Event()
        self._folder, lock = _new_folder()
        self._finish = weakref.finalize(self, _end, os.getpid(), None, None, self._folder, lock)
        self._lock = lock

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, and do not wait for it."""
        if self._process is not None:
            return
        python = sys.executable
        if not Path(python).name.startswith(("python", "pypy")):  # an application that has Python inside
            raise DeviceUnavailable(f"no process for device {self.driver.name!r}: {python!r} is no Python")
        command = [python, "-P", "-m", "nnapi.partitioning.trial"]
        arguments = [engine_of(self.driver).name, str(self._folder), str(self._memory)]
        try:
            self._process, self._over = _started([*command, *arguments], self._folder / STDERR)
        except (OSError, RuntimeError) as error:
            kind = Starved if is_starved(error) else DeviceUnavailable
            raise kind(f"no process for device {self.driver.name!r}: {error}") from error
        self._buffer, self._is_ready, self._served, self.is_idle = b"", False, 0, True
        self._finish.detach()
        self._finish = weakref.finalize(self, _end, os.getpid(), self._process, self._over, self._folder, self._lock)

    def is_available(self) -> bool:
        """Whether there is such a process to be had, whatever becomes of it then; waits until its engine is loaded."""
        try:
            self._wait_until_ready()
        except (DeadObject, MissedDeadline, Starved):
            return True
        except DeviceUnavailable:
            return False
        return True

    def run(self, model: Model, inputs: Sequence[Array] | None, options: PrepareOptions, seconds: float) -> list[Array]:
        """Prepare `model` and run it once: one array per output; none without inputs, where it is only prepared.

        Raises DeadObject where the process dies, MissedDeadline where preparing or running takes longer than `seconds`,
        CompileError and ExecutionError for what the engine raises.
        """
        if isinstance(self.driver, Variant):
            model, options = self.driver.adapted(model, options)
        try:
            save(model, self._folder / MODEL)
            count = None if inputs is None else write_arrays(self._folder, "input", inputs)
        except OSError as error:
            raise Starved(f"there is no place to try it: {error}") from error
        except (UsageError, ModelError) as error:
            raise CompileError(f"there is no place to try it: {error}") from error
        request = {"options": asdict(options) | {"cache_dir": None}, "inputs": count}
        try:
            return self._run(counted(model), request, seconds)
        except DeadObject:
            # What served before may have died of that: a new process decides.
            if not self._served:
                raise
        return self._run(counted(model), request, seconds)

    def _run(self, what: str, request: dict[str, Any], seconds: float) -> list[Array]:
        self._wait_until_ready()
        self.is_idle = False
        self._ask(request)
        for stage in (PREPARING, RUNNING, DONE):
            reply = self._reply(PREPARING if stage != DONE else RUNNING, what, seconds)
            if "error" in reply:
                self._served, self.is_idle = self._served + 1, True
                if reply.get("starved"):
                    raise Starved(f"the machine is short of what the engine needs: {reply['error']}")
                kind = CompileError if reply["stage"] == PREPARING else ExecutionError
                raise kind(str(reply["error"]))
        self._served, self.is_idle = self._served + 1, True
        try:
            return read_arrays(self._folder, "output", int(reply["outputs"]))
        except (OSError, ValueError) as error:
            raise ExecutionError(f"its outputs cannot be read: {error}") from error

    def close(self) -> None:
        """End the process."""
        self._finish()
        self._process = None

    def _wait_until_ready(self) -> None:
        self.start()
        if not self._is_ready:
            try:
                reply = self._reply("loading", "its engine", START_SECONDS)
            except (DeadObject, MissedDeadline) as error:
                self.failure = error.message
                raise
            if "error" in reply:
                self._drop()
                kind = Starved if reply.get("starved") else DeviceUnavailable
                raise kind(f"device {self.driver.name!r} in a process of its own: {reply['error']}")
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
                status = self._drop()
                death = f"it {_death(status)} {stage} {what}{self._last_words()}"
                raise Starved(death) if status == -signal.SIGKILL else DeadObject(death)
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
        lines = (self._folder / STDERR).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" ({last[:MAX_WORDS]})" if last else ""

    def _drop(self) -> int:
        """End a process that is no use any more; its status."""
        process, self._process = self._process, None
        assert process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # one that died is about to be gone
        _kill(process)
        self._over.set()
        return process.returncode


def _started(command: Sequence[str], stderr: Path) -> tuple[subprocess.Popen[bytes], threading.Event]:
    """A process, and what lets the thread go that started it: the kernel ends the process when that thread ends."""
    answers: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
    over = threading.Event()

    def attend() -> None:
        folders = [folder or str(Path.cwd()) for folder in sys.path]
        try:
            with stderr.open("wb") as file:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    env={**os.environ, **_checking(), "PYTHONPATH": os.pathsep.join(folders)},
                    start_new_session=True,  # Ctrl-C ends this process, and nothing is blamed on the engine
                )
        except OSError as error:
            return answers.put(error)
        answers.put(process)
        over.wait()
        return None

    threading.Thread(target=attend, name="nnapi: a trial's process", daemon=True).start()
    answer = answers.get()
    if isinstance(answer, OSError):
        raise answer
    return answer, over


@cache
def _checker() -> str:
    """Path of the part of the C library that checks its heap; empty where there is none."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return ""
    folders = {Path(line.split()[-1]).parent for line in lines if line.endswith("/libc.so.6")}
    return next((str(folder / CHECKER) for folder in folders if (folder / CHECKER).exists()), "")


def _checking() -> Mapping[str, str]:
    """Environment that makes the C library look for memory that was written over, and abort."""
    if not _checker():
        return {}
    words = (("LD_PRELOAD", " ", _checker()), ("GLIBC_TUNABLES", ":", "glibc.malloc.check=3"))
    return {name: separator.join(filter(None, (os.environ.get(name), more))) for name, separator, more in words}


def _new_folder() -> tuple[Path, int]:
    """A folder and its lock; those that processes left which did not end as they should are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
    new = Path(tempfile.mkdtemp(prefix=f"new-{FOLDERS}"))
    lock = os.open(new / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return new.rename(new.with_name(new.name.removeprefix("new-"))), lock


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


def _end(
    owner: int, process: subprocess.Popen[bytes] | None, over: threading.Event | None, folder: Path, lock: int
) -> None:
    """End a process and remove its folder; a fork of their owner only lets go of them."""
    if process is not None and owner != os.getpid():
        process.returncode = 0
    elif process is not None:
        _kill(process)
    if over is not None:
        over.set()
    if owner == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.close(lock)
