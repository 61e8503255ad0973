"""Errors: what they say, and that they survive the way between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from nnapi import errors
from nnapi.errors import MissingExtra, ModelError, NnapiError

EVERY = [
    c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, NnapiError) and c is not MissingExtra
]
ERRORS = [kind("is wrong", operation="ADD 'a'", location="f.py:1", hint="look") for kind in EVERY]


@pytest.mark.parametrize("error", [*ERRORS, MissingExtra("it", extra="torch")], ids=lambda e: type(e).__name__)
def test_errors_go_from_process_to_process(error: NnapiError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert str(again) == str(error)


def test_what_an_error_says_is_one_line_that_no_terminal_obeys() -> None:
    error = ModelError("bad \x1b[2J\nname", operation="ADD '\u202e'", location="\x07", hint="\x9b")
    assert str(error) == r"ADD '\u202e': bad \x1b[2J\nname (from \x07); \x9b"
