"""Long kernels stop at the deadline of the execution they are part of."""

from __future__ import annotations

from nnapi.ops.op import Call


def check_deadline(call: Call) -> None:
    """Raise MissedDeadline where the execution's time is over; loops over steps, boxes and regions ask each time."""
    if call.context is not None:
        call.context.deadline.check(call.label)
