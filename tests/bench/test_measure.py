"""Records of what was measured: with the version of every engine, whatever it was told to do with less."""

from __future__ import annotations

import numpy as np

from models import chain
from nnapi.bench.measure import measure
from nnapi.drivers import registry
from nnapi.drivers.driver import PrepareOptions
from nnapi.partitioning.assign import assign
from nnapi.partitioning.candidate import exact, single
from nnapi.runtime.session import build_session


def test_a_record_has_the_versions_of_variants_too() -> None:
    litert = registry.get("litert")
    for variant in (single(litert), exact(litert)):
        plan = assign(chain("ADD", "MUL"), [variant])
        session = build_session(plan, {variant.name: variant}, PrepareOptions(num_threads=2), fallback=False)
        record = measure(session, [np.ones((1, 4), np.float32)], warmup=0, seconds=0, repeats=1)
        assert record.devices == (variant.name,)
        assert record.versions == {variant.name: litert.version}
