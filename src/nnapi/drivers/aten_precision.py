"""Precision of PyTorch's products of floats: settings of the whole process, held while a model runs and then put back.

cuDNN rounds factors to TF32's 11 bits unless told not to, and users may allow as much of matrix products.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch

EXACT: Final = "ieee"
TF32: Final = "tf32"


class Multiplication:
    """The settings of some libraries. Runs may overlap that want the same; others wait."""

    def __init__(self, settings: Sequence[Any]) -> None:
        """`settings`: objects that have `fp32_precision`."""
        self._settings = settings
        self._changed = threading.Condition()
        self._runs = 0
        self._value = ""
        self._before: list[str] = []

    @contextmanager
    def held(self, value: str) -> Iterator[None]:
        """Multiply as `value` says, until the last run that wants so has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._runs == 0 or self._value == value)
            if self._runs == 0:
                self._before = [setting.fp32_precision for setting in self._settings]
                self._set([value] * len(self._settings))
            self._runs, self._value = self._runs + 1, value
        try:
            yield
        finally:
            with self._changed:
                self._runs -= 1
                if self._runs == 0:
                    self._set(self._before)
                    self._changed.notify_all()

    def _set(self, values: Sequence[str]) -> None:
        for setting, value in zip(self._settings, values):
            setting.fp32_precision = value


class _Allowance:
    """The setting as PyTorch had it before 2.9."""

    def __init__(self, library: Any) -> None:
        self._library = library

    @property
    def fp32_precision(self) -> str:
        return TF32 if self._library.allow_tf32 else EXACT

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        self._library.allow_tf32 = value == TF32


def _cuda() -> list[Any]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [matmul, cudnn.conv, cudnn.rnn]
    return [_Allowance(matmul), _Allowance(cudnn)]


def _cpu() -> list[Any]:
    mkldnn = torch.backends.mkldnn
    return [mkldnn.matmul, mkldnn.conv, mkldnn.rnn] if hasattr(mkldnn, "matmul") else []


CUDA: Final = Multiplication(_cuda())
CPU: Final = Multiplication(_cpu())
