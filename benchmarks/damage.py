"""Damage files thousands of times and read them: every one is read, or refused by a typed error.

    python benchmarks/damage.py                       # 10,000 of each kind, at most 10 minutes for each
    python benchmarks/damage.py -n 500 pt2 --json

Bytes are flipped, cut, moved and repeated, values in JSON replaced by what does not belong there, members of archives
renamed and changed. What is counted: the outcomes by kind of error, anything that is no NnapiError, the most memory
that the process had, the longest that one file took, and files left behind. Exits with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from nnapi.errors import NnapiError
from nnapi.importers.load import load
from nnapi.ir.builder import Builder
from nnapi.ir.file import save
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.partitioning import warm
from nnapi.passes.run import run_passes
from nnapi.quantization.apply import apply
from nnapi.quantization.data import read_examples
from nnapi.quantization.params import read_table
from nnapi.quantization.quantize import quantize_model
from nnapi.quantization.recipe import read_recipe
from nnapi.runtime.images import ImageOptions
from nnapi.runtime.inputs import read_inputs

MAX_MEMORY: Final = 1 << 30
SECONDS: Final = 600.0
VALUES: Final[Sequence[Any]] = (
    None, True, False, -1, 0, 1, 3, 255, 2**31, 2**40, 2**63, 2**70, -(2**63), 0.5, 1e308, -1e308, float("inf"),
    float("nan"), "", "x", "x" * 1000, "a\0b", "\ud800", "../x", "__import__('os').abort()", "float32", "int8", [], {},
    [[]], [1, 2, 3], {"x": 1}, [None] * 50, {"as_int": 2**40}, {"as_none": True}, {"as_tensor": {"name": "x"}},
)  # fmt: skip
Bytes = Callable[[random.Random, bytes], bytes]


@dataclass
class Outcome:
    """Outcomes of the files of one kind."""

    kind: str
    count: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    untyped: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: int = 0

    @property
    def is_good(self) -> bool:
        return not self.untyped and not self.left_behind and self.memory <= MAX_MEMORY


def flipped(random: random.Random, data: bytes) -> bytes:
    """Some bytes are others."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def cut(random: random.Random, data: bytes) -> bytes:
    """The end is missing, or a piece within."""
    a, b = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:a] if random.random() < 0.5 else data[:a] + data[b:]


def repeated(random: random.Random, data: bytes) -> bytes:
    """A piece is there twice, or where another was."""
    a, b = sorted(random.randrange(len(data) + 1) for _ in range(2))
    at = random.randrange(len(data) + 1)
    return data[:at] + data[a:b] + data[at if random.random() < 0.5 else min(at + b - a, len(data)) :]


BYTES: Final[Sequence[Bytes]] = (flipped, flipped, cut, repeated)


def other_json(random: random.Random, text: bytes) -> bytes:
    """The same JSON with some values replaced, removed, moved or renamed."""
    value = json.loads(text)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = [*_places(value)]
        if not places:
            break
        holder, key = random.choice(places)
        match random.randrange(5):
            case 0 | 1:
                holder[key] = copy.deepcopy(random.choice(VALUES))
            case 2:
                del holder[key]
            case 3:
                other, name = random.choice(places)
                holder[key] = json.loads(json.dumps(other[name])) if _has(other, name) else None
            case _ if isinstance(holder, dict):
                holder[random.choice(("x", "", "custom_obj", "-1", "0", "99", key.upper()))] = holder.pop(key)
            case _:
                holder.append(copy.deepcopy(random.choice(VALUES)))
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    found, stack = [], [value]
    while stack:
        item = stack.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            found.append((item, key))
            stack.append(item[key])
    return found


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def other_model(random: random.Random, data: bytes) -> bytes:
    """The same `.nnapi` file with another graph, or other tensors."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if random.random() < 0.7:
        metadata = header["__metadata__"]
        metadata["graph"] = other_json(random, metadata["graph"].encode()).decode()
        text = json.dumps(header).encode()
    else:
        text = other_json(random, data[8 : 8 + length])
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def other_archive(random: random.Random, data: bytes) -> bytes:
    """The same archive with members changed, renamed, left out, repeated or compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for _ in range(random.choice((1, 1, 2))):
        n = random.randrange(len(members))
        name, content = members[n]
        match random.randrange(6):
            case 0 | 1 | 2 if name.endswith(".json"):
                members[n] = name, other_json(random, content)
            case 0 | 1 | 2:
                members[n] = name, random.choice(BYTES)(random, content)
            case 3:
                new = random.choice((name.upper(), f"../{name}", f"/{name}", name + "x", name.replace("/", "\\"), "x"))
                members[n] = new, content
            case 4:
                members.append((random.choice((name, name.swapcase(), name + "/y")), content))
            case _:
                members[n] = name, random.choice((b"", bytes(1 << 20), content * 2, b"[" * 10_000))
    buffer = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def small_model() -> Model:
    b = Builder("small")
    x = b.input("x", F32, (1, 4))
    filter, bias = b.constant(np.eye(4, dtype=np.float32)), b.constant(np.ones(4, np.float32))
    y = b.add("FULLY_CONNECTED", {"input": x, "filter": filter, "bias": bias, "activation": 1}, name="first")
    b.output(b.add("ADD", {"input0": y, "input1": x, "activation": 0}, name="second"))
    return run_passes(b.finish())


