"""The same model, costs and options give the same plan: in any process, beside anything else, at any time."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnapi import partitioning

PLANS = """
import hashlib, sys
from models import random_graph
from nnapi.drivers.reference import ReferenceDriver
from nnapi.partitioning.assign import assign
from partitioning.test_exact import random_drivers

hasher = hashlib.sha256()
for seed in range(int(sys.argv[1])):
    for preference in ("fast_single_answer", "low_power", "sustained_speed"):
        model = random_graph(seed, 4 + 7 * seed % 60)
        plan = assign(model, random_drivers(seed, 2 + seed % 4), preference=preference, fallback=ReferenceDriver())
        parts = [(p.device, p.operations) for p in plan.partitions]
        hasher.update(repr((plan.is_optimal, parts, plan.alternatives)).encode())
print(hasher.hexdigest())
"""


@pytest.mark.parametrize("seeds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_the_seed_of_hashes_and_other_work_do_not_matter(seeds: int) -> None:
    """Several processes at once, so that each is beside busy ones."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PLANS, str(seeds)],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    digests = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert len(digests) == 1 and digests != {""}


PLANNING = ("assign", "baselines", "cost", "exact", "plan", "problem", "schedule", "search", "segments", "verdict")


@pytest.mark.parametrize("module", PLANNING)
def test_planning_has_no_clock(module: str) -> None:
    """Nor random numbers, nor a limit of seconds for a solver."""
    (folder,) = partitioning.__path__
    tree = ast.parse((Path(folder) / f"{module}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not imported & {"time", "random", "datetime", "secrets"}
    assert "time_limit" not in strings
