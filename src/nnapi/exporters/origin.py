"""Origin of a file: the tool, its version, and a line that says so."""

from __future__ import annotations

from typing import Final

from nnapi import __version__

PRODUCER: Final = {"producer_name": "nnapi", "producer_version": __version__}


def description(name: str) -> str:
    """A line for files that have room for one.

    >>> description("mobilenet_v2").endswith(": mobilenet_v2"), description("") == f"nnapi {__version__}"
    (True, True)
    """
    return ": ".join(filter(None, (" ".join(PRODUCER.values()), name)))
