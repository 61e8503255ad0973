"""The command `nnapi`, also `python -m nnapi`: the process around the command line."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

GRACE: Final = 1.0
"""Seconds that a signal waits for an engine's call to return, and then for what would stay behind to be removed."""
_stopped = threading.Event()


def main(arguments: list[str] | None = None) -> int:
    """The command line in this process; its exit status, 128 and the signal's number where a signal ends it."""
    _keep_streams()
    _listen()
    from nnapi.cli import main as command_line

    status = command_line(arguments)
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:  # nobody hears complaints; Python would not exit with our status
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return status


def _keep_streams() -> None:
    """Standard streams that are there, and write whatever the locale has no characters for as escapes."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: no file may get its number, or an engine would write into that
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _listen() -> None:
    """Have signals end the process wherever it is: in an engine's call, in a callback, in an import.

    An exception there is dropped, or kills the process where it meets C++. So the main thread stops where it is, once
    it runs Python, and another thread cleans up and leaves.
    """
    ends = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    for number, default in ends.items():
        if signal.getsignal(number) == default:  # `nohup` and shells' background jobs have them ignored
            signal.signal(number, _stop)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_leave, args=(reader, os.dup(2), frozenset(ends)), daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    _stopped.set()
    threading.Event().wait()


def _leave(reader: int, terminal: int, ends: frozenset[int]) -> None:
    """Wait for a signal that ends the process, and end it; temporary files and processes go first."""
    number = 0
    while number not in ends:
        number = os.read(reader, 1)[0]
    _stopped.wait(GRACE)
    cleaner = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    cleaner.start()
    cleaner.join(GRACE)
    try:
        if number == signal.SIGINT:
            show_cursor = b"\x1b[?25h\r\x1b[2K" if os.isatty(terminal) else b""
            os.write(terminal, show_cursor + b"nnapi: interrupted\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
