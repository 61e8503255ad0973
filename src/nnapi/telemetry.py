"""Engines' reports to their makers, switched off before an engine is loaded: nothing here sends anything.

OpenVINO's package counts imports and conversions, through a process of its own and files in the home folder; ONNX
Runtime keeps a number of the machine and a database of events in the cache folder.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

ONNX_RUNTIME: Final = ("ORT_DISABLE_TELEMETRY", "1")
"""The variable that ONNX Runtime reads when it is loaded."""
OPENVINO: Final = "openvino_telemetry"
"""The package that sends for OpenVINO, which does without where there is none."""


def switch_off() -> None:
    """Let no engine that this process or its children load report anything; one that is loaded already, no more."""
    os.environ.update([ONNX_RUNTIME])
    modules: dict[str, Any] = sys.modules
    modules.setdefault(OPENVINO, None)  # whoever imports it is told that it is not installed
    if "onnxruntime" in modules:
        modules["onnxruntime"].disable_telemetry_events()
