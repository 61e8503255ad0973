"""Files in memory, as clients of NNAPI share them; what is remembered of devices, forgotten."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import numpy as np
import pytest

from clients import MakeFile, MakeMemory
from nnapi.drivers import registry
from nnapi.ops.types import Array
from nnapi.partitioning.database import database
from nnapi.runtime import Memory
from nnapi.runtime.memory import FileMemory


@pytest.fixture(autouse=True)
def _unknown() -> None:
    """What was found of the engines that tests make up does not outlive a test."""
    for table in ("denied", "trying"):
        database().write(f"DELETE FROM {table}")
    names = ", ".join(f"'{name}'" for name in registry.BUILTIN)
    database().write(f"DELETE FROM trusted WHERE device NOT IN ({names})")


@pytest.fixture
def make_file() -> Iterator[MakeFile]:
    """A descriptor of a file in memory with this content."""
    descriptors: list[int] = []

    def make(content: bytes) -> int:
        fd = os.memfd_create("nnapi-test")
        descriptors.append(fd)
        os.write(fd, content)
        return fd

    yield make
    for fd in descriptors:
        os.close(fd)


@pytest.fixture
def make_memory(make_file: MakeFile) -> MakeMemory:
    """A memory with the bytes of an array."""

    def make(content: Array, protect: int = mmap.PROT_READ | mmap.PROT_WRITE) -> FileMemory:
        data = np.ascontiguousarray(content).tobytes()
        return Memory.from_fd(len(data), protect, make_file(data), 0)

    return make
