"""`nnapi capi`: the C library of NNAPI for this machine."""

from __future__ import annotations

import click

from nnapi.capi.build import IS_SHARED, build, library
from nnapi.cli.output import progress, say


@click.group("capi")
def command() -> None:
    """Build libneuralnetworks.so, NNAPI's C library, and say where it is.

    Programs find it through LD_LIBRARY_PATH, or link to it: cc -I DIR/include program.c DIR/libneuralnetworks.so
    """


@command.command("build")
@click.option("-o", "--output", metavar="DIR", help="Where to put it (the user's data directory).")
def build_command(output: str | None) -> None:
    """Compile the library with the machine's C compiler and print its path."""
    with progress("Compiling libneuralnetworks.so"):
        made = library() if output is None else build(output)
    if not IS_SHARED:
        say("this Python is no shared library: only programs in Python can load what was built", err=True)
    say(made.path)


@command.command("path")
@click.option("--include", is_flag=True, help="Print the folder of the header android/NeuralNetworks.h instead.")
def path_command(include: bool) -> None:
    """Print where the library is; it is compiled first if there is none yet."""
    with progress("Looking for libneuralnetworks.so"):
        made = library()
    say(made.include if include else made.path)
