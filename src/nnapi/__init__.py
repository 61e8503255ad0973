"""The Android Neural Networks API, everywhere: convert, verify, partition, run and measure models.

import nnapi
model = nnapi.load("model.pt2")      # or .onnx .tflite .nnapi, an ExportedProgram, load(module, example_inputs)
session = nnapi.compile(model)
outputs = session(x)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnapi.telemetry import switch_off

switch_off()  # whatever part of the package is imported, this comes first

__version__ = "0.1.0"

_PUBLIC = {
    "load": "nnapi.pipeline",
    "optimize": "nnapi.pipeline",
    "quantize": "nnapi.pipeline",
    "partition": "nnapi.pipeline",
    "build": "nnapi.pipeline",
    "compile": "nnapi.pipeline",
    "check": "nnapi.pipeline",
    "devices": "nnapi.pipeline",
    "save": "nnapi.exporters.save",
    "verify": "nnapi.ir.verify",
    "Builder": "nnapi.ir.builder",
    "Model": "nnapi.ir.model",
    "Plan": "nnapi.partitioning.plan",
    "Session": "nnapi.runtime.session",
    "NnapiError": "nnapi.errors",
}
"""Public name -> where it lives; loaded when first used, so that `import nnapi` is quick."""

if TYPE_CHECKING:
    from nnapi.errors import NnapiError as NnapiError
    from nnapi.exporters.save import save as save
    from nnapi.ir.builder import Builder as Builder
    from nnapi.ir.model import Model as Model
    from nnapi.ir.verify import verify as verify
    from nnapi.partitioning.plan import Plan as Plan
    from nnapi.pipeline import build as build
    from nnapi.pipeline import check as check
    from nnapi.pipeline import compile as compile
    from nnapi.pipeline import devices as devices
    from nnapi.pipeline import load as load
    from nnapi.pipeline import optimize as optimize
    from nnapi.pipeline import partition as partition
    from nnapi.pipeline import quantize as quantize
    from nnapi.runtime.session import Session as Session


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nnapi' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
