"""Run passes one after the other, and say which one broke a model."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nnapi.errors import NnapiError, PassError
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.passes.default import DEFAULT
from nnapi.passes.layout import to_layout

Pass = Callable[[Model], Model]
"""A pure function; bind its options with functools.partial."""
ROUNDS = 8
HINT = "the error's `model` is the one before the pass: nnapi.save(error.model, 'before.nnapi')"


class PassReport(NamedTuple):
    """What one pass did: operations before and after, and seconds with verification."""

    name: str
    before: int
    after: int
    seconds: float


def run_passes(
    model: Model,
    passes: Sequence[Pass] = DEFAULT,
    *,
    layout: str | None = None,
    check: Callable[[Model], object] | None = verify,
    progress: Callable[[PassReport], object] | None = None,
    rounds: int = ROUNDS,
) -> Model:
    """`model` after `passes`, in order, again until a whole round changes nothing, at most `rounds` times.

    With a `layout` ("nhwc" or "nchw") every round ends in `to_layout`.
    `check` sees every changed model and raises where it is wrong; `progress` hears of every pass. Raises PassError
    naming the pass and the operation, with the model before it.
    """
    if layout is not None:
        passes = (*passes, functools.partial(to_layout, layout=layout))
    for _ in range(rounds):
        changed = False
        for each in passes:
            began, before = time.perf_counter(), model
            model = _run(each, model, check)
            changed |= model is not before
            if progress is not None:
                seconds = time.perf_counter() - began
                progress(PassReport(pass_name(each), len(before.operations), len(model.operations), seconds))
            del before  # or it would keep weights alive that a pass replaced
        if not changed:
            break
    return model


def pass_name(each: Pass) -> str:
    """The pass as its user writes it.

    >>> from nnapi.passes.fold_constants import fold_constants
    >>> pass_name(functools.partial(fold_constants, max_bytes=64))
    'fold_constants(max_bytes=64)'
    """
    if isinstance(each, functools.partial):
        arguments = [*map(repr, each.args), *(f"{k}={v!r}" for k, v in each.keywords.items())]
        return f"{pass_name(each.func)}({', '.join(arguments)})"
    return getattr(each, "__name__", type(each).__name__)


def _run(each: Pass, model: Model, check: Callable[[Model], object] | None) -> Model:
    try:
        result = each(model)
        if check is not None and result is not model:
            check(result)
    except NnapiError as error:
        failure = PassError(
            f"{pass_name(each)}: {error.message}", operation=error.operation, location=error.location, hint=HINT
        )
        failure.model = model
        raise failure from error
    except Exception as error:
        failure = PassError(f"{pass_name(each)}: {type(error).__name__} {error}", hint=HINT)
        failure.model = model
        raise failure from error
    return result
