"""How much of a quantized network's output each engine shares with the reference.

python benchmarks/agreement.py                      the zoo at small sizes, int8 and uint8
python benchmarks/agreement.py --published          at published sizes
python benchmarks/agreement.py --networks unet mlp --recipes int8 --engines litert --json

For each network, recipe and engine: the share of outputs within one step of the reference's, the signal to noise ratio
against the float network in dB, and how many operations ran elsewhere than on the engine. An output of float32 has 255
steps between its lowest and its highest value.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import nnapi
from nnapi import zoo
from nnapi.drivers.reference import execute
from nnapi.errors import NnapiError
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array, Operand
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.quantize import quantize_model
from nnapi.zoo.weights import sample

ENGINES = ("litert", "openvino", "onnxruntime", "pytorch")
RECIPES = ("int8", "uint8")
CALIBRATION = 4


@dataclass(frozen=True)
class Row:
    """One network on one engine; `seconds` of one run, `elsewhere` operations of `operations`."""

    network: str
    size: str
    recipe: str
    engine: str
    within_one: float | None = None
    equal: float | None = None
    sqnr: float | None = None
    seconds: float | None = None
    operations: int = 0
    elsewhere: int = 0
    problem: str = ""


def rows(network: str, recipe: str, engines: Sequence[str], small: bool) -> list[Row]:
    """The reference's row, then each engine's."""
    module, inputs = zoo.build(network, small=small)
    shape = tuple(inputs[0].shape)
    generator = torch.Generator().manual_seed(3)
    images = [sample(shape, generator).numpy() for _ in range(CALIBRATION)]
    with torch.inference_mode():
        expected = module(torch.from_numpy(images[0])).numpy()
    found = quantize_model(nnapi.optimize(nnapi.load(module, inputs)), images, {"base": recipe, "recovery": []})
    model = nnapi.optimize(found.model)
    example = (quantize(images[0], model.input_operands[0]),)
    names = {"network": network, "size": "x".join(map(str, shape)), "recipe": recipe}
    started = time.perf_counter()
    (exact,) = execute(model, example)
    seconds = time.perf_counter() - started
    operand, count = model.output_operands[0], len(model.operations)
    ratio = sqnr(expected, dequantize(exact, operand))
    result = [Row(**names, engine="reference", sqnr=ratio, seconds=seconds, operations=count)]
    for engine in engines:
        try:
            session = nnapi.compile(model, devices=[engine], accept_inaccurate=True)
            (actual,) = session(*example)
            started = time.perf_counter()
            session(*example)
            seconds = time.perf_counter() - started
        except NnapiError as error:
            result.append(Row(**names, engine=engine, problem=str(error)))
            continue
        elsewhere = sum(len(b.partition.operations) for b in session.built if b.partition.device != engine)
        steps = np.abs(actual.astype(np.float64) - exact.astype(np.float64)) / step(operand, exact)
        result.append(
            Row(
                **names, engine=engine, within_one=float((steps <= 1).mean()), equal=float((steps == 0).mean()),
                sqnr=sqnr(expected, dequantize(actual, operand)), seconds=seconds, operations=count,
                elsewhere=elsewhere,
            )
        )  # fmt: skip
    return result


def step(operand: Operand, exact: Array) -> float:
    """What one step of an output is: 1 of stored integers."""
    return 1.0 if operand.type.is_quantized else float(np.ptp(exact)) / 255


def shown(found: Sequence[Row], engines: Sequence[str]) -> Table:
    """A line per network and recipe."""
    table = Table("network", "size", "recipe", "reference dB, s", *(f"{e} within 1, dB" for e in engines))
    by_engine: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in found:
        by_engine.setdefault((row.network, row.size, row.recipe), {})[row.engine] = row
    for names, line in by_engine.items():
        base = line["reference"]
        table.add_row(*names, f"{base.sqnr:.1f}, {base.seconds:.2f}", *(cell(line[e]) for e in engines))
    return table


def cell(row: Row) -> str:
    """Share, dB, and the operations that the engine refused."""
    if row.within_one is None:
        return row.problem
    refused = f" ({row.elsewhere} of {row.operations} elsewhere)" if row.elsewhere else ""
    return f"{row.within_one:.3%}, {row.sqnr:.1f}{refused}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(zoo.NETWORKS))
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--engines", nargs="+", default=list(ENGINES))
    parser.add_argument("--published", action="store_true", help="published sizes instead of small ones")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console = Console(stderr=given.json)
    found: list[Row] = []
    for network in given.networks:
        for recipe in given.recipes:
            with console.status(f"{network} {recipe}"):
                found += rows(network, recipe, given.engines, small=not given.published)
                gc.collect()
    if given.json:
        records: list[dict[str, Any]] = [asdict(row) for row in found]
        print(json.dumps(records, indent=1))
    else:
        console.print(shown(found, given.engines))


if __name__ == "__main__":
    main()
