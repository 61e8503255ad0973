"""What the runtime says on standard error."""

from __future__ import annotations

import pytest

from nnapi.runtime import log


@pytest.mark.parametrize(
    ("level", "said"), [("", "f"), ("info", "fi"), ("debug", "fid"), ("loud", "f")], ids=["", "info", "debug", "?"]
)
def test_levels(level: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(log.VARIABLE, level)
    log.failure("f")
    log.info("i")
    log.debug("d")
    assert capsys.readouterr().err == "".join(f"nnapi: {c}\n" for c in said)


def test_names_from_models_are_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    log.failure("CONV_2D \x1b[2J\nnnapi: \u202eall is well")
    assert capsys.readouterr().err == "nnapi: CONV_2D \\x1b[2J\\nnnapi: \\u202eall is well\n"
