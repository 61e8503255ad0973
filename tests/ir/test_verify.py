"""What a model must be before anything runs: its names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models import chain
from nnapi.errors import ModelError
from nnapi.ir.model import Model
from nnapi.ir.verify import verify

MODEL = chain("ADD")
HALF = "half \ud83d"
NAMES = {
    "model": replace(MODEL, name=HALF),
    "operand": replace(MODEL, operands=tuple(replace(o, name=HALF) for o in MODEL.operands)),
    "operation": replace(MODEL, operations=tuple(replace(o, name=HALF) for o in MODEL.operations)),
    "metadata": replace(MODEL, metadata={HALF: ""}),
}


@pytest.mark.parametrize("model", NAMES.values(), ids=NAMES.keys())
def test_names_are_text_that_files_can_hold(model: Model) -> None:
    with pytest.raises(ModelError, match=r"a name holds '\\ud83d', half a character"):
        verify(model)


def test_any_other_text_is_a_name() -> None:
    verify(replace(MODEL, name="\x1b \u202e 层 😀 \0"))
