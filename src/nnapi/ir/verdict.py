"""A verdict: whether an operation is taken, and why not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accept:
    """The operation is taken; `note` says how, where that is not plain."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """The operation is not taken; the reason names the limit and the value found."""

    reason: str


Verdict = Accept | Reject
ACCEPT = Accept()
