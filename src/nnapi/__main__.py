"""The command `nnapi`, also `python -m nnapi`: the process around the command line."""

from __future__ import annotations

import atexit
import io
import os
import select
import signal
import sys
import threading
from types import FrameType
from typing import Any, Final

GRACE: Final = 1.0
"""Seconds after Ctrl-C in which the work may end by itself: an engine's call hears of it when it returns."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_first_to_say = threading.Lock()


def main(arguments: list[str] | None = None) -> int:
    """The command line in this process; its exit status, 128 and the signal's number where a signal ends it."""
    try:
        _keep_streams()
        _listen()
        from nnapi.cli import main as command_line

        status = command_line(arguments)
    except KeyboardInterrupt:
        os.write(2, b"nnapi: interrupted\n")
        status = 128 + signal.SIGINT
    if status == 128 + signal.SIGINT:
        _first_to_say.acquire(blocking=False)
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
    """Have signals end the work, and the process where the work does not end.

    Python's own handlers wait until an engine's call returns; a thread does not.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _SIGNALS[1:]:
        if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has them ignored
            signal.signal(number, _end)
    threading.Thread(target=_watch, args=(reader, os.dup(2)), daemon=True).start()
    sys.unraisablehook = _unraisable


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _watch(reader: int, terminal: int) -> None:
    """Wait for a signal, then for the work to end; a second signal, or GRACE, ends the process."""
    number = os.read(reader, 1)[0]
    while number not in _SIGNALS:
        number = os.read(reader, 1)[0]
    select.select([reader], [], [], GRACE)
    if number == signal.SIGINT and _first_to_say.acquire(blocking=False):
        show_cursor = b"\x1b[?25h\r\x1b[2K" if os.isatty(terminal) else b""
        os.write(terminal, show_cursor + b"nnapi: interrupted\n")
    cleaner = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    cleaner.start()
    cleaner.join(GRACE)
    os._exit(128 + number)


def _unraisable(raised: Any) -> None:
    """Say nothing of a Ctrl-C that came while Python called back from C: `_watch` ends the process."""
    if not isinstance(raised.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(raised)


if __name__ == "__main__":
    sys.exit(main())
