"""The command line: one file per subcommand; each parses, calls one function, prints.

Exit status: 0 for success, 1 for a failure that is explained, 2 for wrong usage, 130 for Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from importlib import import_module
from typing import Final, TextIO

import click

from nnapi import __version__
from nnapi.cli.output import print_text, say

COMMANDS: Final = {
    "convert": "Turn a trained model into .nnapi, .tflite, .onnx or ncnn.",
    "quantize": "Turn a float model into integers, and say what it costs.",
    "inspect": "Show a model: operations, shapes, sizes, feature levels.",
    "check": "Which operations each device takes, and why not.",
    "run": "Run a model on arrays or images.",
    "bench": "Measure a model: initialization, latency, memory.",
    "profile": "Measure the devices on a model, and remember; show what was denied.",
    "devices": "List the devices that are here.",
    "capi": "Build libneuralnetworks.so, NNAPI's C library.",
    "conformance": "Run NNAPI conformance cases on a driver.",
}
"""Subcommand -> one line of help; the command itself is `command` in the module of that name, loaded when used."""
UNWRITTEN: Final = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors of writing; those of files are translated where they are written, so the others are standard output's."""


class _Interrupted(click.ClickException):
    """Ctrl-C."""

    exit_code = 130


class _Lazy(click.Group):
    """A group that imports a subcommand only when it is called: `nnapi --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"nnapi.cli.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click would print an empty line
            raise _Interrupted("interrupted") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nnapi")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def cli(debug: bool) -> None:
    """The Android Neural Networks API, everywhere.

    Take a trained model (PyTorch, .pt2, .nnapi, zoo:NAME), turn it into NNAPI operations, see which device runs
    what and why, run it, and measure it.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            result = cli.main(arguments, prog_name="nnapi", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.ClickException as error:
        return _show(error)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except SystemExit as done:  # click: who reads standard output has gone
        return int(done.code or 0)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITTEN:
            return _unwritten(error)
        if debug:
            raise
        return _explain(error)
    return result if isinstance(result, int) else 0


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:  # fmt: skip
    """A warning as people read it: without the line of ours that it came from."""
    say(f"warning: {message}", err=True)


def _unwritten(error: OSError) -> int:
    """Standard output takes no more: what is left of it goes nowhere, so that Python does not complain at its exit."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if error.errno == errno.EPIPE else _fail(f"cannot write to standard output: {error.strerror}", 1)


def _show(error: click.ClickException) -> int:
    """Click's complaint, by our own printer: arguments are names of files, and anybody's."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print_text(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.UsageError) and error.ctx is not None:
        say(error.ctx.get_usage(), err=True)
    return _fail(error.format_message(), error.exit_code)


def _explain(error: Exception) -> int:
    from nnapi.errors import NnapiError, UsageError

    if isinstance(error, UsageError):
        return _fail(str(error), 2)
    if isinstance(error, NnapiError):
        return _fail(str(error), 1)
    if isinstance(error, MemoryError):
        return _fail("out of memory", 1)
    return _fail(f"internal error: {type(error).__name__}: {error} (--debug shows where)", 1)


def _fail(message: str, status: int) -> int:
    say(f"nnapi: {message}", err=True)
    return status
