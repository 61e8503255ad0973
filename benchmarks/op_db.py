"""Does what loads compute what PyTorch computes, and is the rest refused in words? PyTorch's own specifications say.

python benchmarks/op_db.py                                  every operator, at most a quarter of an hour
python benchmarks/op_db.py --only 'nn.functional.*' --show  those that match, with what was not right
python benchmarks/op_db.py --modules                        torch.nn instead of operators
python benchmarks/op_db.py --core --json                    through run_decompositions(), as JSON

Each sample of PyTorch's test specifications becomes a module, is loaded, and runs on the reference, extensions on
PyTorch; then once more after the passes. `wrong` and `fault` are ours to mend: the exit code counts them.

| kind | means |
|---|---|
| right | within tolerance of eager |
| refused | an error of nnapi's, which says what and why |
| not captured | torch.export does not take it |
| untested | eager itself raises, is random, or gives no tensors |
| wrong | other values, shapes or types than eager's, or a run that fails |
| fault | another exception, or one that the importer did not foresee |
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import random
import re
import sys
import time
import types
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import nnapi
from nnapi.drivers.driver import PrepareOptions, Reject, Verdict
from nnapi.drivers.pytorch import PyTorchDriver
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import NnapiError, UnsupportedOperation
from nnapi.importers.pytorch.tensor import TYPES
from nnapi.ir.model import ATEN, Model
from nnapi.partitioning.assign import assign
from nnapi.runtime.session import build_session

DTYPES: Final = ("float32", "int64", "bool", "float16", "uint8", "complex64")
TOLERANCE: Final = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-2}
"""Of the largest element: sums and series in float32 and float16; the other two are float32 here. All else is exact."""
LOOSE: Final = {
    "linalg.": 1e-2,  # decompositions: errors grow with the matrix's condition
    "std_mean": 1e-3, "var": 1e-3, "cov": 1e-3, "corrcoef": 1e-3,  # differences of large squares
}  # fmt: skip
TIES: Final = {"topk": 1, "kthvalue": 1, "mode": 1, "sort": 1, "argsort": 0}
"""Operators that say which of several equal values they found, and may say another: so many outputs are compared."""
SURPRISE: Final = re.compile(r"[A-Z]\w*(Error|Exception): ")
"""An extension made because a function of the importer raised what it should not."""
OURS: Final = ("wrong", "fault")
MAX_ELEMENTS: Final = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """One sample of one subject, and what became of it."""

    subject: str
    dtype: str
    sample: str
    kind: str
    reason: str = ""


class Call(nn.Module):
    """A function of what a specification's sample holds, as a module of the tensors in it."""

    def __init__(self, function: Callable[..., Any], given: Any) -> None:
        super().__init__()
        leaves, self._spec = pytree.tree_flatten(given)
        self._leaves = [None if isinstance(v, torch.Tensor) else v for v in leaves]
        self._places = [k for k, v in enumerate(leaves) if isinstance(v, torch.Tensor)]
        self.tensors = tuple(v.detach().clone() for v in leaves if isinstance(v, torch.Tensor))
        self._function = function

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return self._function(*args, **kwargs)


class Extensions(PyTorchDriver):
    """PyTorch for what the reference has not."""

    def supported(self, model: Model) -> list[Verdict]:
        verdicts = super().supported(model)
        plain = Reject("the reference has it")
        return [v if o.type.startswith(ATEN) else plain for v, o in zip(verdicts, model.operations)]


def specifications(modules: bool) -> list[Any]:
    """PyTorch's OpInfos or ModuleInfos; of a package that it imports on the way it needs an empty class."""
    if "expecttest" not in sys.modules:
        stand_in = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase  # type: ignore[attr-defined]
        sys.modules["expecttest"] = stand_in
    if modules:
        from torch.testing._internal.common_modules import module_db

        return list(module_db)
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def name_of(info: Any) -> str:
    return f"{info.name}.{info.variant_test_name}" if getattr(info, "variant_test_name", "") else info.name


