"""Load a model from a file or an object: what it is decides its content, not its suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nnapi.errors import ModelError, UsageError
from nnapi.ir import file
from nnapi.ir.model import Model
from nnapi.ir.reading import open_file
from nnapi.ir.zipped import Archive

ZOO = "zoo:"
"""`zoo:mobilenet_v2` names a network of nnapi.zoo."""


def load(source: Any, example_inputs: tuple[Any, ...] | None = None, *, name: str = "") -> Model:
    """The model in `source`: a path to .nnapi or .pt2, an ExportedProgram, or a torch module with example inputs.

    `zoo:NAME` is a network of `nnapi.zoo`. Raises ModelError for files that are neither, or damaged.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, (str, os.PathLike)):
        if str(source).startswith(ZOO):
            return _load_zoo(str(source)[len(ZOO) :])
        return _load_path(Path(source), name)
    if type(source).__module__.partition(".")[0] == "numpy":
        raise UsageError("an array is no model", hint="pass a path, a module or an ExportedProgram")
    from nnapi.importers.pytorch import read

    return read.read(source, example_inputs, name=name)


def _load_path(path: Path, name: str) -> Model:
    try:
        with open_file(path) as stream:
            head = stream.read(64)
    except ValueError as error:  # a null character, or none that the file system has
        raise ModelError(f"cannot read {path}: {error}") from error
    except OSError as error:
        hint = "`zoo:NAME` names a network of nnapi.zoo" if isinstance(error, FileNotFoundError) else ""
        raise ModelError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    if not head:
        raise ModelError(f"{path} is empty")
    if file.is_nnapi(head):
        return file.load(path)
    if head[4:8] == b"TFL3":
        raise ModelError(f"{path} is a TensorFlow Lite model, which this version writes but does not read")
    if head[:4] == b"PK\x03\x04":
        return _load_archive(path, name)
    raise ModelError(f"{path} is no model that nnapi reads", hint="it reads .nnapi and .pt2 (torch.export.save)")


def _load_archive(path: Path, name: str) -> Model:
    try:
        with open_file(path) as stream:
            names = Archive(stream).names
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is a damaged or truncated archive: {error}") from error
    members = {member.rpartition("/")[2] for member in names}
    if "config.json" in members and "model.weights.h5" in members:
        raise ModelError(f"{path} is a Keras model, which this version does not read")
    if "data.pkl" in members and "archive_format" not in members:
        raise ModelError(
            f"{path} is a TorchScript or pickled model, which nnapi does not read",
            hint="torch.export.save(torch.export.export(module, inputs), 'model.pt2')",
        )
    from nnapi.importers.pytorch import read

    return read.read(path, name=name or path.stem)


def _load_zoo(name: str) -> Model:
    from nnapi import zoo

    module, inputs = zoo.build(name)
    return load(module, inputs, name=name)
