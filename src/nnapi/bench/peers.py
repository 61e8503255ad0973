"""The same network in other engines, each through its own best public route, interleaved with ours."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from nnapi.bench.compare import interleave
from nnapi.bench.record import Latency
from nnapi.drivers.quiet import quiet
from nnapi.errors import MissingExtra, NnapiError, UsageError
from nnapi.importers.load import ZOO
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.runtime.session import Session

Run = Callable[[], object]


BUDGET: Final = 60.0
"""Seconds of measuring after which a slow network has been run often enough, if LEAST times."""
LEAST: Final = 5


@dataclass(frozen=True)
class Peer:
    """One row: seconds of a run, the p50 as a multiple of ours, and which way the network went there, or why not."""

    name: str
    latency: Latency | None
    ratio: float | None
    route: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Source:
    """The network as peers take it: a module where there is one, and as we have it."""

    name: str
    model: Model
    module: Any
    inputs: Sequence[Array]
    folder: Path

    @property
    def tensors(self) -> tuple[Any, ...]:
        import torch

        return tuple(torch.from_numpy(x) for x in self.inputs)

    @cached_property
    def onnx(self) -> tuple[bytes, str]:
        """The network as ONNX, and who wrote it: torch.onnx where the module and its packages are there, else we."""
        if self.module is not None and find_spec("onnx") is not None and find_spec("onnxscript") is not None:
            import torch

            path = self.folder / "peer.onnx"
            if path.exists():
                return path.read_bytes(), "torch.onnx"
            with warnings.catch_warnings(), _without_logs():
                warnings.simplefilter("ignore")
                torch.onnx.export(self.module, self.tensors, path, dynamo=True, verbose=False, external_data=False)
            return path.read_bytes(), "torch.onnx"
        return self._saved("ours.onnx"), "our ONNX file"

    def tflite(self) -> tuple[bytes, str]:
        """The network as TensorFlow Lite, and who wrote it: litert-torch where it is installed, else we."""
        if self.module is not None and find_spec("litert_torch") is not None:
            litert_torch = import_module("litert_torch")
            path = self.folder / "peer.tflite"
            if not path.exists():
                litert_torch.convert(self.module, self.tensors).export(str(path))
            return path.read_bytes(), "litert-torch"
        return self._saved("ours.tflite"), "our .tflite file"

    def _saved(self, name: str) -> bytes:
        from nnapi.exporters.save import save

        path = self.folder / name
        save(self.model, path)
        return path.read_bytes()


@contextmanager
def _without_logs() -> Iterator[None]:
    """Exporters log what they do; a table of figures is what was asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def check_peers(names: Sequence[str]) -> None:
    """UsageError for a name that is no peer's."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise UsageError(f"no peer {unknown[0]!r}", hint=f"there are {', '.join(PEERS)}")


def compare(
    source: str,
    session: Session,
    inputs: Sequence[Array],
    names: Sequence[str],
    *,
    num_threads: int = 1,
    repeats: int = 50,
    folder: Path | None = None,
) -> list[Peer]:
    """Ours and each peer on the same inputs, interleaved in one run, ours first. A peer that is not there says why.

    The files that peers take are kept in `folder`, and found there by a later call for the same network.
    """
    check_peers(names)
    runs: dict[str, Run] = {"nnapi": lambda: session(*inputs)}
    routes = {"nnapi": ", ".join(session.plan.devices)}
    with tempfile.TemporaryDirectory() as temporary:
        found = Source(source, session.plan.model, _module(source), inputs, folder or Path(temporary))
        for name in names:
            try:
                runs[name], routes[name] = PEERS[name](found, num_threads)
            except (NnapiError, ImportError) as error:
                routes[name] = f"not measured: {error}"
            except Exception as error:  # a peer's own exporters and engines
                routes[name] = f"not measured: {type(error).__name__}: {str(error).splitlines()[:1]}"
    round_seconds = sum(latency.p50 for latency in interleave(runs, repeats=1, warmup=2).values())
    affordable = max(int(BUDGET / round_seconds), LEAST)
    latencies = interleave(runs, repeats=min(repeats, affordable), warmup=1)
    ours = latencies["nnapi"].p50
    return [
        Peer(name, latencies[name], latencies[name].p50 / ours, route)
        if name in latencies
        else Peer(name, None, None, route)
        for name, route in routes.items()
    ]


def _module(source: str) -> Any:
    """The network as a PyTorch module, where the source has one."""
    if source.startswith(ZOO):
        from nnapi import zoo

        return zoo.build(source[len(ZOO) :])[0]
    if source.endswith(".pt2"):
        from nnapi.importers.pytorch import archive  # PyTorch's own reader runs code that it finds in a file

        return archive.load(Path(source)).module()
    return None


def _pytorch(source: Source, num_threads: int) -> tuple[Run, str]:
    if source.module is None:
        raise UsageError(f"{source.name} is no PyTorch module", hint="zoo:NAME or .pt2")
    import torch

    tensors = source.tensors

    def run() -> object:
        torch.set_num_threads(num_threads)
        with torch.inference_mode():
            return source.module(*tensors)

    return run, "eager"


def _litert(source: Source, num_threads: int) -> tuple[Run, str]:
    from ai_edge_litert.interpreter import Interpreter

    from nnapi.drivers.litert import NOISE

    content, route = source.tflite()
    with quiet(NOISE):
        interpreter = Interpreter(model_content=content, num_threads=num_threads)
        interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    outputs = [d["index"] for d in interpreter.get_output_details()]
    arrays = [x if tuple(d["shape"]) == x.shape else _moved(x) for x, d in zip(source.inputs, details, strict=True)]

    def run() -> object:
        for detail, array in zip(details, arrays):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(i) for i in outputs]

    return run, route


def _moved(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1).copy() if x.ndim == 4 else x


def _engine(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"peer {name!r}", extra=name) from error


def _onnxruntime(source: Source, num_threads: int) -> tuple[Run, str]:
    onnxruntime = _engine("onnxruntime")
    content, route = source.onnx
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # or it slows whoever runs next
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = dict(zip((x.name for x in session.get_inputs()), source.inputs))
    return lambda: session.run(None, feed), route


def _openvino(source: Source, num_threads: int) -> tuple[Run, str]:
    return _openvino_at("f32", source, num_threads)


def _openvino_bf16(source: Source, num_threads: int) -> tuple[Run, str]:
    return _openvino_at("bf16", source, num_threads)


def _openvino_at(precision: str, source: Source, num_threads: int) -> tuple[Run, str]:
    openvino = _engine("openvino")
    content, route = source.onnx
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", config)
    request = compiled.create_infer_request()
    return lambda: request.infer(list(source.inputs), share_inputs=True, share_outputs=True), f"{route}, {precision}"


PEERS: Final[Mapping[str, Callable[[Source, int], tuple[Run, str]]]] = {
    "pytorch": _pytorch,
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": _openvino_bf16,
}
