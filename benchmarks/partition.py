"""The chosen plan beside other partitioners, under the same costs: the table of gains.

    python benchmarks/partition.py [--measure]

Phones with an accelerator or two are made of cost tables; with --measure, the devices of this machine at what `nnapi
profile` measures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnapi import zoo
from nnapi.drivers import registry
from nnapi.drivers.driver import DeviceType, Driver, Estimate
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.roofline import Roofline
from nnapi.ir.model import Model
from nnapi.partitioning.assign import plan_of, pose
from nnapi.partitioning.baselines import BASELINES
from nnapi.partitioning.exact import solve
from nnapi.partitioning.search import search
from nnapi.pipeline import load, optimize, profile


@dataclass
class Chip(FakeDriver):
    """A device at a roofline's costs that takes only some operations."""

    roofline: Roofline = field(default_factory=lambda: Roofline(1e9, 1e9, 0.0, 0.0))

    def estimate(self, model: Model) -> Estimate:
        return self.roofline.estimate(model)


NPU = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONCATENATION", "RELU", "RELU6", "AVERAGE_POOL_2D", "MAX_POOL_2D")
PHONE = (
    Chip("npu", dict.fromkeys(NPU, 1.0), None, roofline=Roofline(500e9, 20e9, 2e-6, 200e-6, 1.0)),
    Chip("gpu", dict.fromkeys((*NPU, "MUL", "HARD_SWISH", "MEAN", "SOFTMAX", "TRANSPOSE_CONV_2D"), 1.0), None,
         roofline=Roofline(100e9, 15e9, 10e-6, 150e-6, 2.0)),
    Chip("cpu", device_type=DeviceType.CPU, roofline=Roofline(20e9, 8e9, 2e-6, 5e-6, 3.0)),
)  # fmt: skip
"""An accelerator that takes little, a GPU that takes more, and the CPU that takes all."""


def gains(model: Model, drivers: Sequence[Driver]) -> dict[str, float]:
    """Milliseconds of the chosen plan, of the best single device and of each baseline."""
    problem = pose(model, drivers)
    alone = [
        problem.price(f"{d} alone", (d,) * len(model.operations))
        for d, verdicts in problem.verdicts.items()
        if verdicts.accepted == len(model.operations)
    ]
    found = {"best device": min(problem.cost(p)[0] for p in alone)}
    found |= {name: problem.cost(problem.price(name, rule(problem)))[0] for name, rule in BASELINES.items()}
    best = search(problem)
    plan = plan_of(problem, solve(problem, best) or best)
    return {"chosen": plan.chosen.seconds} | found


def main(arguments: Sequence[str]) -> None:
    """Print the table: what each takes, and how much longer than the chosen plan."""
    drivers: Sequence[Driver] = PHONE
    if "--measure" in arguments:
        drivers = [d for d in registry.available() if d.name != "reference"]
    rows = {}
    for name in zoo.NETWORKS:
        model = optimize(load(f"zoo:{name}"))
        if "--measure" in arguments:
            profile(model, drivers)
        rows[name] = gains(model, drivers)
    columns = list(next(iter(rows.values())))
    print("| network | chosen ms | " + " | ".join(columns[1:]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        ratios = " | ".join(f"{row[c] / row['chosen']:.2f}x" for c in columns[1:])
        print(f"| {name} | {row['chosen'] * 1e3:.2f} | {ratios} |")


if __name__ == "__main__":
    main(sys.argv[1:])
