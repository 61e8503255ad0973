"""A session in a forked child, as a data loader's worker has it: right, and not waiting for threads that are gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nnapi.drivers import registry

PROGRAM = """
import os, signal, sys
import numpy as np
import nnapi
from nnapi.ops.types import F32

def compile():
    return nnapi.compile(model, devices=[sys.argv[1]], num_threads=2, fallback=False)

random = np.random.default_rng(0)
b = nnapi.Builder("layer")
given = {"filter": random.standard_normal((32, 3, 3, 16)).astype(np.float32), "bias": np.zeros(32, np.float32)}
given |= {"padding": 1, "stride_width": 1, "stride_height": 1, "activation": 0, "layout": True}
b.output(b.add("CONV_2D", {"input": b.input("x", F32, (1, 16, 96, 96)), **given}))
model, x = b.finish(), random.standard_normal((1, 16, 96, 96)).astype(np.float32)
session = compile()
(expected,) = session(x)
child = os.fork()
if child == 0:
    signal.alarm(30)
    good = all(np.allclose(s(x)[0], expected, atol=1e-4) for s in (session, compile()))
    os._exit(0 if good else 1)
status = os.waitpid(child, 0)[1]
assert status == 0, f"the child ended with {status}"
assert np.allclose(session(x)[0], expected, atol=1e-4)
"""
"""A large sum in two orders differs by some 1e-5."""


@pytest.mark.parametrize("device", [d.name for d in registry.available() if d.name != "reference"])
def test_a_forked_child_runs_what_its_parent_ran(device: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
