"""Read `.pt2` files without PyTorch's reader, which unpickles and evaluates what it finds.

    ROOT/models/NAME.json                                the program: checked and copied by serialized.py
    ROOT/data/weights/NAME_weights_config.json           name -> member, type, shape, strides
    ROOT/data/weights/weight_0                           a tensor's bytes
    ROOT/data/constants/NAME_constants_config.json, ...  the same for constants

There is one reader of the file, this one: PyTorch gets the checked program and tensors. Example inputs, extra files and
whatever else there is are not read. Before PyTorch 2.9 all tensors were one pickled member, `data/weights/NAME.pt`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.quiet import quiet
from nnapi.importers.pytorch.serialized import checked_program
from nnapi.ir.reading import open_file, parse_json
from nnapi.ir.zipped import Archive

HINT: Final = "save it again with torch.export.save, or load it yourself and pass the ExportedProgram"
MAX_JSON: Final = 64 << 20
"""Bytes of the program, and of each list of tensors."""
COPIES: Final = 8
SLACK: Final = 64 << 20
"""Bytes that tensors may have in all: COPIES times the bytes of the members that hold them, and SLACK."""
_CODE: Final = ("data/aotinductor/", "data/executorch/")
"""Members that are compiled programs."""
_MODELS: Final = "models/"
_FORMAT: Final[Mapping[str, bytes]] = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}


def load(path: Path) -> torch.export.ExportedProgram:
    """The program in a `.pt2` file; ModelError where there is none, or it is damaged, or holds more than data."""
    try:
        with open_file(path) as file:
            members = _Members(Archive(file))
            name = members.model()
            program = checked_program(members.json(f"{_MODELS}{name}.json"))
            weights, constants = (members.tensors(kind, name) for kind in ("weights", "constants"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}", hint=HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise ModelError(f"{path} is no .pt2 archive, or is damaged: {_reason(error)}", hint=HINT) from error
    try:
        return _deserialized(program, weights, constants)
    except Exception as error:  # PyTorch's own checks raise whatever they like
        message = f"{path} is no program that PyTorch {torch.__version__} reads: {_reason(error)}"
        raise ModelError(message, hint=HINT) from error


def _deserialized(
    program: Mapping[str, Any], weights: Mapping[str, torch.Tensor], constants: Mapping[str, torch.Tensor]
) -> torch.export.ExportedProgram:
    # Programs that PT2E converted name operators which this module registers.
    import_module("torch.ao.quantization.fx._decomposed")
    serde = import_module("torch._export.serde.serialize")
    with quiet():
        read = serde._dict_to_dataclass(serde.ExportedProgram, program)
        found = serde.ExportedProgramDeserializer().deserialize(read, weights, constants)
    assert isinstance(found, torch.export.ExportedProgram)
    return found


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _Members:
    """The members below the archive's one root."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._names = {name.partition("/")[2]: name for name in archive.names}
        roots = sorted({name.partition("/")[0] for name in archive.names})
        if len(roots) != 1 or "" in self._names:
            raise ModelError(
                f"its members have {len(roots)} roots, {', '.join(map(repr, roots[:3]))}; must be one folder"
            )
        for member in self._names:
            if member.startswith(_CODE):
                raise ModelError(f"it holds a compiled program ({member}), not only data")
        for member, wanted in _FORMAT.items():
            found = self._read(member, 64).tobytes() if member in self._names else None
            if found is not None and found.strip() != wanted:
                raise ModelError(f"{member} is {found!r}, must be {wanted!r}")
        self._left = SLACK

    def model(self) -> str:
        """The name of the program: `model`, or that of the only one."""
        names = [m.removeprefix(_MODELS).removesuffix(".json") for m in self._names if m.startswith(_MODELS)]
        if "archive_version" not in self._names or not names:
            raise ModelError("it holds no exported program in PyTorch's current format")
        if "model" not in names and len(names) > 1:
            raise ModelError(f"it holds {len(names)} programs ({', '.join(names[:3])}), none of them named 'model'")
        return "model" if "model" in names else names[0]

    def json(self, member: str) -> Any:
        """The value in a member of JSON."""
        try:
            return parse_json(self._read(member, MAX_JSON).tobytes(), MAX_JSON)
        except ValueError as error:
            raise ValueError(f"member {member!r}: {error}") from error

    def tensors(self, kind: str, model: str) -> dict[str, torch.Tensor]:
        """The model's tensors of one kind by name; tensors that share a member share memory."""
        if (pickled := f"data/{kind}/{model}.pt") in self._names:
            return self._unpickled(pickled)
        config = self.json(f"data/{kind}/{model}_{kind}_config.json")["config"]
        stored: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        return {name: self._tensor(kind, name, payload, stored) for name, payload in config.items()}

    def _tensor(
        self, kind: str, name: str, payload: Mapping[str, Any], stored: dict[tuple[str, torch.dtype], torch.Tensor]
    ) -> torch.Tensor:
        meta, member = payload["tensor_meta"], f"data/{kind}/{payload['path_name']}"
        if payload["use_pickle"] or meta is None:
            raise ModelError(f"{name!r} is pickled, an object and not only a tensor")
        dtype = _dtype(meta["dtype"])
        sizes, strides = ([_count(d["as_int"]) for d in meta[field]] for field in ("sizes", "strides"))
        size = math.prod(sizes)
        if size == 0:
            return torch.empty(sizes, dtype=dtype)
        if (member, dtype) not in stored:
            data = torch.from_numpy(self._read(member))
            if data.numel() == 0:
                raise ModelError(f"{name!r} of shape {sizes}: its member {member!r} holds no values")
            self._left += COPIES * data.numel()
            stored[member, dtype] = data != 0 if dtype == torch.bool else data.view(dtype)
        self._spend(name, size * dtype.itemsize)
        flat = stored[member, dtype]
        tensor = torch.as_strided(flat, sizes, strides, _count(meta["storage_offset"]["as_int"]))
        return torch.nn.Parameter(tensor, requires_grad=False) if payload["is_param"] else tensor

    def _unpickled(self, member: str) -> dict[str, torch.Tensor]:
        """Tensors by name from a pickle, by the unpickler that builds nothing else."""
        data = self._read(member)
        self._left += COPIES * data.size
        try:
            Archive(io.BytesIO(data))  # what it expands to
            found = torch.load(io.BytesIO(data), weights_only=True)
        except Exception as error:  # whatever it meets
            raise ModelError(f"{member} is pickled and holds more than tensors: {error}".splitlines()[0]) from error
        if not isinstance(found, dict) or any(
            type(t) not in (torch.Tensor, torch.nn.Parameter) for t in found.values()
        ):
            raise ModelError(f"{member} is pickled and holds more than tensors")
        for name, tensor in found.items():
            self._spend(name, tensor.numel() * tensor.itemsize)
        return found

    def _spend(self, name: str, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ModelError(f"tensor {name!r} of {size} bytes expands to far more than the archive holds")

    def _read(self, member: str, limit: int | None = None) -> Any:
        if member not in self._names:
            raise ModelError(f"it has no member {member!r}")
        return self._archive.read(self._names[member], limit)


def _dtype(number: Any) -> torch.dtype:
    schema, serde = (import_module(f"torch._export.serde.{name}") for name in ("schema", "serialize"))
    found = serde._SERIALIZE_TO_TORCH_DTYPE[schema.ScalarType(number)]
    assert isinstance(found, torch.dtype)
    return found


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(f"{value!r} is no size")
    return value