def samples(info: Any, dtype: torch.dtype, modules: bool, count: int, seed: int) -> Iterator[Call]:
    """`count` of the specification's samples in that type: the first, and others at random."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    if modules:
        given = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=False)
    else:
        given = info.sample_inputs("cpu", dtype, requires_grad=False)
    found = list(itertools.islice(given, 200))
    chosen = found[:1] + random.Random(f"{seed} {info.name}").sample(found[1:], min(count - 1, len(found) - 1))
    for sample in chosen if found else ():
        if not modules:
            yield Call(info.op, ((sample.input, *sample.args), sample.kwargs))
            continue
        made, used = sample.constructor_input, sample.forward_input
        if used is None:
            continue
        # Weights are made in float32 and cast, as initializers do not take all types.
        module = info.module_cls(*made.args, **made.kwargs).eval()
        module = module.to(dtype) if dtype.is_floating_point else module
        call = Call(module, (used.args, used.kwargs))
        call.inner = module.requires_grad_(False)
        yield call


def tried(name: str, dtype: torch.dtype, call: Call, core: bool) -> Outcome:
    """One sample, loaded and run."""
    shapes = ", ".join(f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in call.tensors)
    others = [v for v in call._leaves if v is not None and not isinstance(v, nn.Module)]
    sample = f"{shapes} {others}" if others else shapes

    def outcome(kind: str, reason: str = "") -> Outcome:
        return Outcome(name, str(dtype).removeprefix("torch."), sample, kind, " ".join(reason.split())[:400])

    try:
        with torch.no_grad():
            eager, again = (call(*(t.clone() for t in call.tensors)) for _ in range(2))
        expected, same = ([v for v in pytree.tree_leaves(r) if isinstance(v, torch.Tensor)] for r in (eager, again))
        is_random = "empty" in name or any(
            not torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in zip(expected, same)
        )
    except Exception as error:  # also of tensors that are not dense
        return outcome("untested", f"eager raises {type(error).__name__}")
    if not expected or is_random:
        return outcome("untested", "is random" if expected else "gives no tensors")
    if sum(t.numel() for t in (*call.tensors, *expected)) > MAX_ELEMENTS:
        return outcome("untested", "is large")
    try:
        if core:
            try:
                program = torch.export.export(call, call.tensors, strict=False).run_decompositions()
            except Exception as error:
                return outcome("not captured", str(error) or type(error).__name__)
            model = nnapi.load(program)
        else:
            model = nnapi.load(call, call.tensors)
    except NnapiError as error:
        text = str(error)
        if "report it" in text:
            return outcome("fault", text)
        return outcome("not captured" if "torch.export cannot capture" in text else "refused", text)
    except Exception as error:
        return outcome("fault", f"{type(error).__name__}: {error}")
    surprises = [v for k, v in model.metadata.items() if k.startswith("extension ") and SURPRISE.match(v)]
    if surprises:
        return outcome("fault", surprises[0])
    for stage in ("loaded", "optimized"):
        try:
            model = model if stage == "loaded" else nnapi.optimize(model)
            actual = run(model, call.tensors)
        except UnsupportedOperation as error:
            return outcome("refused", str(error))
        except NnapiError as error:
            return outcome("wrong", f"{stage}: does not run: {error}")
        except Exception as error:
            return outcome("fault", f"{stage}: {type(error).__name__}: {error}")
        count = TIES.get(name, len(expected))
        problem = difference(name, actual[:count], expected[:count])
        if problem and draws(call):
            return outcome("untested", "is random")
        if problem and contradicts_itself(call, expected):
            return outcome("untested", "PyTorch says one shape and gives another")
        if problem:
            return outcome("wrong", f"{stage}: {problem}")
    return outcome("right")


class Draws(TorchDispatchMode):
    """Whether an operator that ran drew random numbers."""

    found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())
        return func(*args, **(kwargs or {}))


def draws(call: Call) -> bool:
    with torch.no_grad(), Draws() as mode:
        call(*(t.clone() for t in call.tensors))
    return mode.found


def contradicts_itself(call: Call, expected: Sequence[torch.Tensor]) -> bool:
    """Whether PyTorch exports other shapes than it computes."""
    (end,) = torch.export.export(call, call.tensors, strict=False).graph.find_nodes(op="output")
    said = [tuple(n.meta["val"].shape) for n in end.all_input_nodes if isinstance(n.meta["val"], torch.Tensor)]
    return len(said) == len(expected) and said != [tuple(t.shape) for t in expected]


def run(model: Model, tensors: Sequence[torch.Tensor]) -> list[Any]:
    drivers = (ReferenceDriver(), Extensions())
    plan = assign(model, drivers, fallback=drivers[0])
    session = build_session(plan, {d.name: d for d in drivers}, PrepareOptions(), fallback=False)
    return session(*(as_stored(t) for t in tensors))


def as_stored(tensor: torch.Tensor) -> Any:
    """A tensor in the type that NNAPI has for it."""
    return (
        tensor.detach()
        .to(torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype)
        .numpy()
        .astype(TYPES[tensor.dtype].dtype)
    )


def difference(name: str, actual: Sequence[Any], expected: Sequence[torch.Tensor]) -> str:
    """Faults that were found; empty where there are none."""
    if len(actual) != len(expected):
        return f"{len(actual)} outputs, not {len(expected)}"
    for got, tensor in zip(actual, expected):
        want = as_stored(tensor)
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"gives {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
        left, right = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(right)
        if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
            return f"gives {left[~finite].ravel()[:4]}, not {right[~finite].ravel()[:4]}"
        scale = float(np.abs(right[finite]).max(initial=0.0))
        relative = next((v for part, v in LOOSE.items() if name.startswith(part)), TOLERANCE.get(tensor.dtype, 0.0))
        off = np.abs(left[finite] - right[finite])
        if not (off <= relative * max(scale, 1e-3)).all():
            worst = int(np.nanargmax(off)) if not np.isnan(off).all() else 0
            return f"gives {left[finite][worst]:.6g}, not {right[finite][worst]:.6g} (largest {scale:.6g})"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--modules", action="store_true", help="torch.nn instead of operators")
    parser.add_argument("--core", action="store_true", help="through run_decompositions()")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES))
    parser.add_argument("--samples", type=int, default=2, help="of each subject and type")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the subjects, at random")
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", nargs="*", metavar="KIND", help="list these (wrong and fault)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    found: list[Outcome] = []
    skipped = 0
    infos = [i for i in specifications(args.modules) if any(fnmatch.fnmatch(name_of(i), p) for p in args.only)]
    if args.fraction < 1:
        infos = random.Random(args.seed).sample(infos, max(1, round(len(infos) * args.fraction)))
    for dtype in (getattr(torch, name) for name in args.dtypes):
        for info in infos:
            if dtype not in (info.dtypes if not args.modules else info.dtypes or (torch.float32,)):
                continue
            if time.monotonic() - started > args.seconds:
                skipped += 1
                continue
            try:
                calls = list(samples(info, dtype, args.modules, args.samples, args.seed))
            except Exception as error:  # the specification itself
                found.append(Outcome(name_of(info), str(dtype), "", "untested", f"{type(error).__name__}: {error}"))
                continue
            found += [tried(name_of(info), dtype, call, args.core) for call in calls]
    counts = Counter(o.kind for o in found)
    kinds = OURS if args.show == [] else args.show or ()
    shown = [o for o in found if o.kind in kinds]
    if args.json:
        print(json.dumps({
            "torch": torch.__version__, "subjects": len({o.subject for o in found}), "samples": len(found),
            "seconds": round(time.monotonic() - started, 1), "left_out": skipped, "counts": dict(counts),
            "outcomes": [asdict(o) for o in (shown if args.show is not None else found) if o.kind != "right"],
        }, indent=1))  # fmt: skip
    else:
        for o in shown:
            print(f"{o.kind:8} {o.subject} {o.dtype} ({o.sample[:160]})\n         {o.reason}")
        subjects = len({o.subject for o in found})
        print(f"{subjects} subjects, {len(found)} samples, {dict(counts)}, {skipped} left out for time")
    return min(sum(counts[k] for k in OURS), 100)


if __name__ == "__main__":
    sys.exit(main())
