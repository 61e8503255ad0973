"""The process in which an engine is tried: `python -m nnapi.partitioning.trial DEVICE FOLDER BYTES`.

Requests come as lines of JSON on standard input, replies go as lines of JSON to standard output; models and arrays lie
in FOLDER, as `.nnapi` and `.npy` files. Every stage is announced before it begins, so that whoever waits knows where a
process died that does not reply any more. BYTES is the memory it may have.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from nnapi.drivers import registry
from nnapi.drivers.driver import PrepareOptions
from nnapi.ir.file import load
from nnapi.ops.types import Array

MODEL: Final = "model.nnapi"
READY: Final = "ready"
PREPARING: Final = "preparing"
RUNNING: Final = "running"
DONE: Final = "done"
STARVED: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})
"""Errors of a system that has no more threads, memory, files or space."""
STARVED_WORDS: Final = (
    "can't start new thread",
    "bad_alloc",
    "out of memory",
    "cannot allocate memory",
    "resource tempor",
)
"""The same in engines' words, in lower case."""
RUNS: Final = 2
"""Runs of a model: what writes where it must not is found out when memory is used again, and let go."""
_PARENT_DIES: Final = 1
"""PR_SET_PDEATHSIG of prctl."""


def write_arrays(folder: Path, kind: str, arrays: Iterable[Array]) -> int:
    """Write `input0.npy`, `input1.npy`, ...; how many there are."""
    count = 0
    for array in arrays:
        np.save(folder / f"{kind}{count}.npy", array, allow_pickle=False)
        count += 1
    return count


def read_arrays(folder: Path, kind: str, count: int) -> list[Array]:
    """What `write_arrays` wrote."""
    return [np.load(folder / f"{kind}{n}.npy", allow_pickle=False) for n in range(count)]


def is_starved(error: BaseException | None) -> bool:
    """Whether an error says that the machine was short of something, which says nothing about an engine.

    >>> is_starved(RuntimeError("can't start new thread")), is_starved(RuntimeError("a null pointer"))
    (True, False)
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in STARVED):
            return True
        if any(words in str(error).lower() for words in STARVED_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def main(arguments: Sequence[str]) -> None:
    """Answer requests until there are no more."""
    name, folder, memory = arguments[0], Path(arguments[1]), int(arguments[2])
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # what an engine leaves behind where it dies goes with it
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints must not come between replies
    _go_first(memory)
    try:
        driver = registry.get(name)
    except Exception as error:
        return _say(replies, READY, error=_words(error), starved=is_starved(error))
    gc.freeze()  # what the engine's modules hold need not be looked through after each trial
    _say(replies, READY)
    for line in sys.stdin:
        request = json.loads(line)
        stage = PREPARING
        try:
            _say(replies, PREPARING)
            prepared = driver.prepare(load(folder / MODEL, is_ours=True), PrepareOptions(**request["options"]))
            stage = RUNNING
            _say(replies, RUNNING)
            inputs = request["inputs"]
            given = None if inputs is None else read_arrays(folder, "input", inputs)
            for _ in range(RUNS):
                results = [] if given is None else prepared.run(given)
            count = write_arrays(folder, "output", (np.asarray(r) for r in results))
            del prepared, results
            gc.collect()
        except Exception as error:  # whatever an engine raises is an answer
            _say(replies, stage, error=_words(error), starved=is_starved(error))
        else:
            _say(replies, DONE, outputs=count)
    return None


def _go_first(memory: int) -> None:
    """End with the parent, leave no core file, take no more than so many bytes, and go first where memory is short."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, memory)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


def _say(replies: IO[str], stage: str, **more: Any) -> None:
    replies.write(json.dumps({"stage": stage, **more}) + "\n")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