EXAMPLES: Final = [np.full((1, 4), v, np.float32) for v in (-1.0, 2.0)]


def exported() -> bytes:
    import torch
    from torch import nn
    from torch.export import Dim

    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 2)).eval()
    program = torch.export.export(module, (torch.ones(2, 3),), dynamic_shapes=({0: Dim("n")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def table(folder: Path) -> bytes:
    quantized = quantize_model(small_model(), EXAMPLES, "int8")
    quantized.table.save(folder / "table.json", quantized.prepared)
    return (folder / "table.json").read_bytes()


def arrays(_: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.concatenate(EXAMPLES))
    return buffer.getvalue()


def model_file(folder: Path) -> bytes:
    save(small_model(), folder / "model.nnapi")
    return (folder / "model.nnapi").read_bytes()


def read_a_table(path: Path) -> None:
    model = quantize_model(small_model(), EXAMPLES, "int8").prepared
    apply(model, read_table(path, model))


def read_arrays(path: Path) -> None:
    operands = small_model().input_operands
    try:
        read_inputs([str(path)], operands, ImageOptions())
    finally:
        list(read_examples(path, operands))


RECIPE: Final = {
    "base": "int8", "description": "", "activations": "int8", "weights": "int8_per_channel", "boundary": "float32",
    "level": 6, "observer": "percentile", "percentile": 99.9, "mixed": False, "target_sqnr": 30.0, "max_loss": 0.01,
    "recovery": ["equalization", "bias_correction"], "overrides": [{"name": "second"}, {"type": "ADD"}],
}  # fmt: skip
KINDS: Final[dict[str, tuple[Callable[[Path], bytes], str, Callable[[Path], object], Sequence[Bytes]]]] = {
    "pt2": (lambda _: exported(), "x.pt2", load, (*BYTES, *[other_archive] * 8)),
    "nnapi": (model_file, "x.nnapi", load, (*BYTES, *[other_model] * 8)),
    "npz": (arrays, "x.npz", read_arrays, (*BYTES, *[other_archive] * 4)),
    "recipe": (
        lambda _: json.dumps(RECIPE).encode(),
        "x.json",
        lambda path: quantize_model(small_model(), EXAMPLES, read_recipe(str(path))),
        (*BYTES, *[other_json] * 8),
    ),
    "table": (table, "x.json", read_a_table, (*BYTES, *[other_json] * 8)),
}
"""Kind -> (the whole file, its name, what reads it, what damages it)."""


def damage(kind: str, count: int, seed: int = 0, seconds: float = SECONDS) -> Outcome:
    """Read up to `count` damaged files of one kind in up to `seconds`."""
    make, name, read, changes = KINDS[kind]
    outcome, chance, home = Outcome(kind), random.Random(f"{seed} {kind}"), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="damage-") as outer:
        folder, place = Path(outer) / "work", Path(outer) / "temporary"
        folder.mkdir()
        place.mkdir()
        whole, path = make(folder), folder / name
        for file in folder.iterdir():
            file.unlink()
        before, tempfile.tempdir, until = tempfile.tempdir, str(place), time.monotonic() + seconds
        os.chdir(folder)
        try:
            path.write_bytes(whole)
            read(path)  # it would be no test of reading otherwise
            while outcome.count < count and time.monotonic() < until:
                path.write_bytes(chance.choice(changes)(chance, whole))
                began = time.monotonic()
                _read_one(read, path, outcome)
                outcome.slowest = max(outcome.slowest, time.monotonic() - began)
                outcome.count += 1
        finally:
            tempfile.tempdir = before
            os.chdir(home)
            warm.close()  # processes that wait for the next trial have their folders as long
        outcome.left_behind = [str(p) for p in (*folder.iterdir(), *place.iterdir()) if p != path]
    outcome.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return outcome


def _read_one(read: Callable[[Path], object], path: Path, outcome: Outcome) -> None:
    try:
        read(path)
        outcome.read += 1
    except NnapiError as error:
        outcome.refused[type(error).__name__] += 1
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome.untyped.append(f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all if none is named")
    parser.add_argument("-n", "--count", type=int, default=10_000, help="files of each kind")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="at most so long for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := [kind for kind in options.kinds if kind not in KINDS]:
        parser.error(f"no kind {unknown[0]!r}, known: {', '.join(KINDS)}")
    outcomes = [damage(kind, options.count, options.seed, options.seconds) for kind in options.kinds or KINDS]
    if options.json:
        print(json.dumps([vars(o) | {"is_good": o.is_good} for o in outcomes], indent=1))
    else:
        for o in outcomes:
            refused = ", ".join(f"{n} {name}" for name, n in o.refused.most_common())
            print(f"{o.kind}: {o.count} files, {o.read} read, {refused}; {len(o.untyped)} untyped errors,", end=" ")
            print(f"{len(o.left_behind)} files left, {o.memory >> 20} MiB at most, {o.slowest:.2f} s the slowest")
            for problem, n in Counter(o.untyped).most_common(20):
                print(f"  {n} x {problem}")
    return 0 if all(o.is_good for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
