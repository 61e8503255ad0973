"""PyTorch's OpenMP threads: gone when they are let go, and back when they are needed."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from nnapi.drivers import openmp  # noqa: E402


def threads() -> int:
    """How many threads this process has."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_threads_end_and_come_back() -> None:
    """In a thread of our own, whose operators nobody else's come into."""
    seen: list[int] = []

    def work() -> None:
        torch.set_num_threads(2)
        x = torch.ones(1 << 20)
        for _ in range(2):
            expected = torch.relu(x)
            seen.append(threads())
            openmp.let_threads_go()
            seen.append(threads())
        assert bool((torch.relu(x) == expected).all())

    before = torch.get_num_threads()
    try:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    finally:
        torch.set_num_threads(before)
    busy, free, busy_again, free_again = seen
    assert free < busy
    assert (busy_again, free_again) == (busy, free)


def test_another_openmp_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[int] = []
    for library in (SimpleNamespace(omp_pause_resource_all=kinds.append), SimpleNamespace()):
        monkeypatch.setattr(openmp, "_loaded", lambda path, library=library: library)
        openmp.let_threads_go()
    assert kinds == [openmp.SOFTLY]
